"""Results over earlier ones: what of a person's stays, and how the sensitivity slider draws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")

import slicer

from LiverTumorSegLib.errors import OutputError
from LiverTumorSegLib.scene import (
    add_segmentation,
    is_edited,
    redraw,
    write_segmentation,
)
from slicer_host.nodes import (
    Editor,
    labels_in,
    oblique_scan,
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


def test_a_second_result_replaces_the_first(scan, scene):
    volume, node = written(scan, scene)
    write_segmentation(result_for(scan, tumour=False), node, volume)
    assert list(node.GetSegmentation().GetSegmentIDs()) == ["liver", "tumour"]
    assert (len(voxels_of(node, "liver")), len(voxels_of(node, "tumour"))) == (240, 0)
    assert add_segmentation(volume).GetName() == "CT segmentation_1"


EDITS = {
    "edited": lambda segmentation: segmentation.GetSegment("liver").SetTag("Segmentation.Status", "inprogress"),
    "added": lambda segmentation: segmentation.AddEmptySegment("vessels", "vessels"),
    "removed": lambda segmentation: segmentation.RemoveSegment("liver"),
}


@pytest.mark.parametrize("change", EDITS.values(), ids=EDITS)
def test_a_person_s_work_is_never_overwritten(change: Callable, scan, scene):
    volume, node = written(scan, scene)
    assert not is_edited(node)
    change(node.GetSegmentation())
    assert is_edited(node)
    for draw in (write_segmentation, redraw):
        with pytest.raises(OutputError, match="wanted a segmentation that is empty or as LiverTumorSeg left it"):
            draw(result_for(scan, tumour=False), node, volume)
    assert len(voxels_of(node, "tumour")) == 18


@pytest.mark.parametrize("draw", [write_segmentation, redraw])
def test_a_person_s_work_is_replaced_when_the_caller_says_so_except_segments_of_their_own(
    draw, scan, scene, slicer_started
):
    volume, node = written(scan, scene)
    segmentation = node.GetSegmentation()
    segmentation.GetSegment("tumour").SetTag("Segmentation.Status", "inprogress")
    segmentation.AddEmptySegment("vessels", "vessels")
    Editor(slicer_started, node, volume).paint("vessels", np.s_[4:5, 5:8, 6:7])  # takes from liver and tumour
    assert segmentation.GetNumberOfLayers("Binary labelmap") == 1
    new = np.zeros((9, 12, 14), np.uint8)
    new[3:8, 3:9, 4:12] = 1
    draw(result_of(scan, new), node, volume, replace_edited=True)
    assert np.array_equal(labels_in(node, volume), new)
    assert np.array_equal(voxels_of(node, "vessels"), [(6, 5, 4), (6, 6, 4), (6, 7, 4)])
    assert is_edited(node)  # because of the vessels
    segmentation.RemoveSegment("vessels")
    assert not is_edited(node)


def test_a_replaced_segmentation_comes_back_with_undo(scan, scene):
    volume, node = written(scan, scene)
    history = slicer.vtkSegmentationHistory()
    history.SetSegmentation(node.GetSegmentation())
    segment = node.GetSegmentation().GetSegment("tumour")
    segment.SetTag("Segmentation.Status", "inprogress")
    segment.SetName("metastasis")
    before = labels_in(node, volume)
    history.SaveState()
    write_segmentation(result_of(scan, three_lesions(scan)), node, volume, separate_lesions=True, replace_edited=True)
    assert node.GetSegmentation().GetNumberOfSegments() == 4
    assert history.RestorePreviousState()
    assert node.GetSegmentation().GetSegmentIDs() == ("liver", "tumour")
    assert node.GetSegmentation().GetSegment("tumour").GetName() == "metastasis"
    assert np.array_equal(labels_in(node, volume), before)
    assert is_edited(node)
    assert history.RestoreNextState()
    assert np.array_equal(labels_in(node, volume), three_lesions(scan))


@pytest.mark.parametrize("separate", [False, True])
def test_redrawing_changes_voxels_and_provenance_and_nothing_else(separate, scan, scene):
    labels = three_lesions(scan)
    volume, node = written_as(result_of(scan, labels), scene, separate)
    segmentation, display = node.GetSegmentation(), node.GetDisplayNode()
    first = "tumour_1" if separate else "tumour"
    segmentation.GetSegment("liver").SetName("Leber")
    segmentation.GetSegment(first).SetColor(0.1, 0.2, 0.3)
    display.SetSegmentOpacity3D("liver", 0.8)
    display.SetSegmentVisibility(first, False)
    kept = {each: segmentation.GetSegment(each) for each in ("liver", first)}
    labels[5:7, 7:9, 9:11] = 1  # the second lesion is gone
    labels[3, 3, 5] = 2  # the first is larger by a voxel
    redraw(result_of(scan, labels, sensitivity=0.5), node, volume)
    assert np.array_equal(labels_in(node, volume), labels)
    assert segmentation.GetSegmentIDs() == (("liver", "tumour_1", "tumour_3") if separate else ("liver", "tumour"))
    assert all(segmentation.GetSegment(each) is segment for each, segment in kept.items())
    assert segmentation.GetSegment("liver").GetName() == "Leber"
    assert segmentation.GetSegment(first).GetColor() == pytest.approx((0.1, 0.2, 0.3))
    assert display.GetSegmentOpacity3D("liver") == pytest.approx(0.8)
    assert not display.GetSegmentVisibility(first)
    assert node.GetAttribute("LiverTumorSeg.Sensitivity") == "0.5"
    assert tags_of(segmentation.GetSegment("liver"))["LiverTumorSeg.Sensitivity"] == "0.5"
    assert segmentation.ContainsRepresentation("Closed surface")
    if separate:
        assert surface_mm3(node, first) == pytest.approx(19 * 0.8 * 1.5 * 2.5, rel=0.2)
    assert not is_edited(node)


def test_a_new_lesion_gets_the_first_free_number_and_the_others_keep_theirs(scan, scene):
    labels = three_lesions(scan)
    volume, node = written_as(result_of(scan, labels), scene, separate_lesions=True)
    labels[5:7, 7:9, 9:11] = 1  # of tumour 2
    redraw(result_of(scan, labels), node, volume)
    labels[6, 3:9, 3:6] = 2  # now the second largest
    redraw(result_of(scan, labels), node, volume)
    sizes = {each: len(voxels_of(node, each)) for each in node.GetSegmentation().GetSegmentIDs()}
    assert sizes == {"liver": 560 - 18 - 18 - 2, "tumour_1": 18, "tumour_3": 2, "tumour_2": 18}


def test_redrawing_makes_no_surfaces_where_the_person_has_switched_them_off(scan, scene):
    volume, node = written(scan, scene)
    node.RemoveClosedSurfaceRepresentation()
    redraw(result_for(scan, tumour=False), node, volume)
    assert not node.GetSegmentation().ContainsRepresentation("Closed surface")


def test_surfaces_that_did_not_change_are_not_made_again(scan, scene):
    labels = three_lesions(scan)
    volume, node = written_as(result_of(scan, labels), scene, separate_lesions=True)

    def surfaces():
        segmentation = node.GetSegmentation()
        return {
            each: segmentation.GetSegment(each).GetRepresentation("Closed surface")
            for each in segmentation.GetSegmentIDs()
        }

    before = surfaces()
    labels[2, 3, 10] = 1  # of tumour 3
    redraw(result_of(scan, labels), node, volume)
    assert [each for each, surface in surfaces().items() if surface is not before[each]] == ["liver", "tumour_3"]


@pytest.mark.parametrize("draw", [write_segmentation, redraw])
def test_the_views_are_told_once_that_something_changed(draw, scan, scene):
    volume, node = written(scan, scene)
    told = []
    node.AddObserver(slicer.vtkSegmentation.SourceRepresentationModified, lambda *_: told.append(1))
    draw(result_for(scan, tumour=False), node, volume)
    assert told == [1]
