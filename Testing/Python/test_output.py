"""The files of one result: what is in them, and that they come all together or not at all."""

from __future__ import annotations

import csv
import errno
import json
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from LiverTumorSegLib import output
from LiverTumorSegLib.errors import LiverTumorSegWarning, OutputError
from LiverTumorSegLib.output import FILES, check_writable, write_results
from LiverTumorSegLib.segmentation import Segmentation
from shapes import make_segmentation

WITHOUT_PAGE = [name for name in FILES if name != "report.html"]


@pytest.fixture
def segmentation() -> Segmentation:
    return make_segmentation()


@pytest.fixture
def report_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the report writer a stand-in that writes a line: the page has its own tests."""
    stand_in = types.ModuleType("LiverTumorSegLib.report")

    def write_html(segmentation: Segmentation, path: Path, meanwhile: Callable[[], None]) -> None:
        path.write_text("<html>", encoding="utf-8")
        meanwhile()

    stand_in.write_html = write_html  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "LiverTumorSegLib.report", stand_in)
    monkeypatch.setattr(output, "find_spec", lambda name: True)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_result_is_five_files(segmentation: Segmentation, tmp_path: Path, report_page: None) -> None:
    files = write_results(segmentation, tmp_path / "case" / "one")
    assert files == [tmp_path / "case" / "one" / name for name in FILES]
    assert sorted(contents(tmp_path / "case" / "one")) == sorted(FILES)


def test_without_html_it_is_four(segmentation: Segmentation, tmp_path: Path) -> None:
    assert [path.name for path in write_results(segmentation, tmp_path, html=False)] == WITHOUT_PAGE
    assert sorted(contents(tmp_path)) == sorted(WITHOUT_PAGE)


@pytest.mark.parametrize(("missing", "name"), [("jinja2", "Jinja2"), ("PIL", "Pillow")])
def test_a_missing_extra_costs_the_page_and_names_the_remedy(
    missing: str, name: str, segmentation: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "find_spec", lambda module: None if module == missing else True)
    with pytest.warns(LiverTumorSegWarning, match=rf"{name} not installed; pip install 'LiverTumorSegLib\[report\]'"):
        files = write_results(segmentation, tmp_path)
    assert [path.name for path in files] == WITHOUT_PAGE


def test_the_table_has_a_row_for_each_lesion_and_units_in_its_header(
    segmentation: Segmentation, tmp_path: Path
) -> None:
    write_results(segmentation, tmp_path, html=False)
    text = (tmp_path / "lesions.csv").read_bytes().decode()
    assert "\r" not in text
    rows = list(csv.DictReader(text.splitlines()))
    assert list(rows[0]) == [
        *("id", "voxels", "volume_ml", "long_axis_mm", "axial_long_axis_mm", "axial_perpendicular_mm", "axial_slice"),
        *("centroid_r_mm", "centroid_a_mm", "centroid_s_mm", "mean_intensity", "mean_probability"),
    ]
    assert [(row["id"], row["voxels"], row["volume_ml"], row["axial_slice"]) for row in rows] == [
        ("1", "4", "0.096", "2"),
        ("2", "1", "0.024", "4"),
    ]
    # 4 voxels of 2 mm from i = 3: the middle lies at -11.5 + 2 * 4.5 = -2.5 in L, so 2.5 in R.
    assert (rows[0]["long_axis_mm"], rows[0]["centroid_r_mm"]) == ("8.0", "2.5")
    assert (rows[0]["mean_intensity"], rows[0]["mean_probability"]) == ("50.0", "")


def test_a_case_without_lesions_has_a_table_with_only_a_header(tmp_path: Path) -> None:
    write_results(make_segmentation(tumours=()), tmp_path, html=False)
    assert (tmp_path / "lesions.csv").read_text(encoding="utf-8").count("\n") == 1
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["lesions"] == []


def test_the_report_has_measurements_and_provenance(segmentation: Segmentation, tmp_path: Path) -> None:
    write_results(segmentation, tmp_path, html=False)
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["schema_version"] == 1
    # 432 voxels of 0.024 ml are liver, tumours included; 5 are tumour.
    assert report["liver_ml"] == pytest.approx(432 * 0.024)
    assert report["tumour_ml"] == pytest.approx(5 * 0.024)
    assert report["burden_percent"] == pytest.approx(500 / 432)
    assert report["sensitivity"] == 1.0
    assert [lesion["voxels"] for lesion in report["lesions"]] == [4, 1]
    assert report["provenance"]["bundle_sha256"] == "0" * 64
    assert report["provenance"]["warnings"] == ["the scan is µ-small"]


def test_earlier_results_are_replaced_and_other_files_left_alone(
    segmentation: Segmentation, tmp_path: Path, report_page: None
) -> None:
    write_results(make_segmentation(tumours=()), tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    write_results(segmentation, tmp_path, html=False)
    after = contents(tmp_path)
    # The earlier page tells of the earlier result, so it goes.
    assert sorted(after) == sorted([*WITHOUT_PAGE, "notes.txt"])
    assert after["notes.txt"] == b"mine"
    assert after["lesions.csv"].count(b"\n") == 3


FAILURES = [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), RuntimeError("a bug")]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
@pytest.mark.parametrize("step", ["write_lesions", "_write_compressed", "report_json"])
def test_a_failure_while_writing_leaves_everything_as_it_was(
    step: str, failure: BaseException, segmentation: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_results(make_segmentation(tumours=()), tmp_path / "old", html=False)
    before = contents(tmp_path / "old")
    monkeypatch.setattr(output, step, raising(failure))
    expected = OutputError if isinstance(failure, OSError) else type(failure)
    for folder in (tmp_path / "old", tmp_path / "new" / "er"):
        with pytest.raises(expected):
            write_results(segmentation, folder, html=False)
    assert contents(tmp_path / "old") == before
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("moves", range(9))
def test_a_failure_between_the_moves_brings_the_earlier_files_back(
    moves: int, segmentation: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report_page: None
) -> None:
    write_results(make_segmentation(tumours=()), tmp_path)
    before = contents(tmp_path)
    left = [moves]
    move = os.replace

    def fail_once(source: Path, target: Path) -> None:
        left[0] -= 1
        if left[0] == -1:
            raise KeyboardInterrupt
        move(source, target)

    monkeypatch.setattr(os, "replace", fail_once)
    with pytest.raises(KeyboardInterrupt):
        write_results(segmentation, tmp_path, html=False)
    assert contents(tmp_path) == before


def raising(failure: BaseException) -> Callable[..., None]:
    def fail(*arguments: object, **options: object) -> None:
        raise failure

    return fail


def test_a_full_disk_is_named_as_such(
    segmentation: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "write_lesions", raising(FAILURES[0]))
    with pytest.raises(OutputError, match="wanted to write the results, got: the disk is full"):
        write_results(segmentation, tmp_path)


def test_a_disk_that_is_full_while_labels_are_written_is_named_as_such(
    segmentation: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk:
        def compressobj(self, *settings: int) -> types.SimpleNamespace:
            return types.SimpleNamespace(compress=raising(FAILURES[0]))

    monkeypatch.setattr(output, "fastest_zlib", FullDisk)
    with pytest.raises(OutputError, match=r"nii\.gz: wanted to write the voxels, got: the disk is full"):
        write_results(segmentation, tmp_path / "out", html=False)
    assert not (tmp_path / "out").exists()


def test_a_file_where_the_folder_should_be_is_an_error_before_and_while_writing(
    segmentation: Segmentation, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("mine")
    for folder in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(OutputError, match=r"wanted a folder for the results, got a file at .*taken"):
            check_writable(folder)
        with pytest.raises(OutputError, match="got a file"):
            write_results(segmentation, folder)
    assert (tmp_path / "taken").read_text(encoding="utf-8") == "mine"


def test_a_folder_where_a_file_should_be_is_not_swept_away(segmentation: Segmentation, tmp_path: Path) -> None:
    (tmp_path / "report.json").mkdir()
    with pytest.raises(OutputError, match=r"report\.json: wanted to write a file there, got a folder"):
        write_results(segmentation, tmp_path)


def test_a_folder_without_permission_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The permission is denied here rather than taken away, for root may write anywhere.
    denied = PermissionError(errno.EACCES, "Permission denied")
    monkeypatch.setattr(output.tempfile, "TemporaryFile", lambda **options: raising(denied)())
    with pytest.raises(OutputError, match="wanted a folder that can be written to, got: Permission denied"):
        check_writable(tmp_path / "out")


def test_asking_whether_one_can_write_leaves_no_trace(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_labels_that_cannot_be_written_leave_the_earlier_file_and_nothing_else(
    segmentation: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NearlyFullDisk:
        def compressobj(self, *settings: int) -> types.SimpleNamespace:
            return types.SimpleNamespace(compress=lambda piece: b"a part", flush=raising(FAILURES[0]))

    path = tmp_path / "labels.seg.nrrd"
    output.write_seg_nrrd(segmentation.labels, path)
    earlier = path.read_bytes()
    monkeypatch.setattr(output, "fastest_zlib", NearlyFullDisk)
    with pytest.raises(OutputError, match=r"labels\.seg\.nrrd: wanted to write the voxels, got: the disk is full"):
        output.write_seg_nrrd(segmentation.labels, path)
    assert path.read_bytes() == earlier
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_of_the_clearing_up_leaves_no_private_folder(tmp_path, monkeypatch):
    rmtree, interrupted = output.shutil.rmtree, []

    def interrupted_once(path, **options):
        if (tmp_path / "report.json").exists() and not interrupted:
            interrupted.append(path)
            raise KeyboardInterrupt
        rmtree(path, **options)

    monkeypatch.setattr(output.shutil, "rmtree", interrupted_once)
    with pytest.raises(KeyboardInterrupt):
        write_results(make_segmentation(), tmp_path, html=False)
    assert {path.name for path in tmp_path.iterdir()} == set(WITHOUT_PAGE)
