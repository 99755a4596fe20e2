"""A study's plan and folder: balanced, blinded, reproducible, and nothing is read twice."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from correction_shapes import FakeClock
from LiverTumorSegLib.__main__ import main
from LiverTumorSegLib.correction.initialise import init_study
from LiverTumorSegLib.correction.manifest import Arm, Case, Manifest, load_manifest, manifest_of
from LiverTumorSegLib.correction.schedule import schedule
from LiverTumorSegLib.correction.study import Study
from LiverTumorSegLib.errors import (
    JournalError,
    LiverTumorSegError,
    LiverTumorSegWarning,
    SessionError,
    StudyError,
    warn,
)
from shapes import segmentation_of
from simulated_study import abdomen, clock_on_day, labels_like, make_study, no_network, read_next, write

TRUTHS = {"c1": [((12, 20, 24), 3)], "c2": [((10, 18, 20), 2), ((14, 22, 30), 2)]}


def plan_of(cases: int, arms: int, readers: int, seed: int = 0) -> Manifest:
    return Manifest(
        "a study",
        tuple(f"R{n}" for n in range(readers)),
        tuple(Arm(f"arm{n}", "labels") for n in range(arms)),
        tuple(Case(f"c{n:02d}") for n in range(cases)),
        seed,
    )


@pytest.fixture
def study(tmp_path: Path) -> Study:
    starts = {code: abdomen(lesions) for code, lesions in TRUTHS.items()}
    return make_study(tmp_path, TRUTHS, starts, ["R1", "R2"], washout_days=10, seed=4)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 14), st.integers(1, 3), st.integers(1, 4), st.integers(0, 99))
def test_every_reader_reads_every_case_once_in_every_arm_in_balance(cases, arms, readers, seed) -> None:
    plan = plan_of(cases, arms, readers, seed)
    for reader in plan.readers:
        readings = schedule(plan, reader)
        assert [reading.position for reading in readings] == list(range(1, cases * arms + 1))
        assert len({(reading.case, reading.arm) for reading in readings}) == cases * arms
        for period in range(arms):
            block = readings[period * cases : (period + 1) * cases]
            assert {reading.period for reading in block} == {period + 1}
            assert len({reading.case for reading in block}) == cases
            used = Counter(reading.arm for reading in block)
            assert max(used.values()) - min(used[arm.code] for arm in plan.arms) <= 1
    assert schedule(plan, plan.readers[0]) == schedule(plan_of(cases, arms, readers, seed), plan.readers[0])


def test_successive_readers_meet_a_case_first_in_different_arms() -> None:
    plan = plan_of(6, 2, 2)
    first = [{r.case: r.arm for r in schedule(plan, reader) if r.period == 1} for reader in plan.readers]
    assert all(first[0][case] != first[1][case] for case in first[0])


def test_the_order_is_the_same_on_every_computer_and_another_with_another_seed() -> None:
    def order(seed: int) -> list[tuple[str, str]]:
        return [(reading.case, reading.arm) for reading in schedule(plan_of(3, 2, 1, seed), "R0")]

    assert order(1) == [  # as SHA-256 draws it; a study under way relies on it
        ("c00", "arm0"), ("c01", "arm0"), ("c02", "arm1"),
        ("c02", "arm0"), ("c01", "arm1"), ("c00", "arm1"),
    ]  # fmt: skip
    assert order(1) != order(2)


def test_the_folder_holds_no_name_of_patient_or_file(tmp_path: Path) -> None:
    folder = tmp_path / "Doe"
    study = make_study(folder, TRUTHS, {code: abdomen([]) for code in TRUTHS}, ["R1"])
    names = {path.relative_to(study.folder).as_posix() for path in study.folder.rglob("*") if path.is_file()}
    assert {"study.json", "cases/c1/volume.nrrd", "cases/c2/volume.nrrd"} < names
    assert len(names) == 1 + 2 * 3
    for name in names:
        assert b"Doe" not in (study.folder / name).read_bytes()
        assert "manual" not in name
        assert "correct" not in name
    assert load_manifest(study.folder / "study.json") == Study.load(study.folder).manifest


def test_starts_are_empty_or_what_the_case_brings(study: Study) -> None:
    manual, correct = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(study.start("c1", arm)))) for arm in ("manual", "correct")
    )
    assert not manual.any()
    assert np.array_equal(correct, abdomen(TRUTHS["c1"]))


def test_an_arm_can_start_from_what_a_bundle_draws(tmp_path: Path) -> None:
    write(tmp_path / "a.nii.gz", (abdomen([]) * 60).astype(np.int16))
    manifest = {
        "schema_version": 1, "title": "t", "readers": ["R1"], "cases": [{"code": "c1", "volume": "a.nii.gz"}],
        "arms": [{"code": "new", "start": "bundle", "bundle": "bundles/new"}],
    }  # fmt: skip
    (tmp_path / "m.json").write_text(json.dumps(manifest))
    asked = []

    def segment(image: sitk.Image, bundle: str):
        asked.append(bundle)
        warn("the scan is noisy")
        labels = sitk.GetImageFromArray(abdomen([]))
        labels.CopyInformation(image)
        return segmentation_of(image, labels)

    with pytest.warns(LiverTumorSegWarning, match="^case c1: the scan is noisy$"):
        study = init_study(tmp_path / "m.json", tmp_path / "study", segment, lambda step, share: None)
    assert asked == ["bundles/new"]
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(study.start("c1", "new")))), abdomen([]))
    (arm,) = Study.load(tmp_path / "study").manifest.arms
    assert (arm.bundle, arm.bundle_sha256) == ("new", "abcdef0123456789" * 4)


def test_a_reader_is_led_through_the_plan_and_never_twice_to_one_reading(study: Study) -> None:
    planned = schedule(study.manifest, "R1")
    seen = []
    for day in (0, 1, 20, 21):
        clock = clock_on_day(day)
        assignment = study.next("R1", clock)
        assert assignment.volume.is_file()
        seen.append(read_next(study, "R1", clock, abdomen(TRUTHS[assignment.reading.case]), 30, 30).reading)
    assert tuple(seen) == planned
    with pytest.raises(StudyError, match="reader R1: wanted a reading that is left, got none: all 4 are done"):
        study.next("R1", clock_on_day(99))
    assert study.next("R2", clock_on_day(0)).reading.position == 1


def test_a_case_comes_again_only_after_the_washout(study: Study) -> None:
    for day in (0, 1):
        clock = clock_on_day(day)
        last = read_next(study, "R1", clock, abdomen([]), 30, 30)
    again = schedule(study.manifest, "R1")[2].case
    seen_on = 1 if last.reading.case == again else 0
    with pytest.raises(StudyError, match=rf"wanted 10 days .* ready from 2026-03-{12 + seen_on}T09:0\d UTC"):
        study.next("R1", clock_on_day(9.9))
    assert study.next("R1", clock_on_day(11.1)).reading.case == again


def test_an_interrupted_reading_comes_again_and_cannot_be_begun_anew(study: Study) -> None:
    clock = clock_on_day(0)
    assignment = study.next("R1", clock)
    session = study.session(assignment, clock)
    session.start()
    clock.wait(60)
    with pytest.raises(JournalError, match="got process"):
        study.session(assignment, clock).start()  # somebody else at another computer
    session.close()
    with pytest.raises(JournalError, match="wanted a new session, got one that was begun before"):
        study.session(assignment, clock).start()
    clock.wait(3600)
    again = study.next("R1", clock)
    assert (again.under_way, again.reading) == (True, assignment.reading)
    session = study.session(again, clock)
    assert (session.state, session.times().of("paused")) == ("running", 3660_000)
    session.abandon()
    assert study.read(assignment.reading).standing == "abandoned"
    assert study.next("R1", clock_on_day(30)).reading.position == 2


def test_a_changed_result_is_not_sound(study: Study) -> None:
    reading = read_next(study, "R1", clock_on_day(0), abdomen([]), 30, 30).reading
    path = study.session_folder(reading) / "session.json"
    text = path.read_text(encoding="utf-8")
    assert study.read(reading).standing == "finished"
    for before, after, words in (
        ('"whole_ms": 70000', '"whole_ms": 50000', "wanted what was written when the session ended"),
        ('"reader": "R1"', '"reader": "R2"', "wanted what was written when the session ended"),
        ('"dice": 1.0', '"dice": 0.9', "wanted what was written when the session ended"),
        ('"lines": ', '"lines": 1', "wanted the journal's length and checksum"),
        ('"schema_version"', "schema_version", "wanted a finished session"),
    ):
        assert before in text
        path.write_text(text.replace(before, after), encoding="utf-8")
        read = study.read(reading)
        assert (read.standing, read.document) == ("unsound", None)
        assert words in read.reason


def test_a_changed_or_lost_segmentation_is_not_sound(study: Study) -> None:
    reading = read_next(study, "R1", clock_on_day(0), abdomen([]), 30, 30).reading
    path = study.session_folder(reading) / "corrected.seg.nrrd"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "wanted the corrected segmentation that was written then" in study.read(reading).reason
    path.unlink()
    assert study.read(reading).reason == "corrected.seg.nrrd: wanted to read it, got: No such file or directory"


def test_results_in_another_reading_s_folder_are_not_sound(study: Study) -> None:
    first = read_next(study, "R1", clock_on_day(0), abdomen([]), 30, 30).reading
    second = schedule(study.manifest, "R1")[1]
    study.session_folder(first).rename(study.session_folder(second))
    assert study.read(first).standing == "not read"
    assert study.read(second).reason == "session.json: wanted the reading that was planned, got another"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"colour": 1}, "wanted keys of arms, cases, idle_after_s"),
        ({"schema_version": 2}, "wanted schema_version 1, got 2"),
        ({"readers": []}, "readers: wanted at least one"),
        ({"readers": ["R1", "R1"]}, "readers: wanted at least one and each once, got R1, R1"),
        ({"readers": ["Jane Doe"]}, "reader: wanted a code"),
        ({"readers": "R1"}, "wanted a list of readers"),
        ({"arms": [{"code": "a", "start": "model"}]}, "wanted start nothing, bundle or labels, got 'model'"),
        ({"arms": [{"code": "a", "start": "nothing", "bundle": "b"}]}, "wanted a bundle if and only if"),
        ({"arms": [{"code": "a", "start": "bundle"}]}, "wanted a bundle if and only if"),
        ({"cases": [{"code": "c1", "volume": "a.nii", "labels": {"x": "b.nii"}}]}, "wanted labels for arms that start"),
        ({"cases": [{"volume": "a.nii"}]}, "case: wanted its keys"),
        ({"washout_days": -1}, "wanted washout_days of 0 to 3650"),
        ({"title": 5}, "wanted texts for title"),
        ({"title": "a\ud800"}, "wanted texts for title"),
        ({"cases": [{"code": "c1", "volume": "a.nii", "labels": {"a": 5}}]}, "wanted volume and series as texts"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(change: dict[str, object], words: str) -> None:
    manifest = {"schema_version": 1, "title": "t", "readers": ["R1"], "arms": [{"code": "a", "start": "nothing"}]}
    manifest["cases"] = [{"code": "c1", "volume": "a.nii"}]
    assert manifest_of(dict(manifest)).arms == (Arm("a", "nothing"),)
    with pytest.raises(LiverTumorSegError) as caught:
        manifest_of({**manifest, **change})
    assert words in str(caught.value)


def test_a_study_is_made_whole_or_not_at_all(tmp_path: Path) -> None:
    manifest = {"schema_version": 1, "title": "t", "readers": ["R1"], "arms": [{"code": "a", "start": "nothing"}]}
    manifest["cases"] = [{"code": "c1", "volume": "a.nii.gz"}, {"code": "c2", "volume": "b.nii.gz"}]
    (tmp_path / "m.json").write_text(json.dumps(manifest))
    write(tmp_path / "a.nii.gz", (abdomen([]) * 60).astype(np.int16))

    def make() -> Study:
        return init_study(tmp_path / "m.json", tmp_path / "study", no_network, lambda step, share: None)

    with pytest.raises(StudyError, match=r"case c2: wanted its volume, got no file b.nii.gz"):
        make()
    assert not (tmp_path / "study").exists()
    (tmp_path / "b.nii.gz").write_bytes(b"\x1f\x8b\x08\x00garbage")
    with pytest.raises(LiverTumorSegError, match=r"b\.nii\.gz"):
        make()
    assert not (tmp_path / "study").exists()
    write(tmp_path / "b.nii.gz", (abdomen([]) * 60).astype(np.int16))
    assert len(make().manifest.cases) == 2
    with pytest.raises(StudyError, match="wanted a new or empty folder"):
        make()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda labels: labels.SetSpacing((2, 2, 9)), "case c1: wanted labels on the scan's grid, got spacing"),
        (lambda labels: labels.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1)), "got direction"),
    ],
)
def test_labels_to_start_from_lie_on_the_scan_s_grid(tmp_path: Path, change, words: str) -> None:
    manifest = {"schema_version": 1, "title": "t", "readers": ["R1"], "arms": [{"code": "a", "start": "labels"}]}
    manifest["cases"] = [{"code": "c1", "volume": "a.nii.gz", "labels": {"a": "b.nii.gz"}}]
    (tmp_path / "m.json").write_text(json.dumps(manifest))
    write(tmp_path / "a.nii.gz", (abdomen([]) * 60).astype(np.int16))
    labels = sitk.Cast(sitk.ReadImage(str(tmp_path / "a.nii.gz")) > 0, sitk.sitkUInt8)
    change(labels)
    sitk.WriteImage(labels, str(tmp_path / "b.nii.gz"))
    with pytest.raises(LiverTumorSegError, match=words):
        init_study(tmp_path / "m.json", tmp_path / "study", no_network, lambda step, share: None)
    assert not (tmp_path / "study").exists()


def test_a_file_where_the_study_or_a_session_should_be_is_one_line(study: Study, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(LiverTumorSegError, match="wanted a folder for the results, got a file"):
        init_study(study.folder / "study.json", tmp_path / "taken", no_network, lambda step, share: None)
    first = schedule(study.manifest, "R1")[0]
    study.session_folder(first).parent.mkdir(exist_ok=True)
    study.session_folder(first).write_text("mine")
    assert study.read(first).standing == "unsound"
    study.session_folder(first).unlink()
    (study.session_folder(first) / "journal.jsonl").mkdir(parents=True)
    assert study.read(first).standing == "unsound"


def test_the_command_line_makes_a_study_and_says_what_comes_next(tmp_path: Path, capsys) -> None:
    manifest = {"schema_version": 1, "title": "t", "readers": ["R1"], "arms": [{"code": "a", "start": "nothing"}]}
    manifest["cases"] = [{"code": "c1", "volume": "a.nii.gz"}]
    (tmp_path / "m.json").write_text(json.dumps(manifest))
    write(tmp_path / "a.nii.gz", (abdomen([]) * 60).astype(np.int16))
    folder = tmp_path / "study"
    assert main(["study", "init", str(folder), str(tmp_path / "m.json")]) == 0
    assert "1 readings" in capsys.readouterr().out
    assert main(["study", "next", str(folder), "--reader", "R1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["case"], told["position"], told["under_way"]) == ("c1", 1, False)
    assert Path(told["volume"]).is_file()
    assert "arm" not in told
    study = Study.load(folder)
    session = study.session(study.next("R1"))
    session.start()
    session.finish(labels_like(Path(told["start"]), abdomen([])))
    assert main(["study", "status", str(folder)]) == 0
    assert capsys.readouterr().out == "R1: 1 finished\n"
    for arguments, words in (
        (["next", str(folder), "--reader", "R1"], "all 1 are done"),
        (["next", str(folder), "--reader", "R9"], "wanted one of R1, got 'R9'"),
        (["status", str(tmp_path)], "wanted a study's folder"),
    ):
        assert main(["study", *arguments]) == 2
        assert words in capsys.readouterr().err


def test_a_session_of_another_plan_is_refused(study: Study) -> None:
    clock = FakeClock()
    session = study.session(study.next("R1", clock), clock)
    session.start()
    with pytest.raises(SessionError, match="wanted the start's size"):
        session.finish(sitk.Image(4, 4, 4, sitk.sitkUInt8))
    session.close()
