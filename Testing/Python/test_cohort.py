"""Every scan of a folder: what counts as one, what each leaves, what is done again, and what goes wrong."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest
import SimpleITK as sitk

import LiverTumorSegLib.cohort
from conftest import draw_ellipsoids
from LiverTumorSegLib.__main__ import main
from LiverTumorSegLib.cohort import (
    CaseResult,
    Job,
    earlier_result,
    new_job,
    one_by_one,
    run_cohort,
    segment_case,
)
from LiverTumorSegLib.errors import BundleError, DeviceError, ImageError, OutputError
from LiverTumorSegLib.output import FILES, PAGE
from LiverTumorSegLib.scans import Scan, find_scans
from LiverTumorSegLib.segmentation import Segmentation
from LiverTumorSegLib.segmenter import segment


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Return a folder of two scans and a file that only looks like one."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for name, spacing in (("one.nii.gz", 4.0), ("two.mha", 5.0)):
        sitk.WriteImage(draw_ellipsoids((32, 32, 16), (spacing,) * 3)[0], str(folder / name))
    (folder / "torn.nrrd").write_text("NRRD0004\ntype: short\n", encoding="utf-8")
    (folder / "notes.txt").write_text("no scan", encoding="utf-8")
    return folder


@pytest.fixture
def job(tiny_bundle: Path) -> Job:
    return new_job(tiny_bundle, device="cpu", html=False)


def states(results: Sequence[CaseResult]) -> dict[str, str]:
    return {result.case: result.state for result in results}


def test_image_files_and_dicom_folders_are_scans_and_nothing_else_is(scans: Path) -> None:
    (scans / "series").mkdir()
    (scans / "series" / "1.dcm").write_bytes(bytes(128) + b"DICM")
    (scans / "texts").mkdir()
    (scans / "texts" / "a.txt").write_text("a", encoding="utf-8")
    (scans / ".hidden.nii").write_bytes(b"")
    assert [(scan.name, scan.path.name) for scan in find_scans(scans)] == [
        ("one", "one.nii.gz"),
        ("series", "series"),
        ("torn", "torn.nrrd"),
        ("two", "two.mha"),
    ]


def test_a_patient_whose_dicom_files_lie_deeper_or_behind_others_is_a_scan(tmp_path: Path) -> None:
    for patient, place in (("deep", "study/series/1.dcm"), ("late", "z.dcm")):
        file = tmp_path / patient / place
        file.parent.mkdir(parents=True)
        for name in ("a.txt", "b.txt", "c.txt", "DICOMDIR"):
            (tmp_path / patient / name).write_text("no scan", encoding="utf-8")
        file.write_bytes(bytes(128) + b"DICM")
    found = find_scans(tmp_path)
    assert [scan.name for scan in found] == ["deep", "late"]
    os.utime(tmp_path / "deep/study/series/1.dcm", (4e9, 4e9))
    assert found[0].written() == 4e9


def test_scans_whose_names_differ_in_their_ending_alone_keep_it(tmp_path: Path) -> None:
    for name in ("a.nii", "A.nrrd", "b.nii"):
        (tmp_path / name).write_bytes(b"")
    assert [scan.name for scan in find_scans(tmp_path)] == ["A.nrrd", "a.nii", "b"]


@pytest.mark.skipif(os.name != "posix", reason="names are bytes there only")
def test_a_scan_whose_name_is_no_unicode_is_a_line_of_the_table_like_any_other(job: Job, tmp_path: Path) -> None:
    try:
        (tmp_path / "in").mkdir()
        with open(os.fsencode(tmp_path / "in") + b"/bad\xff.nii.gz", "wb"):
            pass
    except OSError:
        pytest.skip("this file system has no such names")
    (result,) = run_cohort(find_scans(tmp_path / "in"), job, tmp_path / "out")
    assert (result.case, result.state) == ("bad%ff", "failed")
    assert "bad%ff" in (tmp_path / "out" / "cohort.csv").read_text(encoding="utf-8")


def test_the_folder_of_the_results_is_no_scan(scans: Path) -> None:
    results = scans / "results"
    results.mkdir()
    (results / "1.dcm").write_bytes(bytes(128) + b"DICM")
    assert "results" in {scan.name for scan in find_scans(scans)}
    assert "results" not in {scan.name for scan in find_scans(scans, results)}


def test_a_folder_without_scans_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="wanted scan files or DICOM folders in"):
        find_scans(tmp_path)
    with pytest.raises(ImageError, match="wanted a folder of scans, got nowhere"):
        find_scans(tmp_path / "nowhere")


def test_each_scan_gets_its_folder_and_its_line_and_a_torn_one_stops_nothing(
    scans: Path, job: Job, tiny_bundle: Path, tmp_path: Path
) -> None:
    told: list[tuple[str, float]] = []
    output = tmp_path / "out"
    results = run_cohort(find_scans(scans), job, output, on_case=lambda r, share: told.append((r.state, share)))
    assert states(results) == {"one": "done", "torn": "failed", "two": "done"}
    assert [state for state, _ in told] == ["done", "failed", "done"]
    assert told[-1][1] == 1.0
    assert sorted(path.name for path in (output / "one").iterdir()) == sorted(set(FILES) - {PAGE})
    assert not (output / "torn").exists()
    wanted = segment(sitk.ReadImage(str(scans / "one.nii.gz")), tiny_bundle, device="cpu")
    assert results[0].liver_ml == round(wanted.liver_ml, 3)
    assert results[0].lesions == len(wanted.lesions)
    assert "torn" in results[1].error
    assert "\n" not in results[1].error


def test_the_table_says_the_same_as_csv_and_as_json(scans: Path, job: Job, tmp_path: Path) -> None:
    results = run_cohort(find_scans(scans), job, tmp_path / "out")
    with (tmp_path / "out" / "cohort.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    document = json.loads((tmp_path / "out" / "cohort.json").read_text(encoding="utf-8"))
    assert [row["case"] for row in rows] == ["one", "torn", "two"]
    assert document["cases"] == [dataclasses.asdict(result) for result in results]
    assert document["job"]["bundle_sha256"] == job.bundle_sha256
    assert rows[1]["error"] == results[1].error
    assert float(rows[0]["liver_ml"]) == results[0].liver_ml


def test_what_the_same_bundle_finished_is_kept_and_the_rest_is_done(scans: Path, job: Job, tmp_path: Path) -> None:
    found, output = find_scans(scans), tmp_path / "out"

    def interrupted(some: Sequence[Scan], job: Job, output: Path) -> Generator[CaseResult, None, None]:
        yield from one_by_one(some[:1], job, output)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cohort(found, job, output, interrupted)
    assert len(json.loads((output / "cohort.json").read_text(encoding="utf-8"))["cases"]) == 1
    before = (output / "one" / "report.json").stat().st_mtime_ns
    results = run_cohort(found, job, output)
    assert states(results) == {"one": "kept", "torn": "failed", "two": "done"}
    assert (output / "one" / "report.json").stat().st_mtime_ns == before
    assert results[0].liver_ml == segment_case(found[0], job, output).liver_ml


@pytest.mark.parametrize("change", [{"bundle_sha256": "0" * 64}, {"sensitivity": 2.0}, {"modality": "MR"}])
def test_results_of_another_bundle_sensitivity_or_modality_are_not_kept(
    change: dict[str, object], scans: Path, job: Job, tmp_path: Path
) -> None:
    scan = find_scans(scans)[0]
    segment_case(scan, job, tmp_path)
    assert earlier_result(scan, job, tmp_path) is not None
    assert earlier_result(scan, dataclasses.replace(job, **change), tmp_path) is None  # type: ignore[arg-type]


def test_results_under_a_modality_that_somebody_said_are_not_kept_when_it_shall_be_told_from_the_scan(
    scans: Path, job: Job, tmp_path: Path
) -> None:
    scan, as_mr = find_scans(scans)[0], dataclasses.replace(job, modality="MR")
    segment_case(scan, as_mr, tmp_path)
    assert earlier_result(scan, as_mr, tmp_path) is not None
    assert earlier_result(scan, job, tmp_path) is None


def test_results_without_a_page_are_not_kept_when_there_shall_be_one_and_it_can_be_written(
    scans: Path, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan, with_page = find_scans(scans)[0], dataclasses.replace(job, html=True)
    segment_case(scan, job, tmp_path)
    assert earlier_result(scan, with_page, tmp_path) is None
    monkeypatch.setattr(LiverTumorSegLib.cohort, "missing_for_page", lambda: ["Jinja2"])
    assert earlier_result(scan, with_page, tmp_path) is not None


def test_results_older_than_the_scan_are_not_kept(scans: Path, job: Job, tmp_path: Path) -> None:
    scan = find_scans(scans)[0]
    segment_case(scan, job, tmp_path)
    later = (tmp_path / scan.name / "report.json").stat().st_mtime + 10
    os.utime(scan.path, (later, later))
    assert earlier_result(scan, job, tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"provenance": 1}', "[" * 100_000])
def test_a_report_that_is_not_whole_is_made_anew(text: str, job: Job, tmp_path: Path) -> None:
    (tmp_path / "one.nii").touch()
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "report.json").write_text(text, encoding="utf-8")
    assert earlier_result(Scan("one", tmp_path / "one.nii"), job, tmp_path) is None


def test_the_modality_of_the_job_reaches_the_scan_before_it_is_calibrated(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Padding of -2000 is raised to -1024 in CT only; the scan that the networks get tells."""
    scan = draw_ellipsoids((32, 32, 16), (4.0,) * 3)[0]
    scan[0, 0, 0] = -2000
    sitk.WriteImage(scan, str(tmp_path / "one.nii.gz"))
    kept: list[Segmentation] = []
    monkeypatch.setattr(LiverTumorSegLib.cohort, "write_results", lambda found, *_, **__: kept.append(found))
    for modality, lowest in (("MR", -2000), ("CT", -1024)):
        segment_case(Scan("one", tmp_path / "one.nii.gz"), dataclasses.replace(job, modality=modality), tmp_path)
        assert sitk.GetArrayFromImage(kept[-1].image).min() == lowest


