"""What the tests put into a scene, and what they read of a segmentation node, straight from Slicer's objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from conftest import OBLIQUE
from LiverTumorSegLib.scene import (
    add_segmentation,
    add_volume,
    labels_from_segmentation,
    prepare_editor,
    write_segmentation,
)
from LiverTumorSegLib.scene.segments import TUMOUR_STYLE
from LiverTumorSegLib.scene.volumes import ijk_to_ras
from LiverTumorSegLib.scene.voxels import Block
from LiverTumorSegLib.segmentation import Provenance, Segmentation

LPS_TO_RAS = np.diag((-1.0, -1.0, 1.0))
# About the head-foot axis, and moved.
QUARTER_TURN = [[0, -1, 0, 5], [1, 0, 0, 0], [0, 0, 1, -30], [0, 0, 0, 1]]


def layer_of(node, segment_id: str):
    return node.GetSegmentation().GetSegment(segment_id).GetRepresentation("Binary labelmap")


def voxels_of(node, segment_id: str) -> np.ndarray:
    """(n, 3) indices i, j, k in the volume, in the order of the array."""
    layer, label = layer_of(node, segment_id), node.GetSegmentation().GetSegment(segment_id).GetLabelValue()
    extent = layer.GetExtent()
    array = vtk_to_numpy(layer.GetPointData().GetScalars()).reshape(layer.GetDimensions()[::-1])
    return np.argwhere(array == label)[:, ::-1] + extent[::2]


def places_of(node, segment_id: str) -> np.ndarray:
    """(n, 3) world coordinates of the voxels' centres, RAS mm."""
    matrix, to_world = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    layer_of(node, segment_id).GetImageToWorldMatrix(matrix)
    if node.GetParentTransformNode() is not None:
        node.GetParentTransformNode().GetMatrixTransformToWorld(to_world)
    whole = slicer.util.arrayFromVTKMatrix(to_world) @ slicer.util.arrayFromVTKMatrix(matrix)
    return voxels_of(node, segment_id) @ whole[:3, :3].T + whole[:3, 3]


def tags_of(segment) -> dict[str, str]:
    def tag(key: str) -> str:
        value = vtk.reference("")
        segment.GetTag(key, value)
        return str(value)

    keys = ("TerminologyEntry", "DICOM.SegmentAlgorithmType", "DICOM.SegmentAlgorithmName", "Segmentation.Status")
    ours = ("LiverTumorSeg.BundleSHA256", "LiverTumorSeg.Sensitivity", "LiverTumorSeg.Warnings")
    return {key: tag(key) for key in keys + ours}


def surface_mm3(node, segment_id: str) -> float:
    surface = vtk.vtkPolyData()
    assert node.GetClosedSurfaceRepresentation(segment_id, surface)
    triangles, outward, mass = vtk.vtkTriangleFilter(), vtk.vtkPolyDataNormals(), vtk.vtkMassProperties()
    triangles.SetInputData(surface)
    outward.SetInputConnection(triangles.GetOutputPort())
    outward.ConsistencyOn()
    outward.AutoOrientNormalsOn()
    outward.SplittingOff()
    mass.SetInputConnection(outward.GetOutputPort())
    mass.Update()
    return mass.GetVolume()


def expected_places(labels: sitk.Image, label: int) -> np.ndarray:
    indices = np.argwhere(sitk.GetArrayFromImage(labels) == label)[:, ::-1].tolist()
    return np.array([labels.TransformIndexToPhysicalPoint(index) for index in indices]) @ LPS_TO_RAS


def moved_by(matrix: Sequence[Sequence[float]], node, kind: str = "vtkMRMLLinearTransformNode"):
    transform = node.GetScene().AddNewNodeByClass(kind, "moved")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.array(matrix, float)))
    node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


