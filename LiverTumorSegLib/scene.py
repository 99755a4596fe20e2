"""MRML nodes <-> images and segmentations; the only file of the library that knows Slicer.

Slicer's world is RAS (x to the patient's right, y to the front, z to the head); everywhere else in
the library it is LPS. The two differ in the sign of x and y, and are converted here only. A label
map goes into the scene on exactly the voxels of its volume, under the same parent transform.

Works on any scene, with or without Slicer's windows: `pip install slicer-core` has all of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from .errors import ImageError, OutputError
from .lesions import bounding_slices
from .segmentation import LIVER, SEGMENTS, Segmentation, SegmentStyle

ATTRIBUTE_PREFIX = "LiverTumorSeg."
LIVER_OPACITY_3D = 0.35

_LPS_TO_RAS = np.diag((-1.0, -1.0, 1.0))
_LABELMAP = "Binary labelmap"
_UNTOUCHED = "notstarted"  # the Segment Editor changes it with the first stroke
# Surface nets keep a tumour's volume where flying edges shrink it. With Slicer's own smoothing of 0.5 a tumour
# of 33 voxels would still lose two thirds of it; with 0.3 it loses a tenth, and large surfaces look as smooth.
_SURFACE = {"Conversion method": "1", "Smoothing factor": "0.3"}


def image_from_volume(volume_node: slicer.vtkMRMLScalarVolumeNode) -> sitk.Image:
    """A volume node as a scan, where it lies in the world: a linear parent transform is applied.

    Args:
        volume_node: a scalar volume with voxels.

    Returns:
        A copy in LPS, of the same type and voxel order; its metadata has "Modality" if the volume
        came from DICOM.

    Raises:
        ImageError: no voxels, several numbers a voxel, a warp as parent transform, or axes that are
            not at right angles.
    """
    name, voxels = volume_node.GetName(), volume_node.GetImageData()
    if voxels is None or voxels.GetPointData().GetScalars() is None:
        raise ImageError(f"{name}: wanted a volume with voxels, got an empty one")
    if voxels.GetNumberOfScalarComponents() != 1:
        raise ImageError(f"{name}: wanted one number a voxel, got {voxels.GetNumberOfScalarComponents()}")
    array = vtk_to_numpy(voxels.GetPointData().GetScalars()).reshape(voxels.GetDimensions()[::-1])
    image = _placed(array, volume_node)
    modality = _dicom_modality(volume_node)
    if modality:
        image.SetMetaData("Modality", modality)
    return image


def add_volume(image: sitk.Image, scene: slicer.vtkMRMLScene, name: str) -> slicer.vtkMRMLScalarVolumeNode:
    """A scan as a new volume node; the inverse of `image_from_volume`.

    Args:
        image: 3D scalar image.
        scene: where the node goes.
        name: of the node.
    """
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    voxels = vtk.vtkImageData()
    voxels.SetDimensions(*image.GetSize())
    array = sitk.GetArrayFromImage(image)
    voxels.GetPointData().SetScalars(numpy_to_vtk(array.ravel(), deep=True))
    direction = _LPS_TO_RAS @ np.reshape(image.GetDirection(), (3, 3))
    matrix = np.eye(4)
    matrix[:3, :3] = direction * image.GetSpacing()
    matrix[:3, 3] = _LPS_TO_RAS @ image.GetOrigin()
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    node.SetAndObserveImageData(voxels)
    node.CreateDefaultDisplayNodes()
    return node


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


def write_segmentation(
    segmentation: Segmentation,
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    volume_node: slicer.vtkMRMLScalarVolumeNode,
) -> None:
    """Make a segmentation node show a result: liver and tumour as disjoint segments of one layer.

    Names, colours, terminology and DICOM's algorithm tags are set; the bundle, its checksum, the
    device and the sensitivity become attributes of the node and tags of the segments (so that they
    are in a `.seg.nrrd` file too). Node and volume share geometry, transform and place in the
    subject hierarchy. Where there is a display node, closed surfaces are made and the liver is
    translucent.

    Args:
        segmentation: from `segment`, on the volume's voxels.
        segmentation_node: empty, or as this function left it.
        volume_node: the volume that was segmented.

    Raises:
        OutputError: the nodes are not in one scene, the labels are not on the volume's voxels, or the
            node has segments of other origin or that a person has edited; nothing has changed then.
    """
    _check_same_scene(segmentation_node, volume_node)
    _check_same_voxels(segmentation.labels, volume_node)
    _check_replaceable(segmentation_node)
    facts = provenance_attributes(segmentation)
    with slicer.util.NodeModify(segmentation_node):
        segmentation_node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
        segmentation_node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
        _replace_segments(segmentation, segmentation_node.GetSegmentation(), _local_matrix(volume_node), facts)
        for key, value in facts.items():
            segmentation_node.SetAttribute(key, value)
    _show(segmentation_node)
    _place_beside(segmentation_node, volume_node)


def labels_from_segmentation(
    segmentation_node: slicer.vtkMRMLSegmentationNode, volume_node: slicer.vtkMRMLScalarVolumeNode
) -> sitk.Image:
    """Liver and tumour segments, as they are now, as a label map on the volume's voxels.

    Returns:
        uint8 image on the grid of `image_from_volume`: 0 background, 1 liver, 2 tumour (which wins
        where a person made them overlap).

    Raises:
        OutputError: a segment is missing, or the two nodes lie under different transforms.
    """
    target = segmentation_node.GetSegmentation()
    missing = [style.name for style in SEGMENTS if target.GetSegment(style.name) is None]
    if missing:
        raise OutputError(f"{segmentation_node.GetName()}: wanted segments liver and tumour, got none for {missing}")
    if segmentation_node.GetTransformNodeID() != volume_node.GetTransformNodeID():
        raise OutputError(f"{segmentation_node.GetName()}: wanted {volume_node.GetName()}'s transform, got another")
    size = volume_node.GetImageData().GetDimensions()
    grid, merged, segment_ids = slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData(), vtk.vtkStringArray()
    grid.SetDimensions(*size)
    grid.SetImageToWorldMatrix(_local_matrix(volume_node))
    for style in SEGMENTS:
        segment_ids.InsertNextValue(style.name)
    extent = slicer.vtkSegmentation.EXTENT_REFERENCE_GEOMETRY
    segmentation_node.GenerateMergedLabelmapForAllSegments(merged, extent, grid, segment_ids)
    array = vtk_to_numpy(merged.GetPointData().GetScalars()).reshape(size[::-1])
    values = np.array([0, *(style.label for style in SEGMENTS)], np.uint8)  # Slicer numbers them in our order
    return _placed(values[array], volume_node)


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
        "Device": provenance.device,
        "Engine": provenance.engine,
        "Precision": provenance.precision,
        "Sensitivity": f"{segmentation.sensitivity:g}",
        "Warnings": "\n".join(provenance.warnings),
    }
    return {ATTRIBUTE_PREFIX + key: value for key, value in facts.items()}


def _placed(array: np.ndarray, volume_node: Any) -> sitk.Image:
    """A (k, j, i) array as an image where the volume lies."""
    image = sitk.GetImageFromArray(array)
    origin, spacing, direction = _world_geometry(volume_node)
    image.SetOrigin(origin.tolist())
    image.SetSpacing(spacing.tolist())
    image.SetDirection(direction.ravel().tolist())
    return image


def _local_matrix(volume_node: Any) -> vtk.vtkMatrix4x4:
    """IJK -> RAS of a volume without its parent transform."""
    matrix = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    return matrix


def _world_geometry(volume_node: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Origin (mm), spacing (mm) and 3 x 3 direction (columns are the axes i, j, k) in LPS, transform included."""
    name, transform = volume_node.GetName(), volume_node.GetParentTransformNode()
    ijk_to_world = slicer.util.arrayFromVTKMatrix(_local_matrix(volume_node))
    if transform is not None:
        if not transform.IsTransformToWorldLinear():
            raise ImageError(
                f"{name}: wanted no parent transform or a linear one, got the warp {transform.GetName()}; harden it"
            )
        to_world = vtk.vtkMatrix4x4()
        transform.GetMatrixTransformToWorld(to_world)
        ijk_to_world = slicer.util.arrayFromVTKMatrix(to_world) @ ijk_to_world
    axes = _LPS_TO_RAS @ ijk_to_world[:3, :3]
    spacing = np.linalg.norm(axes, axis=0).round(12)  # 0.8, where the matrix has made it 0.8000000000000004
    direction = axes / np.where(spacing > 0, spacing, 1)
    if not np.abs(direction.T @ direction - np.eye(3)).max() <= 0.01:  # NaN neither
        under = f" under the transform {transform.GetName()}" if transform is not None else ""
        raise ImageError(f"{name}: wanted axes at right angles, got directions {direction.round(3).tolist()}{under}")
    return _LPS_TO_RAS @ ijk_to_world[:3, 3], spacing, direction


