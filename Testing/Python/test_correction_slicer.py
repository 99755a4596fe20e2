"""Sessions inside Slicer: strokes through its own editor logic, under a clock that is told; every number by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")

import slicer

from correction_reader import SimulatedReader
from LiverTumorSegLib.errors import JournalError
from LiverTumorSegLib.scene import lesions_in, redraw, reject_lesion, restore_lesion, write_segmentation
from slicer_host.nodes import copy_tumour, result_of, specify_geometry, tags_of, three_lesions

BLOCK = np.s_[6:8, 3:6, 4:6]  # 12 voxels of liver beside the lesions
FIRST = np.s_[3:5, 4:7, 5:8]  # the lesion of 18 voxels
PLANE = np.s_[3:4, 4:7, 5:8]  # 9 of them


@pytest.fixture(autouse=True)
def application(slicer_started):
    return slicer_started


@pytest.fixture
def reader(application, tmp_path):
    made = SimulatedReader(application, tmp_path / "s")
    yield made
    made.close()
    assert made.problems == []


def changes_in(reader) -> list[tuple[object, ...]]:
    return [event for event in reader.events if event[0] in ("edit", "undo", "redo")]


def test_every_second_and_voxel_of_a_session_is_where_it_belongs(reader):
    lesions = lesions_in(reader.node, reader.volume)
    session = reader.session
    reader.after(5, reader.scroll)
    reader.after(5, reader.choose, "tumour_2")  # 10 s of looking so far
    reader.after(2, reader.choose, "tumour_2", "Paint")  # 2 s at lesion 2, reviewing
    reader.after(3, reader.press)
    reader.after(4, reader.paint, "tumour_2", BLOCK)
    reader.after(6, reader.erase, "tumour_1", PLANE)  # 13 s at lesion 2, editing
    reader.after(5, reader.editor.undo)
    reader.after(5, reader.editor.redo)
    with reader.watch.as_one(lambda added, removed: session.rejected("tumour_3", removed)):
        reader.clock.wait(7)
        reject_lesion(reader.node, reader.volume, lesions[2])  # after 17 s at lesion 1
    reader.after(100, reader.choose, "liver", "")  # 30 s at lesion 3, then idle
    reader.clock.wait(4)
    session.pause()
    reader.after(60, session.resume)
    reader.clock.wait(1.5)
    told = json.loads(reader.finish().read_text(encoding="utf-8"))

    assert told["times"]["whole_ms"] == 207_500
    assert told["times"]["by_class_ms"] == {
        "liver": {"reviewing": 5500},
        "lesion 1": {"editing": 17_000},
        "lesion 2": {"editing": 13_000, "reviewing": 2000},
        "lesion 3": {"editing": 30_000, "idle": 70_000},
        "none": {"reviewing": 10_000, "paused": 60_000},
    }
    assert told["effort"] == {
        "lesion 1": {"strokes": 1, "undone": 1, "voxels_added": 9, "voxels_removed": 18},
        "lesion 2": {"strokes": 1, "undone": 0, "voxels_added": 12, "voxels_removed": 0},
        "lesion 3": {"strokes": 0, "undone": 0, "voxels_added": 0, "voxels_removed": 2},
    }
    assert told["decisions"] == {"lesion 3": "rejected"}
    # In the end: 18 - 9, 8 and 12 and no third; nothing of the organ as a whole has changed.
    tumour, liver = told["comparison"]["tumour"], told["comparison"]["liver"]
    assert (tumour["voxels_added"], tumour["voxels_removed"]) == (12, 11)
    assert (liver["voxels_added"], liver["voxels_removed"], liver["dice"]) == (0, 0, 1.0)
    assert tumour["dice"] == pytest.approx(2 * 17 / (28 + 29))


def test_scrolling_zooming_and_turning_are_looking_and_other_changes_of_a_view_are_nothing(reader):
    camera = reader.scene.AddNode(slicer.vtkMRMLCameraNode())  # a view that opens during the session
    reader.after(2, reader.slice_node.SetFieldOfView, 100.0, 100.0, 1.0)
    reader.after(2, camera.GetCamera().Azimuth, 30)
    reader.after(2, reader.slice_node.SetSliceVisible, True)
    reader.after(2, reader.scroll)
    assert [event[0] for event in reader.events] == ["view"] * 3


def test_a_stroke_that_takes_from_another_lesion_is_an_edit_of_the_selected_one_only(reader):
    reader.paint("tumour_3", np.s_[5:7, 7:9, 9:11])  # all of the second lesion, 8 voxels
    assert reader.events[-1] == ("edit", "lesion 3", 8, 0)
    assert sum(event[0] == "edit" for event in reader.events) == 1


def test_an_effect_that_lets_another_segment_grow_is_an_edit_of_that_one(reader):
    reader.choose("tumour_1", "Paint")
    reader.editor.paint("tumour_2", BLOCK)
    assert reader.events[-1] == ("edit", "lesion 2", 12, 0)


def test_a_removed_segment_is_an_edit_of_it(reader):
    reader.editor.remove("tumour_1")
    assert reader.events == [("select", "lesion 2", 0, 0), ("edit", "lesion 1", 0, 18)]


def test_a_tumour_copied_from_elsewhere_is_an_edit_of_it_when_it_comes_and_not_of_the_next_stroke(reader):
    reader.choose("tumour_2", "Paint")
    reader.after(5, copy_tumour, reader.node, reader.volume, np.s_[3:4, 4:6, 9:11], 0.5, "tumour_4")
    reader.after(3, reader.editor.paint, "tumour_2", BLOCK)
    reader.clock.wait(4)
    assert changes_in(reader) == [("edit", "lesion 4", 4, 0), ("edit", "lesion 2", 12, 0)]
    told = reader.session.times().document()["by_class_ms"]
    assert told["lesion 4"] == {"editing": 3000}
    assert told["lesion 2"] == {"editing": 9000}


def test_undo_takes_back_a_stroke_together_with_a_tumour_that_came_after_it(reader):
    reader.paint("tumour_2", BLOCK)
    copy_tumour(reader.node, reader.volume, np.s_[3:4, 4:6, 9:11], 0.5, "tumour_4")
    reader.paint("tumour_1", np.s_[1:2, 5:6, 3:6])
    for act in (reader.editor.undo, reader.editor.undo, reader.editor.redo):
        act()
    assert changes_in(reader) == [
        ("edit", "lesion 2", 12, 0),
        ("edit", "lesion 4", 4, 0),
        ("edit", "lesion 1", 3, 0),
        ("undo", "lesion 1", 0, 3),
        ("undo", "lesion 2", 0, 12),
        ("redo", "lesion 2", 12, 0),
    ]


def test_painting_a_segment_of_the_readers_own_is_editing_of_none(reader):
    own = reader.node.GetSegmentation().AddEmptySegment("vessel", "a name")
    reader.paint(own, BLOCK)
    assert reader.events[-1] == ("edit", "none", 0, 0)


def test_undo_and_redo_are_told_apart_and_what_was_undone_can_be_followed_by_strokes(reader):
    reader.paint("tumour_2", BLOCK)
    reader.erase("tumour_1", PLANE)
    for act in (reader.editor.undo, reader.editor.undo, reader.editor.redo):
        act()
    reader.erase("tumour_2", np.s_[6:7, 3:6, 4:6])
    reader.editor.undo()
    assert changes_in(reader) == [
        ("edit", "lesion 2", 12, 0),
        ("edit", "lesion 1", 0, 9),
        ("undo", "lesion 1", 9, 0),
        ("undo", "lesion 2", 0, 12),
        ("redo", "lesion 2", 12, 0),
        ("edit", "lesion 2", 0, 6),
        ("undo", "lesion 2", 6, 0),
    ]


def test_specifying_another_geometry_is_no_edit_and_strokes_before_and_after_it_keep_their_counts(reader):
    reader.choose("tumour_1", "Erase")
    reader.editor.erase("tumour_1", PLANE)
    specify_geometry(reader.node, reader.volume, (1.0, 1.0, 0.5))  # 18 slices
    reader.editor.erase("tumour_1", np.s_[8:9, 4:7, 5:8])  # half of what is left of the lesion
    reader.editor.undo()
    reader.editor.redo()
    strokes = [("edit", "lesion 1", 0, 9)] * 2
    assert changes_in(reader) == [*strokes, ("undo", "lesion 1", 9, 0), ("redo", "lesion 1", 0, 9)]


def test_undo_and_redo_across_another_geometry_are_no_edits_and_those_after_it_are_told(reader):
    reader.choose("tumour_1", "Erase")
    reader.editor.erase("tumour_1", PLANE)
    reader.editor.logic.SaveStateForUndo()
    specify_geometry(reader.node, reader.volume, (1.0, 1.0, 0.5))
    reader.editor.undo()
    reader.editor.redo()
    reader.editor.undo()
    assert changes_in(reader) == [("edit", "lesion 1", 0, 9)]
    reader.editor.undo()
    assert changes_in(reader) == [("edit", "lesion 1", 0, 9), ("undo", "lesion 1", 9, 0)]


def test_undo_beyond_the_start_of_the_session_is_undo(application, tmp_path):
    early = SimulatedReader(application, tmp_path / "s")
    early.session.pause()
    early.paint("tumour_2", BLOCK)
    early.paint("tumour_3", BLOCK)
    early.session.resume()
    early.watch._strokes, early.watch._done = [], 0  # as of a watch that began later
    early.editor.undo()
    assert early.events[-1] == ("undo", "lesion 2", 12, 0)
    early.close()


def test_a_restored_lesion_is_taken_back_and_not_a_stroke(reader):
    lesion, session = lesions_in(reader.node, reader.volume)[0], reader.session
    reader.editor.logic.SaveStateForUndo()
    with reader.watch.as_one(lambda added, removed: session.rejected("tumour_1", removed)):
        rejected = reject_lesion(reader.node, reader.volume, lesion)
    with reader.watch.as_one(lambda added, removed: session.undone("tumour_1", added)):
        restore_lesion(reader.node, rejected)
    assert reader.events == [("reject", "lesion 1", 0, 18), ("undo", "lesion 1", 18, 0)]


def test_a_rejection_can_be_undone_and_redone_in_the_editor(reader):
    lesion, session = lesions_in(reader.node, reader.volume)[1], reader.session
    reader.editor.logic.SaveStateForUndo()
    with reader.watch.as_one(lambda added, removed: session.rejected("tumour_2", removed)):
        reject_lesion(reader.node, reader.volume, lesion)
    reader.editor.undo()
    reader.editor.redo()
    assert reader.events == [("reject", "lesion 2", 0, 8), ("undo", "lesion 2", 8, 0), ("redo", "lesion 2", 0, 8)]


def test_the_sensitivity_is_one_event_with_the_voxels_of_all_tumours(reader):
    labels = three_lesions(reader.scan)
    labels[BLOCK], labels[PLANE] = 2, 1  # 12 more, 9 less
    result = result_of(reader.scan, labels)
    with reader.watch.as_one(lambda added, removed: reader.session.sensitivity_changed(2.0, added, removed)):
        redraw(result, reader.node, reader.volume)
    assert reader.events == [("sensitivity", "tumour", 12, 9)]
    assert reader.session.account.effort["tumour"].strokes == 0


def test_what_a_program_draws_is_no_edit(reader):
    labels = three_lesions(reader.scan)
    labels[BLOCK] = 2
    redraw(result_of(reader.scan, labels), reader.node, reader.volume)
    write_segmentation(result_of(reader.scan, labels), reader.node, reader.volume, separate_lesions=False)
    assert reader.events == []
    reader.paint("tumour", np.s_[1:2, 5:6, 3:6])
    assert reader.events[-1] == ("edit", "tumour", 3, 0)


def test_nothing_is_told_during_a_pause_or_after_the_end(reader):
    reader.session.pause()
    reader.paint("tumour_2", BLOCK)
    reader.scroll()
    reader.watch.focus(False)
    assert [event[0] for event in reader.events] == ["pause"]
    reader.session.resume()
    reader.editor.undo()
    assert reader.events[-1] == ("undo", "lesion 2", 0, 12)
    reader.finish()
    reader.paint("tumour_2", BLOCK)
    reader.watch.stop()


def test_a_window_in_the_background_is_idle_time_and_a_chosen_lesion_owns_what_follows(reader):
    reader.after(3, reader.watch.focus, False)
    reader.after(20, reader.watch.focus, True)
    reader.after(2, reader.watch.selected, "lesion 2")
    reader.clock.wait(8)
    times = reader.session.times()
    assert (times.of("idle"), times.of("reviewing"), times.active_of("tumour")) == (20_000, 13_000, 8000)


def test_an_effect_in_hand_and_the_pointer_down_begin_a_stroke_and_without_one_nothing(reader):
    reader.press()
    reader.choose("tumour_1", "Paint")
    reader.after(1, reader.press)
    assert [event[0] for event in reader.events] == ["effect", "stroke"]


def test_a_full_disk_is_told_and_the_editor_goes_on(reader, monkeypatch):
    def refuse(*arguments):
        raise JournalError("journal.jsonl: wanted to note what happened, got a full disk")

    monkeypatch.setattr(reader.session, "edited", refuse)
    reader.paint("tumour_2", BLOCK)
    assert [problem[:13] for problem in reader.problems] == ["journal.jsonl"]
    reader.problems.clear()


def test_touched_segments_are_semiautomatic_and_the_others_are_not(reader):
    reader.paint("tumour_2", BLOCK)
    reader.finish()
    kinds = {
        each: tags_of(reader.node.GetSegmentation().GetSegment(each))["DICOM.SegmentAlgorithmType"]
        for each in reader.node.GetSegmentation().GetSegmentIDs()
    }
    touched, untouched = "SEMIAUTOMATIC", "AUTOMATIC"
    assert kinds == {"liver": touched, "tumour_1": untouched, "tumour_2": touched, "tumour_3": untouched}
