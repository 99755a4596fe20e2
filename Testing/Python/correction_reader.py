"""A reader that is a program: works on a real segmentation through Slicer's own editor, by a clock that is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import slicer
import vtk

from correction_shapes import FakeClock, session_in
from LiverTumorSegLib.scene import LiverKeeper, SessionWatch, labels_from_segmentation
from slicer_host.nodes import Editor, oblique_scan, result_of, three_lesions, written_as


class SimulatedReader:
    """A session on a liver of 560 voxels, 28 of them in lesions of 18, 8 and 2; each lesion is a segment."""

    def __init__(
        self, application, folder: Path, separate: bool = True, labels: np.ndarray | None = None, **session: object
    ) -> None:
        self.scan, self.scene = oblique_scan(), slicer.vtkMRMLScene()  # nodes do not keep their scene
        self.slice_node = self.scene.AddNode(slicer.vtkMRMLSliceNode())
        result = result_of(self.scan, three_lesions(self.scan) if labels is None else labels)
        self.volume, self.node = written_as(result, self.scene, separate)
        self.editor = Editor(application, self.node, self.volume)
        self.pointer = vtk.vtkGenericRenderWindowInteractor()
        self.clock, self.problems = FakeClock(), []
        self.session = session_in(folder, self.clock, result.labels, **session)
        self.watch = SessionWatch(self.session, self.node, self.editor.parameters, [self.pointer], self.problems.append)
        self.keeper = LiverKeeper(self.node, self.watch.changed)
        self.session.start()

    def after(self, seconds: float, act: Callable[..., object], *arguments: object) -> None:
        """Do something so much later."""
        self.clock.wait(seconds)
        act(*arguments)

    def choose(self, segment_id: str, effect: str | None = None) -> None:
        self.editor.parameters.SetSelectedSegmentID(segment_id)
        if effect is not None:
            self.editor.parameters.SetActiveEffectName(effect)

    def press(self) -> None:
        self.pointer.InvokeEvent("LeftButtonPressEvent")

    def paint(self, segment_id: str, box: tuple[slice, ...]) -> None:
        self.choose(segment_id, "Paint")
        self.editor.paint(segment_id, box)

    def erase(self, segment_id: str, box: tuple[slice, ...]) -> None:
        self.choose(segment_id, "Erase")
        self.editor.erase(segment_id, box)

    def scroll(self) -> None:
        self.slice_node.SetSliceOffset(self.slice_node.GetSliceOffset() + 2.5)

    def finish(self) -> Path:
        return self.session.finish(labels_from_segmentation(self.node, self.volume))

    @property
    def events(self) -> list[tuple[object, ...]]:
        """What the journal notes since the start: event, segment, voxels added and removed."""
        import json

        lines = self.session.folder.joinpath("journal.jsonl").read_text(encoding="utf-8").splitlines()
        notes = [json.loads(line) for line in lines[2:]]
        return [
            (note["event"], note.get("segment"), note.get("voxels_added", 0), note.get("voxels_removed", 0))
            for note in notes
        ]

    def close(self) -> None:
        self.keeper.stop()
        self.watch.stop()
        self.session.close()
