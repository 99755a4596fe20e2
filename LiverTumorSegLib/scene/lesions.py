"""The lesions of a segmentation node as its segments are now; rejecting one, and taking that back."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
import slicer

from ..errors import OutputError
from ..geometry import axes_towards_lps
from ..lesions import Lesion, LesionKind, find_lesions, iterate_components
from ..segmentation import LIVER, TUMOUR
from .segments import mark_edited, segment_ids
from .volumes import LPS_TO_RAS, placed, world_matrix
from .voxels import Block, block_of, checked_labels, give, labels_of_segments, layers_of, scan_under


@dataclass(frozen=True, eq=False)
class PlacedLesion:
    """A lesion and the voxels that it is made of.

    Attributes:
        lesion: measured; its centroid is in the world, RAS mm.
        segment_id: the segment that holds most of it.
        voxels: the box around it on the segments' grid, True where it is.
    """

    lesion: Lesion
    segment_id: str
    voxels: Block


@dataclass(frozen=True, eq=False)
class Rejected:
    """What `restore_lesion` needs to undo a `reject_lesion`.

    Attributes:
        lesion: what was rejected.
        taken: segment -> the voxels that it lost.
    """

    lesion: PlacedLesion
    taken: dict[str, Block]


@dataclass(frozen=True)
class Summary:
    """The figures of the panel's first line.

    Attributes:
        liver_ml: tumours included.
        tumour_ml: all tumours.
        burden_percent: share of the liver taken by tumours; 0 where there is no liver.
    """

    liver_ml: float
    tumour_ml: float
    burden_percent: float


def lesions_in(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    volume_node: slicer.vtkMRMLScalarVolumeNode,
    probability: sitk.Image | None = None,
    kinds: Sequence[LesionKind] = (),
) -> list[PlacedLesion]:
    """The lesions as the segments are now: connected components of all tumours together, largest first.

    Args:
        segmentation_node: with liver and tumours, see `segments`; edited or not.
        volume_node: the scan, for mean intensities.
        probability: of tumour, in the world (LPS), on any grid; for mean probabilities.
        kinds: what sorts of lesions there are at places in the world.

    Raises:
        OutputError: there is no liver segment, or the two nodes lie under different transforms.
        ImageError: the volume has no voxels or lies under a warp.
    """
    labels = checked_labels(segmentation_node, volume_node)
    if labels is None or not (labels.array == TUMOUR).any():
        return []
    labels, scan = scan_under(labels, volume_node)
    image = labels.image(volume_node)
    measured = find_lesions(image, scan, probability, kinds)
    layers = _tumour_layers(segmentation_node)
    lesions = []
    for lesion, (box, mask) in zip(measured, iterate_components(labels.array == TUMOUR), strict=True):
        voxels = dataclasses.replace(labels.cut(box), array=mask)
        shares = {each: int(own.sum()) for each, own in _holders(layers, voxels).items()}
        segment_id = max(shares, key=shares.__getitem__)
        lesions.append(PlacedLesion(_on_slice_of(volume_node, lesion, image), segment_id, voxels))
    return lesions


def types_of(
    segmentation_node: slicer.vtkMRMLSegmentationNode, lesions: Sequence[PlacedLesion]
) -> tuple[LesionKind, ...]:
    """The types of lesions, each at one of the lesion's voxels, as `lesions_in` takes them.

    Args:
        segmentation_node: whose lesions they are.
        lesions: with types or without.
    """
    kinds = []
    for each in lesions:
        if each.lesion.type:
            grid = dataclasses.replace(each.voxels, array=each.voxels.array.astype(np.uint8)).image(segmentation_node)
            inside = np.argwhere(each.voxels.array)[0, ::-1].tolist()
            right, front, up = (LPS_TO_RAS @ grid.TransformIndexToPhysicalPoint(inside)).tolist()
            kinds.append(LesionKind(each.lesion.type, each.lesion.type_score or 0.0, (right, front, up)))
    return tuple(kinds)


def summary_of(
    segmentation_node: slicer.vtkMRMLSegmentationNode, volume_node: slicer.vtkMRMLScalarVolumeNode
) -> Summary:
    """Volumes of liver and tumours as the segments are now.

    Raises:
        OutputError: there is no liver segment, or the two nodes lie under different transforms.
    """
    labels = checked_labels(segmentation_node, volume_node)
    if labels is None:
        return Summary(0.0, 0.0, 0.0)
    voxel_ml = float(np.prod(labels.image(segmentation_node).GetSpacing())) / 1000.0
    liver, tumour = (int(np.count_nonzero(labels.array == kind)) for kind in (LIVER, TUMOUR))
    share = 100.0 * tumour / (liver + tumour) if liver + tumour else 0.0
    return Summary((liver + tumour) * voxel_ml, tumour * voxel_ml, share)


def reject_lesion(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    volume_node: slicer.vtkMRMLScalarVolumeNode,
    found: PlacedLesion,
) -> Rejected:
    """Give a lesion's voxels to the liver; nothing else changes. The segments count as edited from then on.

    Args:
        segmentation_node: that `found` comes from.
        volume_node: that `found` comes from.
        found: from `lesions_in`.

    Returns:
        What `restore_lesion` takes.

    Raises:
        OutputError: the lesion is not there as it was found, for example because it was edited since.
    """
    now = checked_labels(segmentation_node, volume_node)
    box = found.voxels
    if now is None or not now.same_grid(box) or (now.under(box)[box.array] != TUMOUR).any():
        raise OutputError(
            f"{segmentation_node.GetName()}: wanted lesion {found.lesion.id} where it was found, "
            "got other voxels there; edited since?"
        )
    taken = {
        segment_id: dataclasses.replace(box, array=own)
        for segment_id, own in _holders(_tumour_layers(segmentation_node), box).items()
    }
    liver = segment_ids(segmentation_node, LIVER)[0]
    give(segmentation_node, liver, box, segment_ids(segmentation_node, TUMOUR))
    mark_edited(segmentation_node, [liver, *taken])
    return Rejected(found, taken)


def restore_lesion(segmentation_node: slicer.vtkMRMLSegmentationNode, rejected: Rejected) -> None:
    """Take a `reject_lesion` back: each tumour segment has its voxels again.

    Voxels that a person has meanwhile taken from the liver stay as they are. Where the segments were put on another
    grid since, the voxels nearest to those rejected come back.

    Raises:
        OutputError: a segment that held the lesion, or the liver, is no longer there.
    """
    livers = segment_ids(segmentation_node, LIVER)
    missing = [each for each in rejected.taken if segmentation_node.GetSegmentation().GetSegment(each) is None]
    if missing or not livers:
        raise OutputError(
            f"{segmentation_node.GetName()}: wanted the segments that held lesion {rejected.lesion.lesion.id}, "
            f"got none for {', '.join(missing) or 'the liver'}"
        )
    for segment_id, taken in rejected.taken.items():
        now = labels_of_segments(segmentation_node)
        if now is not None:
            voxels = taken.on(now)
            free = now.under(voxels) == LIVER
            give(segmentation_node, segment_id, dataclasses.replace(voxels, array=voxels.array & free), livers)
    mark_edited(segmentation_node, [*livers, *rejected.taken])


def _tumour_layers(segmentation_node: Any) -> list[tuple[Block, dict[int, str]]]:
    """The labelmaps with tumours, each with its label values and whose they are."""
    layers = layers_of(segmentation_node, segment_ids(segmentation_node, TUMOUR)).items()
    blocks = [(block_of(layer), {value: each for each, value in values.items()}) for layer, values in layers]
    return [(block, owners) for block, owners in blocks if block is not None]


def _holders(layers: list[tuple[Block, dict[int, str]]], voxels: Block) -> dict[str, np.ndarray]:
    """The segments that have some of the True voxels of a block, and which."""
    holders = {}
    for block, owners in layers:
        values = block.under(voxels)
        for value in np.unique(values[voxels.array]).tolist():
            if value in owners:
                holders[owners[value]] = (values == value) & voxels.array
    return holders


def _on_slice_of(volume_node: Any, lesion: Lesion, labels: sitk.Image) -> Lesion:
    """The lesion with its axial slice counted in the volume, not in the box of labels it was measured in."""
    index = list(labels.TransformPhysicalPointToContinuousIndex((LPS_TO_RAS @ lesion.centroid_ras_mm).tolist()))
    index[axes_towards_lps(labels)[0][2]] = lesion.axial_slice
    place = LPS_TO_RAS @ labels.TransformContinuousIndexToPhysicalPoint(index)
    matrix = world_matrix(volume_node)
    up = axes_towards_lps(placed(np.zeros((1, 1, 1), np.uint8), matrix, volume_node))[0][2]
    return dataclasses.replace(lesion, axial_slice=round(np.linalg.solve(matrix, [*place, 1.0])[up]))
