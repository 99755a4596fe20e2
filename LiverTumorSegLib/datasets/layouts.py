"""How data sets lie on disk, one function a layout: a folder -> its cases; no image is opened.

Patients, so that no patient ever stands in two folds: the training cases of LiTS and of MSD's Task03 are the same
scans under the same numbers (Antonelli et al., The Medical Segmentation Decathlon, 2022). LiTS also holds 3D-IRCADb:
its cases 28 to 44 are 3D-IRCADb's 1 to 17, and 18 to 20 are among 45 to 48 (users who compared them disagree on which;
those seven names therefore count as one patient).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import is_unicode
from ..segmentation import LIVER, TUMOUR
from .cases import DatasetCase, DatasetError, image_files, meanings, plain_name, read_labels, read_mapped_labels, stem
from .dicom_masks import read_chaos_labels, read_ircad_labels

Layout = Callable[[Path], list[DatasetCase]]


def lits(folder: Path) -> list[DatasetCase]:
    """LiTS: `volume-N.nii` and `segmentation-N.nii`, packed or not, in the folder or below it."""
    volumes, labels = _numbered(folder, "volume-"), _numbered(folder, "segmentation-")
    return [
        DatasetCase(f"lits-{n}", _lits_patient(n), volumes.get(n), labels.get(n), read_labels)
        for n in sorted(volumes.keys() | labels.keys())
    ]


def msd(folder: Path) -> list[DatasetCase]:
    """MSD Task03: `dataset.json` with "training", a list of image and label files (`liver_N.nii.gz`)."""
    cases = []
    for entry in _dataset_json(folder, training=list)["training"]:
        if not isinstance(entry, dict) or not entry.keys() >= {"image", "label"}:
            raise DatasetError(f"{folder / 'dataset.json'}: wanted image and label of each case, got {entry!r}")
        scan, labels = (folder / str(entry[key]) for key in ("image", "label"))
        name = stem(scan)
        number = re.fullmatch(r"liver_(\d+)", name)
        patient = _lits_patient(int(number[1])) if number else f"msd-{name}"
        cases.append(DatasetCase(name, patient, _there(scan), _there(labels), read_labels))
    return cases


def nnunet(folder: Path) -> list[DatasetCase]:
    """nnU-Net v2 raw: `imagesTr/CASE_0000.EXT`, `labelsTr/CASE.EXT`, `dataset.json` with the labels' names.

    The first channel is the scan, others are further phases by their names in "channel_names". Of the labels, the liver
    and its vessels become 1, and tumours, lesions and their types 2, as `cases.meanings` tells by their names. Cases
    named `liver_N`, as converted from MSD, keep MSD's patients; "patients" in `dataset.json`, which our own writer adds
    with "scanners", goes before.
    """
    description = _dataset_json(folder, labels=dict, file_ending=str)
    patients, scanners = description.get("patients"), description.get("scanners")
    ending, values = str(description["file_ending"]), _label_values(folder, description["labels"])
    channels = _channel_names(description.get("channel_names"))
    names_of = _value_names(description["labels"])
    images = {path.name[: -len(f"_0000{ending}")]: path for path in (folder / "imagesTr").glob(f"*_0000{ending}")}
    labels = {path.name[: -len(ending)]: path for path in (folder / "labelsTr").glob(f"*{ending}")}
    cases = []
    for name in sorted(images.keys() | labels.keys()):
        number = re.fullmatch(r"liver_(\d+)", name)
        patient = _lits_patient(int(number[1])) if number else name
        patient = str(patients.get(name, patient)) if isinstance(patients, dict) else patient
        read = partial(read_mapped_labels, values=values)
        files = {channel: folder / "imagesTr" / f"{name}_{n:04d}{ending}" for n, channel in channels.items()}
        phases = {channel: path for channel, path in files.items() if path.exists()}
        found = images.get(name), labels.get(name)
        scanner = str(scanners.get(name, "")) if isinstance(scanners, dict) else ""
        cases.append(DatasetCase(name, patient, *found, read, scanner, phases, names_of))
    return cases


def ircad(folder: Path) -> list[DatasetCase]:
    """3D-IRCADb-01: `3Dircadb1.N/PATIENT_DICOM` and `MASKS_DICOM`, each a folder or still a .zip."""
    cases = []
    homes = {int(path.suffix[1:]): path for path in folder.glob("3Dircadb1.*") if path.suffix[1:].isdecimal()}
    for number, path in sorted(homes.items()):
        patient = _lits_patient(number + 27) if number < 18 else _lits_patient(45)
        scan, masks = (_there(path / name) or _there(path / f"{name}.zip") for name in ("PATIENT_DICOM", "MASKS_DICOM"))
        cases.append(DatasetCase(f"ircad-{number}", patient, scan, masks, read_ircad_labels))
    return cases


def chaos(folder: Path) -> list[DatasetCase]:
    """CHAOS: `CT/N` and `MR/N/T2SPIR` with `DICOM_anon` and `Ground`, in the folder or below it; livers only."""
    cases = []
    for ground in sorted(folder.rglob("Ground")):
        home = ground.parent
        parts = home.parts
        if "CT" in parts[-2:]:
            name, liver = f"ct-{home.name}", (1, 255)
        elif home.name == "T2SPIR":
            name, liver = f"mr-{home.parent.name}", (55, 70)  # as CHAOS' own instructions give the liver's grey values
        else:
            continue
        read = partial(read_chaos_labels, liver=liver)
        cases.append(DatasetCase(f"chaos-{name}", f"chaos-{name}", _there(home / "DICOM_anon"), ground, read))
    return cases


def nifti(folder: Path) -> list[DatasetCase]:
    """A plain folder, in the first of these forms that fits; each case is a patient of its own.

    - `CASE_labels.EXT` beside `CASE.EXT` (what `livertumorseg synthesise` writes);
    - `labels/CASE.EXT` and `images/CASE.EXT`;
    - `CASE/segmentation.nii.gz` (what `livertumorseg segment -o` writes), without scans;
    - `CASE.EXT`: label maps without scans.
    """
    files = _by_name(folder)
    marked = {name.removesuffix("_labels") for name in files if name.endswith("_labels")}
    if marked:
        names = sorted(marked | {name for name in files if not name.endswith("_labels")})
        return [_plain(name, files.get(name), files.get(f"{name}_labels")) for name in names]
    if (folder / "labels").is_dir():
        labels, scans = (_by_name(folder / part) for part in ("labels", "images"))
        return [_plain(name, scans.get(name), labels.get(name)) for name in sorted(labels.keys() | scans.keys())]
    if not files:
        found = sorted(folder.glob("*/segmentation.nii.gz"))
        return [_plain(path.parent.name, None, path) for path in found]
    return [_plain(name, None, path) for name, path in files.items()]


LAYOUTS: dict[str, Layout] = {
    "nifti": nifti,
    "lits": lits,
    "msd": msd,
    "nnunet": nnunet,
    "ircad": ircad,
    "chaos": chaos,
    "synthetic": nifti,
}


def find_cases(folder: Path, layout: str = "nifti") -> list[DatasetCase]:
    """The cases of a data set.

    Args:
        folder: its top.
        layout: a key of `LAYOUTS`.

    Raises:
        DatasetError: an unknown layout, no folder, two files of one case, no case at all, or a name that is no Unicode.
    """
    if layout not in LAYOUTS:
        raise DatasetError(f"layout: wanted one of {', '.join(LAYOUTS)}, got {layout!r}")
    if not folder.is_dir():
        raise DatasetError(f"{folder}: wanted a folder of cases, got {'a file' if folder.exists() else 'nothing'}")
    cases = LAYOUTS[layout](folder)
    if not cases:
        raise DatasetError(f"{folder}: wanted cases in the layout {layout!r}, got none")
    for case in cases:
        if not (is_unicode(case.name) and is_unicode(case.patient)):
            raise DatasetError(f"wanted names in valid Unicode, got {case.name!a}; rename it")
    return cases


def _plain(name: str, scan: Path | None, labels: Path | None) -> DatasetCase:
    return DatasetCase(name, name, scan, labels, read_labels)


def _by_name(folder: Path) -> dict[str, Path]:
    """A folder's image files by their names without extension."""
    files: dict[str, Path] = {}
    for path in image_files(folder):
        if (name := stem(path)) in files:
            raise DatasetError(f"{folder}: wanted one file of {name}, got {files[name].name} and {path.name}")
        files[name] = path
    return files


