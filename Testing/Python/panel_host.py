"""The module's panel, opened in the host, with a worker that the test speaks for or with the real one."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import SimpleITK as sitk
import slicer

import shapes
from LiverTumorSegLib.lesions import LesionKind, find_lesions
from LiverTumorSegLib.scene import add_volume
from panel_stand_ins import Surroundings
from slicer_host.modules import open_module
from slicer_host.scripted_module import MODULE_FOLDER

MODULE = MODULE_FOLDER / "LiverTumorSeg.py"


class Opened:
    """The open module: `widget` is the module's, `ui` its controls, `at` what it works with (None: the real things)."""

    def __init__(self, module, at: Surroundings | None) -> None:
        self.module, self.at = module, at
        self.place = module.widgetRepresentation()
        self.place.show()
        self.place.enter()

    @property
    def widget(self):
        return self.place.self()

    @property
    def ui(self):
        return self.widget.ui

    @property
    def parameters(self):
        return self.widget.panel.parameters

    @property
    def results(self):
        return self.widget.panel.results

    def add(self, scan: sitk.Image, name: str = "CT"):
        node = add_volume(scan, slicer.mrmlScene, name)
        self.parameters.inputVolume = node
        return node

    def wait(self, until: Callable[[], bool], seconds: float = 60.0) -> None:
        """Let the event loop run until something is so."""
        end = time.monotonic() + seconds
        while not until():
            slicer.app.processEvents()
            assert time.monotonic() < end, f"waited {seconds} s in vain; status: {self.ui.statusLabel.text}"
            time.sleep(0.002)

    def rows(self) -> list[list[str]]:
        table = self.ui.lesionTableWidget
        columns = range(table.columnCount)
        return [[table.item(row, column).text() for column in columns] for row in range(table.rowCount)]


@contextmanager
def opened_module(at: Surroundings | None) -> Iterator[Opened]:
    """Open the module as the application does, and close it as the application does when it ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(MODULE_FOLDER))
        module = open_module(Path(MODULE))
        if at is not None:
            widget = sys.modules["LiverTumorSeg"].LiverTumorSegWidget

            def collaborate(widget, save_for_undo):
                at.undo = save_for_undo
                return at.collaborators

            patch.setattr(widget, "makeCollaborators", collaborate)
        opened = Opened(module, at)
        try:
            yield opened
        finally:
            module.close()


def smaller_of(two_lesions) -> sitk.Image:
    """The smaller lesion as label 2, and nothing else."""
    parts = sitk.RelabelComponent(sitk.ConnectedComponent(two_lesions[1] == 2))
    return sitk.Cast(parts == 2, sitk.sitkUInt8) * 2


def kinds_of(labels: sitk.Image, **scores: float) -> tuple[LesionKind, ...]:
    """What a worker calls the lesions of a label map, the largest first: names and how sure it is."""
    pairs = zip(scores.items(), find_lesions(labels), strict=True)
    return tuple(LesionKind(name, score, lesion.centroid_ras_mm) for (name, score), lesion in pairs)


def done(panel: Opened, two_lesions, name: str = "CT", **said: object):
    """Apply, and answer in the worker's place; returns the volume's and the segmentation's node."""
    scan, labels = two_lesions
    volume = panel.add(scan, name)
    panel.ui.applyButton.click()
    made = shapes.segmentation_of(panel.at.client.runs[-1][0], labels)
    panel.at.client.end("on_done", dataclasses.replace(made, **said))
    return volume, panel.parameters.segmentation
