"""Data sets in every layout, drawn as tiny folders: found, read, checked, split and converted."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from LiverTumorSegLib import __main__, output
from LiverTumorSegLib.commands import options
from LiverTumorSegLib.datasets.cases import DatasetError
from LiverTumorSegLib.datasets.check import check_cases, fingerprint
from LiverTumorSegLib.datasets.layouts import LAYOUTS, find_cases
from LiverTumorSegLib.datasets.nnunet import write_nnunet
from LiverTumorSegLib.datasets.splits import load_split
from LiverTumorSegLib.errors import ImageError, OutputError
from LiverTumorSegLib.images import read_image
from LiverTumorSegLib.output import check_writable
from test_dicom import write_slice

# (k, j, i): a liver of 6 x 6 x 6 voxels with a tumour of 2 x 2 x 2 in it, in a scan of 8 x 10 x 12.
LABELS = np.zeros((8, 10, 12), np.uint8)
LABELS[1:7, 2:8, 3:9] = 1
LABELS[3:5, 4:6, 5:7] = 2
SPACING = (2.0, 2.0, 5.0)


def image_of(array: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING)
    return image


def scan_of(number: int) -> sitk.Image:
    """Return a CT: air, fat around a liver of 100 HU, a tumour of 50 HU; each number has a noise of its own."""
    grey = np.select([LABELS == 2, LABELS == 1], [50, 100], -100) + np.random.default_rng(number).integers(
        -3, 4, (8, 10, 12)
    )
    grey[:, 0] = -1000
    return image_of(grey.astype(np.int16))


def write(image: sitk.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def write_lits(folder: Path) -> None:
    for number in (0, 28, 45):
        write(scan_of(number), folder / "Training Batch 1" / f"volume-{number}.nii")
        write(image_of(LABELS), folder / "Training Batch 1" / f"segmentation-{number}.nii")


def write_msd(folder: Path) -> None:
    entries = []
    for number in (0, 28, 46):
        names = {"image": f"./imagesTr/liver_{number}.nii.gz", "label": f"./labelsTr/liver_{number}.nii.gz"}
        write(scan_of(number), folder / names["image"])
        write(image_of(LABELS), folder / names["label"])
        entries.append(names)
    (folder / "dataset.json").write_text(json.dumps({"training": entries}), encoding="utf-8")


def write_nnunet_raw(folder: Path) -> None:
    for name in ("liver_0", "b"):
        write(scan_of(len(name)), folder / "imagesTr" / f"{name}_0000.nrrd")
        write(image_of(np.array([0, 7, 3], np.uint8)[LABELS]), folder / "labelsTr" / f"{name}.nrrd")
    labels = {"background": 0, "whole liver": [7, 3], "liver tumor": 3}
    description = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nrrd", "numTraining": 2}
    (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")


def write_stack(folder: Path, array: np.ndarray, **tags: str) -> None:
    """Write slices as DICOM files whose names run from the head down, as those of both data sets do."""
    folder.mkdir(parents=True)
    for k, pixels in enumerate(array):
        file = folder / f"image_{len(array) - 1 - k:03d}"
        write_slice(folder / f"{file.name}.dcm", pixels, (0, 0, 5.0 * k), instance=k + 1, **tags)
        (folder / f"{file.name}.dcm").rename(file)


def write_ircad(folder: Path) -> None:
    for number, packed in ((1, False), (18, True)):
        home = folder / f"3Dircadb1.{number}"
        write_stack(home / "PATIENT_DICOM", sitk.GetArrayFromImage(scan_of(number)))
        masks = {"liver": LABELS > 0, "livertumor01": LABELS == 2, "bone": LABELS == 0}
        for n, (name, mask) in enumerate(masks.items()):
            write_stack(home / "MASKS_DICOM" / name, 255 * mask.astype(np.int16), uid=f"1.2.{n + 4}")
        for part in ("PATIENT_DICOM", "MASKS_DICOM") if packed else ():
            shutil.make_archive(str(home / part), "zip", home, part)
            shutil.rmtree(home / part)


def write_chaos(folder: Path) -> None:
    for home, value in ((folder / "CT" / "1", 255), (folder / "MR" / "2" / "T2SPIR", 63)):
        write_stack(home / "DICOM_anon", sitk.GetArrayFromImage(scan_of(value)))
        for k in range(8):
            grey = np.where(LABELS[k] > 0, value, 0).astype(np.uint8)
            grey[0, 0] = 0 if value == 255 else 126  # a kidney, in MR
            write(sitk.GetImageFromArray(grey), home / "Ground" / f"liver_GT_{7 - k:03d}.png")


def write_nifti(folder: Path) -> None:
    for number in range(3):
        write(scan_of(number), folder / f"case_{number}.nii.gz")
        write(image_of(LABELS), folder / f"case_{number}_labels.nii.gz")


WRITERS: dict[str, Callable[[Path], None]] = {
    "lits": write_lits,
    "msd": write_msd,
    "nnunet": write_nnunet_raw,
    "ircad": write_ircad,
    "chaos": write_chaos,
    "nifti": write_nifti,
    "synthetic": write_nifti,
}
PATIENTS = {
    "lits": ["lits-0", "lits-28", "lits-45-to-48"],
    "msd": ["lits-0", "lits-28", "lits-45-to-48"],
    "nnunet": ["b", "lits-0"],
    "ircad": ["lits-28", "lits-45-to-48"],
    "chaos": ["chaos-ct-1", "chaos-mr-2"],
    "nifti": ["case_0", "case_1", "case_2"],
    "synthetic": ["case_0", "case_1", "case_2"],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_scans_with_their_labels_on_one_grid(layout: str, tmp_path: Path) -> None:
    WRITERS[layout](tmp_path)
    cases = find_cases(tmp_path, layout)
    assert [case.patient for case in cases] == PATIENTS[layout]
    wanted = LABELS.clip(max=1) if layout == "chaos" else LABELS
    for case in cases:
        scan, labels = case.read_scan(), case.read_labels()
        assert scan.GetSize() == labels.GetSize() == (12, 10, 8)
        assert np.array_equal(sitk.GetArrayFromImage(labels), wanted)
        assert sitk.GetArrayFromImage(scan)[LABELS == 1].mean() == pytest.approx(100, abs=1)
    assert not any(case.faults for case in check_cases(cases))


def test_the_command_line_offers_every_layout() -> None:
    assert set(options.LAYOUTS) == set(LAYOUTS) == set(WRITERS)


def test_the_same_patients_have_the_same_names_in_lits_msd_and_ircad(tmp_path: Path) -> None:
    patients = {}
    for layout in ("lits", "msd", "ircad"):
        WRITERS[layout](tmp_path / layout)
        patients[layout] = {case.patient for case in find_cases(tmp_path / layout, layout)}
    assert patients["lits"] == patients["msd"] > patients["ircad"]


def test_a_plain_folder_may_hold_images_and_labels_or_label_maps_only(tmp_path: Path) -> None:
    write(scan_of(1), tmp_path / "both" / "images" / "a.nii.gz")
    write(image_of(LABELS), tmp_path / "both" / "labels" / "a.nii.gz")
    write(image_of(LABELS), tmp_path / "maps" / "a.seg.nrrd")
    (both,), (alone,) = (find_cases(tmp_path / name) for name in ("both", "maps"))
    assert (both.name, alone.name, alone.scan) == ("a", "a", None)
    assert both.scan is not None
    with pytest.raises(ImageError, match="a: wanted a scan, got none"):
        alone.read_scan()


def test_faults_are_named_per_case_and_the_others_are_described(tmp_path: Path) -> None:
    write_nifti(tmp_path)
    write(scan_of(9), tmp_path / "unlabelled.nii.gz")
    write(scan_of(0), tmp_path / "twin.nii.gz")
    write(image_of(LABELS), tmp_path / "twin_labels.nii.gz")
    write(scan_of(5), tmp_path / "empty.nii.gz")
    write(image_of(LABELS * 0), tmp_path / "empty_labels.nii.gz")
    write(scan_of(6), tmp_path / "shifted.nii.gz")
    moved = image_of(LABELS)
    moved.SetOrigin((0, 0, 5))
    write(moved, tmp_path / "shifted_labels.nii.gz")
    checked = {case.name: case for case in check_cases(find_cases(tmp_path))}
    faults = {name: case.faults for name, case in checked.items() if case.faults}
    assert faults == {
        "unlabelled": ("labels: unlabelled: wanted labels, got none",),
        "twin": ("scan: wanted a patient of its own, got the voxels of case_0",),
        "empty": ("labels: wanted a liver, got an empty label map",),
        "shifted": ("labels: wanted the scan's grid, got origin (0, 0, 5) for the scan's (0, 0, 0)",),
    }
    good = checked["case_1"]
    assert (good.modality, good.spacing_mm, good.size_voxels) == ("CT", SPACING, (12, 10, 8))
    assert (good.liver_ml, good.tumour_ml) == pytest.approx((216 * 0.02, 8 * 0.02))
    # The tumour's slice is 2 x 2 voxels of 2 mm: from the middle of one outer edge to that of the other, 4.47 mm.
    assert good.lesion_diameters_mm == pytest.approx((np.hypot(4, 2),))


def test_a_fingerprint_describes_the_cases_without_faults(tmp_path: Path) -> None:
    write_nifti(tmp_path)
    found = fingerprint(check_cases(find_cases(tmp_path)))
    assert found is not None
    assert (found.cases, found.patients, found.lesions, found.cases_without_lesions) == (3, 3, 3, 0)
    assert found.spacing_mm == ((2, 2, 2), (2, 2, 2), (5, 5, 5))
    assert found.lesions_by_diameter["0–5 mm"] == 3
    assert found.liver_intensity["50"] == pytest.approx(100, abs=1)
    # 208 liver voxels at 100 and 8 tumour voxels at 50 HU, and a little noise.
    assert found.liver_mean == pytest.approx((208 * 100 + 8 * 50) / 216, abs=0.5)
    assert fingerprint([]) is None


def test_wrong_folders_and_descriptions_are_one_line(tmp_path: Path) -> None:
    for layout in LAYOUTS:
        with pytest.raises(DatasetError, match="wanted"):
            find_cases(tmp_path, layout)
    with pytest.raises(DatasetError, match="layout: wanted one of nifti, lits"):
        find_cases(tmp_path, "brats")
    (tmp_path / "dataset.json").write_text('{"labels": {"spleen": 1}, "file_ending": ".nii"}', encoding="utf-8")
    with pytest.raises(DatasetError, match="wanted a label called liver, got spleen"):
        find_cases(tmp_path, "nnunet")
    for ending in (".nii", ".nii.gz"):
        write(image_of(LABELS), tmp_path / "twice" / f"a{ending}")
    with pytest.raises(DatasetError, match=r"wanted one file of a, got a\.nii and a\.nii\.gz"):
        find_cases(tmp_path / "twice")


def test_a_damaged_zip_and_a_missing_liver_mask_are_named(tmp_path: Path) -> None:
    write_ircad(tmp_path)
    shutil.rmtree(tmp_path / "3Dircadb1.1" / "MASKS_DICOM" / "liver")
    (tmp_path / "3Dircadb1.18" / "MASKS_DICOM.zip").write_bytes(b"PK\3\4 no archive")
    first, second = check_cases(find_cases(tmp_path, "ircad"))
    assert "wanted a mask called liver, got bone, livertumor01" in first.faults[0]
    assert "MASKS_DICOM.zip: wanted a readable .zip" in second.faults[0]


def test_what_is_written_for_nnunet_is_read_back_with_its_patients(tmp_path: Path) -> None:
    write_lits(tmp_path / "lits")
    cases = find_cases(tmp_path / "lits", "lits")
    folder = tmp_path / "Dataset003_Liver"
    assert write_nnunet(cases, folder) == []
    back = find_cases(folder, "nnunet")
    assert [(case.name, case.patient) for case in back] == [(case.name, case.patient) for case in cases]
    for before, after in zip(cases, back, strict=True):
        for read in ("read_scan", "read_labels"):
            arrays = [sitk.GetArrayFromImage(getattr(case, read)()) for case in (before, after)]
            assert np.array_equal(*arrays)
    description = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    assert (description["numTraining"], description["labels"]["tumour"]) == (3, 2)
    with pytest.raises(OutputError, match="wanted a folder that does not exist yet"):
        write_nnunet(cases, folder)


def write_typed(folder: Path, **labels: int | list[int]) -> None:
    """Write a case whose liver of 216 voxels holds 8 voxels of the value 2, 4 of 3 and 6 of 4; 4 of 5 are outside."""
    array = LABELS.copy()
    array[3:5, 4:6, 3:4] = 3
    array[1:7, 2, 3] = 4
    array[0, 0, :4] = 5
    write(scan_of(0), folder / "imagesTr" / "one_0000.nii.gz")
    write(image_of(array), folder / "labelsTr" / "one.nii.gz")
    description = {"labels": {"background": 0, "liver": 1, **labels}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")


def test_labels_named_by_lesion_types_are_tumours_and_the_liver_s_vessels_are_liver(tmp_path: Path) -> None:
    write_typed(tmp_path / "in", HCC=2, hemangioma=3, **{"Hepatic vessels": 4}, spleen=5)
    (case,) = find_cases(tmp_path / "in", "nnunet")
    assert np.bincount(sitk.GetArrayFromImage(case.read_labels()).ravel())[1:].tolist() == [204, 12]
    (checked,) = check_cases([case])
    # 216 and 12 voxels of 20 mm³.
    assert (checked.liver_ml, checked.tumour_ml) == pytest.approx((4.32, 0.24))
    assert write_nnunet([case], tmp_path / "Dataset001_Plain") == []
    (plain,) = find_cases(tmp_path / "Dataset001_Plain", "nnunet")
    assert np.bincount(sitk.GetArrayFromImage(plain.read_labels()).ravel())[1:].tolist() == [204, 12]
    binary = case.read_named(("background", "spleen", "liver", "tumour"))
    assert np.bincount(sitk.GetArrayFromImage(binary).ravel())[1:].tolist() == [4, 204, 12]
    typed = case.read_named(("background", "liver", "hcc", "haemangioma"))
    assert np.bincount(sitk.GetArrayFromImage(typed).ravel())[1:].tolist() == [204, 8, 4]
    vessels = case.read_named(("background", "liver", "hepatic_vessels", "tumour"))
    assert np.bincount(sitk.GetArrayFromImage(vessels).ravel())[1:].tolist() == [198, 6, 12]
    with pytest.raises(ImageError, match="one: labels: wanted liver, hcc, got tumours of no such type"):
        case.read_named(("background", "liver", "hcc"))


def test_a_value_of_several_regions_goes_by_the_smallest(tmp_path: Path) -> None:
    write_typed(tmp_path, cyst=[3], liver=[1, 2, 3, 4], hcc=2)
    (case,) = find_cases(tmp_path, "nnunet")
    assert case.value_names == {1: "liver", 2: "hcc", 3: "cyst", 4: "liver"}
    typed = case.read_named(("background", "liver", "hcc", "cyst"))
    assert np.bincount(sitk.GetArrayFromImage(typed).ravel())[1:].tolist() == [204, 8, 4]
    assert np.bincount(sitk.GetArrayFromImage(case.read_labels()).ravel())[1:].tolist() == [204, 12]


@pytest.mark.parametrize(("types", "tumour"), [({"tumour": 2, "other": 5}, 8), ({"hcc": 2, "other": 5}, 12)])
def test_other_is_a_lesion_only_beside_another_type(tmp_path: Path, types: dict[str, int], tumour: int) -> None:
    write_typed(tmp_path, **types)
    (case,) = find_cases(tmp_path, "nnunet")
    assert np.bincount(sitk.GetArrayFromImage(case.read_labels()).ravel())[2] == tumour
    assert np.bincount(sitk.GetArrayFromImage(case.read_named(("background", "liver", "tumour"))).ravel())[2] == tumour


def test_the_command_checks_splits_and_converts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_nifti(tmp_path / "in")
    out, raw = tmp_path / "out", tmp_path / "Dataset001_Toy"
    assert __main__.main(["dataset", "check", str(tmp_path / "in"), "-o", str(out), "--folds", "3"]) == 0
    assert {path.name for path in out.iterdir()} == {"dataset.csv", "dataset.json", "splits.json"}
    assert "Fingerprint of 3 cases" in capsys.readouterr().out
    assert [len(names) for names in load_split(out / "splits.json").folds] == [1, 1, 1]
    assert __main__.main(["dataset", "nnunet", str(tmp_path / "in"), "-o", str(raw)]) == 0
    assert __main__.main(["dataset", "check", str(raw), "--layout", "nnunet", "-q"]) == 0
    (tmp_path / "in" / "case_0_labels.nii.gz").unlink()
    assert __main__.main(["dataset", "check", str(tmp_path / "in"), "-q"]) == 1
    assert "case_0: labels: case_0: wanted labels, got none" in capsys.readouterr().err


def test_a_listing_never_replaces_the_data_set_s_own_description(tmp_path: Path, capsys) -> None:
    write_nifti(tmp_path / "in")
    raw = tmp_path / "Dataset001_Toy"
    assert __main__.main(["dataset", "nnunet", str(tmp_path / "in"), "-o", str(raw), "-q"]) == 0
    before = (raw / "dataset.json").read_bytes()
    assert __main__.main(["dataset", "check", str(raw), "--layout", "nnunet", "-o", f"{raw}/../{raw.name}"]) == 2
    assert "wanted another folder than the data set's" in capsys.readouterr().err
    assert (raw / "dataset.json").read_bytes() == before


def test_folds_that_cannot_be_dealt_leave_nothing_behind(tmp_path: Path, capsys) -> None:
    write_nifti(tmp_path / "in")
    for folds in ("0", "1", "9"):
        out = tmp_path / "out"
        assert __main__.main(["dataset", "check", str(tmp_path / "in"), "-o", str(out), "--folds", folds]) == 2
        assert f"folds: wanted 2 to 3, one a patient at most, got {folds}" in capsys.readouterr().err
        assert not out.exists()


@pytest.mark.parametrize(
    ("layout", "description", "words"),
    [
        ("nnunet", {"labels": {"0": "background", "1": "liver"}, "file_ending": ".nii"}, "names with whole numbers"),
        ("nnunet", {"labels": ["liver"], "file_ending": ".nii"}, "wanted the key 'labels' with a dict"),
        ("nnunet", {"labels": {"liver": 1}, "file_ending": 5}, "wanted the key 'file_ending' with a str"),
        ("msd", {"training": {"image": "a"}}, "wanted the key 'training' with a list"),
        ("msd", {"training": ["a.nii.gz"]}, "wanted image and label of each case, got 'a.nii.gz'"),
        ("msd", ["training"], "wanted the key 'training'"),
    ],
)
def test_a_description_of_another_form_is_one_line(tmp_path: Path, layout: str, description, words: str) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(DatasetError, match=words):
        find_cases(tmp_path, layout)


def test_a_copy_beside_ircads_folders_is_passed_over(tmp_path: Path) -> None:
    write_ircad(tmp_path)
    names = [case.name for case in find_cases(tmp_path, "ircad")]
    for copy in ("3Dircadb1.1 copy", "3Dircadb1."):
        (tmp_path / copy).mkdir()
    assert [case.name for case in find_cases(tmp_path, "ircad")] == names


def test_a_name_that_is_no_unicode_is_one_line(tmp_path: Path) -> None:
    """SimpleITK would end the process; such names come out of archives that were packed elsewhere."""
    try:
        write(image_of(LABELS), tmp_path / "a.nii.gz")
        (tmp_path / "a.nii.gz").rename(tmp_path / "caf\udce9.nii.gz")
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no such names")
    with pytest.raises(DatasetError, match=r"wanted names in valid Unicode, got 'caf\\udce9'"):
        find_cases(tmp_path)
    with pytest.raises(ImageError, match=r"wanted a file name in valid Unicode, got 'caf\\udce9\.nii\.gz'"):
        read_image(tmp_path / "caf\udce9.nii.gz")
    with pytest.raises(OutputError, match="wanted a folder with a name in valid Unicode"):
        check_writable(tmp_path / "\udce9")


def test_a_full_disk_leaves_no_half_data_set(tmp_path: Path, monkeypatch) -> None:
    write_nifti(tmp_path / "in")

    class FullDisk:
        def compressobj(self, *settings: int) -> object:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(output, "fastest_zlib", FullDisk)
    with pytest.raises(OutputError, match="No space left on device"):
        write_nnunet(find_cases(tmp_path / "in"), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