def read_seg_nrrd(node, path: Path):
    """Save a segmentation and read it into a new scene."""
    storage = slicer.vtkMRMLSegmentationStorageNode()
    node.GetScene().AddNode(storage)
    storage.SetFileName(str(path))
    assert storage.WriteData(node)
    other = slicer.vtkMRMLScene()
    storage = other.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    back = other.AddNewNodeByClass("vtkMRMLSegmentationNode")
    assert storage.ReadData(back)
    back.kept = other
    return back


def oblique_scan(size: Sequence[int] = (14, 12, 9), spacing_mm: Sequence[float] = (0.8, 1.5, 2.5)) -> sitk.Image:
    """An oblique, left-handed scan; every voxel has a value of its own."""
    i, j, k = size
    image = sitk.GetImageFromArray(np.arange(i * j * k, dtype=np.int32).reshape(k, j, i))
    image.SetSpacing([float(s) for s in spacing_mm])
    image.SetDirection([-value if n % 3 == 0 else value for n, value in enumerate(OBLIQUE)])
    image.SetOrigin((-50.0, 20.0, 7.0))
    return image


def result_for(scan: sitk.Image, liver: bool = True, tumour: bool = True) -> Segmentation:
    """A liver of 8 x 6 x 5 voxels, 18 of which are a tumour's."""
    labels = np.zeros(scan.GetSize()[::-1], np.uint8)
    labels[2:7, 3:9, 4:12] = liver
    if tumour:
        labels[3:5, 4:7, 5:8] = 2
    return result_of(scan, labels)


def three_lesions(scan: sitk.Image) -> np.ndarray:
    """Labels (k, j, i) of a liver with tumours of 18, 8 and 2 voxels; needs 14 x 12 x 9 voxels."""
    labels = np.zeros(scan.GetSize()[::-1], np.uint8)
    labels[1:8, 2:10, 3:13] = 1
    labels[3:5, 4:7, 5:8] = 2
    labels[5:7, 7:9, 9:11] = 2
    labels[2, 3, 10:12] = 2
    return labels


def result_of(scan: sitk.Image, labels: np.ndarray, sensitivity: float = 1.5) -> Segmentation:
    """A result with these labels (k, j, i), made by a made-up bundle."""
    image = sitk.GetImageFromArray(labels)
    image.CopyInformation(scan)
    made = Provenance(
        software="LiverTumorSeg 9.9",
        bundle="tiny",
        bundle_version="1",
        bundle_sha256="ab" * 32,
        recipe="r",
        variant="repaired",
        modality="CT",
        device="cuda:1",
        engine="torch",
        precision="bf16",
        size_voxels=scan.GetSize(),
        spacing_mm=scan.GetSpacing(),
        warnings=("one", "two: 50% of it; a|b"),
    )
    return Segmentation(image, scan, made, sensitivity=sensitivity)


def written(scan: sitk.Image, scene, **parts: bool):
    """The volume's and the segmentation's nodes."""
    return written_as(result_for(scan, **parts), scene)


def written_as(result: Segmentation, scene, separate_lesions: bool = False):
    """The volume's and the segmentation's nodes."""
    volume = add_volume(result.image, scene, "CT")
    node = add_segmentation(volume)
    write_segmentation(result, node, volume, separate_lesions=separate_lesions)
    return volume, node


def labels_in(node, volume) -> np.ndarray:
    """(k, j, i) labels on the volume's voxels, as they are now."""
    return sitk.GetArrayFromImage(labels_from_segmentation(node, volume))


