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

from LiverTumorSegLib.scene import add_segmentation, add_volume, write_segmentation
from LiverTumorSegLib.segmentation import Provenance, Segmentation

LPS_TO_RAS = np.diag((-1.0, -1.0, 1.0))


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


def result_for(scan: sitk.Image, liver: bool = True, tumour: bool = True) -> Segmentation:
    """A liver of 8 x 6 x 5 voxels, 18 of which are a tumour's."""
    labels = np.zeros(scan.GetSize()[::-1], np.uint8)
    labels[2:7, 3:9, 4:12] = liver
    if tumour:
        labels[3:5, 4:7, 5:8] = 2
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
    return Segmentation(image, scan, made, sensitivity=1.5)


def written(scan: sitk.Image, scene, **parts: bool):
    """The volume's and the segmentation's nodes."""
    volume = add_volume(scan, scene, "CT")
    node = add_segmentation(volume)
    write_segmentation(result_for(scan, **parts), node, volume)
    return volume, node


def same_segments(back, node) -> None:
    """Fail where a segmentation that was read differs from the one that was saved."""
    assert list(back.GetSegmentation().GetSegmentIDs()) == ["liver", "tumour"]
    assert back.GetSegmentation().GetNumberOfLayers("Binary labelmap") == 1
    for segment_id in ("liver", "tumour"):
        one, other = (each.GetSegmentation().GetSegment(segment_id) for each in (back, node))
        assert one.GetName() == other.GetName()
        assert one.GetColor() == pytest.approx(other.GetColor(), abs=1e-5)
        assert tags_of(one) == tags_of(other)
        np.testing.assert_allclose(places_of(back, segment_id), places_of(node, segment_id), atol=1e-4)
