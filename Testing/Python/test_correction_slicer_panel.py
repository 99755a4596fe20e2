"""The controls of timed corrections, in the panel on the host, by a clock that is told."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")

import slicer

from LiverTumorSegLib.correction.session import CorrectionSession
from LiverTumorSegLib.panel.windows import hear_focus
from LiverTumorSegLib.scene import labels_from_segmentation, sessions_in, view_interactors
from simulated_study import abdomen, make_study
from slicer_host.nodes import labels_in, oblique_scan, three_lesions
from timed_panel import BLOCK, enabled, finished, timed_panel


@pytest.fixture
def timed(slicer_app):
    with timed_panel() as made:
        yield made


def liver_file(folder: Path) -> sitk.Image:
    return sitk.ReadImage(str(folder / "start.seg.nrrd"))


def test_nothing_can_be_begun_before_there_is_a_folder_codes_and_a_segmentation(timed, tmp_path):
    assert enabled(timed.ui) == set()
    timed.show_result()
    timed.panel.parameters.sessionFolder = str(tmp_path / "s")
    assert enabled(timed.ui) == set()
    timed.code(tmp_path / "s")
    assert enabled(timed.ui) == {"start"}
    assert not timed.ui.sessionClockLabel.visible


def test_a_free_session_from_start_to_finish(timed, tmp_path):
    timed.show_result()
    timed.code(tmp_path)
    timed.ui.startSessionButton.click()
    assert enabled(timed.ui) == {"pause", "finish", "abandon", "dice"}
    assert not timed.ui.applyButton.enabled
    assert not timed.ui.segmentationSelector.enabled
    timed.wait(5)
    timed.paint("Paint", "tumour_2", BLOCK)
    timed.wait(61)
    assert [part in timed.ui.sessionClockLabel.text for part in (">0:30<", ">0:05<", ">0:31<")] == [True] * 3
    assert "tumour 0:30" in timed.ui.sessionClockLabel.text
    timed.ui.sessionDiceButton.click()
    assert timed.ui.sessionDiceLabel.text == f"Start against now: liver 1.000, tumour {2 * 28 / (28 + 40):.3f}"
    timed.ui.sessionNoteTextEdit.setPlainText("second lesion was cut short")
    timed.ui.finishSessionButton.click()
    told = finished(tmp_path / "c1_R1_001")
    assert (
        timed.ui.sessionStatusLabel.text == "Finished after 0:35 of editing and reviewing; see c1_R1_001/session.json."
    )
    assert (told["times"]["whole_ms"], told["times"]["active_by_group_ms"]["tumour"]) == (66_000, 30_000)
    assert told["note"] == "second lesion was cut short"
    assert told["effort"] == {"lesion 2": {"strokes": 1, "undone": 0, "voxels_added": 12, "voxels_removed": 0}}
    assert timed.busy == 1  # the wait cursor
    assert timed.panel.parameters.caseCode == "c2"
    assert enabled(timed.ui) == {"start"}
    assert timed.ui.segmentationSelector.enabled
    assert timed.listeners == []


def test_decisions_in_the_lesion_table_are_counted_as_what_they_are(timed, tmp_path):
    timed.show_result()
    timed.code(tmp_path)
    timed.ui.startSessionButton.click()
    timed.wait(2)
    timed.ui.lesionTableWidget.setCurrentCell(1, 0)  # the lesion of 8 voxels
    timed.wait(4)
    timed.ui.rejectButton.click()
    timed.wait(3)
    rejected = next(n for n, row in enumerate(timed.panel.results.rows) if row.decision == "rejected")
    timed.ui.lesionTableWidget.setCurrentCell(rejected, 0)
    timed.ui.acceptButton.click()
    timed.ui.segmentEditorWidget.undo()  # of the restoring: rejected again
    timed.ui.finishSessionButton.click()
    told = finished(tmp_path / "c1_R1_001")
    assert told["decisions"] == {"lesion 2": "accepted"}
    assert told["effort"] == {"lesion 2": {"strokes": 0, "undone": 2, "voxels_added": 8, "voxels_removed": 16}}
    assert told["times"]["by_class_ms"] == {
        "none": {"reviewing": 2000},
        "lesion 2": {"reviewing": 4000, "editing": 3000},
    }


def test_a_pause_counts_nothing_and_the_focus_is_heard(timed, tmp_path):
    timed.show_result()
    timed.code(tmp_path)
    timed.ui.startSessionButton.click()
    timed.wait(2)
    timed.ui.pauseSessionButton.click()
    assert timed.ui.pauseSessionButton.text == "Go on"
    assert "paused" in timed.ui.sessionClockLabel.text
    timed.wait(50)
    timed.ui.pauseSessionButton.click()
    timed.listeners[0](False)
    timed.wait(7)
    timed.listeners[0](True)
    timed.wait(1)
    timed.ui.finishSessionButton.click()
    times = finished(tmp_path / "c1_R1_001")["times"]
    assert (times["paused_ms"], times["idle_ms"], times["reviewing_ms"]) == (50_000, 7000, 3000)


def test_abandoning_asks_and_leaves_no_results(timed, tmp_path):
    timed.show_result()
    timed.code(tmp_path)
    timed.ui.startSessionButton.click()
    timed.at.messages.answers = [False, True]
    timed.ui.abandonSessionButton.click()
    assert timed.sessions.running
    timed.ui.abandonSessionButton.click()
    assert not timed.sessions.running
    assert not (tmp_path / "c1_R1_001" / "session.json").exists()
    assert enabled(timed.ui) == {"start"}


@pytest.mark.parametrize("how", ["the scene closes", "the scan is deleted", "the segmentation is deleted"])
def test_whatever_ends_the_panel_a_session_can_be_taken_up_with_its_labels(timed, tmp_path, how):
    timed.show_result()
    timed.code(tmp_path)
    timed.ui.startSessionButton.click()
    timed.wait(3)
    timed.paint("Paint", "tumour_2", BLOCK)
    left = labels_in(timed.panel.results.node, timed.panel.results.volume)
    if how == "the scene closes":
        slicer.mrmlScene.Clear()
    else:
        results = timed.panel.results
        slicer.mrmlScene.RemoveNode(results.volume if how == "the scan is deleted" else results.node)
    assert timed.listeners == []
    timed.clock.wait(600)

    timed.panel.add(oblique_scan(), "the scan again")
    timed.code(tmp_path)
    assert "resume" in enabled(timed.ui)
    timed.ui.resumeSessionButton.click()
    results = timed.panel.results
    assert np.array_equal(labels_in(results.node, results.volume), left)
    timed.wait(2)
    timed.ui.finishSessionButton.click()
    told = finished(tmp_path / "c1_R1_001")
    assert (told["recoveries"], told["times"]["paused_ms"], told["times"]["active_ms"]) == (1, 600_000, 5000)
    assert told["comparison"]["tumour"]["voxels_added"] == 12
    assert not (tmp_path / "c1_R1_001" / "working.seg.nrrd").exists()


def test_after_a_crash_without_saved_labels_a_session_goes_on_from_its_start(timed, tmp_path):
    timed.show_result()
    timed.code(tmp_path)
    timed.ui.startSessionButton.click()
    timed.paint("Paint", "tumour_2", BLOCK)
    slicer.mrmlScene.Clear()
    (tmp_path / "c1_R1_001" / "working.seg.nrrd").unlink()
    timed.panel.add(oblique_scan(), "the scan again")
    timed.code(tmp_path)
    timed.ui.resumeSessionButton.click()
    results = timed.panel.results
    assert np.array_equal(labels_in(results.node, results.volume), three_lesions(oblique_scan()))
    assert timed.sessions.session.account.effort["lesion 2"].voxels_added == 12


def test_the_module_hears_the_application_go_to_the_back_and_knows_where_the_pointer_goes_down(timed):
    import qt

    heard = []
    stop = hear_focus(slicer.app, heard.append)
    slicer.app.applicationStateChanged.emit(qt.Qt.ApplicationInactive)
    slicer.app.applicationStateChanged.emit(qt.Qt.ApplicationActive)
    stop()
    slicer.app.applicationStateChanged.emit(qt.Qt.ApplicationInactive)
    assert heard == [False, True]
    assert len(view_interactors()) == 4  # three slices and a 3D view


@pytest.mark.parametrize("how", ["read anew", "closed"])
def test_the_journal_is_closed_when_the_module_is_read_anew_and_when_slicer_quits(timed, tmp_path, how):
    timed.show_result()
    timed.code(tmp_path)
    timed.ui.startSessionButton.click()
    timed.wait(3)
    if how == "read anew":
        slicer.util.reloadScriptedModule("LiverTumorSeg")
    else:
        timed.panel.widget.cleanup()
    assert (tmp_path / "c1_R1_001" / "working.seg.nrrd").exists()
    labels = liver_file(tmp_path / "c1_R1_001")
    session = CorrectionSession.recover(labels, tmp_path / "c1_R1_001", timed.clock)
    assert (session.state, session.times().of("reviewing")) == ("running", 3000)
    session.close()


def test_a_session_cannot_go_on_on_another_scan(timed, tmp_path):
    timed.show_result()
    timed.code(tmp_path)
    timed.ui.startSessionButton.click()
    slicer.mrmlScene.Clear()
    timed.panel.add(oblique_scan((15, 12, 9)), "another")
    timed.code(tmp_path)
    timed.ui.resumeSessionButton.click()
    assert "wanted labels of (15, 12, 9) voxels" in timed.ui.sessionStatusLabel.text
    assert enabled(timed.ui) == {"resume"}


def test_what_cannot_be_written_is_told_and_the_session_goes_on(timed, tmp_path):
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    timed.show_result()
    timed.code(tmp_path / "file")
    timed.ui.startSessionButton.click()
    assert timed.ui.sessionStatusLabel.text.startswith("file: wanted a folder for sessions, got:")
    timed.code(tmp_path, reader="Dr. Who")
    timed.ui.startSessionButton.click()
    assert "wanted a code of 1 to 32 letters" in timed.ui.sessionStatusLabel.text
    timed.code(tmp_path)
    timed.ui.startSessionButton.click()
    timed.panel.results.node.GetSegmentation().RemoveSegment("liver")
    timed.ui.finishSessionButton.click()
    assert "wanted a segment liver" in timed.ui.sessionStatusLabel.text
    assert timed.sessions.running


def test_a_saved_scene_carries_its_sessions(timed, tmp_path):
    timed.show_result()
    timed.code(tmp_path)
    for seconds in (2, 5):
        timed.ui.startSessionButton.click()
        timed.wait(seconds)
        timed.ui.finishSessionButton.click()
    slicer.util.saveScene(str(tmp_path / "case.mrb"))
    slicer.mrmlScene.Clear()
    assert sessions_in(slicer.mrmlScene) == []
    slicer.util.loadScene(str(tmp_path / "case.mrb"))
    kept = sessions_in(slicer.mrmlScene)
    assert kept == [finished(tmp_path / f"c{n}_R1_001") for n in (1, 2)]
    table = slicer.util.getNode("Correction sessions").GetTable()
    rows = list(csv.DictReader((tmp_path / "sessions.csv").open(encoding="utf-8")))
    assert [table.GetValueByName(n, "session").ToString() for n in range(table.GetNumberOfRows())] == [
        row["session"] for row in rows
    ]
    assert [table.GetValueByName(n, "active_min").ToDouble() for n in (0, 1)] == [0.0333, 0.0833]


def test_a_study_says_what_comes_next_hides_the_arm_and_goes_on_where_it_stopped(timed, tmp_path):
    truths = {"c01": [((12, 20, 24), 3)], "c02": [((12, 18, 20), 3)]}
    starts = {code: abdomen(lesions[:0]) for code, lesions in truths.items()}
    study = make_study(tmp_path, truths, starts, ["R1"], washout_days=0)
    timed.panel.parameters.sessionFolder, timed.panel.parameters.readerCode = str(study.folder), "R1"
    assert not timed.ui.caseCodeLineEdit.enabled
    assert enabled(timed.ui) == {"next"}
    arms = []
    for position in range(1, 5):
        timed.ui.nextCaseButton.click()
        assignment = timed.sessions.assignment
        arms.append(assignment.reading.arm)
        results = timed.panel.results
        assert results.volume.GetName() == assignment.reading.case
        shown = [results.node.GetName(), *dict.fromkeys(_texts(timed.ui))]
        assert not any(arm in text for text in shown for arm in ("manual", "correct "))
        drawn = labels_in(results.node, results.volume)
        assert drawn.any() == (arms[-1] == "correct")
        assert list(results.node.GetSegmentation().GetSegmentIDs()) == ["liver", "tumour"]
        timed.ui.startSessionButton.click()
        timed.wait(4)
        if position == 2:  # Slicer closes and opens again
            slicer.mrmlScene.Clear()
            timed.panel.parameters.sessionFolder, timed.panel.parameters.readerCode = str(study.folder), "R1"
            timed.ui.nextCaseButton.click()
            assert timed.sessions.running
        timed.ui.finishSessionButton.click()
        assert finished(assignment.folder)["reading"] == dataclasses.asdict(assignment.reading)
    assert sorted(arms) == ["correct", "correct", "manual", "manual"]
    timed.ui.nextCaseButton.click()
    assert "all 4 are done" in timed.ui.sessionStatusLabel.text


def test_a_study_refuses_a_start_that_was_touched_before_the_time_ran(timed, tmp_path):
    study = make_study(tmp_path, {"c01": []}, {"c01": abdomen([])}, ["R1"], washout_days=0)
    timed.panel.parameters.sessionFolder, timed.panel.parameters.readerCode = str(study.folder), "R1"
    timed.ui.nextCaseButton.click()
    node = timed.panel.results.node
    editor = timed.ui.segmentEditorWidget
    editor.setActiveEffectByName("Paint")
    editor.setCurrentSegmentID("tumour")
    editor.paint(np.array([[24, 20, 12]]))
    timed.ui.startSessionButton.click()
    assert "wanted the case as it was opened" in timed.ui.sessionStatusLabel.text
    assert not timed.sessions.running
    timed.ui.nextCaseButton.click()
    assert timed.panel.results.node is not node
    timed.ui.startSessionButton.click()
    assert timed.sessions.running
    assert labels_from_segmentation(timed.panel.results.node, timed.panel.results.volume) is not None


def _texts(ui) -> list[str]:
    controls = [value for name, value in vars(ui).items() if name.endswith(("Label", "Button", "LineEdit"))]
    return [str(control.text) for control in controls if control.objectName.startswith(("session", "case", "next"))]
