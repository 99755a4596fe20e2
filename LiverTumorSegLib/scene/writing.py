"""A segmentation into a segmentation node: segments, colours, terminology, tags, surfaces, its place."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import SimpleITK as sitk
import slicer

from ..errors import OutputError
from ..lesions import bounding_slices, iterate_components
from ..segmentation import TUMOUR, Segmentation, SegmentStyle
from .moving import labels_now
from .segments import (
    ALGORITHM_TYPE,
    ATTRIBUTE_PREFIX,
    LABELMAP,
    LIVER_STYLE,
    STATUS,
    SURFACE,
    TUMOUR_STYLE,
    UNTOUCHED,
    edits,
    is_ours,
    lesion_style,
    note_written,
)
from .surfaces import CONVERSION, LIVER_CONVERSION, closed_surface
from .volumes import ijk_to_ras, same_place, subject_hierarchy
from .voxels import Block, block_of

LIVER_OPACITY_3D = 0.35


@dataclass(frozen=True, eq=False)
class _Drawing:
    """Segments that share one layer.

    Attributes:
        layer: label values, cut to the box that holds something.
        styles: the segments' IDs, and how each appears; the style's label is its value in the layer.
    """

    layer: Block
    styles: dict[str, SegmentStyle]


def add_segmentation(volume_node: slicer.vtkMRMLScalarVolumeNode) -> slicer.vtkMRMLSegmentationNode:
    """A new, empty segmentation node for a volume, in the volume's scene and with a display node.

    Raises:
        OutputError: the volume is in no scene, for example because it was deleted.
    """
    scene = volume_node.GetScene()
    if scene is None:
        raise OutputError(f"{volume_node.GetName()}: wanted a volume in a scene, got one that was deleted")
    name = scene.GenerateUniqueName(f"{volume_node.GetName()} segmentation")
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    return node


def check_target(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    volume_node: slicer.vtkMRMLScalarVolumeNode,
    *,
    replace_edited: bool = False,
) -> None:
    """Refuse a segmentation node that `write_segmentation` would refuse, before the networks are asked for anything.

    Raises:
        OutputError: the nodes are not in one scene, or a person has edited, added or removed a segment and
            `replace_edited` is off.
    """
    scene, name = volume_node.GetScene(), segmentation_node.GetName()
    if scene is None or segmentation_node.GetScene() is not scene:
        names = f"{name}, {volume_node.GetName()}"
        raise OutputError(f"{names}: wanted nodes of one scene, got one that was deleted or is elsewhere")
    work = edits(segmentation_node)
    if work and not replace_edited:
        raise OutputError(
            f"{name}: wanted a segmentation that is empty or as LiverTumorSeg left it, "
            f"got one in which a person has edited, added or removed {', '.join(work)}"
        )


def write_segmentation(
    segmentation: Segmentation,
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    volume_node: slicer.vtkMRMLScalarVolumeNode,
    *,
    separate_lesions: bool = False,
    replace_edited: bool = False,
) -> None:
    """Make a segmentation node show a result: liver and tumours as disjoint segments of one layer.

    The tumours are one segment, `tumour`, or with `separate_lesions` one segment a lesion, the largest first: IDs
    `tumour_1`, `tumour_2` ..., names "tumour 1" .... Label values are 1 for the liver, 2 for the tumour or n + 1
    for lesion n. Names, colours, terminology and DICOM's algorithm tags are set; the bundle, its checksum, the
    device and the sensitivity become attributes of the node and tags of the segments (so that they are in a
    `.seg.nrrd` file too). Node and volume share geometry, transform and place in the subject hierarchy. Where
    there is a display node, closed surfaces are made and the liver is translucent.

    Args:
        segmentation: from `segment`, on the volume's voxels.
        segmentation_node: empty, or as this function left it.
        volume_node: the volume that was segmented.
        separate_lesions: one segment a lesion.
        replace_edited: also replace segments of ours that a person has edited. Segments that a person has added
            stay, on a layer of their own. To make it undoable, save the state of the segmentation before.

    Raises:
        OutputError: the nodes are not in one scene, the labels are not on the volume's voxels, or a person has
            edited, added or removed a segment and `replace_edited` is off; nothing has changed then.
    """
    _check(segmentation, segmentation_node, volume_node, replace_edited)
    array, box = _cut_labels(segmentation.labels)
    drawing = _one_each(array, box, volume_node, None) if separate_lesions else _together(array, box, volume_node)
    target = segmentation_node.GetSegmentation()
    with slicer.util.NodeModify(segmentation_node):
        _remove_ours(target)
        for key, value in CONVERSION.items():
            target.SetConversionParameter(key, value)
        _fill(segmentation, segmentation_node, volume_node, drawing)
        display = segmentation_node.GetDisplayNode()
        if display is not None:
            _add_surfaces(target, drawing, [*drawing.styles])
            display.SetSegmentOpacity3D(LIVER_STYLE.name, LIVER_OPACITY_3D)
    _place_beside(segmentation_node, volume_node)


def redraw(
    segmentation: Segmentation,
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    volume_node: slicer.vtkMRMLScalarVolumeNode,
    *,
    replace_edited: bool = False,
) -> None:
    """Show the same scan's result with other labels, for example of another sensitivity.

    Where the scan was moved since, by a transform for example, the labels go with it.

    Only voxels, provenance and, where they are shown, surfaces change: names, colours, visibility and opacities
    stay as the user has them. Lesions stay one segment or one each as they were written; with one each, a lesion
    keeps its segment as long as it overlaps with what was there, and a new one gets the first free number.

    Args:
        segmentation: on the voxels that the volume has, or had where its image was taken.
        segmentation_node: as `write_segmentation` left it.
        volume_node: the volume that was segmented.
        replace_edited: as in `write_segmentation`.

    Raises:
        OutputError: as in `write_segmentation`, or the volume lies elsewhere and has other voxels.
        ImageError: the volume lies under a warp, or its axes are not at right angles.
    """
    segmentation = dataclasses.replace(segmentation, labels=labels_now(segmentation, volume_node))
    _check(segmentation, segmentation_node, volume_node, replace_edited)
    target = segmentation_node.GetSegmentation()
    before = _shown_now(target)
    array, box = _cut_labels(segmentation.labels)
    if target.GetSegment(TUMOUR_STYLE.name) is not None:
        drawing = _together(array, box, volume_node)
    else:
        drawing = _one_each(array, box, volume_node, before)
    with slicer.util.NodeModify(segmentation_node):
        surfaces = target.ContainsRepresentation(SURFACE)
        _fill(segmentation, segmentation_node, volume_node, drawing)
        for segment_id in target.GetSegmentIDs():
            if is_ours(segment_id) and segment_id not in drawing.styles:
                target.RemoveSegment(segment_id)
        if surfaces:
            _add_surfaces(target, drawing, _changed(before, drawing))
    _announce(target)


def provenance_attributes(segmentation: Segmentation) -> dict[str, str]:
    """Where a segmentation came from, as attributes of its node; every key begins with `ATTRIBUTE_PREFIX`."""
    provenance = segmentation.provenance
    facts = {
        "Software": provenance.software,
        "Bundle": provenance.bundle,
        "BundleVersion": provenance.bundle_version,
        "BundleSHA256": provenance.bundle_sha256,
        "Recipe": provenance.recipe,
        "Modality": provenance.modality,
        "Phases": ", ".join(provenance.phases),
        "Device": provenance.device,
        "Engine": provenance.engine,
        "Precision": provenance.precision,
        "Sensitivity": f"{segmentation.sensitivity:g}",
        "Warnings": "\n".join(provenance.warnings),
    }
    return {ATTRIBUTE_PREFIX + key: value for key, value in facts.items()}


def _check(segmentation: Segmentation, segmentation_node: Any, volume_node: Any, replace_edited: bool) -> None:
    check_target(segmentation_node, volume_node, replace_edited=replace_edited)
    name = volume_node.GetName()
    voxels, got = volume_node.GetImageData(), segmentation.labels.GetSize()
    wanted = voxels.GetDimensions() if voxels else (0, 0, 0)
    if wanted != got:
        raise OutputError(f"{name}: wanted labels of {wanted} voxels, got {got}")
    if not same_place(segmentation.labels, volume_node):
        raise OutputError(f"{name}: wanted labels where the volume lies, got other geometry; moved?")


def _cut_labels(labels: sitk.Image) -> tuple[np.ndarray, tuple[slice, ...]]:
    """The box of a label map that holds something (a view), and where it lies: slices along k, j, i."""
    array = sitk.GetArrayViewFromImage(labels)
    box = bounding_slices(array) or (slice(0, 0),) * 3
    return array[box], box


def _together(array: np.ndarray, box: tuple[slice, ...], volume_node: Any) -> _Drawing:
    layer = Block(array, _start(box), ijk_to_ras(volume_node))
    return _Drawing(layer, {style.name: style for style in (LIVER_STYLE, TUMOUR_STYLE)})


def _one_each(array: np.ndarray, box: tuple[slice, ...], volume_node: Any, before: _Drawing | None) -> _Drawing:
    lesions = list(iterate_components(array == TUMOUR))
    start, matrix = _start(box), ijk_to_ras(volume_node)
    numbers = _numbers(lesions, start, matrix, before)
    values = (array > 0).astype(np.uint8 if max(numbers, default=0) < 255 else np.uint16)
    for number, (place, mask) in zip(numbers, lesions, strict=True):
        values[place][mask] = lesion_style(number).label
    styles = {f"{TUMOUR_STYLE.name}_{number}": lesion_style(number) for number in sorted(numbers)}
    return _Drawing(Block(values, start, matrix), {LIVER_STYLE.name: LIVER_STYLE, **styles})


def _numbers(
    lesions: Sequence[tuple[tuple[slice, ...], np.ndarray]],
    start: tuple[int, int, int],
    matrix: np.ndarray,
    before: _Drawing | None,
) -> list[int]:
    """A number for each lesion: the one it had, or the first that is free."""
    if before is None or not np.allclose(before.layer.matrix, matrix):
        return list(range(1, len(lesions) + 1))
    owners = {style.label: int(each.rpartition("_")[2]) for each, style in before.styles.items() if "_" in each}
    numbers, taken = [0] * len(lesions), set[int]()
    for n, (place, mask) in enumerate(lesions):
        seen = Block(mask, _start(place, start), matrix)
        values, counts = np.unique(before.layer.under(seen)[mask], return_counts=True)
        for value in values[np.argsort(-counts, kind="stable")]:
            number = owners.get(int(value), 0)
            if number and number not in taken and not numbers[n]:
                numbers[n] = number
                taken.add(number)
    free = (number for number in count(1) if number not in taken)
    return [number or next(free) for number in numbers]


def _start(box: tuple[slice, ...], origin: tuple[int, int, int] = (0, 0, 0)) -> tuple[int, int, int]:
    i, j, k = (a + part.start for a, part in zip(origin, box[::-1], strict=True))
    return i, j, k


def _remove_ours(target: Any) -> None:
    ids = target.GetSegmentIDs()
    if all(is_ours(each) for each in ids):
        target.RemoveAllSegments()  # one by one, each would first be cleared from the layer
    for segment_id in target.GetSegmentIDs():
        if is_ours(segment_id):
            target.RemoveSegment(segment_id)


def _fill(segmentation: Segmentation, segmentation_node: Any, volume_node: Any, drawing: _Drawing) -> None:
    """Point the segments to the layer, make those that are missing, and say where it all came from."""
    segmentation_node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
    segmentation_node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    target = segmentation_node.GetSegmentation()
    if target.GetNumberOfSegments() == 0:
        target.SetSourceRepresentationName(LABELMAP)
    facts = provenance_attributes(segmentation)
    tags = {
        ALGORITHM_TYPE: "AUTOMATIC",
        "DICOM.SegmentAlgorithmName": segmentation.provenance.algorithm,
        STATUS: UNTOUCHED,
        **facts,
    }
    layer = drawing.layer.oriented()
    for segment_id, style in drawing.styles.items():
        segment = target.GetSegment(segment_id)
        new = segment is None
        if new:
            segment = _segment(style)
        segment.SetLabelValue(style.label)
        for key, value in tags.items():
            if value:
                segment.SetTag(key, value.replace("|", " ").replace("\n", "; "))  # `|` ends a tag in a .seg.nrrd file
        segment.AddRepresentation(LABELMAP, layer)
        if new:
            target.AddSegment(segment, segment_id)
    for key, value in facts.items():
        segmentation_node.SetAttribute(key, value)
    note_written(segmentation_node, [*drawing.styles])


def _segment(style: SegmentStyle) -> Any:
    segment = slicer.vtkSegment()
    segment.SetName(style.name)
    segment.SetColor(*style.colour)
    segment.SetNameAutoGenerated(False)
    segment.SetColorAutoGenerated(False)
    segment.SetTag(segment.GetTerminologyEntryTagName(), style.terminology)
    return segment


def _shown_now(target: Any) -> _Drawing | None:
    """Our segments as they are, or None where they do not share one layer with voxels in it."""
    segments = {each: target.GetSegment(each) for each in target.GetSegmentIDs() if is_ours(each)}
    layers = {segment.GetRepresentation(LABELMAP) for segment in segments.values()}
    block = block_of(layers.pop()) if len(layers) == 1 else None
    if block is None:
        return None
    styles = {
        each: SegmentStyle(segment.GetLabelValue(), segment.GetName(), segment.GetColor(), "")
        for each, segment in segments.items()
    }
    return _Drawing(block, styles)


def _changed(before: _Drawing | None, after: _Drawing) -> list[str]:
    """The segments of `after` whose voxels are not the ones they had."""
    if before is None or not before.layer.same_grid(after.layer):
        return [*after.styles]
    largest = max(int(before.layer.array.max()), *(style.label for style in before.styles.values()))
    lookup = np.zeros(largest + 1, np.uint16)
    for each, style in before.styles.items():
        lookup[style.label] = after.styles[each].label if each in after.styles else 0
    frame = after.layer.joined(before.layer)
    old, new = lookup[before.layer.under(frame)], after.layer.under(frame)
    differ = old != new
    values = set(np.unique(old[differ])) | set(np.unique(new[differ]))
    return [each for each, style in after.styles.items() if style.label in values or each not in before.styles]


def _add_surfaces(target: Any, drawing: _Drawing, ids: Sequence[str]) -> None:
    for each in ids:
        conversion = LIVER_CONVERSION if each == LIVER_STYLE.name else CONVERSION
        surface = closed_surface(drawing.layer, drawing.styles[each].label, conversion)
        target.GetSegment(each).AddRepresentation(SURFACE, surface)


def _announce(target: Any) -> None:
    """Tell the views; that segments have other labelmaps, Slicer does not notice by itself."""
    target.InvokeEvent(slicer.vtkSegmentation.SourceRepresentationModified, LIVER_STYLE.name)
    target.InvokeEvent(slicer.vtkSegmentation.RepresentationModified, LIVER_STYLE.name)


def _place_beside(segmentation_node: Any, volume_node: Any) -> None:
    """Put the segmentation under the volume's parent in the subject hierarchy, which in DICOM is the study."""
    hierarchy = subject_hierarchy(volume_node)
    place = hierarchy.GetItemByDataNode(volume_node) if hierarchy is not None else 0
    if place:
        parent = hierarchy.GetItemParent(place)
        item = hierarchy.GetItemByDataNode(segmentation_node) or hierarchy.CreateItem(parent, segmentation_node)
        hierarchy.SetItemParent(item, parent)
