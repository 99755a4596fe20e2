"""Results in Slicer's scene: what a segment says of itself, where it lies, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")

import slicer
import vtk

from LiverTumorSegLib.errors import OutputError
from LiverTumorSegLib.scene import (
    add_segmentation,
    add_volume,
    image_from_volume,
    write_segmentation,
)
from LiverTumorSegLib.segmentation import SEGMENTS, Segmentation
from slicer_host.nodes import (
    expected_places,
    labels_in,
    layer_of,
    moved_by,
    oblique_scan,
    places_of,
    result_for,
    result_of,
    surface_mm3,
    tags_of,
    three_lesions,
    voxels_of,
    written,
    written_as,
)

pytestmark = pytest.mark.usefixtures("slicer_started")


@pytest.fixture
def scan() -> sitk.Image:
    return oblique_scan()


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
        "Phases": "",
        "Device": "cuda:1",
        "Engine": "torch",
        "Precision": "bf16",
        "Sensitivity": "1.5",
        "Warnings": "one\ntwo: 50% of it; a|b",
        "Segments": "liver tumour",
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


@pytest.mark.parametrize(("liver", "tumour", "voxels"), [(True, False, (240, 0)), (False, True, (0, 18))])
def test_a_missing_organ_is_an_empty_segment(liver, tumour, voxels, scan, scene):
    _, node = written(scan, scene, liver=liver, tumour=tumour)
    assert tuple(len(voxels_of(node, each)) for each in ("liver", "tumour")) == voxels


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


def test_a_volume_that_lost_its_voxels_is_refused(scan, scene):
    volume, node = written(scan, scene)
    volume.SetAndObserveImageData(None)
    with pytest.raises(OutputError, match=r"CT: wanted labels of \(0, 0, 0\) voxels"):
        write_segmentation(result_for(scan), node, volume)


def test_lesions_can_have_a_segment_each(scan, scene):
    volume, node = written_as(result_of(scan, three_lesions(scan)), scene, separate_lesions=True)
    segmentation = node.GetSegmentation()
    assert segmentation.GetSegmentIDs() == ("liver", "tumour_1", "tumour_2", "tumour_3")
    assert segmentation.GetNumberOfLayers("Binary labelmap") == 1
    sizes = {each: len(voxels_of(node, each)) for each in segmentation.GetSegmentIDs()}
    assert sizes == {"liver": 7 * 8 * 10 - 28, "tumour_1": 18, "tumour_2": 8, "tumour_3": 2}
    assert np.array_equal(labels_in(node, volume), three_lesions(scan))
    for number in (1, 2, 3):
        segment = segmentation.GetSegment(f"tumour_{number}")
        assert segment.GetName() == f"tumour {number}"
        assert tags_of(segment)["TerminologyEntry"] == SEGMENTS[1].terminology
        assert tags_of(segment)["DICOM.SegmentAlgorithmType"] == "AUTOMATIC"
        assert surface_mm3(node, f"tumour_{number}") > 0
    assert segmentation.GetSegment("tumour_1").GetColor() == pytest.approx(SEGMENTS[1].colour)


def test_twenty_lesions_have_colours_that_can_be_told_apart(scan, scene):
    labels = np.zeros((9, 12, 14), np.uint8)
    labels[1:8:2, 1:11:2, 2] = 2
    _, node = written_as(result_of(scan, labels), scene, separate_lesions=True)
    segmentation = node.GetSegmentation()
    assert segmentation.GetNumberOfSegments() == 21
    colours = [segmentation.GetNthSegment(n).GetColor() for n in range(21)]
    for n, one in enumerate(colours):
        assert min(np.abs(np.subtract(one, other)).max() for other in colours[:n] + colours[n + 1 :]) > 0.02
        assert n == 0 or (one[0] >= one[2] and one[1] >= one[2])  # somewhere between orange and lime


def test_two_hundred_and_sixty_lesions_have_a_segment_each_in_one_layer(scene):
    labels = np.zeros((9, 40, 40), np.uint8)
    labels[1, :26:2, 0:40:2] = 2
    scan = sitk.Image(labels.shape[::-1], sitk.sitkInt16)
    volume, node = written_as(result_of(scan, labels), scene, separate_lesions=True)
    assert node.GetSegmentation().GetNumberOfSegments() == 261
    assert node.GetSegmentation().GetNumberOfLayers("Binary labelmap") == 1
    assert len(voxels_of(node, "tumour_260")) == 1
    assert np.array_equal(labels_in(node, volume), labels)


def test_without_a_lesion_there_is_only_the_liver(scan, scene):
    _, node = written_as(result_for(scan, tumour=False), scene, separate_lesions=True)
    assert node.GetSegmentation().GetSegmentIDs() == ("liver",)
    _, node = written_as(result_for(scan, liver=False, tumour=False), scene, separate_lesions=True)
    assert node.GetSegmentation().GetSegmentIDs() == ("liver",)


def test_our_surfaces_are_those_that_slicer_would_make(scan, scene):
    _, node = written_as(result_of(scan, three_lesions(scan)), scene, separate_lesions=True)
    ours = {each: surface_mm3(node, each) for each in ("tumour_1", "tumour_2", "tumour_3")}
    node.RemoveClosedSurfaceRepresentation()
    node.CreateClosedSurfaceRepresentation()
    assert {each: surface_mm3(node, each) for each in ours} == pytest.approx(ours, rel=1e-5)
