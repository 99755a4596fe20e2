"""What a segment of a segmentation node is: liver, tumour or something of the user's, and whether a person edited it.

A segment is what its terminology says. Where that says nothing (none, or Slicer's default "Tissue"), its ID
decides: `liver`, `tumour`, `tumour_1` ... are ours. So a person may rename or recolour our segments and they stay
what they were, may add tumours of their own with tumour terminology, and takes a segment out of the tumours by
giving it other terminology, for example of a cyst.
"""

from __future__ import annotations

import colorsys
import re
from typing import Any

import slicer
import vtk

from ..segmentation import LIVER, SEGMENTS, TUMOUR, SegmentStyle

ATTRIBUTE_PREFIX = "LiverTumorSeg."
LABELMAP, SURFACE = "Binary labelmap", "Closed surface"
LIVER_STYLE, TUMOUR_STYLE = SEGMENTS
STATUS, ALGORITHM_TYPE = "Segmentation.Status", "DICOM.SegmentAlgorithmType"
UNTOUCHED = "notstarted"  # the Segment Editor changes it with the first stroke

# Which of our segments the node was given; one that is missing was removed by a person.
_WRITTEN = ATTRIBUTE_PREFIX + "Segments"
_TUMOUR_ID = re.compile(r"tumour(_\d+)?")
_LIVER_CODE = "10200004"
_TUMOUR_CODES = {"108369006", "86049000", "14799000"}  # neoplasm; malignant, primary; malignant, secondary
_UNSPECIFIC_CODES = {"", "85756007"}  # tissue


def lesion_style(number: int) -> SegmentStyle:
    """How the segment of one lesion appears: `tumour 1`, `tumour 2` ..., in colours from the tumour's yellow to green.

    Args:
        number: from 1.
    """
    hue, saturation, value = colorsys.rgb_to_hsv(*TUMOUR_STYLE.colour)
    step = number - 1
    # Steps of the golden ratio keep the hues apart for any number of lesions; orange would be too near to the liver's.
    hue += 0.2 * (0.618034 * step % 1)
    colour = colorsys.hsv_to_rgb(hue, (saturation, 0.55)[step % 2], value * (1.0, 0.72, 0.86)[step % 3])
    return SegmentStyle(number + 1, f"tumour {number}", colour, TUMOUR_STYLE.terminology)


def is_ours(segment_id: str) -> bool:
    """Whether an ID is one that `write_segmentation` gives."""
    return segment_id == LIVER_STYLE.name or _TUMOUR_ID.fullmatch(segment_id) is not None


def kind_of(segmentation: Any, segment_id: str) -> int:
    """`LIVER`, `TUMOUR` or 0 for anything else; see the head of this file.

    Args:
        segmentation: vtkSegmentation.
        segment_id: of one of its segments.
    """
    code, region = _terminology_codes(segmentation.GetSegment(segment_id))
    if code in _TUMOUR_CODES:
        return TUMOUR if region in ("", _LIVER_CODE) else 0
    if code == _LIVER_CODE:
        return LIVER
    if code in _UNSPECIFIC_CODES and is_ours(segment_id):
        return LIVER if segment_id == LIVER_STYLE.name else TUMOUR
    return 0


def kinds_of(segmentation_node: Any) -> dict[str, int]:
    """The node's livers and tumours, in the node's order but ours before the user's: ID -> `LIVER` or `TUMOUR`."""
    segmentation = segmentation_node.GetSegmentation()
    ids = sorted(segmentation.GetSegmentIDs(), key=lambda each: not is_ours(each))
    return {each: kind for each in ids if (kind := kind_of(segmentation, each))}


def segment_ids(segmentation_node: Any, kind: int) -> list[str]:
    """The IDs of one kind, in the order of `kinds_of`."""
    return [each for each, its in kinds_of(segmentation_node).items() if its == kind]


def is_edited(segmentation_node: slicer.vtkMRMLSegmentationNode) -> bool:
    """Whether a segmentation holds a person's work: a segment edited, added or removed since we wrote it."""
    return bool(edits(segmentation_node))


def edits(segmentation_node: Any) -> list[str]:
    """IDs of the segments that a person has edited, added or removed."""
    segmentation = segmentation_node.GetSegmentation()
    present = list(segmentation.GetSegmentIDs())
    written = (segmentation_node.GetAttribute(_WRITTEN) or "").split()
    changed = [each for each in present if not is_ours(each) or _touched(segmentation.GetSegment(each))]
    return changed + [each for each in written if each not in present]


def note_written(segmentation_node: Any, ids: list[str]) -> None:
    """Remember which segments we gave a node."""
    segmentation_node.SetAttribute(_WRITTEN, " ".join(ids))


def mark_edited(segmentation_node: Any, ids: list[str]) -> None:
    """Say of segments, for Slicer and for DICOM SEG, that they are no longer only an algorithm's work."""
    for each in ids:
        segment = segmentation_node.GetSegmentation().GetSegment(each)
        if tag(segment, STATUS) in ("", UNTOUCHED):
            segment.SetTag(STATUS, "inprogress")
        if tag(segment, ALGORITHM_TYPE) == "AUTOMATIC":
            segment.SetTag(ALGORITHM_TYPE, "SEMIAUTOMATIC")


def tag(segment: Any, key: str) -> str:
    """A tag of a vtkSegment; empty where it has none."""
    value = vtk.reference("")
    segment.GetTag(key, value)
    return str(value)


def _touched(segment: Any) -> bool:
    return tag(segment, STATUS) != UNTOUCHED or tag(segment, ALGORITHM_TYPE) == "SEMIAUTOMATIC"


def _terminology_codes(segment: Any) -> tuple[str, str]:
    """SNOMED CT codes of what a segment is and of the region it lies in; empty where they are not told."""
    parts = tag(segment, segment.GetTerminologyEntryTagName()).split("~")
    codes = [parts[n].split("^")[1] if n < len(parts) and "^" in parts[n] else "" for n in (2, 5)]
    return codes[0], codes[1]