def _dicom_modality(volume_node: Any) -> str:
    """What Slicer's DICOM import noted of the series, or nothing."""
    hierarchy = _subject_hierarchy(volume_node)
    item = hierarchy.GetItemByDataNode(volume_node) if hierarchy is not None else 0
    key = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMSeriesModalityAttributeName()
    return str(hierarchy.GetItemAttribute(item, key)) if item else ""


def _subject_hierarchy(node: Any) -> Any:
    """The subject hierarchy of a node's scene, or None."""
    scene = node.GetScene()
    return scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode") if scene is not None else None


def _check_same_scene(segmentation_node: Any, volume_node: Any) -> None:
    scene = volume_node.GetScene()
    if scene is None or segmentation_node.GetScene() is not scene:
        names = f"{segmentation_node.GetName()}, {volume_node.GetName()}"
        raise OutputError(f"{names}: wanted nodes of one scene, got one that was deleted or is elsewhere")


def _check_same_voxels(labels: sitk.Image, volume_node: Any) -> None:
    origin, spacing, direction = _world_geometry(volume_node)
    wanted, got = volume_node.GetImageData().GetDimensions(), labels.GetSize()
    if wanted != got:
        raise OutputError(f"{volume_node.GetName()}: wanted labels of {wanted} voxels, got {got}")
    here = np.concatenate([origin, spacing, direction.ravel()])
    there = np.concatenate([labels.GetOrigin(), labels.GetSpacing(), labels.GetDirection()])
    if not np.allclose(here, there, rtol=1e-5, atol=1e-3):
        raise OutputError(f"{volume_node.GetName()}: wanted labels where the volume lies, got other geometry; moved?")


