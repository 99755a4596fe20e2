"""A checked data set's listing, its scanners, and its folds by patient."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from LiverTumorSegLib import __main__
from LiverTumorSegLib.datasets.cases import DatasetError
from LiverTumorSegLib.datasets.check import CheckedCase, check_cases, fingerprint
from LiverTumorSegLib.datasets.layouts import find_cases
from LiverTumorSegLib.datasets.listing import write_listing
from LiverTumorSegLib.datasets.nnunet import write_nnunet
from LiverTumorSegLib.datasets.scanners import scanner_of
from LiverTumorSegLib.datasets.splits import LOADS, load_split, make_split, save_split
from LiverTumorSegLib.errors import OutputError
from test_datasets import scan_of, write, write_nifti, write_stack


@pytest.mark.parametrize("broken", ["dataset.csv", "dataset.json", "splits.json"])
def test_a_listing_is_written_whole_or_the_earlier_one_stays(tmp_path: Path, monkeypatch, broken: str) -> None:
    write_nifti(tmp_path / "in")
    checked_cases = check_cases(find_cases(tmp_path / "in"))
    first, second = (make_split(checked_cases, 3, seed) for seed in (0, 1))
    out = tmp_path / "out"
    write_listing(checked_cases, fingerprint(checked_cases), out, first)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert set(before) == {"dataset.csv", "dataset.json", "splits.json"}
    move = os.replace

    def full_disk(source: Path, target: Path) -> None:
        if Path(target) == out / broken and Path(source).parent.name == "fresh":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        move(source, target)

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OutputError, match="No space left on device"):
        write_listing(checked_cases[:2], None, out, second)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_folder_in_a_listing_s_place_is_refused_and_stays(tmp_path: Path, capsys) -> None:
    write_nifti(tmp_path / "in")
    (tmp_path / "out" / "dataset.csv" / "mine").mkdir(parents=True)
    assert __main__.main(["dataset", "check", str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 2
    assert "dataset.csv: wanted to write a file there, got a folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["dataset.csv", "mine"]


# --- scanners


def test_scanners_are_known_where_the_files_tell(tmp_path: Path) -> None:
    tags = {"t0008_0070": "SIEMENS ", "t0008_1090": "Sensation 64"}
    write_stack(tmp_path / "dicom", sitk.GetArrayFromImage(scan_of(0)), **tags)
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "dicom")
    write_stack(tmp_path / "bare", sitk.GetArrayFromImage(scan_of(0)))
    write(scan_of(0), tmp_path / "a.nii.gz")
    (tmp_path / "a.json").write_text(
        '{"Manufacturer": "GE", "ManufacturersModelName": "Signa HDxt", "PatientName": "Doe"}', encoding="utf-8"
    )
    write(scan_of(0), tmp_path / "b.nii.gz")
    (tmp_path / "b.json").write_text("[1", encoding="utf-8")
    (tmp_path / "damaged.zip").write_bytes(b"PK")
    scans = ("dicom", "packed.zip", "bare", "a.nii.gz", "b.nii.gz", "damaged.zip")
    assert [scanner_of(tmp_path / name) for name in scans] == [
        "SIEMENS Sensation 64", "SIEMENS Sensation 64", "", "GE Signa HDxt", "", "",
    ]  # fmt: skip


def test_the_fingerprint_says_how_many_scans_are_of_which_scanner_or_of_an_unknown_one(tmp_path: Path, capsys) -> None:
    write_nifti(tmp_path / "in")
    for number in range(2):
        (tmp_path / "in" / f"case_{number}.json").write_text('{"Manufacturer": "GE"}', encoding="utf-8")
    assert __main__.main(["dataset", "check", str(tmp_path / "in")]) == 0
    assert "Scanners: unknown: 1, GE: 2." in capsys.readouterr().out
    cases = find_cases(tmp_path / "in")
    assert write_nnunet(cases, tmp_path / "Dataset001_Toy") == []
    found = fingerprint(check_cases(find_cases(tmp_path / "Dataset001_Toy", "nnunet")))
    assert found is not None
    assert found.scanners == {"": 1, "GE": 2}


# --- folds


def checked(name: str, patient: str, lesions: int, scanner: str = "") -> CheckedCase:
    return CheckedCase(name, patient, scanner, lesion_diameters_mm=(10.0,) * lesions)


drawn_cases = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 15), st.sampled_from("AB")), min_size=1, max_size=40
).map(lambda rows: [checked(f"c{n}", f"p{p}", load, scanner) for n, (p, load, scanner) in enumerate(rows)])


@settings(max_examples=40, deadline=None)
@given(drawn_cases, st.integers(2, 5), st.integers(0, 3))
def test_every_case_is_in_one_fold_and_no_patient_in_two(cases: list[CheckedCase], folds: int, seed: int) -> None:
    if len({case.patient for case in cases}) < folds:
        with pytest.raises(DatasetError, match=r"folds: wanted (2 to|at least 2 patients)"):
            make_split(cases, folds, seed)
        return
    split = make_split(cases, folds, seed)
    assert sorted(name for names in split.folds for name in names) == sorted(case.name for case in cases)
    homes = [{split.patients[name] for name in names} for names in split.folds]
    assert sum(map(len, homes)) == len(set().union(*homes))
    for fold, names in enumerate(split.folds):
        assert not set(names) & set(split.training(fold))
    assert split == make_split(cases[::-1], folds, seed)


def test_folds_differ_by_one_patient_at_most_in_every_stratum() -> None:
    loads = [0, 1, 5, 20]
    cases = [checked(f"c{n}", f"p{n}", loads[n % 4], "AB"[n % 2]) for n in range(52)]
    split = make_split(cases, 5, seed=1)
    by_name = {case.name: case for case in cases}
    for load in range(len(LOADS) + 1):
        each = [
            sum(sum(len(by_name[name].lesion_diameters_mm) > most for most in LOADS) == load for name in names)
            for names in split.folds
        ]
        assert max(each) - min(each) <= 1
    assert {len(names) for names in split.folds} <= {10, 11}


def test_a_split_is_read_back_and_one_with_a_patient_in_two_folds_is_refused(tmp_path: Path) -> None:
    cases = [checked("a1", "a", 1), checked("a2", "a", 0), checked("b", "b", 3), checked("c", "c", 0)]
    split = make_split(cases, 2)
    save_split(split, tmp_path / "splits.json")
    assert load_split(tmp_path / "splits.json") == split
    document = json.loads((tmp_path / "splits.json").read_text(encoding="utf-8"))
    assert set(document["folds"][0]) == {"train", "val"}
    document["folds"] = [{"train": [], "val": ["a1"]}, {"train": [], "val": ["a2", "b"]}]
    (tmp_path / "splits.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(DatasetError, match="wanted every patient in one fold, got a in two"):
        load_split(tmp_path / "splits.json")


def test_faulty_cases_are_in_no_fold() -> None:
    faulty = CheckedCase("x", "x", faults=("labels: wanted a liver",))
    split = make_split([checked("a", "a", 1), checked("b", "b", 1), faulty], 2)
    assert set(split.patients) == {"a", "b"}
