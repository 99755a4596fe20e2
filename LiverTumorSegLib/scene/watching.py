"""Tells a correction session what its reader does in a scene: strokes, undo, selections, effects, moving views."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import slicer
import vtk

from ..correction.session import CorrectionSession
from ..errors import SessionError
from .changes import Change
from .segments import LIVER_STYLE, is_edited, kinds_of
from .viewpoints import VIEWS, viewpoint_of

_LONGEST_EFFECT = 64
_ABOVE_EFFECTS = 100.0  # the editor's effects keep what they use from observers of a lower priority


class SessionWatch:
    """Observes a scene while a session runs, until `stop`.

    - A stroke is an edit of the segment that is selected, with the voxels that it gained and lost; what other segments
      lose to it, or the liver gets back from it, is no edit of theirs. An effect that leaves the selected segment as
      it is and lets others grow edits the one that grows most; a tumour that is removed is an edit of it.
    - A tumour that comes from elsewhere is an edit of itself, when it comes. As Slicer's Undo knows nothing of it, it
      goes with the stroke before it.
    - Undo and Redo are known by what they bring back. New labelmaps of segments that no person has edited are a
      program's result, and count as nothing.
    - Another grid ("Specify geometry") counts as nothing, and so do Undo and Redo of that.
    - What a program does on the reader's behalf goes through `as_one`.
    - While the session is paused nothing is told.
    """

    def __init__(
        self,
        session: CorrectionSession,
        segmentation_node: slicer.vtkMRMLSegmentationNode,
        editor_node: slicer.vtkMRMLSegmentEditorNode,
        interactors: Iterable[Any] = (),
        on_error: Callable[[str], None] = lambda message: None,
    ) -> None:
        """Begin.

        Args:
            session: is told.
            segmentation_node: what is corrected; a `LiverKeeper` on it must tell `changed`.
            editor_node: the Segment Editor's.
            interactors: vtkRenderWindowInteractors of the views, where strokes begin.
            on_error: told in one line when something could not be noted; it does not count then.
        """
        self._session, self._node, self._editor, self._on_error = session, segmentation_node, editor_node, on_error
        self._selected = editor_node.GetSelectedSegmentID() or ""
        self._effect = editor_node.GetActiveEffectName() or ""
        self._strokes: list[tuple[Change, str]] = []  # what Undo may bring back
        self._done = 0  # how many of them have not been undone
        self._block: list[Change] | None = None
        self._viewpoints: dict[str, tuple[float, ...]] = {}
        self._observed: list[tuple[Any, int]] = []
        segmentation, scene = segmentation_node.GetSegmentation(), segmentation_node.GetScene()
        self._observe(editor_node, "ModifiedEvent", self._on_editor)
        self._observe(segmentation, slicer.vtkSegmentation.SourceRepresentationModified, self._on_segment)
        self._observe(scene, slicer.vtkMRMLScene.NodeAddedEvent, self._on_node_added)
        for kind in VIEWS:
            for number in range(scene.GetNumberOfNodesByClass(kind)):
                self._watch_view(scene.GetNthNodeByClass(number, kind))
        for each in interactors:
            self._observe(each, "LeftButtonPressEvent", self._on_pointer, _ABOVE_EFFECTS)

    def stop(self) -> None:
        """Observe nothing more; may be called twice."""
        for caller, tag in self._observed:
            caller.RemoveObserver(tag)
        self._observed = []

    def focus(self, gained: bool) -> None:
        """The program's window came to the front, or went to the back."""
        self._tell(self._session.focus_gained if gained else self._session.focus_lost)

    def selected(self, segment: str) -> None:
        """The reader chose a segment or lesion elsewhere than in the editor, in the lesion table for example."""
        self._tell(lambda: self._session.selected(segment))

    def accepted(self, lesion: str) -> None:
        """The reader agreed with a lesion."""
        self._tell(lambda: self._session.accepted(lesion))

    @contextmanager
    def as_one(self, report: Callable[[int, int], None]) -> Iterator[None]:
        """Take all that changes inside the block for one decision of the reader instead of for strokes.

        Args:
            report: tells the session, given the voxels that all tumours together gained and lost; called after the
                block, and not when it raises.
        """
        self._block = []
        try:
            yield
            changes = self._block
        finally:
            self._block = None
        for each in changes:
            self._remember(each, "")
        added, removed = (sum(_of_tumours(getattr(each, name)) for each in changes) for name in ("added", "removed"))
        self._tell(lambda: report(added, removed))

    def changed(self, change: Change) -> None:
        """Voxels have changed; for `LiverKeeper`."""
        if self._block is not None:
            self._block.append(change)
        elif change.how == "edited":
            segment = self._edited_segment(change)
            self._remember(change, segment)
            if segment:
                self._report(self._session.edited, segment, change)
        elif change.how == "brought":
            if self._done:
                stroke, segment = self._strokes[self._done - 1]
                self._strokes[self._done - 1] = stroke.with_brought(change), segment
            for each in change.added:
                self._report(self._session.edited, each, change)
        elif self._done and change.undoes(self._strokes[self._done - 1][0]):
            self._done -= 1
            self._report(self._session.undone, self._strokes[self._done][1], change)
        elif self._done < len(self._strokes) and change.repeats(self._strokes[self._done][0]):
            self._done += 1
            self._report(self._session.redone, self._strokes[self._done - 1][1], change)
        else:
            self._strokes, self._done = [], 0
            if is_edited(self._node):
                self._report(self._session.undone, "", change)

    def _edited_segment(self, change: Change) -> str:
        """Whose edit a change is; "" for what is only a consequence of another one."""
        if change.voxels_of(self._selected):
            return self._selected
        grown = {each for each in change.added if each != LIVER_STYLE.name}
        if grown or not change.added:  # what others lose to the segment in hand comes alone where it has its own layer
            return max(grown, key=change.voxels_of, default="")
        return max(change.removed or change.added, key=change.voxels_of)  # the liver got back what a tumour lost

    def _remember(self, change: Change, segment: str) -> None:
        self._strokes = [*self._strokes[: self._done], (change, segment)]
        self._done += 1

    def _report(self, tell: Callable[[str, int, int], None], segment: str, change: Change) -> None:
        if not segment:  # a decision on a lesion, or from before the session: of the tumour that it is most about
            whose = {**change.added, **change.removed}
            segment = max(whose, key=lambda each: (each != LIVER_STYLE.name, change.voxels_of(each)))
        self._tell(lambda: tell(segment, change.added.get(segment, 0), change.removed.get(segment, 0)))

    def _tell(self, call: Callable[[], None]) -> None:
        if self._session.state != "running":
            return
        try:
            call()
        except SessionError as error:
            self._on_error(str(error))

    def _on_editor(self, caller: Any, event: str) -> None:
        selected, effect = self._editor.GetSelectedSegmentID() or "", self._editor.GetActiveEffectName() or ""
        if selected != self._selected:
            self._selected = selected
            self._tell(lambda: self._session.selected(selected))
        if effect != self._effect:
            self._effect = effect
            self._tell(lambda: self._session.effect_chosen(effect[:_LONGEST_EFFECT]))

    @vtk.calldata_type(vtk.VTK_STRING)
    def _on_segment(self, caller: Any, event: str, segment_id: str | None) -> None:
        """An edit of a segment that is neither liver nor tumour: time of "none", and no voxels of anybody."""
        if (
            segment_id
            and self._block is None
            and segment_id == self._selected
            and segment_id not in kinds_of(self._node)
        ):
            self._tell(lambda: self._session.edited(segment_id))

    def _on_pointer(self, caller: Any, event: str) -> None:
        if self._effect:
            self._tell(lambda: self._session.stroke_began(self._selected))

    def _on_view(self, caller: Any, event: str) -> None:
        """Nodes of views change for many reasons; only where they look from counts."""
        viewpoint = viewpoint_of(caller)
        if viewpoint != self._viewpoints.get(caller.GetID()):
            self._viewpoints[caller.GetID()] = viewpoint
            self._tell(self._session.viewed)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_node_added(self, caller: Any, event: str, node: Any) -> None:
        if node is not None and node.GetClassName() in VIEWS:
            self._watch_view(node)

    def _watch_view(self, node: Any) -> None:
        self._viewpoints[node.GetID()] = viewpoint_of(node)
        self._observe(node, "ModifiedEvent", self._on_view)

    def _observe(self, caller: Any, event: Any, call: Callable[..., None], priority: float = 0.0) -> None:
        self._observed.append((caller, caller.AddObserver(event, call, priority)))


def _of_tumours(voxels: dict[str, int]) -> int:
    return sum(count for segment, count in voxels.items() if segment != LIVER_STYLE.name)