def _check_replaceable(segmentation_node: Any) -> None:
    """Refuse to overwrite what is not ours."""
    segmentation = segmentation_node.GetSegmentation()
    ours = {style.name for style in SEGMENTS}
    for segment_id in segmentation.GetSegmentIDs():
        status = _tag(segmentation.GetSegment(segment_id), "Segmentation.Status")
        if segment_id not in ours or status != _UNTOUCHED:
            raise OutputError(
                f"{segmentation_node.GetName()}: wanted a segmentation that is empty or as LiverTumorSeg left it, "
                f"got one with another or an edited segment, {segment_id}"
            )


def _tag(segment: Any, key: str) -> str:
    value = vtk.reference("")
    segment.GetTag(key, value)
    return str(value)


def _replace_segments(segmentation: Segmentation, target: Any, ijk_to_ras: Any, facts: dict[str, str]) -> None:
    target.RemoveAllSegments()
    target.SetSourceRepresentationName(_LABELMAP)
    for key, value in _SURFACE.items():
        target.SetConversionParameter(key, value)
    layer = _shared_layer(segmentation.labels, ijk_to_ras)
    provenance = segmentation.provenance
    tags = {
        "DICOM.SegmentAlgorithmType": "AUTOMATIC",
        "DICOM.SegmentAlgorithmName": provenance.algorithm,
        "Segmentation.Status": _UNTOUCHED,
        **facts,
    }
    for style in SEGMENTS:
        target.AddSegment(_segment(style, layer, tags), style.name)


def _segment(style: SegmentStyle, layer: Any, tags: dict[str, str]) -> Any:
    segment = slicer.vtkSegment()
    segment.SetName(style.name)
    segment.SetColor(*style.colour)
    segment.SetNameAutoGenerated(False)
    segment.SetColorAutoGenerated(False)
    segment.SetLabelValue(style.label)
    segment.SetTag(segment.GetTerminologyEntryTagName(), style.terminology)
    for key, value in tags.items():
        if value:
            segment.SetTag(key, value.replace("|", " ").replace("\n", "; "))  # `|` ends a tag in a .seg.nrrd file
    segment.AddRepresentation(_LABELMAP, layer)
    return segment


def _shared_layer(labels: sitk.Image, ijk_to_ras: Any) -> Any:
    """The labels as Slicer keeps them: only the box that holds something, in the volume's voxel coordinates."""
    layer = slicer.vtkOrientedImageData()
    layer.SetImageToWorldMatrix(ijk_to_ras)
    array = sitk.GetArrayFromImage(labels)
    box = bounding_slices(array)
    if box is None:
        layer.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)  # of no voxel: a segment without it cannot be saved
        return layer
    k, j, i = box
    layer.SetExtent(i.start, i.stop - 1, j.start, j.stop - 1, k.start, k.stop - 1)
    layer.GetPointData().SetScalars(numpy_to_vtk(array[box].ravel(), deep=True, array_type=vtk.VTK_UNSIGNED_CHAR))
    return layer


def _show(segmentation_node: Any) -> None:
    display = segmentation_node.GetDisplayNode()
    if display is None:
        return
    segmentation_node.CreateClosedSurfaceRepresentation()
    liver = next(style for style in SEGMENTS if style.label == LIVER)
    display.SetSegmentOpacity3D(liver.name, LIVER_OPACITY_3D)


def _place_beside(segmentation_node: Any, volume_node: Any) -> None:
    """Put the segmentation under the volume's parent in the subject hierarchy, which in DICOM is the study."""
    hierarchy = _subject_hierarchy(volume_node)
    place = hierarchy.GetItemByDataNode(volume_node) if hierarchy is not None else 0
    if place:
        parent = hierarchy.GetItemParent(place)
        item = hierarchy.GetItemByDataNode(segmentation_node) or hierarchy.CreateItem(parent, segmentation_node)
        hierarchy.SetItemParent(item, parent)
