"""The report page: its numbers, its pictures, and that it stands alone."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from LiverTumorSegLib import report
from LiverTumorSegLib.errors import OutputError
from shapes import segmentation_of

pytest.importorskip("jinja2", reason="needs the extra `report`")
image_module = pytest.importorskip("PIL.Image", reason="needs the extra `report`")


def pictures(page: str, kind: str) -> list[np.ndarray]:
    found = re.findall(rf'<img src="data:image/{kind};base64,([^"]+)"', page)
    return [np.asarray(image_module.open(io.BytesIO(base64.b64decode(text)))) for text in found]


@pytest.fixture
def no_3d(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "render_3d", lambda labels, size: None)


def test_the_page_has_the_numbers_of_the_segmentation(
    ellipsoid_scan: Callable[..., tuple[sitk.Image, sitk.Image]], tmp_path: Path, no_3d: None
) -> None:
    scan, labels = ellipsoid_scan(lesions=(((0, 0, 0), 12.0), ((-25, 0, 10), 7.0)))
    segmentation = segmentation_of(scan, labels, warnings=("slices are <thick>",))
    report.write_html(segmentation, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    largest = segmentation.lesions[0]
    wanted = [
        f"{segmentation.liver_ml:.0f}<small>ml",
        f"{segmentation.tumour_ml:.2f}<small>ml",
        "<dt>Lesions</dt><dd>2</dd>",
        f"<td>{largest.volume_ml:.2f}</td>",
        f"{largest.axial_long_axis_mm:.1f} × {largest.axial_perpendicular_mm:.1f}",
        "abcdef012345<",
        "default 1.2.3",
        "meng2020, as printed",
        "96 × 96 × 64 voxels of 3.0 × 3.0 × 2.5 mm",
        "988 MB",
        "1.75 s",
        "slices are &lt;thick&gt;",
        "not a medical device",
        "No 3D picture: no OpenGL on this computer",
    ]
    assert [text for text in wanted if text not in page] == []
    assert page.index("slices are") < page.index("Liver, with tumours")


def test_the_page_fetches_nothing_and_has_one_picture_a_slice(
    ellipsoid_scan: Callable[..., tuple[sitk.Image, sitk.Image]], tmp_path: Path, no_3d: None
) -> None:
    lesions = [((0, 0, -24), 7.0), ((-20, 0, 0), 9.0), ((20, 0, 0), 8.0)]
    segmentation = segmentation_of(*ellipsoid_scan(lesions=lesions))
    report.write_html(segmentation, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    slices = {lesion.axial_slice for lesion in segmentation.lesions}
    assert len(pictures(page, "jpeg")) == 3 + len(slices)
    assert not re.search(r"https?:|<script|<link|@import|url\(", page)
    assert len(page) < 2_000_000


def test_many_lesions_are_listed_up_to_a_limit_and_counted_beyond(
    monkeypatch: pytest.MonkeyPatch,
    ellipsoid_scan: Callable[..., tuple[sitk.Image, sitk.Image]],
    tmp_path: Path,
    no_3d: None,
) -> None:
    monkeypatch.setattr(report, "LISTED_LESIONS", 1)
    scan, labels = ellipsoid_scan(lesions=(((0, 0, 0), 12.0), ((-25, 0, 10), 7.0)))
    report.write_html(segmentation_of(scan, labels), tmp_path / "report.html")
    assert "and 1 smaller, " in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_an_empty_segmentation_has_a_page_that_says_so(tmp_path: Path, modality: str) -> None:
    image = sitk.Image([20, 20, 10], sitk.sitkFloat32)
    segmentation = segmentation_of(image, sitk.Image([20, 20, 10], sitk.sitkUInt8), modality=modality)
    report.write_html(segmentation, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No liver was found in this scan." in page
    assert "No lesions were found." in page
    assert "OpenGL" not in page
    assert len(pictures(page, "jpeg")) == 3


def test_a_liver_without_lesions_says_so(
    ellipsoid_scan: Callable[..., tuple[sitk.Image, sitk.Image]], tmp_path: Path, no_3d: None
) -> None:
    report.write_html(segmentation_of(*ellipsoid_scan(lesions=())), tmp_path / "report.html")
    assert "No lesions were found in the liver." in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    image = sitk.Image([8, 8, 8], sitk.sitkInt16)
    segmentation = segmentation_of(image, sitk.Image([8, 8, 8], sitk.sitkUInt8))
    with pytest.raises(OutputError, match="cannot write the report"):
        report.write_html(segmentation, tmp_path / "missing" / "report.html")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((None, "–"), (0.0, "0"), (0.0049, "0.0049"), (0.0996, "0.100"), (0.1234, "0.12")),
        *((9.876, "9.88"), (73.44, "73.4"), (2493.2, "2493")),
    ],
)
def test_numbers_keep_three_digits_but_never_lose_one_before_the_point(value: float | None, text: str) -> None:
    assert report.figure(value) == text
