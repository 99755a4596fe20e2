"""What the panel asks of nodes itself: which belong together, what came from DICOM, and blinking a segment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import scene
from .collaborators import Node
from .process import Timer

BLINKS, BLINK_SECONDS = 3, 0.15
_SCAN, _HIERARCHY = "vtkMRMLScalarVolumeNode", "vtkMRMLSubjectHierarchyNode"


def volumes_in(mrml_scene: Node) -> list[Node]:
    """The scans of a scene: scalar volumes with voxels, no label maps."""
    found = [mrml_scene.GetNthNodeByClass(n, _SCAN) for n in range(mrml_scene.GetNumberOfNodesByClass(_SCAN))]
    return [node for node in found if node.GetClassName() == _SCAN and node.GetImageData() is not None]


def volume_of(segmentation_node: Node) -> Node | None:
    """The scan that a segmentation was made on, as Slicer itself notes it."""
    return segmentation_node.GetNodeReference(segmentation_node.GetReferenceImageGeometryReferenceRole())


def made_from(volume_node: Node) -> Node | None:
    """A segmentation of ours that was made on this scan, or None."""
    mrml_scene = volume_node.GetScene()
    count = mrml_scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") if mrml_scene is not None else 0
    for number in range(count):
        node = mrml_scene.GetNthNodeByClass(number, "vtkMRMLSegmentationNode")
        if is_ours(node) and volume_of(node) is volume_node:
            return node
    return None


def is_ours(segmentation_node: Node) -> bool:
    """Whether this program made it."""
    return bool(segmentation_node.GetAttribute(f"{scene.ATTRIBUTE_PREFIX}Bundle"))


def made_at_sensitivity(segmentation_node: Node) -> float:
    """The factor with which a segmentation was drawn last; 1 where nothing is noted."""
    return float(segmentation_node.GetAttribute(f"{scene.ATTRIBUTE_PREFIX}Sensitivity") or 1.0)


def from_dicom(volume_node: Node) -> bool:
    """Whether a scan came from DICOM, so that a DICOM segmentation can refer to it."""
    return bool(volume_node.GetAttribute("DICOM.instanceUIDs"))


def study_of(volume_node: Node) -> int:
    """The subject hierarchy's number for the study that a scan lies under, or 0."""
    hierarchy = volume_node.GetScene().GetFirstNodeByClass(_HIERARCHY)
    item = hierarchy.GetItemByDataNode(volume_node) if hierarchy is not None else 0
    return int(hierarchy.GetItemAncestorAtLevel(item, "Study")) if item else 0


class Blinker:
    """Makes one segment come and go a few times, then leaves it as it was."""

    def __init__(self, timer: Timer) -> None:
        """Args: what calls back later."""
        self._timer = timer
        self._display: Any = None
        self._segment_id, self._visible, self._left = "", True, 0

    def blink(self, segmentation_node: Node, segment_id: str) -> None:
        """Begin, after ending what blinks still."""
        self.stop()
        display = segmentation_node.GetDisplayNode()
        if display is not None:
            self._display, self._segment_id = display, segment_id
            self._visible = bool(display.GetSegmentVisibility(segment_id))
            self._left = 2 * BLINKS
            self._next(display)

    def stop(self) -> None:
        """Leave the segment as it was before it began to blink."""
        display, self._display = self._display, None
        if display is not None:
            display.SetSegmentVisibility(self._segment_id, self._visible)

    def _next(self, display: Node) -> None:
        if self._display is not display:
            return
        if not self._left:
            self.stop()
            return
        self._left -= 1
        display.SetSegmentVisibility(self._segment_id, bool(self._left % 2 == 0))
        self._timer.after(BLINK_SECONDS, lambda: self._next(display))


class SegmentWatch:
    """Tells when the segments of one segmentation change, it or its scan is moved, or the scan gets another origin."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        """Args: whom to tell."""
        self._on_change = on_change
        self._nodes: tuple[Node | None, Node | None] = (None, None)
        self._tags: list[tuple[Node, int]] = []

    def start(self, segmentation_node: Node | None, volume_node: Node | None) -> None:
        """Watch these nodes from now on, or none."""
        if (segmentation_node, volume_node) == self._nodes:
            return
        self.stop()
        self._nodes = segmentation_node, volume_node
        if segmentation_node is not None:
            watched = segmentation_node.GetSegmentation()
            # The editor's Undo tells of modified segments only.
            for name in ("SourceRepresentationModified", "SegmentModified", "SegmentAdded", "SegmentRemoved"):
                self._observe(watched, getattr(watched, name))
        for each in self._nodes:
            if each is not None:
                self._observe(each, each.TransformModifiedEvent)
        if volume_node is not None:
            self._observe(volume_node, "ModifiedEvent")  # origin, spacing and directions have no event of their own

    def stop(self) -> None:
        """Watch nothing."""
        for watched, tag in self._tags:
            watched.RemoveObserver(tag)
        self._nodes, self._tags = (None, None), []

    def _observe(self, watched: Node, event: int | str) -> None:
        self._tags.append((watched, watched.AddObserver(event, lambda *told: self._on_change())))
