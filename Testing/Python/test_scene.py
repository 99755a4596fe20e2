"""Between Slicer's scene and the library: where voxels lie, what a segment says of itself, what survives saving."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")

import slicer
import vtk

from LiverTumorSegLib.errors import ImageError, OutputError
from LiverTumorSegLib.scene import (
    add_segmentation,
    add_volume,
    image_from_volume,
    labels_from_segmentation,
    write_segmentation,
)
from LiverTumorSegLib.segmentation import SEGMENTS, Segmentation
from slicer_host.application import start
from slicer_host.nodes import (
    LPS_TO_RAS,
    expected_places,
    layer_of,
    moved_by,
    places_of,
    read_seg_nrrd,
    result_for,
    same_segments,
    surface_mm3,
    tags_of,
    voxels_of,
    written,
)

SIZE, SPACING = (14, 12, 9), (0.8, 1.5, 2.5)


@pytest.fixture(scope="module", autouse=True)
def application(tmp_path_factory):
    return start(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def scene():
    return slicer.vtkMRMLScene()


@pytest.fixture
def left_handed(oblique) -> tuple[float, ...]:
    """The oblique directions with the first axis turned round."""
    return tuple(-value if n % 3 == 0 else value for n, value in enumerate(oblique))


@pytest.fixture
def scan(left_handed) -> sitk.Image:
    """Every voxel has a value of its own."""
    i, j, k = SIZE
    image = sitk.GetImageFromArray(np.arange(i * j * k, dtype=np.int16).reshape(k, j, i))
    image.SetSpacing(SPACING)
    image.SetDirection(left_handed)
    image.SetOrigin((-50.0, 20.0, 7.0))
    return image


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64, np.int32])
def test_a_volume_becomes_a_scan_with_each_voxel_where_slicer_has_it(dtype, scene, left_handed):
    matrix = np.eye(4)
    matrix[:3, :3] = LPS_TO_RAS @ np.reshape(left_handed, (3, 3)) * SPACING
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


def test_segments_lie_where_the_labels_do_on_an_oblique_left_handed_grid(scan, scene):
    _, node = written(scan, scene)
    labels = result_for(scan).labels
    assert (len(voxels_of(node, "liver")), len(voxels_of(node, "tumour"))) == (8 * 6 * 5 - 18, 18)
    for style in SEGMENTS:
        np.testing.assert_allclose(places_of(node, style.name), expected_places(labels, style.label), atol=1e-9)


def test_segments_follow_the_volume_s_transform(scan, scene):
    volume = add_volume(scan, scene, "CT")
    moved_by([[0, -1, 0, 5], [1, 0, 0, 0], [0, 0, 1, -30], [0, 0, 0, 1]], volume)
    image, node = image_from_volume(volume), add_segmentation(volume)
    result = result_for(image)
    write_segmentation(result, node, volume)
    np.testing.assert_allclose(places_of(node, "tumour"), expected_places(result.labels, 2), atol=1e-9)


def test_a_segment_says_what_it_is_and_who_made_it(scan, scene):
    _, node = written(scan, scene)
    segmentation = node.GetSegmentation()
    assert node.GetName() == "CT segmentation"
    assert list(segmentation.GetSegmentIDs()) == ["liver", "tumour"]
    assert segmentation.GetNumberOfLayers("Binary labelmap") == 1
    for style in SEGMENTS:
        segment = segmentation.GetSegment(style.name)
        assert segment.GetName() == style.name
        assert segment.GetColor() == pytest.approx(style.colour)
        assert tags_of(segment) == {
            "TerminologyEntry": style.terminology,
            "DICOM.SegmentAlgorithmType": "AUTOMATIC",
            "DICOM.SegmentAlgorithmName": "LiverTumorSeg 9.9 (tiny 1)",
            "Segmentation.Status": "notstarted",
            "LiverTumorSeg.BundleSHA256": "ab" * 32,
            "LiverTumorSeg.Sensitivity": "1.5",
            "LiverTumorSeg.Warnings": "one; two: 50% of it; a b",
        }


def test_the_node_says_where_the_segmentation_came_from(scan, scene):
    _, node = written(scan, scene)
    prefix = "LiverTumorSeg."
    attributes = {name: node.GetAttribute(name) for name in node.GetAttributeNames() if name.startswith(prefix)}
    assert {name.removeprefix(prefix): value for name, value in attributes.items()} == {
        "Software": "LiverTumorSeg 9.9",
        "Bundle": "tiny",
        "BundleVersion": "1",
        "BundleSHA256": "ab" * 32,
        "Recipe": "r",
        "Modality": "CT",
        "Device": "cuda:1",
        "Engine": "torch",
        "Precision": "bf16",
        "Sensitivity": "1.5",
        "Warnings": "one\ntwo: 50% of it; a|b",
    }


def test_the_reference_geometry_is_the_volume_s(scan, scene):
    volume, node = written(scan, scene)
    assert node.GetNodeReference("referenceImageGeometryRef") is volume
    reference = slicer.vtkOrientedImageData()
    text = node.GetSegmentation().GetConversionParameter("Reference image geometry")
    assert slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, reference, False)
    matrix, wanted = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    reference.GetImageToWorldMatrix(matrix)
    volume.GetIJKToRASMatrix(wanted)
    np.testing.assert_allclose(*map(slicer.util.arrayFromVTKMatrix, (matrix, wanted)), atol=1e-5)
    assert reference.GetExtent() == (0, 13, 0, 11, 0, 8)
    # Only the box around the liver is kept.
    assert layer_of(node, "liver").GetExtent() == (4, 11, 3, 8, 2, 6)


@pytest.mark.parametrize("parts", [{}, {"tumour": False}, {"liver": False}, {"liver": False, "tumour": False}])
def test_labels_come_back_from_the_scene_as_they_were(parts, scan, scene):
    volume = add_volume(scan, scene, "CT")
    moved_by([[0, -1, 0, 5], [1, 0, 0, 0], [0, 0, 1, -30], [0, 0, 0, 1]], volume)
    result, node = result_for(image_from_volume(volume), **parts), add_segmentation(volume)
    write_segmentation(result, node, volume)
    labels = labels_from_segmentation(node, volume)
    assert np.array_equal(sitk.GetArrayFromImage(labels), sitk.GetArrayFromImage(result.labels))
    for got, wanted in ((labels.GetOrigin(), result.labels.GetOrigin()), (labels.GetSpacing(), SPACING)):
        np.testing.assert_allclose(got, wanted, atol=1e-9)


def test_where_a_person_made_segments_overlap_the_label_is_tumour(scan, scene):
    volume, node = written(scan, scene)
    everywhere = slicer.vtkOrientedImageData()
    everywhere.DeepCopy(layer_of(node, "liver"))
    everywhere.GetPointData().GetScalars().Fill(1)
    node.GetSegmentation().GetSegment("liver").AddRepresentation("Binary labelmap", everywhere)
    wanted = sitk.GetArrayFromImage(result_for(scan).labels)
    assert np.array_equal(sitk.GetArrayFromImage(labels_from_segmentation(node, volume)), wanted)


def test_labels_are_read_from_liver_and_tumour_only(scan, scene):
    volume, node = written(scan, scene)
    wanted = sitk.GetArrayFromImage(result_for(scan).labels)
    node.GetSegmentation().AddEmptySegment("vessels", "vessels")
    assert np.array_equal(sitk.GetArrayFromImage(labels_from_segmentation(node, volume)), wanted)
    moved_by(np.eye(4), node)
    with pytest.raises(OutputError, match="wanted CT's transform, got another"):
        labels_from_segmentation(node, volume)
    node.GetSegmentation().RemoveSegment("tumour")
    with pytest.raises(OutputError, match="wanted segments liver and tumour, got none for"):
        labels_from_segmentation(node, volume)


@pytest.mark.parametrize(("liver", "tumour", "voxels"), [(True, False, (240, 0)), (False, True, (0, 18))])
def test_a_missing_organ_is_an_empty_segment(liver, tumour, voxels, scan, scene):
    _, node = written(scan, scene, liver=liver, tumour=tumour)
    assert tuple(len(voxels_of(node, each)) for each in ("liver", "tumour")) == voxels


def test_an_empty_result_has_both_segments_and_can_be_saved(scan, scene, tmp_path):
    _, node = written(scan, scene, liver=False, tumour=False)
    back = read_seg_nrrd(node, tmp_path / "empty.seg.nrrd")
    assert [back.GetSegmentation().GetNthSegment(n).GetName() for n in (0, 1)] == ["liver", "tumour"]


def test_the_segmentation_stands_beside_its_volume(scan, scene):
    hierarchy = scene.GetSubjectHierarchyNode()
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    volume = add_volume(scan, scene, "CT")
    hierarchy.CreateItem(study, volume)
    node = add_segmentation(volume)
    write_segmentation(result_for(scan), node, volume)
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study


def test_tumours_shine_through_the_liver_in_3d(scan, scene):
    _, node = written(scan, scene)
    assert node.GetSegmentation().ContainsRepresentation("Closed surface")
    display = node.GetDisplayNode()
    assert display.GetSegmentOpacity3D("liver") == pytest.approx(0.35)
    assert display.GetSegmentOpacity3D("tumour") == 1


def test_no_surface_is_made_where_nothing_is_displayed(scan, scene):
    volume = add_volume(scan, scene, "CT")
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    write_segmentation(result_for(scan), node, volume)
    assert not node.GetSegmentation().ContainsRepresentation("Closed surface")


def test_the_surface_of_a_small_tumour_keeps_its_volume(scene):
    size = 17
    z, y, x = np.ogrid[:size, :size, :size]
    ball = (x - 8) ** 2 + (y - 8) ** 2 + (z - 8) ** 2 <= 4
    labels = np.ones((size,) * 3, np.uint8) + ball
    scan, image = sitk.Image((size,) * 3, sitk.sitkInt16), sitk.GetImageFromArray(labels.astype(np.uint8))
    volume = add_volume(scan, scene, "CT")
    node = add_segmentation(volume)
    write_segmentation(Segmentation(image, scan, result_for(scan).provenance), node, volume)
    assert ball.sum() == 33
    assert surface_mm3(node, "tumour") == pytest.approx(33, rel=0.15)


def test_a_second_result_replaces_the_first(scan, scene):
    volume, node = written(scan, scene)
    write_segmentation(result_for(scan, tumour=False), node, volume)
    assert list(node.GetSegmentation().GetSegmentIDs()) == ["liver", "tumour"]
    assert (len(voxels_of(node, "liver")), len(voxels_of(node, "tumour"))) == (240, 0)
    assert add_segmentation(volume).GetName() == "CT segmentation_1"


EDITS = {
    "edited": lambda segmentation: segmentation.GetSegment("liver").SetTag("Segmentation.Status", "inprogress"),
    "added": lambda segmentation: segmentation.AddEmptySegment("vessels", "vessels"),
}


@pytest.mark.parametrize("change", EDITS.values(), ids=EDITS)
def test_a_person_s_work_is_never_overwritten(change: Callable, scan, scene):
    volume, node = written(scan, scene)
    change(node.GetSegmentation())
    with pytest.raises(OutputError, match="wanted a segmentation that is empty or as LiverTumorSeg left it"):
        write_segmentation(result_for(scan, tumour=False), node, volume)
    assert len(voxels_of(node, "tumour")) == 18


def test_labels_of_another_size_are_refused(scan, scene):
    volume = add_volume(scan, scene, "CT")
    node = add_segmentation(volume)
    with pytest.raises(OutputError, match=r"CT: wanted labels of \(14, 12, 9\) voxels, got \(14, 12, 8\)"):
        write_segmentation(result_for(scan[:, :, :8]), node, volume)
    assert node.GetSegmentation().GetNumberOfSegments() == 0


def test_a_volume_that_was_moved_meanwhile_is_refused(scan, scene):
    volume = add_volume(scan, scene, "CT")
    node = add_segmentation(volume)
    volume.SetOrigin(0, 0, 0)
    with pytest.raises(OutputError, match="CT: wanted labels where the volume lies"):
        write_segmentation(result_for(scan), node, volume)


def test_a_volume_that_was_deleted_meanwhile_is_refused(scan, scene):
    volume = add_volume(scan, scene, "CT")
    node = add_segmentation(volume)
    scene.RemoveNode(volume)
    with pytest.raises(OutputError, match="wanted a volume in a scene"):
        add_segmentation(volume)
    with pytest.raises(OutputError, match="wanted nodes of one scene"):
        write_segmentation(result_for(scan), node, volume)


def test_a_segmentation_file_keeps_segments_and_provenance(scan, scene, tmp_path):
    _, node = written(scan, scene)
    same_segments(read_seg_nrrd(node, tmp_path / "a.seg.nrrd"), node)


def test_a_scene_file_keeps_everything(scan, application, tmp_path):
    scene = application.scene
    volume, node = written(scan, scene)
    assert scene.WriteToMRB(str(tmp_path / "a.mrb"))
    kept = slicer.vtkMRMLSegmentationNode()
    kept.GetSegmentation().DeepCopy(node.GetSegmentation())
    attributes = {name: node.GetAttribute(name) for name in node.GetAttributeNames()}
    scene.Clear(False)
    assert scene.ReadFromMRB(str(tmp_path / "a.mrb"))
    back = scene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    same_segments(back, kept)
    assert {name: back.GetAttribute(name) for name in back.GetAttributeNames()} == attributes
    assert back.GetNodeReference("referenceImageGeometryRef").GetName() == "CT"
    assert back.GetDisplayNode().GetSegmentOpacity3D("liver") == pytest.approx(0.35)
    # Slicer turns the slices of a left-handed volume round when it reads them; the next result follows.
    volume = scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
    result = result_for(image_from_volume(volume))
    write_segmentation(result, back, volume)
    np.testing.assert_allclose(places_of(back, "tumour"), expected_places(result.labels, 2), atol=1e-4)
    scene.Clear(False)
