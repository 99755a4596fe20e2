"""Correcting by hand, by strokes through Slicer's own editor logic: liver and tumours stay disjoint, without holes."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")

import slicer

from LiverTumorSegLib.scene import (
    LiverKeeper,
    is_edited,
    lesions_in,
    prepare_editor,
    redraw,
    reject_lesion,
    write_segmentation,
)
from slicer_host.nodes import (
    Editor,
    labels_in,
    oblique_scan,
    result_of,
    surface_mm3,
    tags_of,
    three_lesions,
    voxels_of,
    written_as,
)

pytestmark = pytest.mark.usefixtures("slicer_started")

BEYOND = np.s_[0:2, 4:7, 5:8]  # half of it is outside the liver, which begins at k = 1
FIRST = np.s_[3:5, 4:7, 5:8]


@pytest.fixture
def scan() -> sitk.Image:
    return oblique_scan()


class Correction:
    """A result with one segment each (or one for all), an editor and a keeper."""

    def __init__(self, slicer_started, labels: np.ndarray, separate: bool = True) -> None:
        self.scan, self.scene = oblique_scan(), slicer.vtkMRMLScene()  # nodes do not keep their scene
        self.volume, self.node = written_as(result_of(self.scan, labels), self.scene, separate)
        self.editor = Editor(slicer_started, self.node, self.volume)
        self.keeper = LiverKeeper(self.node)
        self.tumour = "tumour_1" if separate else "tumour"

    @property
    def labels(self) -> np.ndarray:
        return labels_in(self.node, self.volume)

    def shown_as(self, segment_id: str) -> tuple[str, str]:
        tags = tags_of(self.node.GetSegmentation().GetSegment(segment_id))
        return tags["DICOM.SegmentAlgorithmType"], tags["Segmentation.Status"]


@pytest.fixture(params=[False, True], ids=["one segment", "one each"])
def correction(request, slicer_started, scan):
    started = Correction(slicer_started, three_lesions(scan), request.param)
    yield started
    started.keeper.stop()


def changed(labels: np.ndarray, box: tuple[slice, ...], value: int) -> np.ndarray:
    labels = labels.copy()
    labels[box] = value
    return labels


def test_the_editor_overwrites_every_segment_and_has_no_mask(scan):
    scene = slicer.vtkMRMLScene()
    _, node = written_as(result_of(scan, three_lesions(scan)), scene, separate_lesions=True)
    editor = scene.AddNode(slicer.vtkMRMLSegmentEditorNode())
    editor.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideAllSegments)
    editor.SetOverwriteMode(editor.OverwriteNone)
    editor.SetSourceVolumeIntensityMask(True)
    prepare_editor(editor, node)
    assert editor.GetSegmentationNode() is node
    assert editor.GetOverwriteMode() == editor.OverwriteAllSegments
    assert editor.GetMaskMode() == slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere
    assert not editor.GetSourceVolumeIntensityMask()
    assert editor.GetSelectedSegmentID() == "tumour_1"
    editor.SetSelectedSegmentID("tumour_3")
    prepare_editor(editor, node)
    assert editor.GetSelectedSegmentID() == "tumour_3"


def test_painting_tumour_takes_from_the_liver(correction):
    before = correction.labels
    correction.editor.paint(correction.tumour, np.s_[6:8, 3:6, 4:6])
    assert np.array_equal(correction.labels, changed(before, np.s_[6:8, 3:6, 4:6], 2))
    assert len(voxels_of(correction.node, "liver")) == 560 - 28 - 12
    assert correction.node.GetSegmentation().GetNumberOfLayers("Binary labelmap") == 1


def test_erasing_tumour_gives_liver_back(correction):
    before = correction.labels
    correction.editor.erase(correction.tumour, np.s_[3:4, 4:7, 5:8])
    assert np.array_equal(correction.labels, changed(before, np.s_[3:4, 4:7, 5:8], 1))


def test_without_the_keeper_erasing_leaves_a_hole(correction):
    before = correction.labels
    correction.keeper.stop()
    correction.keeper.stop()
    correction.editor.erase(correction.tumour, FIRST)
    assert np.array_equal(correction.labels, changed(before, FIRST, 0))


def test_a_stroke_beyond_the_liver_leaves_nothing_when_it_is_erased(correction):
    before = correction.labels
    correction.editor.paint(correction.tumour, BEYOND)
    assert np.array_equal(correction.labels, changed(before, BEYOND, 2))
    correction.editor.erase(correction.tumour, BEYOND)
    assert np.array_equal(correction.labels, before)


def test_liver_painted_beyond_its_border_is_liver_from_then_on(correction):
    before = correction.labels
    correction.editor.paint("liver", np.s_[0:1, 4:7, 5:8])
    correction.editor.paint(correction.tumour, np.s_[0:1, 4:7, 5:8])
    correction.editor.erase(correction.tumour, np.s_[0:1, 4:7, 5:8])
    assert np.array_equal(correction.labels, changed(before, np.s_[0:1, 4:7, 5:8], 1))


def test_what_is_erased_from_the_liver_stays_erased(correction):
    border = np.s_[1:2, 2:10, 3:13]
    before = correction.labels
    correction.editor.erase("liver", border)
    assert np.array_equal(correction.labels, changed(before, border, 0))
    correction.editor.paint(correction.tumour, np.s_[1:2, 4:7, 5:8])
    correction.editor.erase(correction.tumour, np.s_[1:2, 4:7, 5:8])
    assert np.array_equal(correction.labels, changed(before, border, 0))


def test_effects_that_replace_a_whole_segment_leave_no_hole(correction):
    before = correction.labels
    correction.editor.set(correction.tumour, np.s_[3:5, 4:6, 5:9])
    expected = before.copy()
    expected[FIRST] = 1
    if correction.tumour == "tumour":
        expected[expected == 2] = 1
    assert np.array_equal(correction.labels, changed(expected, np.s_[3:5, 4:6, 5:9], 2))


def test_a_liver_that_an_effect_replaces_is_where_it_says(correction):
    before = correction.labels
    correction.editor.set("liver", np.s_[0:6, 2:10, 3:13])
    lower = np.s_[0:6, 2:10, 3:13]
    after = changed(np.where(before == 2, 2, 0), lower, 1)  # the effect overwrites the tumours that it covers
    assert np.array_equal(correction.labels, after)
    correction.editor.erase("tumour_2" if correction.tumour == "tumour_1" else "tumour", np.s_[6:7, 7:9, 9:11])
    assert np.array_equal(correction.labels, changed(after, np.s_[6:7, 7:9, 9:11], 1))  # it was in the liver


def test_a_tumour_segment_that_is_removed_leaves_liver(slicer_started, scan):
    correction = Correction(slicer_started, three_lesions(scan))
    before = correction.labels
    correction.editor.remove("tumour_1")
    assert np.array_equal(correction.labels, changed(before, FIRST, 1))
    assert is_edited(correction.node)
    correction.editor.undo()
    assert np.array_equal(correction.labels, before)
    assert not is_edited(correction.node)
    correction.editor.erase("tumour_1", FIRST)
    assert np.array_equal(correction.labels, changed(before, FIRST, 1))


def test_undo_and_redo_bring_back_what_was_there_and_the_keeper_goes_on(correction):
    before = correction.labels
    correction.editor.erase(correction.tumour, FIRST)
    after = correction.labels
    for _ in range(2):
        correction.editor.undo()
        assert np.array_equal(correction.labels, before)
        assert not is_edited(correction.node)
        correction.editor.redo()
        assert np.array_equal(correction.labels, after)
    correction.editor.undo()
    correction.editor.erase(correction.tumour, np.s_[3:4, 4:7, 5:8])
    assert np.array_equal(correction.labels, changed(before, np.s_[3:4, 4:7, 5:8], 1))


def test_only_what_a_stroke_changed_counts_as_edited(slicer_started, scan):
    correction = Correction(slicer_started, three_lesions(scan))
    correction.editor.erase("tumour_1", np.s_[3:4, 4:7, 5:8])
    edited, untouched = ("SEMIAUTOMATIC", "inprogress"), ("AUTOMATIC", "notstarted")
    assert [correction.shown_as(each) for each in ("liver", "tumour_1", "tumour_2", "tumour_3")] == [
        edited,
        edited,
        untouched,
        untouched,
    ]


def test_a_tumour_that_a_person_adds_is_kept_too(slicer_started, scan):
    correction = Correction(slicer_started, three_lesions(scan))
    before = correction.labels
    segmentation = correction.node.GetSegmentation()
    segmentation.AddEmptySegment("Segment_1", "new tumour")
    segmentation.GetSegment("Segment_1").SetTag(
        "TerminologyEntry", tags_of(segmentation.GetSegment("tumour_1"))["TerminologyEntry"]
    )
    box = np.s_[6:8, 3:5, 4:6]
    correction.editor.paint("Segment_1", box)
    assert np.array_equal(correction.labels, changed(before, box, 2))
    assert len(lesions_in(correction.node, correction.volume)) == 4
    correction.editor.erase("Segment_1", box)
    assert np.array_equal(correction.labels, before)
    assert correction.shown_as("Segment_1")[0] == ""  # a person's own, not an algorithm's


def test_other_segments_are_no_business_of_the_keeper(correction):
    correction.node.GetSegmentation().AddEmptySegment("vessels", "vessels")
    before = correction.labels
    correction.editor.paint("vessels", np.s_[6:8, 3:5, 4:6])
    correction.editor.erase("vessels", np.s_[6:8, 3:5, 4:6])
    assert np.array_equal(correction.labels, changed(before, np.s_[6:8, 3:5, 4:6], 0))


def test_tumours_that_overlap_on_layers_of_their_own_leave_no_hole(slicer_started, scan):
    correction = Correction(slicer_started, three_lesions(scan))
    correction.editor.parameters.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteNone)
    before = correction.labels
    correction.editor.paint("tumour_2", np.s_[3:5, 4:6, 4:6])
    assert correction.node.GetSegmentation().GetNumberOfLayers("Binary labelmap") == 2
    correction.editor.erase("tumour_1", FIRST)
    expected = changed(before, FIRST, 1)
    assert np.array_equal(correction.labels, changed(expected, np.s_[3:5, 4:6, 4:6], 2))
    correction.editor.erase("tumour_2", np.s_[3:5, 4:6, 4:6])
    assert np.array_equal(correction.labels, expected)


def test_a_new_result_while_the_keeper_watches_has_all_of_its_tumours_in_the_liver(correction):
    correction.editor.paint(correction.tumour, BEYOND)
    new = three_lesions(correction.scan)
    new[0, 4:7, 5:8] = 2  # on what was background before
    for draw in (redraw, write_segmentation):
        draw(result_of(correction.scan, new), correction.node, correction.volume, replace_edited=True)
        assert np.array_equal(correction.labels, new)
        placed = next(each for each in lesions_in(correction.node, correction.volume) if each.lesion.voxels == 9)
        reach = np.s_[0:1, 4:7, 5:8]
        correction.editor.erase(placed.segment_id, reach)
        assert np.array_equal(correction.labels, changed(new, reach, 1))


def test_rejecting_a_lesion_while_the_keeper_watches_changes_that_lesion_only(correction):
    before = correction.labels
    reject_lesion(correction.node, correction.volume, lesions_in(correction.node, correction.volume)[0])
    assert np.array_equal(correction.labels, changed(before, FIRST, 1))


def test_surfaces_follow_what_the_keeper_gives_to_the_liver(slicer_started, scan):
    correction = Correction(slicer_started, three_lesions(scan))
    before = surface_mm3(correction.node, "liver")
    correction.editor.erase("tumour_1", FIRST)
    assert surface_mm3(correction.node, "liver") > before + 20


def test_a_segmentation_without_a_liver_is_left_alone(slicer_started, scan):
    correction = Correction(slicer_started, three_lesions(scan))
    correction.node.GetSegmentation().RemoveSegment("liver")
    correction.editor.erase("tumour_1", FIRST)
    assert len(voxels_of(correction.node, "tumour_1")) == 0


STROKES = st.lists(
    st.tuples(
        st.sampled_from(["paint tumour", "erase tumour", "paint liver", "erase liver", "undo", "redo"]),
        st.tuples(st.integers(0, 7), st.integers(0, 10), st.integers(0, 12)),
        st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)),
    ),
    max_size=8,
)


@settings(max_examples=25, deadline=None)
@given(strokes=STROKES, separate=st.booleans())
def test_any_strokes_end_as_a_person_would_expect(strokes, separate):
    """What is painted is there; what is erased is background, or liver in the organ; Undo and Redo are exact."""
    correction = Correction(slicer.app, three_lesions(oblique_scan()), separate)
    labels = correction.labels
    organ, past, future = labels > 0, [], []
    for what, start, size in strokes:
        box = tuple(slice(a, min(a + n, end)) for a, n, end in zip(start, size, labels.shape, strict=True))
        if what == "undo" and past:
            future.append((labels, organ))
            labels, organ = past.pop()
            correction.editor.undo()
        elif what == "redo" and future:
            past.append((labels, organ))
            labels, organ = future.pop()
            correction.editor.redo()
        elif what not in ("undo", "redo"):
            act, kind = what.split()
            segment_id = correction.tumour if kind == "tumour" else "liver"
            mine = np.zeros(labels.shape, bool)
            i, j, k = voxels_of(correction.node, segment_id).T
            mine[k, j, i] = True
            if (mine[box] == (act == "paint")).all():
                continue  # of a stroke that changes nothing Slicer's own history loses count
            past, future = [*past, (labels, organ)][-4:], []
            labels, organ = labels.copy(), organ.copy()
            if act == "paint":
                labels[box] = 2 if kind == "tumour" else 1
                organ[box] |= kind == "liver"
            else:
                organ[box] &= (kind == "tumour") | ~mine[box]
                labels[box][mine[box]] = organ[box][mine[box]]
            getattr(correction.editor, act)(segment_id, box)
        assert np.array_equal(correction.labels, labels), what
    correction.keeper.stop()
