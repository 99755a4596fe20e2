"""What a finished session leaves: numbers counted by hand on small label maps, and files that come all or not."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from correction_shapes import FakeClock, image_of, liver_with, session_in
from LiverTumorSegLib.correction import results
from LiverTumorSegLib.correction.comparison import compare
from LiverTumorSegLib.correction.journal_lines import read_journal
from LiverTumorSegLib.correction.reading import Reading
from LiverTumorSegLib.correction.replay import replayed, unfinished_sessions
from LiverTumorSegLib.correction.session import CorrectionSession
from LiverTumorSegLib.errors import OutputError, SessionError

BIG, SMALL, FAR = np.s_[3:6, 4:8, 4:8], np.s_[3:4, 12:13, 4:8], np.s_[7:8, 4:6, 14:16]  # 48, 4 and 4 voxels


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def finished(folder: Path, clock: FakeClock, name: str = "s1", reader: str = "R1") -> tuple[Path, dict]:
    """Finish a session: start with BIG and FAR, the reader removes FAR and adds SMALL in two minutes."""
    start, corrected = liver_with(BIG, FAR), liver_with(BIG, SMALL)
    session = session_in(folder / name, clock, start, reading=Reading(reader, "c1"))
    session.start()
    clock.wait(20)
    session.edited("tumour", voxels_removed=4)
    clock.wait(20)
    session.edited("tumour", voxels_added=4)
    clock.wait(10)
    session.selected("liver")
    clock.wait(70)
    path = session.finish(corrected, note="two small ones")
    assert session.state == "finished"
    return path, json.loads(path.read_text(encoding="utf-8"))


def test_the_measures_are_those_counted_by_hand() -> None:
    comparison = compare(liver_with(BIG, SMALL, spacing_mm=(1, 1, 2.5)), liver_with(BIG, FAR, spacing_mm=(1, 1, 2.5)))
    liver, tumour = comparison.classes["liver"], comparison.classes["tumour"]
    assert (liver.dice, liver.sensitivity, liver.precision, liver.assd_mm) == (1, 1, 1, 0)
    assert liver.corrected_ml == pytest.approx(2048 * 2.5 / 1000)
    assert tumour.dice == pytest.approx(2 * 48 / (52 + 52))
    assert tumour.sensitivity == tumour.precision == pytest.approx(48 / 52)
    assert (tumour.voxels_added, tumour.voxels_removed) == (4, 4)
    assert tumour.added_ml == pytest.approx(4 * 2.5 / 1000)
    assert comparison.algorithm_types == {1: "SEMIAUTOMATIC", 2: "SEMIAUTOMATIC"}


def test_dice_can_be_asked_for_while_the_session_runs(tmp_path: Path, clock: FakeClock) -> None:
    session = session_in(tmp_path / "s1", clock, liver_with(BIG, FAR))
    session.start()
    assert session.dice(liver_with(BIG, SMALL)) == {"liver": 1, "tumour": pytest.approx(48 / 52)}
    session.close()


def test_every_lesion_has_its_verdict_under_every_rule() -> None:
    # The reader's lesions: one that the model drew in two pieces, two that it drew as one, one that it missed.
    row, left, right, missed = np.s_[2:3, 3:4, 2:12], np.s_[4:5, 8:10, 3:7], np.s_[4:5, 8:10, 8:10], FAR
    pieces, joined = (np.s_[2:3, 3:4, 2:6], np.s_[2:3, 3:4, 7:10]), np.s_[4:5, 8:10, 3:10]
    false = np.s_[7:8, 12:14, 4:6]
    comparison = compare(liver_with(row, left, right, missed), liver_with(*pieces, joined, false))
    found = {verdict.lesion.id: verdict for verdict in comparison.lesions}  # 10, 8, 4 and 4 voxels
    assert [found[n].lesion.voxels for n in (1, 2, 3, 4)] == [10, 8, 4, 4]
    # 7 of 10 voxels in pieces of 4 and 3: no piece alone has IoU above 0.5.
    assert found[1].outcome == {"half": "found", "overlap": "found", "iou": "missed"}
    assert (found[1].split, found[1].merged) == (("overlap", "half"), ())
    # One predicted lesion of 14 voxels covers 8 (IoU 8 / 14) and 4 voxels.
    assert found[2].outcome == {"half": "found", "overlap": "found", "iou": "found"}
    assert found[2].merged == ("overlap", "half", "iou")
    assert found[3].outcome == {"half": "found", "overlap": "found", "iou": "missed"}
    assert found[4].outcome == {"half": "missed", "overlap": "missed", "iou": "missed"}
    assert [comparison.count("half", what) for what in ("found", "missed", "false positive")] == [3, 1, 1]
    assert [comparison.count("iou", what) for what in ("found", "missed", "false positive")] == [1, 3, 3]


def test_a_reader_who_changes_nothing_leaves_automatic_segments(tmp_path: Path, clock: FakeClock) -> None:
    session = session_in(tmp_path / "s1", clock, liver_with(BIG))
    session.start()
    path = session.finish(liver_with(BIG))
    assert json.loads(path.read_text())["comparison"]["tumour"]["dice"] == 1
    image = sitk.ReadImage(str(tmp_path / "s1" / "corrected.seg.nrrd"))
    assert all("SegmentAlgorithmType:AUTOMATIC" in image.GetMetaData(f"Segment{n}_Tags") for n in (0, 1))


def test_from_scratch_the_segments_are_manual_and_what_has_no_meaning_is_null(tmp_path: Path, clock) -> None:
    nothing = image_of(np.zeros((10, 20, 20)))
    session = session_in(tmp_path / "s1", clock, nothing, reading=Reading("R1", "c1", "manual"))
    session.start()
    comparison = json.loads(session.finish(liver_with(BIG)).read_text())["comparison"]
    assert comparison["liver"]["precision"] is None
    assert comparison["liver"]["hd95_mm"] is None
    assert (comparison["liver"]["dice"], comparison["liver"]["voxels_added"]) == (0, 2048)
    image = sitk.ReadImage(str(tmp_path / "s1" / "corrected.seg.nrrd"))
    assert "SegmentAlgorithmType:MANUAL" in image.GetMetaData("Segment0_Tags")


def test_session_json_has_times_effort_and_comparison(tmp_path: Path, clock: FakeClock) -> None:
    path, document = finished(tmp_path, clock)
    times = document["times"]
    assert times["whole_ms"] == 120_000
    assert times["active_by_group_ms"] == {"liver": 30_000, "tumour": 30_000, "none": 20_000}
    assert (times["editing_ms"], times["reviewing_ms"], times["idle_ms"]) == (30_000, 50_000, 40_000)
    assert document["effort"] == {"tumour": {"strokes": 2, "undone": 0, "voxels_added": 4, "voxels_removed": 4}}
    assert document["lesion_counts"]["half"] == {"found": 1, "missed": 1, "false_positive": 1, "split": 0, "merged": 0}
    assert (document["started_utc"], document["finished_utc"]) == (
        "2026-03-02T09:00:00.000Z", "2026-03-02T09:02:00.000Z",
    )  # fmt: skip
    assert document["note"] == "two small ones"
    assert replayed(read_journal(path.parent).lines).state == "finished"
    assert document["journal"] == {
        "lines": len(read_journal(path.parent).lines),
        "sha256": read_journal(path.parent).sha256,
    }


def test_the_corrected_segmentation_is_the_reader_s_with_tags_for_dicom(tmp_path: Path, clock: FakeClock) -> None:
    path, _ = finished(tmp_path, clock)
    image = sitk.ReadImage(str(path.parent / "corrected.seg.nrrd"))
    assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(liver_with(BIG, SMALL)))
    tags = image.GetMetaData("Segment1_Tags")
    assert "DICOM.SegmentAlgorithmType:SEMIAUTOMATIC|" in tags
    assert "corrected by reader R1|" in tags
    assert "Segmentation.Status:completed|" in tags


def test_each_session_adds_a_row_to_the_table(tmp_path: Path, clock: FakeClock) -> None:
    finished(tmp_path, clock, "s1")
    finished(tmp_path, clock, "s2", "R2")
    with (tmp_path / "sessions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["reader"] for row in rows] == ["R1", "R2"]
    assert (rows[0]["active_min"], rows[0]["tumour_min"], rows[0]["strokes"]) == ("1.3333", "0.5", "2")
    assert (rows[0]["tumour_dice"], rows[0]["lesions"], rows[0]["missed_half"]) == ("0.92308", "2", "1")


def test_nothing_names_a_folder_or_anything_but_codes(tmp_path: Path, clock: FakeClock) -> None:
    secret = tmp_path / "Doe^Jane"
    finished(secret, clock)
    for path in secret.rglob("*"):
        assert path.is_dir() or b"Doe" not in path.read_bytes(), path.name
    assert {path.name for path in secret.rglob("*") if not path.name.startswith(".")} == {
        "s1", "session.json", "corrected.seg.nrrd", "journal.jsonl", "sessions.csv",
    }  # fmt: skip


@pytest.mark.parametrize("failing", ["corrected.seg.nrrd", "sessions.csv", "session.json"])
def test_when_a_file_cannot_be_moved_nothing_is_left_and_the_session_goes_on(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    finished(tmp_path, clock, "s1")
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.csv")}
    session = session_in(tmp_path / "s2", clock, liver_with(BIG))
    session.start()
    really = os.replace

    def replace(source: Path, target: Path) -> None:
        if Path(target).name == failing and not Path(source).name.endswith(".part"):  # which is not in its place yet
            raise OSError(28, "No space left on device")
        really(source, target)

    monkeypatch.setattr(results.os, "replace", replace)
    with pytest.raises(OutputError, match="s2: wanted to write the session's results, got: No space left"):
        session.finish(liver_with(SMALL))
    monkeypatch.undo()
    assert {path.name for path in (tmp_path / "s2").iterdir()} == {"journal.jsonl", ".journal.jsonl.lock"}
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.csv")} == before
    assert session.state == "running"
    clock.wait(5)
    session.edited("tumour")
    assert json.loads(session.finish(liver_with(SMALL)).read_text())["times"]["whole_ms"] == 5000


def test_a_session_killed_before_its_results_appeared_can_be_taken_up(tmp_path: Path, clock: FakeClock) -> None:
    path, _ = finished(tmp_path, clock)
    with pytest.raises(SessionError, match="wanted a session that is not over, got one with results"):
        CorrectionSession.recover(liver_with(BIG, FAR), path.parent, clock)
    path.unlink()  # as if the computer had stopped between the journal's last line and the results
    assert unfinished_sessions(tmp_path) == [path.parent]
    clock.wait(600)
    session = CorrectionSession.recover(liver_with(BIG, FAR), path.parent, clock)
    document = json.loads(session.finish(liver_with(BIG, SMALL)).read_text())
    assert (document["times"]["whole_ms"], document["times"]["paused_ms"]) == (720_000, 600_000)
    assert document["recoveries"] == 1


def test_labels_that_do_not_fit_are_refused_and_the_session_goes_on(tmp_path: Path, clock: FakeClock) -> None:
    session = session_in(tmp_path / "s1", clock)
    with pytest.raises(SessionError, match="finish: wanted a session that is running or paused, got one not started"):
        session.finish(liver_with())
    session.start()
    with pytest.raises(SessionError, match="wanted the start's spacing"):
        session.finish(liver_with(spacing_mm=(1, 1, 2)))
    with pytest.raises(SessionError, match="wanted 0 background, 1 liver, 2 tumour, got 3"):
        session.finish(image_of(np.full((10, 20, 20), 3)))
    with pytest.raises(SessionError, match="note: wanted at most 2000 characters, got 2001"):
        session.finish(liver_with(), note="x" * 2001)
    assert session.state == "running"
    session.close()
    with pytest.raises(SessionError, match="got one that was closed"):
        session.edited("liver")