def specify_geometry(node, volume, factors: Sequence[float]) -> None:
    """Put all segments on voxels so many times as large as the volume's, as the Segment Editor's dialog does."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    grid = slicer.vtkOrientedImageData()
    scaled = slicer.util.arrayFromVTKMatrix(matrix) @ np.diag((*factors, 1.0))
    grid.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(scaled))
    sizes = [int(size / factor) for size, factor in zip(volume.GetImageData().GetDimensions(), factors, strict=True)]
    grid.SetExtent([n for size in sizes for n in (0, size - 1)])
    grid.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    logic = slicer.vtkSlicerSegmentationGeometryLogic()
    logic.SetInputSegmentationNode(node)
    logic.GetOutputGeometryImageData().DeepCopy(grid)
    with slicer.util.NodeModify(node):
        logic.SetReferenceImageGeometryInSegmentationNode()
        assert logic.ResampleLabelmapsInSegmentationNode()


def copy_tumour(node, volume, box: tuple[slice, ...], factor: float = 0.5, segment_id: str = "copied") -> None:
    """Add a tumour as if from another segmentation, whose voxels are of another size; `box` is in the volume's."""
    sizes = volume.GetImageData().GetDimensions()[::-1]
    values = np.zeros([int(n / factor) for n in sizes], np.uint8)
    values[tuple(slice(int(part.start / factor), int(part.stop / factor)) for part in box)] = 1
    segment = slicer.vtkSegment()
    segment.SetTag("TerminologyEntry", TUMOUR_STYLE.terminology)
    grid = ijk_to_ras(volume) @ np.diag((factor, factor, factor, 1.0))
    segment.AddRepresentation("Binary labelmap", Block(values, (0, 0, 0), grid).oriented())
    node.GetSegmentation().AddSegment(segment, segment_id)


class Editor:
    """Slicer's Segment Editor without its window: strokes that go through its own logic, with Undo and Redo."""

    def __init__(self, application, node, volume) -> None:
        self.node = node
        self.parameters = node.GetScene().AddNode(slicer.vtkMRMLSegmentEditorNode())
        self.logic = slicer.vtkSlicerSegmentEditorLogic()
        self.logic.SetMRMLApplicationLogic(application.logic)
        self.logic.SetMRMLScene(node.GetScene())
        self.logic.SetSegmentEditorNode(self.parameters)
        prepare_editor(self.parameters, node)
        self.logic.SetSourceVolumeNode(volume)

    def paint(self, segment_id: str, box: tuple[slice, ...]) -> None:
        """Add a box of voxels, slices along k, j, i, to a segment."""
        self._stroke(segment_id, box, self.logic.ModificationModeAdd)

    def erase(self, segment_id: str, box: tuple[slice, ...]) -> None:
        self._stroke(segment_id, box, self.logic.ModificationModeRemove)

    def set(self, segment_id: str, box: tuple[slice, ...]) -> None:
        """Make a segment nothing but a box, as effects like Smoothing or Islands do."""
        self._stroke(segment_id, box, self.logic.ModificationModeSet)

    def remove(self, segment_id: str) -> None:
        self.parameters.SetSelectedSegmentID(segment_id)
        self.logic.RemoveSelectedSegment()

    def undo(self) -> None:
        self.logic.Undo()

    def redo(self) -> None:
        self.logic.Redo()

    def _stroke(self, segment_id: str, box: tuple[slice, ...], mode: int) -> None:
        assert self.logic.SaveStateForUndo()
        assert self.logic.ResetModifierLabelmapToDefault()
        brush = self.logic.GetModifierLabelmap()
        array = vtk_to_numpy(brush.GetPointData().GetScalars()).reshape(brush.GetDimensions()[::-1])
        array[box] = 1
        k, j, i = box
        extent = (i.start, i.stop - 1, j.start, j.stop - 1, k.start, k.stop - 1)
        self.logic.ModifySegmentByLabelmap(self.node, segment_id, brush, mode, extent, False, False)


def same_segments(back, node) -> None:
    """Fail where a segmentation that was read differs from the one that was saved."""
    ids = node.GetSegmentation().GetSegmentIDs()
    assert back.GetSegmentation().GetSegmentIDs() == ids
    assert back.GetSegmentation().GetNumberOfLayers("Binary labelmap") == 1
    for segment_id in ids:
        one, other = (each.GetSegmentation().GetSegment(segment_id) for each in (back, node))
        assert one.GetName() == other.GetName()
        assert one.GetColor() == pytest.approx(other.GetColor(), abs=1e-5)
        assert tags_of(one) == tags_of(other)
        np.testing.assert_allclose(places_of(back, segment_id), places_of(node, segment_id), atol=1e-4)
