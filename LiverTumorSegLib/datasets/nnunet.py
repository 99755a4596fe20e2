"""A data set written as nnU-Net v2 wants its raw data, so that its own training can be run beside ours."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import ImageError, OutputError
from ..output import check_writable, write_nifti
from .cases import DatasetCase

LABELS = {"background": 0, "liver": 1, "tumour": 2}


def write_nnunet(
    cases: Sequence[DatasetCase],
    folder: Path,
    modality: str = "CT",
    progress: Callable[[str, float], None] | None = None,
) -> list[tuple[str, str]]:
    """Write `imagesTr`, `labelsTr` and `dataset.json`; `layouts.nnunet` reads them back, with their patients.

    The folder is there whole or not at all. CT is written in HU, as `read_image` gives it.

    Args:
        cases: of a data set.
        folder: for nnU-Net named DatasetNNN_Name; must not exist.
        modality: name of the only channel; "CT" makes nnU-Net normalise by the data set's intensities.
        progress: told the case that is done and the share of all.

    Returns:
        (case, what was wrong) of those that could not be read and were left out.

    Raises:
        OutputError: the folder exists or cannot be written.
    """
    if folder.exists():
        raise OutputError(f"{folder}: wanted a folder that does not exist yet, got one that does")
    check_writable(folder)
    left_out: list[tuple[str, str]] = []
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".livertumorseg-", dir=folder.parent))
        try:
            written = [
                case for n, case in enumerate(cases, 1) if _write_case(case, aside, left_out, progress, n / len(cases))
            ]
            _write_description(written, aside, modality)
            aside.chmod(0o755)
            aside.rename(folder)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
    except OSError as error:
        raise OutputError(f"{folder}: wanted to write the data set, got: {error.strerror or error}") from error
    return left_out


def _write_case(
    case: DatasetCase,
    folder: Path,
    left_out: list[tuple[str, str]],
    progress: Callable[[str, float], None] | None,
    share: float,
) -> bool:
    """Whether the case could be read; then it is written."""
    try:
        scan, labels = case.read_scan(), case.read_labels()
    except ImageError as error:
        left_out.append((case.name, str(error)))
        return False
    for part, image, name in (("imagesTr", scan, f"{case.name}_0000"), ("labelsTr", labels, case.name)):
        (folder / part).mkdir(exist_ok=True)
        write_nifti(image, folder / part / f"{name}.nii.gz")
    if progress:
        progress(case.name, share)
    return True


def _write_description(cases: Sequence[DatasetCase], folder: Path, modality: str) -> None:
    description = {
        "channel_names": {"0": modality},
        "labels": LABELS,
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
        "patients": {case.name: case.patient for case in cases},
        "scanners": {case.name: scanner for case in cases if (scanner := case.find_scanner())},
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8", newline="\n")
