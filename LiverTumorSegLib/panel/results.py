"""The segmentation on show: its lesions, what the user decides of them, and drawing it at another sensitivity."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from .. import scene
from ..errors import LiverTumorSegError
from ..lesions import LesionKind
from .collaborators import Collaborators, Later, Node
from .decisions import with_decisions
from .nodes import Blinker, made_at_sensitivity, volume_of
from .run import Result
from .witness import Witness
from .wording import lacking_text

if TYPE_CHECKING:
    import SimpleITK as sitk

log = logging.getLogger(__name__)

_Made = TypeVar("_Made")

KEPT_RESULTS = 3
"""Of how many segmentations the networks' output stays in memory."""

_QUICK_SECONDS = 0.25  # a redraw as quick as this may follow the hand
_SOON, _LATER, _AFTER_EDIT = 0.03, 0.3, 0.5
_LOSE_EDITS = (
    "{name} was edited. Draw it anew at sensitivity {value:g} and lose the edits?\n\n"
    "Undo in the segment editor brings the edited state back."
)
FROM_FILE = "Only for a result of this session: press Apply first. What the networks said is not saved with a scene."


class Results:
    """What the section Results works on.

    Attributes:
        node: the segmentation, or None.
        volume: the scan that it was made on, or None.
        rows: its lesions, the largest first, rejected ones last; saved with the scene.
        probability: of tumour, in the world, where the networks' output is still known; it goes with the scan.
        kinds: what sorts of lesions there are in the world, likewise.
        summary: volumes of liver and tumours, where they can be measured.
        note: why there is no table, or no other sensitivity, in one line, or nothing.
        witness: hears of decisions on lesions.
    """

    def __init__(
        self,
        surroundings: Collaborators,
        on_change: Callable[[], None],
        on_sensitivity: Callable[[float], None],
    ) -> None:
        """Args: what the panel asks of, and whom to tell that something else, or another sensitivity, is on show."""
        self._at, self._on_change, self._on_sensitivity = surroundings, on_change, on_sensitivity
        self.node: Node | None = None
        self.volume: Node | None = None
        self.rows: list[scene.LesionRow] = []
        self.summary: scene.Summary | None = None
        self.note = ""
        self._kept: dict[str, Result] = {}
        self._said: sitk.Image | None = None
        self.probability: sitk.Image | None = None
        self.kinds: Sequence[LesionKind] = ()
        self._lost_sight = ""
        self._measure = Later(surroundings.timer, self.measure)
        self._redraw = Later(surroundings.timer, self._redraw_now)
        self._blinker = Blinker(surroundings.timer)
        self.witness = Witness()
        self._wanted_sensitivity = 1.0
        self._redraw_seconds = 0.0
        self._writing = False

    def adopt(self, result: Result) -> None:
        """Show a new result; what the networks said stays in memory for the slider."""
        self._kept.pop(result.node.GetID(), None)
        self._kept[result.node.GetID()] = result
        while len(self._kept) > KEPT_RESULTS:
            self._kept.pop(next(iter(self._kept)))
        scene.write_lesion_table(result.node.GetScene(), result.node, [])  # decisions on what was there are not on this
        self._show(result.node, result.volume)

    def show(self, node: Node | None) -> None:
        """Show another segmentation of the scene, or none; measures its lesions."""
        if node is not self.node:
            self._show(node, volume_of(node) if node is not None else None)

    def node_removed(self, node: Node) -> None:
        """Let go of a node that is about to be deleted, and delete its lesion table, too."""
        table = scene.lesion_table_of(node)
        if table is not None:  # a moment later: whatever deletes the node may hold on to the table, too
            self._at.timer.after(0.0, lambda: scene.remove_unused_table(table))
        self._kept = {key: kept for key, kept in self._kept.items() if node not in (kept.node, kept.volume)}
        if node is self.node:
            self.show(None)
        elif node is self.volume:
            self.volume = None
            self.measure()

    def close(self) -> None:
        """Let go of everything, as the scene closes or the panel ends."""
        self._kept.clear()
        self._show(None, None)

    def edited(self) -> None:
        """The segments have changed; measured anew in a moment, unless this object changed them."""
        if not self._writing:
            self._measure.ask(_AFTER_EDIT)

    @property
    def result(self) -> Result | None:
        """What the networks said of the segmentation on show, where it is still known."""
        return self._kept.get(self.node.GetID()) if self.node is not None else None

    @property
    def why_no_slider(self) -> str:
        """Why the sensitivity cannot be changed, or nothing."""
        if self.node is None:
            return "There is no result yet."
        return self._lost_sight if self.result is not None and self.volume is not None else FROM_FILE

    def follow(self) -> None:
        """Have `probability` and `kinds` where the scan lies now; neither, where nothing tells where that is."""
        self.probability, self.kinds, self._lost_sight = None, (), ""
        result = self.result
        if result is None or self.volume is None:
            return
        try:
            movement = scene.movement_of(result.segmentation.image, self.volume)
            if self._said is not None:
                self.probability = scene.moved_image(self._said, movement, self.volume)
            self.kinds = scene.moved_kinds(result.segmentation.kinds, movement)
        except LiverTumorSegError as error:
            self._lost_sight = f"What the networks said no longer fits the scan: {error}"

    def measure(self) -> None:
        """Find and measure the lesions as the segments are now; decisions stay with the lesions they were made on."""
        self._measure.drop()
        earlier, self.rows, self.summary, self.note = self.rows, [], None, ""
        if self.node is None or self.volume is None:
            self.note = "" if self.node is None else "The scan of this segmentation is not in the scene."
        else:
            self.follow()
            try:
                self.summary = scene.summary_of(self.node, self.volume)
                placed = scene.lesions_in(self.node, self.volume, self.probability, self.kinds)
                self.rows = with_decisions(placed, earlier)
            except LiverTumorSegError as error:
                self.note = str(error)
            except ModuleNotFoundError as error:
                self.note = lacking_text("Lesions cannot be measured", error)
        self._write_table()
        self._on_change()

    def accept(self, number: int) -> None:
        """Keep a lesion; a rejected one is put back.

        Raises:
            OutputError: the segments that it belonged to are gone.
        """
        row, rejected = self.rows[number], self.rows[number].rejected
        if rejected is not None and self.node is not None:
            self._at.save_for_undo(self.node)
            with self.witness.restoring(row):
                self._write(lambda: scene.restore_lesion(self.node, rejected))
        self.witness.accepted(row)
        self.rows[number] = scene.LesionRow(row.lesion, "accepted")
        self.measure()

    def reject(self, number: int) -> None:
        """Give a lesion's voxels back to the liver; the editor's Undo and `accept` bring them back.

        Raises:
            OutputError: the lesion was edited since it was measured.
        """
        row = self.rows[number]
        if row.decision == "rejected" or self.node is None or self.volume is None:
            return
        self._blinker.stop()
        self._at.save_for_undo(self.node)
        with self.witness.rejecting(row):
            rejected = self._write(lambda: scene.reject_lesion(self.node, self.volume, row.lesion))
        self.rows[number] = scene.LesionRow(row.lesion, "rejected", rejected)
        self.measure()

    def go_to(self, number: int) -> None:
        """Centre all slice views on a lesion and make its segment blink."""
        row = self.rows[number]
        if self.node is not None:
            self.witness.looked_at(row)
            scene.jump_to(self.node.GetScene(), row.lesion.lesion.centroid_ras_mm)
            if row.decision != "rejected":
                self._blinker.blink(self.node, row.lesion.segment_id)

    def set_sensitivity(self, value: float) -> None:
        """Draw the segments at another sensitivity in a moment: at once where that is quick."""
        self._wanted_sensitivity = value
        if self.why_no_slider or abs(value - made_at_sensitivity(self.node)) < 1e-6:
            self._redraw.drop()
        else:
            self._redraw.ask(_SOON if self._redraw_seconds < _QUICK_SECONDS else _LATER)

    def _redraw_now(self) -> None:
        result, node, volume = self.result, self.node, self.volume
        if result is None or node is None or volume is None:
            return
        try:
            drawn = self._drawn_anew(result, node, volume)
        except LiverTumorSegError as error:
            drawn, self.note = False, f"Nothing was drawn anew: {error}"
        if not drawn:
            self._on_sensitivity(made_at_sensitivity(node))
        self._on_change()

    def _drawn_anew(self, result: Result, node: Node, volume: Node) -> bool:
        """Draw at the sensitivity that is wanted, unless the user keeps what was edited.

        Raises:
            LiverTumorSegError: it cannot be drawn; nothing was asked or noted for Undo where the scan is the reason.
        """
        value = self._wanted_sensitivity
        scene.movement_of(result.segmentation.image, volume)
        if scene.is_edited(node):
            if not self._at.messages.ask(_LOSE_EDITS.format(name=node.GetName(), value=value)):
                return False
            self._at.save_for_undo(node)
        self._blinker.stop()
        began = time.perf_counter()
        again = result.segmentation.with_sensitivity(value)
        with self.witness.redrawing(value):
            self._write(lambda: scene.redraw(again, node, volume, replace_edited=True))
        self._redraw_seconds = time.perf_counter() - began
        self._kept[node.GetID()] = replace(result, segmentation=again)
        self.rows = [row for row in self.rows if row.decision != "rejected"]  # they are drawn again
        self._measure.ask(_LATER)
        return True

    def _show(self, node: Node | None, volume: Node | None) -> None:
        self._blinker.stop()
        self._redraw.drop()
        self.node, self.volume = node, volume
        result = self.result
        evidence = result.segmentation.evidence if result is not None else None
        self._said = evidence.tumour_probability() if evidence is not None else None
        self.rows = self._remembered()
        self._on_sensitivity(made_at_sensitivity(node) if node is not None else 1.0)
        self.measure()

    def _remembered(self) -> list[scene.LesionRow]:
        """The decisions that came with the scene."""
        try:
            return scene.read_lesion_table(self.node) if self.node is not None else []
        except LiverTumorSegError as error:
            log.warning("decisions on lesions cannot be read: %s", error)
            return []  # the lesions are there all the same

    def _write_table(self) -> None:
        if self.node is not None and self.volume is not None and not self.note:
            scene.write_lesion_table(self.node.GetScene(), self.node, self.rows)

    def _write(self, change: Callable[[], _Made]) -> _Made:
        self._writing = True
        try:
            return change()
        finally:
            self._writing = False
