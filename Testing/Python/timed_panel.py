"""The panel of timed corrections, in the host, by a clock that is told."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from correction_shapes import FakeClock
from LiverTumorSegLib.panel.collaborators import SessionTools
from LiverTumorSegLib.scene import add_segmentation, write_segmentation
from panel_host import opened_module
from panel_stand_ins import Surroundings
from slicer_host.nodes import oblique_scan, result_of, three_lesions

BLOCK = np.s_[6:8, 3:6, 4:6]  # 12 voxels of liver beside the lesions


class TimedPanel:
    """The open panel with a clock in hand; `focus` tells it of the application's windows."""

    def __init__(self) -> None:
        self.clock, self.at = FakeClock(), Surroundings()
        self.listeners: list[object] = []
        self.busy = 0
        tools = SessionTools(self.clock, list, self._busy, self._hear)
        self.at.collaborators = dataclasses.replace(self.at.collaborators, sessions=tools)

    def _busy(self):
        from contextlib import nullcontext

        self.busy += 1
        return nullcontext()

    def _hear(self, tell):
        self.listeners.append(tell)
        return lambda: self.listeners.remove(tell)

    def wait(self, seconds: float) -> None:
        """Time passes, second after second, as it does with a timer."""
        for _ in range(int(seconds)):
            self.clock.wait(1)
            self.at.timer.pass_by(1)
        self.clock.wait(seconds - int(seconds))

    def show_result(self) -> None:
        """Three lesions, a segment each, on show with their scan."""
        panel, scan = self.panel, oblique_scan()
        volume = panel.add(scan)
        node = add_segmentation(volume)
        write_segmentation(result_of(scan, three_lesions(scan)), node, volume, separate_lesions=True)
        panel.parameters.segmentation = node

    def paint(self, effect: str, segment_id: str, box: tuple[slice, ...]) -> None:
        editor = self.panel.ui.segmentEditorWidget
        editor.setActiveEffectByName(effect)
        editor.setCurrentSegmentID(segment_id)
        k, j, i = np.indices((9, 12, 14))[(slice(None), *box)].reshape(3, -1)
        editor.paint(np.stack([i, j, k], 1))

    def code(self, folder: Path, reader: str = "R1", case: str = "c1") -> None:
        wanted = self.panel.parameters
        wanted.sessionFolder, wanted.readerCode, wanted.caseCode = str(folder), reader, case

    @property
    def ui(self):
        return self.panel.ui

    @property
    def sessions(self):
        return self.panel.widget.panel.sessions


@contextmanager
def timed_panel() -> Iterator[TimedPanel]:
    """Open the panel with a clock in hand."""
    made = TimedPanel()
    with opened_module(made.at) as panel:
        made.panel = panel
        yield made


def enabled(ui) -> set[str]:
    buttons = {name: f"{name}Session" for name in ("start", "resume", "pause", "finish", "abandon")}
    buttons |= {"next": "nextCase", "dice": "sessionDice"}
    return {name for name, control in buttons.items() if getattr(ui, f"{control}Button").enabled}


def finished(folder: Path) -> dict[str, object]:
    return json.loads((folder / "session.json").read_text(encoding="utf-8"))
