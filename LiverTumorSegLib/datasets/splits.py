"""Folds by patient, stratified by lesion load and scanner, as JSON that says which patient is where."""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import OutputError
from .cases import DatasetError
from .check import CheckedCase

SCHEMA_VERSION = 1
LOADS = (0, 2, 9)
"""Upper ends of the classes of lesion load: none, 1 or 2, 3 to 9, more."""


@dataclass(frozen=True)
class Split:
    """Who is in which fold.

    Attributes:
        seed: of the draw.
        patients: case -> patient.
        folds: the cases that each fold validates on; every case is in exactly one.
    """

    seed: int
    patients: dict[str, str]
    folds: tuple[tuple[str, ...], ...]

    def training(self, fold: int) -> tuple[str, ...]:
        """The cases that a fold trains on: those of all others."""
        return tuple(sorted(name for n, names in enumerate(self.folds) if n != fold for name in names))


def make_split(cases: Sequence[CheckedCase], folds: int = 5, seed: int = 0) -> Split:
    """Deal the patients into folds.

    Patients of one stratum (scanner, and the largest lesion load of their scans) are shuffled and dealt one by one to
    the fold that has the fewest of the stratum, then the fewest cases; so folds differ by at most one patient in every
    stratum, and no patient is in two.

    Args:
        cases: checked; those with faults are left out.
        folds: how many, at least 2.
        seed: of the draw.

    Raises:
        DatasetError: fewer than two folds, or fewer patients than folds.
    """
    good = sorted((case for case in cases if not case.faults), key=lambda case: case.name)
    owned: dict[str, list[CheckedCase]] = {}
    for case in good:
        owned.setdefault(case.patient, []).append(case)
    if len(owned) < 2:
        raise DatasetError(f"folds: wanted at least 2 patients with a scan and labels, got {len(owned)}")
    if not 2 <= folds <= len(owned):
        raise DatasetError(f"folds: wanted 2 to {len(owned)}, one a patient at most, got {folds}")
    strata: dict[tuple[str, int], list[str]] = {}
    for patient, scans in sorted(owned.items()):
        strata.setdefault((scans[0].scanner, max(_load(scan) for scan in scans)), []).append(patient)
    chance = random.Random(seed)
    dealt: list[list[str]] = [[] for _ in range(folds)]
    for _, patients in sorted(strata.items()):
        chance.shuffle(patients)
        counts = [0] * folds
        for patient in patients:
            fold = min(range(folds), key=lambda n: (counts[n], len(dealt[n]), n))
            counts[fold] += 1
            dealt[fold] += [scan.name for scan in owned[patient]]
    return Split(seed, {case.name: case.patient for case in good}, tuple(tuple(sorted(names)) for names in dealt))


def save_split(split: Split, path: Path) -> None:
    """Write a split, whole or not at all; its "folds" have the form of nnU-Net's splits_final.json.

    Raises:
        OutputError: it cannot be written.
    """
    document = {
        "schema_version": SCHEMA_VERSION,
        "seed": split.seed,
        "patients": split.patients,
        "folds": [{"train": split.training(n), "val": names} for n, names in enumerate(split.folds)],
    }
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    try:
        with tempfile.TemporaryDirectory(prefix=".livertumorseg-", dir=path.parent) as aside:
            fresh = Path(aside, path.name)
            fresh.write_text(text, encoding="utf-8", newline="\n")
            os.replace(fresh, path)
    except OSError as error:
        raise OutputError(f"{path}: wanted to write the split, got: {error.strerror}") from error


def load_split(path: Path) -> Split:
    """Read a split and make sure that no patient is in two folds.

    Raises:
        DatasetError: it cannot be read, is of another form, or a patient is in two folds.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        folds = tuple(tuple(str(name) for name in fold["val"]) for fold in document["folds"])
        patients = {str(name): str(patient) for name, patient in document["patients"].items()}
        seed = int(document["seed"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise DatasetError(f"{path.name}: wanted a split, got: {reason}") from None
    if len(folds) < 2:
        raise DatasetError(f"{path.name}: wanted a split of at least 2 folds, got {len(folds)}")
    home: dict[str, int] = {}
    for number, names in enumerate(folds):
        for name in names:
            patient = patients.get(name)
            if patient is None:
                raise DatasetError(f"{path.name}: wanted a patient for every case, got none for {name}")
            if home.setdefault(patient, number) != number:
                raise DatasetError(f"{path.name}: wanted every patient in one fold, got {patient} in two")
    return Split(seed, patients, folds)


def _load(case: CheckedCase) -> int:
    """The class of a scan's lesion load."""
    return sum(len(case.lesion_diameters_mm) > most for most in LOADS)
