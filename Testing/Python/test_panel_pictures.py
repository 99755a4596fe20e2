"""The pictures of the panel can be drawn, and it fits into the column that Slicer gives it."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")
pytest.importorskip("PIL", reason="needs Pillow: pip install 'LiverTumorSeg[report]'")

from draw_panel import STATES, WIDTH, draw_all
from slicer_host.pictures import opengl_window


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::LiverTumorSegLib.errors.LiverTumorSegWarning")
def test_every_state_of_the_panel_is_drawn_and_fits(slicer_app, tmp_path):
    if opengl_window() is None:
        pytest.skip("needs a VTK that draws without a screen: libegl1 or libosmesa6")
    draw_all(tmp_path, tmp_path)
    assert {path.name for path in tmp_path.glob("*.png")} == {f"panel_{each}.png" for each in (*STATES, "overview")}
    for state in set(STATES) - {"open"}:  # the stand-in for the editor is wider than Slicer's own
        picture = sitk.ReadImage(str(tmp_path / f"panel_{state}.png"))
        assert picture.GetWidth() == 2 * WIDTH
        assert np.ptp(sitk.GetArrayFromImage(picture)) > 200
