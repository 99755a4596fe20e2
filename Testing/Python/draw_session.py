"""Draws the controls of a timed correction to a PNG file: `python Testing/Python/draw_session.py FILE`.

The README's picture is made with it. The reader is a program, the clock is told, the scan is the synthetic abdomen.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from correction_shapes import FakeClock
from panel_stand_ins import Surroundings
from slicer_host.application import start

WIDTH = 420  # points, as Slicer's module panel is by default


def draw(path: Path, cache: Path) -> None:
    """A session after some minutes; Slicer's names are there only after `start`."""
    start(cache)
    from LiverTumorSegLib.panel.collaborators import SessionTools
    from panel_host import opened_module
    from slicer_host.pictures import grab

    at, clock = Surroundings(), FakeClock()
    at.collaborators = dataclasses.replace(at.collaborators, sessions=SessionTools(clock))
    with opened_module(at) as panel:
        show_a_case(panel, cache)
        ui, wanted = panel.ui, panel.parameters
        wanted.sessionFolder, wanted.readerCode, wanted.caseCode = str(cache / "study"), "R1", "c01"
        ui.startSessionButton.click()
        wanted.sessionFolder = "Reader study"  # no place of this computer
        for effect, segment_id, seconds in (("", "liver", 50), ("Erase", "liver", 130), ("Paint", "tumour", 190)):
            ui.segmentEditorWidget.setCurrentSegmentID(segment_id)
            ui.segmentEditorWidget.setActiveEffectByName(effect)
            for stroke in range(seconds // 10):
                clock.wait(10 + stroke % 3)
                if effect:
                    ui.segmentEditorWidget.paint(strip(panel, 16 if effect == "Erase" else 8, stroke))
        clock.wait(42)
        ui.sessionDiceButton.click()
        for part in ("inputs", "results"):
            getattr(ui, f"{part}CollapsibleButton").collapsed = True
        ui.correctionCollapsibleButton.collapsed = False
        at.timer.pass_by(1)
        grab(panel.place, path, WIDTH)


def show_a_case(panel, cache: Path) -> None:
    import slicer

    from LiverTumorSegLib import scene
    from LiverTumorSegLib.panel import sample

    scan, truth = (sitk.ReadImage(str(path)) for path in sample.draw(cache))
    volume = scene.add_volume(scan, slicer.mrmlScene, sample.NAME)
    panel.parameters.inputVolume = volume
    panel.parameters.segmentation = scene.add_labels(sitk.Cast(truth, sitk.sitkUInt8), volume)


def strip(panel, aside: int, stroke: int) -> np.ndarray:
    """Voxels (n, 3) so far aside of the largest lesion's middle, others for each stroke."""
    voxels = panel.results.rows[0].lesion.voxels
    k, j, i = (np.argwhere(voxels.array).mean(0) + voxels.start[::-1]).astype(int)
    places = np.argwhere(np.ones((3, 3, 3))) + np.array([k, j - aside, i + 2 * stroke - 20])
    return places[:, ::-1]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(sys.argv[1]), Path(folder))