def _numbered(folder: Path, prefix: str) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for path in sorted(folder.rglob(f"{prefix}*")):
        number = re.fullmatch(r"(\d+)\.nii(\.gz)?", path.name.removeprefix(prefix))
        if number and int(number[1]) in found:
            raise DatasetError(f"{folder}: wanted one {prefix}{number[1]}, got {found[int(number[1])]} and {path}")
        if number:
            found[int(number[1])] = path
    return found


def _lits_patient(number: int) -> str:
    return "lits-45-to-48" if 45 <= number <= 48 else f"lits-{number}"


def _there(path: Path) -> Path | None:
    return path if path.exists() else None


def _dataset_json(folder: Path, **keys: type) -> dict[str, Any]:
    path = folder / "dataset.json"
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: wanted a description of the data set, got: {error}") from None
    for key, kind in keys.items():
        got = description.get(key) if isinstance(description, dict) else None
        if not isinstance(got, kind):
            raise DatasetError(f"{path}: wanted the key {key!r} with a {kind.__name__}, got {got!r}")
    return dict(description)


def _channel_names(described: object) -> dict[int, str]:
    """Number -> name of a nnU-Net data set's channels after the first."""
    pairs = described.items() if isinstance(described, dict) else ()
    return {int(n): str(name) for n, name in pairs if str(n).isdecimal() and int(n)}


def _value_names(labels: dict[str, Any]) -> dict[int, str]:
    """Value -> plain name, of the smallest group where nnU-Net's regions share it; 0 has none."""
    groups = [(plain_name(name), value if isinstance(value, list) else [value]) for name, value in labels.items()]
    groups.sort(key=lambda group: -len(group[1]))
    return {value: name for name, values in groups for value in values if value}


def _label_values(folder: Path, labels: dict[str, Any]) -> dict[int, int]:
    """Which of a nnU-Net data set's values are 1 liver and 2 tumour."""
    values: dict[int, int] = {}
    meant = meanings(labels)
    for name, value in labels.items():
        numbers = value if isinstance(value, list) else [value]
        if not all(type(number) is int for number in numbers):
            raise DatasetError(f"{folder / 'dataset.json'}: wanted names with whole numbers as labels, got {labels!r}")
        if meant.get(name) == TUMOUR:
            values |= dict.fromkeys(numbers, TUMOUR)
        elif meant.get(name) == LIVER:
            values |= {number: LIVER for number in numbers if number not in values}
    if LIVER not in values.values():
        raise DatasetError(f"{folder / 'dataset.json'}: wanted a label called liver, got {', '.join(labels)}")
    return values
