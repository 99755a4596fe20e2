"""Draws the panel in its states to PNG files, with synthetic data: `python Testing/Python/draw_panel.py FOLDER`.

`panel_overview.png` has the views beside the panel. The pictures in Resources/Screenshots are made with it. The style
is Qt's own: Slicer's differs a little.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import SimpleITK as sitk

from panel_stand_ins import Surroundings
from slicer_host.application import start

WIDTH = 420  # points, as Slicer's module panel is by default
STATES = ("empty", "running", "done", "open", "failed")


def draw_all(folder: Path, cache: Path, widths: int = WIDTH) -> None:
    """One picture a state into `folder`; Slicer's names are there only after `start`."""
    start(cache)
    from panel_host import opened_module
    from slicer_host.pictures import grab

    with opened_module(Surroundings()) as panel:
        for state, set_up in zip(STATES, (empty, running, done, everything_open, failed), strict=True):
            set_up(panel)
            grab(panel.place, folder / f"panel_{state}.png", widths)
            if state == "done":
                with_views(panel, folder)


def empty(panel) -> None:
    """As it is when the module opens without a scan."""


def running(panel) -> None:
    import slicer

    from LiverTumorSegLib.panel import sample

    panel.parameters.inputVolume = sample.add_to(slicer.mrmlScene)
    panel.ui.applyButton.click()
    panel.at.timer.pass_by(3.2)
    panel.at.client.listener.on_progress("crop: network", 0.4)


def done(panel) -> None:
    from LiverTumorSegLib import segment

    ui, image = panel.ui, panel.at.client.runs[-1][0]
    panel.at.client.end("on_done", segment(sitk.Image(image), sensitivity=2.0))
    ui.lesionTableWidget.setCurrentCell(1, 0)
    ui.rejectButton.click()
    ui.lesionTableWidget.setCurrentCell(0, 0)
    ui.acceptButton.click()
    panel.at.timer.pass_by(5)


def with_views(panel, folder: Path) -> None:
    """The panel, an axial slice through the first lesion, and the 3D view, side by side."""
    import slicer
    from PIL import Image

    from slicer_host.pictures import picture_3d, picture_slice

    display = panel.parameters.inputVolume.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevel(350, 50)
    for name in slicer.app.layoutManager().sliceViewNames():
        logic = slicer.app.layoutManager().sliceWidget(name).sliceLogic()
        logic.GetSliceCompositeNode().SetBackgroundVolumeID(panel.parameters.inputVolume.GetID())
        logic.FitSliceToAll()
    panel.results.go_to(0)
    panel.at.timer.pass_by(2)
    beside = Image.open(folder / "panel_done.png")
    width, high = round(1.1 * beside.width), beside.height // 2
    with tempfile.TemporaryDirectory() as scratch:
        slice_file, surface_file = Path(scratch) / "slice.png", Path(scratch) / "3d.png"
        picture_slice(slice_file, "Red", (width, high))
        picture_3d(surface_file, (width, beside.height - high))
        whole = Image.new("RGB", (beside.width + width, beside.height))
        whole.paste(beside, (0, 0))
        whole.paste(Image.open(slice_file), (beside.width, 0))
        whole.paste(Image.open(surface_file), (beside.width, high))
    whole.resize((whole.width * 2 // 3, whole.height * 2 // 3)).save(folder / "panel_overview.png", optimize=True)


def everything_open(panel) -> None:
    for part in ("export", "correction", "batch", "log"):
        getattr(panel.ui, f"{part}CollapsibleButton").collapsed = False
    panel.parameters.batchSource = "folder"


def failed(panel) -> None:
    for part in ("export", "correction", "batch", "results"):
        getattr(panel.ui, f"{part}CollapsibleButton").collapsed = True
    panel.parameters.segmentation = None
    panel.ui.applyButton.click()
    message = "device: wanted cuda:1, got 0 CUDA devices that torch can use on this computer"
    panel.at.client.end("on_failed", message, [])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as cache:
        draw_all(Path(sys.argv[1]), Path(cache))