def test_a_device_that_is_not_there_stops_the_cohort_before_its_first_scan(
    scans: Path, job: Job, tmp_path: Path
) -> None:
    with pytest.raises(DeviceError, match="wanted cuda:7"):
        run_cohort(find_scans(scans), dataclasses.replace(job, device="cuda:7"), tmp_path / "out")
    assert not (tmp_path / "out" / "one").exists()


def test_a_bundle_that_is_not_there_and_a_file_for_a_folder_are_refused(scans: Path, job: Job, tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        new_job(tmp_path / "no bundle")
    (tmp_path / "out").write_text("a file", encoding="utf-8")
    with pytest.raises(OutputError, match="got a file"):
        run_cohort(find_scans(scans), job, tmp_path / "out")


def command(scans: Path, bundle: Path, output: Path, *more: str) -> int:
    common = ["--bundle", str(bundle), "--device", "cpu", "--no-html", "-o", str(output)]
    return main(["segment", "--cohort", str(scans), *common, *more])


def test_the_command_ends_with_1_where_a_scan_failed_and_with_0_otherwise(
    scans: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(scans, tiny_bundle, tmp_path / "out") == 1
    printed = capsys.readouterr().out
    assert "torn: failed: " in printed
    assert "3 scans: 2 done, 1 failed" in printed
    (scans / "torn.nrrd").unlink()
    assert command(scans, tiny_bundle, tmp_path / "out", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["state"] for line in lines if line["event"] == "case"] == ["kept", "kept"]
    assert lines[-1]["event"] == "cohort"
    assert lines[-1]["kept"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["segment", "-o", "out"], "wanted a scan, or --cohort DIR"),
        (["segment", "scan.nii", "--ray", "-o", "out"], "--ray: wanted it with --cohort, got no --cohort"),
        (["segment", "scan.nii", "--cohort", "scans", "-o", "out"], "--cohort: wanted it without SCAN"),
        (["segment", "--cohort", "scans", "--series", "1.2", "-o", "out"], "--cohort: wanted it without --series"),
        (
            ["segment", "--cohort", "scans", "--no-registration", "-o", "out"],
            "--cohort: wanted it without --no-registr",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
