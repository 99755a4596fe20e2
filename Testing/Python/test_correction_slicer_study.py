"""A study read in Slicer by two simulated readers in two arms: every number of its report is known by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")
pytest.importorskip("scipy", reason="the report's statistics need SciPy")

import slicer

from correction_shapes import FakeClock
from LiverTumorSegLib.correction.page import write_study_report
from LiverTumorSegLib.correction.study import Assignment, Study
from LiverTumorSegLib.panel.witness import SessionWitness
from LiverTumorSegLib.scene import (
    LesionRow,
    LiverKeeper,
    SessionWatch,
    add_labels,
    add_volume,
    labels_from_segmentation,
    lesions_in,
    reject_lesion,
)
from simulated_study import clock_on_day, make_study
from slicer_host.nodes import Editor

Box = tuple[slice, slice, slice]
LOOK_S, STROKE_S = 10, {"R1": 20, "R2": 25}
LIVER = np.s_[4:20, 8:32, 8:40]  # 16 x 24 x 32 voxels of 12 mm3
KEPT, MISSED, FALSE = (np.s_[k : k + 2, 10:14, 10:14] for k in (6, 12, 16))  # 32 voxels each
SPLIT, GAP = np.s_[6:8, 10:14, 10:22], np.s_[6:8, 10:14, 15:17]  # 96 voxels, without 16 in the middle
LEFT, BRIDGE, RIGHT = (np.s_[12:14, 10:14, a:b] for a, b in ((10, 16), (16, 20), (20, 26)))  # 48, 32, 48 voxels


def labels(*tumours: Box, without: Box | None = None) -> np.ndarray:
    array = np.zeros((24, 40, 48), np.uint8)
    array[LIVER] = 1
    for box in tumours:
        array[box] = 2
    if without is not None:
        array[without] = 1
    return array


STARTS = {"c01": labels(KEPT, FALSE), "c02": labels(SPLIT, LEFT, BRIDGE, RIGHT, without=GAP)}
TRUTHS = {"c01": labels(KEPT, MISSED), "c02": labels(SPLIT, LEFT, RIGHT)}
# What a reader does after looking: effect, segment, box.
STROKES: dict[tuple[str, str], list[tuple[str, str, Box]]] = {
    ("correct", "c01"): [("Paint", "tumour", MISSED), ("Reject", "tumour", FALSE)],
    ("correct", "c02"): [("Paint", "tumour", GAP), ("Erase", "tumour", BRIDGE)],
    ("manual", "c01"): [("Paint", "liver", LIVER), ("Paint", "tumour", KEPT), ("Paint", "tumour", MISSED)],
    ("manual", "c02"): [("Paint", "liver", LIVER), *(("Paint", "tumour", box) for box in (SPLIT, LEFT, RIGHT))],
}


def read(study: Study, reader: str, clock: FakeClock, application) -> Assignment:
    """Read what comes next, as a person would in the scene: look, then stroke after stroke."""
    assignment = study.next(reader, clock)
    scene = slicer.vtkMRMLScene()
    volume = add_volume(sitk.ReadImage(str(assignment.volume)), scene, assignment.reading.case)
    node = add_labels(sitk.ReadImage(str(assignment.start)), volume)
    editor = Editor(application, node, volume)
    session = study.session(assignment, clock)
    watch = SessionWatch(session, node, editor.parameters)
    keeper = LiverKeeper(node, watch.changed)
    session.start()
    clock.wait(LOOK_S)
    for effect, segment_id, box in STROKES[assignment.reading.arm, assignment.reading.case]:
        if effect == "Reject":
            placed = next(each for each in lesions_in(node, volume) if each.voxels.start[2] == box[0].start)
            with SessionWitness(session, watch, []).rejecting(LesionRow(placed)):
                reject_lesion(node, volume, placed)
        else:
            editor.parameters.SetSelectedSegmentID(segment_id)
            editor.parameters.SetActiveEffectName(effect)
            (editor.paint if effect == "Paint" else editor.erase)(segment_id, box)
        clock.wait(STROKE_S[reader])
    session.finish(labels_from_segmentation(node, volume))
    keeper.stop()
    watch.stop()
    return assignment


@pytest.fixture(scope="module")
def report(slicer_started, tmp_path_factory):
    """The finished study and what its report says; the page is written too."""
    folder = tmp_path_factory.mktemp("study")
    study = make_study(folder, {"c01": [], "c02": []}, STARTS, ["R1", "R2"], washout_days=0)
    for number in range(8):
        read(study, ("R1", "R2")[number % 2], clock_on_day(number), slicer_started)
    files, summary = write_study_report(study, folder / "report")
    return study, summary, files


def test_every_reading_is_finished_and_sound(report):
    _, summary, files = report
    assert (summary["finished"], summary["planned"], summary["left_out"]) == (8, 8, [])
    assert "</html>" in files[0].read_text(encoding="utf-8")


def test_the_corrected_files_hold_what_the_readers_left_and_say_who_made_it(report):
    study, _, _ = report
    for each in study.reads():
        path = study.session_folder(each.reading) / "corrected.seg.nrrd"
        image = sitk.ReadImage(str(path))
        assert np.array_equal(sitk.GetArrayFromImage(image), TRUTHS[each.reading.case])
        kind = "MANUAL" if each.reading.arm == "manual" else "SEMIAUTOMATIC"
        assert kind.encode() in path.read_bytes()[:4000]


def test_one_session_says_every_stroke_second_and_voxel(report):
    study, _, _ = report
    found = next(
        e for e in study.reads() if (e.reading.reader, e.reading.arm, e.reading.case) == ("R2", "manual", "c02")
    )
    told = json.loads((study.session_folder(found.reading) / "session.json").read_text(encoding="utf-8"))
    assert told["times"]["by_class_ms"] == {
        "liver": {"editing": 25_000},
        "tumour": {"editing": 75_000},
        "none": {"reviewing": 10_000},
    }
    assert told["effort"] == {
        "liver": {"strokes": 1, "undone": 0, "voxels_added": 12_288, "voxels_removed": 0},
        "tumour": {"strokes": 3, "undone": 0, "voxels_added": 192, "voxels_removed": 0},
    }
    assert told["comparison"]["tumour"]["corrected_ml"] == pytest.approx(192 * 0.012)


def test_minutes_of_each_arm(report):
    _, summary, _ = report
    correct, manual = (summary["times"][arm] for arm in ("correct", "manual"))
    for table, part, low, middle, high in (
        (correct, "total", 50, 55, 60),
        (manual, "total", 70, (85 + 90) / 2, 110),
        (correct, "tumour", 40, 45, 50),
        (manual, "tumour", 40, 55, 75),
        (correct, "liver", 0, 0, 0),
        (manual, "liver", 20, 22.5, 25),
    ):
        told = table[part]
        assert [60 * told[name] for name in ("low", "median", "high")] == pytest.approx([low, middle, high]), part
        assert told["sessions"] == 4


def test_time_saved_is_paired_by_case_with_readers_averaged(report):
    _, summary, _ = report
    (saved,) = summary["saved"]
    assert (saved["baseline"], saved["arm"], saved["readings"]) == ("manual", "correct", 4)
    seconds = {row["case"]: [60 * row[name] for name in ("before", "after", "saved")] for row in saved["cases"]}
    assert seconds["c01"] == pytest.approx([77.5, 55, 22.5])
    assert seconds["c02"] == pytest.approx([100, 55, 45])


def test_found_missed_false_split_and_merged_lesions(report):
    """Each lesion twice, once a reader; two halves of 40 voxels and one of 128 are no IoU above 0.5 of 96 and 48."""
    _, summary, _ = report
    counts = summary["lesions"]["correct"]
    order = ("found", "missed", "false_positive", "split", "merged")
    assert [counts["half"][name] for name in order] == [8, 2, 2, 2, 4]
    assert [counts["overlap"][name] for name in order] == [8, 2, 2, 2, 4]
    assert [counts["iou"][name] for name in order] == [2, 8, 8, 0, 0]


def test_accuracy_of_the_start_against_the_corrections(report):
    _, summary, _ = report
    dice = summary["dice_by_case"]["correct"]
    assert [dice[case]["tumour"] for case in ("c01", "c02")] == pytest.approx([2 * 32 / 128, 2 * 176 / (208 + 192)])
    table = summary["accuracy"]["correct"]
    assert table["liver"]["dice"]["mean"] == 1.0
    assert table["tumour"]["sensitivity"]["mean"] == pytest.approx((32 / 64 + 176 / 192) / 2)
    assert table["tumour"]["precision"]["mean"] == pytest.approx((32 / 64 + 176 / 208) / 2)


def test_readers_who_leave_the_same_labels_agree(report):
    _, summary, _ = report
    for arm in ("manual", "correct"):
        agreed = summary["agreement"][arm]
        assert (len(agreed["pairs"]), agreed["liver_dice"]["mean"], agreed["tumour_dice"]["mean"]) == (2, 1.0, 1.0)
