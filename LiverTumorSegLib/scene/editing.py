"""Correcting by hand in Slicer's Segment Editor, so that liver and tumours stay disjoint and without holes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import slicer

from ..segmentation import LIVER, TUMOUR
from .changes import (
    Change,
    Layer,
    change_between,
    current_layers,
    difference,
    frame_of,
    images,
    kinds_in,
    on_other_grids,
    only_more,
    owners_in,
    replacement,
)
from .segments import edits, is_ours, mark_edited, segment_ids
from .voxels import Block, give


def prepare_editor(
    editor_node: slicer.vtkMRMLSegmentEditorNode, segmentation_node: slicer.vtkMRMLSegmentationNode
) -> None:
    """Set the Segment Editor up for liver and tumours; the first tumour is selected unless another one is.

    What is painted replaces what was there, also where that is hidden: painting tumour takes from the liver,
    painting liver takes from the tumour. There is no mask, as tumours may reach out of the liver.

    Args:
        editor_node: of the editor that the person works with.
        segmentation_node: what is corrected.
    """
    with slicer.util.NodeModify(editor_node):
        editor_node.SetAndObserveSegmentationNode(segmentation_node)
        editor_node.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteAllSegments)
        editor_node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere)
        editor_node.SetSourceVolumeIntensityMask(False)
        ids = [*segment_ids(segmentation_node, TUMOUR), *segment_ids(segmentation_node, LIVER)]
        if ids and editor_node.GetSelectedSegmentID() not in ids:
            editor_node.SetSelectedSegmentID(ids[0])


class LiverKeeper:
    """Watches a segmentation while a person corrects it: what is erased from a tumour becomes liver again.

    Only what lay within the liver does: a stroke of tumour that went beyond the liver's border leaves nothing
    behind when it is erased. Erasing the liver itself is left to the person. A tumour segment that is removed
    gives its voxels back, too. What Undo and Redo bring back stays exactly as it was saved. Segments that change
    are marked as edited (SEMIAUTOMATIC, for DICOM SEG).

    Where the segmentation is put on another grid ("Specify geometry", or Undo of it), everything is taken as it is
    there: nothing is given to the liver or marked, and nobody is told, as no voxel was edited. What lay beyond the
    liver still does, by the nearest voxels.

    It works at every stroke until `stop` is called.

    Args:
        segmentation_node: with liver and tumours; all tumours that it has now count as lying within the liver.
        on_change: told what changed, after the liver has got what is its own.
    """

    def __init__(
        self,
        segmentation_node: slicer.vtkMRMLSegmentationNode,
        on_change: Callable[[Change], None] | None = None,
    ) -> None:
        self._node = segmentation_node
        self._on_change = on_change
        self._busy = False
        self._layers: list[Layer] = []
        self._organ: Block | None = None  # True where liver is, or was before tumour was painted over it
        self._begin(current_layers(segmentation_node) or [])
        events = slicer.vtkSegmentation
        self._tags = [
            segmentation_node.AddObserver(events.SourceRepresentationModified, self._on_voxels),
            segmentation_node.AddObserver(events.SegmentRemoved, self._on_voxels),
            segmentation_node.AddObserver(events.SegmentModified, self._on_segment),
            segmentation_node.AddObserver(events.SegmentAdded, self._on_segment),
        ]

    def stop(self) -> None:
        """Stop watching; may be called twice."""
        for each in self._tags:
            self._node.RemoveObserver(each)
        self._tags = []

    def _on_voxels(self, caller: Any, event: str) -> None:
        now = None if self._busy else current_layers(self._node)
        if now is not None:
            self._see(now, self._follow if images(now) & images(self._layers) else self._look)

    def _on_segment(self, caller: Any, event: str) -> None:
        """Notice what Undo and Redo bring back, and a tumour that comes from elsewhere; Slicer tells no more of them.

        Undo and Redo replace one segment after the other. What comes from elsewhere, on a labelmap of its own, is a
        tumour when it is added, or when it is called one later.
        """
        now = None if self._busy else current_layers(self._node)
        if now is None:
            return
        here, known = images(now), images(self._layers)
        replaced = not here & known
        renamed = here == known and [layer.owners for layer in now] != [layer.owners for layer in self._layers]
        if replaced or renamed:
            self._see(now, self._look)
        elif only_more(self._layers, now):
            self._see(now, self._follow)

    def _see(self, now: list[Layer], compare: Callable[[list[Layer]], Change | None]) -> None:
        """Tell of a change, unless voxels before and now cannot be compared."""
        if on_other_grids(self._layers, now):
            self._begin(now)
            return
        self._busy = True
        try:
            change = compare(now)
        finally:
            self._busy = False
        if change is not None and self._on_change is not None:
            self._on_change(change)

    def _begin(self, now: list[Layer]) -> None:
        """Take what is there as it is."""
        self._layers = [layer.copy() for layer in now]
        self._remember_organ(now)

    def _remember_organ(self, now: list[Layer]) -> None:
        """Find the organ in labelmaps that are other ones than before, by what was remembered of it."""
        frame = frame_of(now)
        if frame is None:
            self._organ = None
            return
        kinds = kinds_in(now, frame)
        organ = kinds > 0
        # A result, also one that Undo brought back, has all of its tumours in the liver; after that it depends.
        if self._organ is not None and any(is_ours(each) for each in edits(self._node)):
            organ = (kinds == LIVER) | ((kinds == TUMOUR) & self._organ.under(frame))
        self._organ = dataclasses.replace(frame, array=organ)

    def _look(self, now: list[Layer]) -> Change | None:
        """Take over other labelmaps."""
        before, self._layers = self._layers, [layer.copy() for layer in now]
        self._remember_organ(now)
        if self._on_change is None or not before:  # without anything before, all segments are being made anew
            return None
        return change_between("replaced", before, now, replacement(before, now))

    def _follow(self, now: list[Layer]) -> Change | None:
        """Give to the liver what a tumour lost to nobody."""
        changed = difference(self._layers, now)
        livers = segment_ids(self._node, LIVER)
        if changed is not None:
            was, became = (kinds_in(layers, changed) for layers in (self._layers, now))
            organ = self._organ_at(changed)
            organ |= became == LIVER
            organ &= (was != LIVER) | (became > 0)
            lost = (was == TUMOUR) & (became == 0) & organ
            edited = owners_in([*self._layers, *now], changed) & {*self._node.GetSegmentation().GetSegmentIDs()}
            if lost.any() and livers:
                give(self._node, livers[0], dataclasses.replace(changed, array=lost), [])
                edited.add(livers[0])
            mark_edited(self._node, sorted(edited))
        before, after = self._layers, current_layers(self._node) or []
        self._layers = [layer.copy() for layer in after]
        return change_between("edited", before, after, changed) if self._on_change is not None else None

    def _organ_at(self, box: Block) -> np.ndarray:
        """What is remembered of the organ in a box, to be changed in place; the memory grows to hold the box."""
        if self._organ is None:
            self._organ = dataclasses.replace(box, array=np.zeros(box.array.shape, bool))
        if not self._organ.holds(box):
            frame = box.joined(self._organ)
            self._organ = dataclasses.replace(frame, array=self._organ.under(frame))
        return self._organ.window(box)
