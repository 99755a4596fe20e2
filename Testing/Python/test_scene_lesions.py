"""The lesions of a segmentation in the scene: found as the segments are now, rejected, taken back."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")

import slicer
import vtk

from LiverTumorSegLib.errors import OutputError
from LiverTumorSegLib.lesions import find_lesions
from LiverTumorSegLib.scene import (
    add_segmentation,
    add_volume,
    image_from_volume,
    is_edited,
    jump_to,
    lesions_in,
    reject_lesion,
    restore_lesion,
    summary_of,
    write_segmentation,
)
from slicer_host.nodes import (
    QUARTER_TURN,
    Editor,
    labels_in,
    moved_by,
    oblique_scan,
    result_of,
    tags_of,
    three_lesions,
    voxels_of,
    written_as,
)

pytestmark = pytest.mark.usefixtures("slicer_started")


@pytest.fixture
def scan() -> sitk.Image:
    return oblique_scan()


@pytest.fixture(params=[False, True], ids=["one segment", "one each"])
def separate(request) -> bool:
    return request.param


def without(labels: np.ndarray, box: tuple[slice, ...]) -> np.ndarray:
    """The labels with the tumour in a box given to the liver."""
    changed = labels.copy()
    changed[box][changed[box] == 2] = 1
    return changed


FIRST, SECOND = np.s_[3:5, 4:7, 5:8], np.s_[5:7, 7:9, 9:11]


def test_lesions_are_measured_as_in_the_result_itself(separate, scan, scene):
    volume = add_volume(scan, scene, "CT")
    moved_by(QUARTER_TURN, volume)
    image = image_from_volume(volume)
    result, node = result_of(image, three_lesions(image)), add_segmentation(volume)
    write_segmentation(result, node, volume, separate_lesions=separate)
    share = sitk.GetImageFromArray(np.full((9, 12, 14), 0.75, np.float32))
    share.CopyInformation(image)
    found, wanted = lesions_in(node, volume, share), find_lesions(result.labels, image, share)
    for got, expected in zip(found, wanted, strict=True):
        assert got.lesion.voxels == expected.voxels
        assert got.lesion.axial_slice == expected.axial_slice
        assert got.lesion.centroid_ras_mm == pytest.approx(expected.centroid_ras_mm, abs=1e-9)
        assert got.lesion.axial_long_axis_mm == pytest.approx(expected.axial_long_axis_mm)
        assert got.lesion.mean_intensity == pytest.approx(expected.mean_intensity)
        assert got.lesion.mean_probability == pytest.approx(0.75)
    numbers = ["tumour_1", "tumour_2", "tumour_3"] if separate else ["tumour"] * 3
    assert [placed.segment_id for placed in found] == numbers
    assert [placed.lesion.id for placed in found] == [1, 2, 3]


def test_lesions_are_those_of_the_segments_as_a_person_left_them(separate, scan, scene, slicer_started):
    volume, node = written_as(result_of(scan, three_lesions(scan)), scene, separate)
    editor = Editor(slicer_started, node, volume)
    mine = "tumour_3" if separate else "tumour"
    editor.paint(mine, np.s_[3:5, 4:7, 8:9])  # touches the first lesion: six voxels more
    assert [placed.lesion.voxels for placed in lesions_in(node, volume)] == [24, 8, 2]
    editor.erase("tumour_2" if separate else "tumour", SECOND)
    first, last = lesions_in(node, volume)
    assert (first.lesion.voxels, last.lesion.voxels) == (24, 2)
    assert first.segment_id == ("tumour_1" if separate else "tumour")  # which holds most of it


def test_lesions_of_a_volume_that_was_turned_round_meanwhile(scan, scene):
    volume, node = written_as(result_of(scan, three_lesions(scan)), scene)
    before = lesions_in(node, volume)
    matrix, turn = vtk.vtkMatrix4x4(), np.diag((1.0, 1.0, -1.0, 1.0))
    volume.GetIJKToRASMatrix(matrix)
    turn[2, 3] = 8
    volume.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(slicer.util.arrayFromVTKMatrix(matrix) @ turn))
    slicer.util.arrayFromVolume(volume)[:] = sitk.GetArrayFromImage(scan)[::-1]
    after = lesions_in(node, volume)
    for one, other in zip(before, after, strict=True):
        assert one.lesion.mean_intensity == pytest.approx(other.lesion.mean_intensity)
        assert one.lesion.axial_slice == 8 - other.lesion.axial_slice
    reject_lesion(node, volume, after[0])
    assert np.array_equal(labels_in(node, volume), without(three_lesions(scan), FIRST)[::-1])


def test_without_a_tumour_there_is_no_lesion(scan, scene):
    volume, node = written_as(result_of(scan, np.zeros((9, 12, 14), np.uint8)), scene, separate_lesions=True)
    assert lesions_in(node, volume) == []
    node.GetSegmentation().RemoveSegment("liver")
    with pytest.raises(OutputError, match="wanted a segment liver, got none"):
        lesions_in(node, volume)


def test_two_hundred_lesions_are_found_each_in_its_segment(scene):
    labels = np.ones((9, 40, 40), np.uint8)
    labels[1, 0:20:2, 0:40:2] = 2
    volume, node = written_as(result_of(sitk.Image((40, 40, 9), sitk.sitkInt16), labels), scene, True)
    found = lesions_in(node, volume)
    assert [placed.segment_id for placed in found] == [f"tumour_{n}" for n in range(1, 201)]


def test_the_summary_counts_tumours_to_the_liver(separate, scan, scene):
    volume, node = written_as(result_of(scan, three_lesions(scan)), scene, separate)
    summary = summary_of(node, volume)
    assert summary.liver_ml == pytest.approx(7 * 8 * 10 * 0.003)
    assert summary.tumour_ml == pytest.approx(28 * 0.003)
    assert summary.burden_percent == pytest.approx(5.0)
    volume, node = written_as(result_of(scan, np.zeros((9, 12, 14), np.uint8)), scene, separate)
    assert (summary_of(node, volume).liver_ml, summary_of(node, volume).burden_percent) == (0, 0)


def test_a_rejected_lesion_becomes_liver_and_comes_back(separate, scan, scene):
    labels = three_lesions(scan)
    volume, node = written_as(result_of(scan, labels), scene, separate)
    segmentation = node.GetSegmentation()
    second = lesions_in(node, volume)[1]
    rejected = reject_lesion(node, volume, second)
    assert np.array_equal(labels_in(node, volume), without(labels, SECOND))
    assert [placed.lesion.voxels for placed in lesions_in(node, volume)] == [18, 2]
    held = "tumour_2" if separate else "tumour"
    assert {each: tags_of(segmentation.GetSegment(each))["DICOM.SegmentAlgorithmType"] for each in ("liver", held)} == {
        "liver": "SEMIAUTOMATIC",
        held: "SEMIAUTOMATIC",
    }
    assert tags_of(segmentation.GetSegment(held))["Segmentation.Status"] == "inprogress"
    assert is_edited(node)
    restore_lesion(node, rejected)
    assert np.array_equal(labels_in(node, volume), labels)
    assert len(voxels_of(node, held)) == (8 if separate else 28)
    assert segmentation.GetNumberOfLayers("Binary labelmap") == 1


def test_surfaces_follow_a_rejected_lesion(scan, scene):
    volume, node = written_as(result_of(scan, three_lesions(scan)), scene, separate_lesions=True)
    reject_lesion(node, volume, lesions_in(node, volume)[0])
    surface = vtk.vtkPolyData()
    node.GetClosedSurfaceRepresentation("tumour_1", surface)
    assert surface.GetNumberOfPoints() == 0
    assert node.GetClosedSurfaceRepresentation("tumour_2", surface)
    assert surface.GetNumberOfPoints() > 0


def test_rejecting_works_after_a_person_has_edited_and_is_undoable(separate, scan, scene, slicer_started):
    labels = three_lesions(scan)
    volume, node = written_as(result_of(scan, labels), scene, separate)
    editor = Editor(slicer_started, node, volume)
    editor.paint("tumour_3" if separate else "tumour", np.s_[3:5, 4:7, 8:9])
    edited = labels_in(node, volume)
    assert editor.logic.SaveStateForUndo()
    rejected = reject_lesion(node, volume, lesions_in(node, volume)[0])
    assert set(rejected.taken) == ({"tumour_1", "tumour_3"} if separate else {"tumour"})
    assert np.array_equal(labels_in(node, volume), without(edited, np.s_[3:5, 4:7, 5:9]))
    editor.undo()
    assert np.array_equal(labels_in(node, volume), edited)
    editor.redo()
    restore_lesion(node, rejected)
    assert np.array_equal(labels_in(node, volume), edited)
    if separate:
        assert (len(voxels_of(node, "tumour_1")), len(voxels_of(node, "tumour_3"))) == (18, 8)


def test_a_tumour_on_a_layer_of_its_own_is_rejected_and_restored(scan, scene):
    """As the editor leaves it where segments may overlap."""
    labels = three_lesions(scan)
    volume, node = written_as(result_of(scan, labels), scene, separate_lesions=True)
    node.GetSegmentation().SeparateSegmentLabelmap("tumour_1")
    assert node.GetSegmentation().GetNumberOfLayers("Binary labelmap") == 2
    rejected = reject_lesion(node, volume, lesions_in(node, volume)[0])
    assert np.array_equal(labels_in(node, volume), without(labels, FIRST))
    assert len(voxels_of(node, "liver")) == 560 - 10
    restore_lesion(node, rejected)
    assert np.array_equal(labels_in(node, volume), labels)
    assert len(voxels_of(node, "liver")) == 560 - 28


def test_what_a_person_erased_from_the_liver_meanwhile_is_not_restored(scan, scene, slicer_started):
    labels = three_lesions(scan)
    volume, node = written_as(result_of(scan, labels), scene)
    rejected = reject_lesion(node, volume, lesions_in(node, volume)[0])
    Editor(slicer_started, node, volume).erase("liver", np.s_[3:4, 4:7, 5:8])
    restore_lesion(node, rejected)
    labels[3, 4:7, 5:8] = 0
    assert np.array_equal(labels_in(node, volume), labels)


def test_a_lesion_that_was_changed_since_is_not_rejected(scan, scene, slicer_started):
    volume, node = written_as(result_of(scan, three_lesions(scan)), scene)
    found = lesions_in(node, volume)
    Editor(slicer_started, node, volume).erase("tumour", np.s_[3:4, 4:5, 5:6])
    before = labels_in(node, volume)
    with pytest.raises(OutputError, match="wanted lesion 1 where it was found, got other voxels there"):
        reject_lesion(node, volume, found[0])
    assert np.array_equal(labels_in(node, volume), before)


def test_a_lesion_is_not_restored_into_a_segment_that_is_gone(scan, scene):
    volume, node = written_as(result_of(scan, three_lesions(scan)), scene, separate_lesions=True)
    rejected = reject_lesion(node, volume, lesions_in(node, volume)[1])
    node.GetSegmentation().RemoveSegment("tumour_2")
    with pytest.raises(OutputError, match="wanted the segments that held lesion 2, got none for tumour_2"):
        restore_lesion(node, rejected)


@settings(max_examples=30, deadline=None)
@given(
    lesions=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 6)), min_size=1, max_size=12),
    separate=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_lesions_rejected_in_any_order_come_back_in_any_order(lesions, separate, seed):
    scan = oblique_scan()
    labels = np.ones((9, 12, 14), np.uint8)
    for k, j, i in lesions:
        labels[2 * k, 2 * j : 2 * j + 2, 2 * i] = 2
    volume, node = written_as(result_of(scan, labels), slicer.vtkMRMLScene(), separate)
    segment_ids = node.GetSegmentation().GetSegmentIDs()
    voxels = {each: voxels_of(node, each).tolist() for each in segment_ids}
    found, random = lesions_in(node, volume), np.random.default_rng(seed)
    chosen = random.permutation(len(found))[: random.integers(1, len(found) + 1)]
    kept = [reject_lesion(node, volume, found[n]) for n in chosen]
    left = sorted(each.lesion.voxels for n, each in enumerate(found) if n not in chosen)
    assert sorted(each.lesion.voxels for each in lesions_in(node, volume)) == left
    for n in random.permutation(len(kept)):
        restore_lesion(node, kept[n])
    assert {each: voxels_of(node, each).tolist() for each in segment_ids} == voxels


def test_the_views_centre_on_a_lesion_under_a_transform(scan, scene):
    volume = add_volume(scan, scene, "CT")
    moved_by(QUARTER_TURN, volume)
    image = image_from_volume(volume)
    node = add_segmentation(volume)
    write_segmentation(result_of(image, three_lesions(image)), node, volume)
    views = [scene.AddNode(slicer.vtkMRMLSliceNode()) for _ in range(3)]
    for view, name in zip(views, ("Axial", "Sagittal", "Coronal"), strict=True):
        view.SetOrientation(name)
    lesion = lesions_in(node, volume)[0].lesion
    jump_to(scene, lesion.centroid_ras_mm)
    i, j, k = 6, 5, 3.5  # the middle of its box
    lps = image.TransformContinuousIndexToPhysicalPoint((i, j, k))
    for view in views:
        centre = [view.GetSliceToRAS().GetElement(row, 3) for row in range(3)]
        np.testing.assert_allclose(centre, (-lps[0], -lps[1], lps[2]), atol=1e-6)


def test_there_may_be_no_view_to_jump(scene):
    jump_to(scene, (0, 0, 0))
    assert scene.GetNumberOfNodesByClass("vtkMRMLSliceNode") == 0
