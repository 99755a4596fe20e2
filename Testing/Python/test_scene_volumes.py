"""Volume nodes and scans: where voxels lie, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")

import slicer
import vtk

from LiverTumorSegLib.errors import ImageError
from LiverTumorSegLib.scene import add_volume, image_from_volume
from slicer_host.nodes import LPS_TO_RAS, moved_by, oblique_scan

pytestmark = pytest.mark.usefixtures("slicer_started")

SIZE, SPACING = (14, 12, 9), (0.8, 1.5, 2.5)


@pytest.fixture
def scan() -> sitk.Image:
    return oblique_scan()


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64, np.int32])
def test_a_volume_becomes_a_scan_with_each_voxel_where_slicer_has_it(dtype, scene, scan):
    matrix = np.eye(4)
    matrix[:3, :3] = LPS_TO_RAS @ np.reshape(scan.GetDirection(), (3, 3)) * SPACING
    matrix[:3, 3] = (11.0, -22.0, 33.0)
    voxels = vtk.vtkImageData()
    voxels.SetDimensions(*SIZE)
    voxels.AllocateScalars(vtk.util.numpy_support.get_vtk_array_type(dtype), 1)
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    node.SetAndObserveImageData(voxels)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    slicer.util.arrayFromVolume(node)[:] = 0
    slicer.util.arrayFromVolume(node)[5, 3, 2] = 77  # k, j, i

    image = image_from_volume(node)
    slicer.util.arrayFromVolume(node)[:] = 0  # the scan is a copy
    assert image.GetSize() == SIZE
    assert image[2, 3, 5] == 77
    assert sitk.GetArrayFromImage(image).dtype == dtype
    assert np.linalg.det(np.reshape(image.GetDirection(), (3, 3))) < 0
    np.testing.assert_allclose(image.GetSpacing(), SPACING, rtol=1e-12)
    for index in ((0, 0, 0), (2, 3, 5), (13, 11, 8)):
        right, front, head = (matrix @ (*index, 1))[:3]
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(index), (-right, -front, head), atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(
    angles=st.tuples(*[st.integers(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.1, 10)] * 3),
    flips=st.tuples(*[st.sampled_from((1, -1))] * 3),
)
def test_a_scan_comes_back_from_the_scene_as_it_was(angles, spacing, flips):
    turn = sitk.Euler3DTransform((0, 0, 0), *np.radians(angles).tolist())
    image = sitk.GetImageFromArray(np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    image.SetSpacing(spacing)
    image.SetDirection((np.reshape(turn.GetMatrix(), (3, 3)) * flips).ravel().tolist())
    image.SetOrigin((1.0, -200.0, 30.0))
    back = image_from_volume(add_volume(image, slicer.vtkMRMLScene(), "CT"))
    assert np.array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(back.GetSpacing(), spacing, rtol=0, atol=1e-12)
    np.testing.assert_allclose(back.GetDirection(), image.GetDirection(), atol=1e-12)
    np.testing.assert_allclose(back.GetOrigin(), image.GetOrigin(), atol=1e-12)


def test_a_linear_transform_above_the_volume_is_applied(scan, scene):
    volume = add_volume(scan, scene, "CT")
    moved_by([[0, -1, 0, 5], [1, 0, 0, 0], [0, 0, 1, -30], [0, 0, 0, 1]], volume)  # a quarter turn in RAS, and a shift
    right, front, head = np.array(scan.TransformIndexToPhysicalPoint((3, 2, 1))) @ LPS_TO_RAS
    place = image_from_volume(volume).TransformIndexToPhysicalPoint((3, 2, 1))
    np.testing.assert_allclose(place, (-(-front + 5), -right, head - 30), atol=1e-12)


def test_a_warp_above_the_volume_is_refused(scan, scene):
    volume = add_volume(scan, scene, "CT")
    warp = scene.AddNewNodeByClass("vtkMRMLTransformNode", "bent")
    spline = vtk.vtkThinPlateSplineTransform()
    warp.SetAndObserveTransformToParent(spline)
    volume.SetAndObserveTransformNodeID(warp.GetID())
    with pytest.raises(ImageError, match="CT: wanted no parent transform or a linear one, got the warp bent"):
        image_from_volume(volume)


@pytest.mark.parametrize("factor", [0.2, float("nan")])
def test_a_shear_above_the_volume_is_refused(factor, scan, scene):
    volume = add_volume(scan, scene, "CT")
    moved_by([[1, factor, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], volume)
    with pytest.raises(ImageError, match=r"CT: wanted axes at right angles, .* under the transform moved"):
        image_from_volume(volume)


def test_a_volume_without_voxels_is_refused(scene):
    with pytest.raises(ImageError, match="empty: wanted a volume with voxels"):
        image_from_volume(scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty"))


def test_a_colour_volume_is_refused(scene):
    node = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "photo")
    voxels = vtk.vtkImageData()
    voxels.SetDimensions(*SIZE)
    voxels.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    node.SetAndObserveImageData(voxels)
    with pytest.raises(ImageError, match="photo: wanted one number a voxel, got 3"):
        image_from_volume(node)


@pytest.mark.parametrize("modality", ["MR", ""])
def test_the_modality_is_what_the_dicom_import_noted(modality, scan, scene):
    volume = add_volume(scan, scene, "scan")
    hierarchy = scene.GetSubjectHierarchyNode()
    item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), volume)
    if modality:
        hierarchy.SetItemAttribute(item, "DICOM.Modality", modality)
    image = image_from_volume(volume)
    assert (image.GetMetaData("Modality") if image.HasMetaDataKey("Modality") else "") == modality
