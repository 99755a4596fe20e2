"""A checked data set as a table, as JSON and as CSV."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from ..errors import OutputError
from ..evaluation.files import write_table
from ..evaluation.tables import Table
from .check import CheckedCase, Fingerprint

FILES = ("dataset.csv", "dataset.json")
SCHEMA_VERSION = 1


def case_table(checked: Sequence[CheckedCase]) -> Table:
    """One row a case."""
    rows = tuple(
        (
            case.name,
            case.patient,
            case.modality or "–",
            "×".join(map(str, case.size_voxels)) or "–",
            "×".join(f"{step:.3g}" for step in case.spacing_mm) or "–",
            "–" if case.liver_ml is None else f"{case.liver_ml:.0f}",
            "–" if case.tumour_ml is None else f"{case.tumour_ml:.1f}",
            str(len(case.lesion_diameters_mm)),
            f"{max(case.lesion_diameters_mm):.0f}" if case.lesion_diameters_mm else "–",
            f"{len(case.faults)}" if case.faults else "",
        )
        for case in checked
    )
    heads = ("case", "patient", "", "voxels", "mm", "liver ml", "tumour ml", "lesions", "largest mm", "faults")
    return Table(f"{len(checked)} cases", heads, rows)


def fingerprint_table(found: Fingerprint) -> Table:
    """The fingerprint, smallest, median and largest."""
    axes = zip("ijk", found.spacing_mm, found.size_voxels, strict=True)
    rows = [row for axis, spacing, size in axes for row in ((f"spacing {axis}, mm", *spacing), (f"size {axis}", *size))]
    rows += [("liver, ml", *found.liver_ml), ("lesions a case", *found.lesions_per_case)]
    rows += [("lesion diameter, mm", *found.lesion_diameter_mm)] if found.lesion_diameter_mm else []
    values = ", ".join(f"{name} %: {value:.4g}" for name, value in found.liver_intensity.items())
    sizes = ", ".join(f"{name}: {count}" for name, count in found.lesions_by_diameter.items())
    return Table(
        f"Fingerprint of {found.cases} cases, {found.patients} patients",
        ("", "smallest", "median", "largest"),
        tuple((str(row[0]), *(f"{value:.4g}" for value in row[1:])) for row in rows),
        (
            f"Intensities inside the liver: {values}; mean {found.liver_mean:.4g}, SD {found.liver_sd:.4g}.",
            f"{found.lesions} lesions ({sizes}); {found.cases_without_lesions} cases without.",
        ),
    )


def write_listing(checked: Sequence[CheckedCase], found: Fingerprint | None, folder: Path) -> list[Path]:
    """Write `dataset.csv` and `dataset.json` into a folder, which is made when it does not exist.

    Raises:
        OutputError: the folder cannot be written to.
    """
    rows = [_row(case) for case in checked]
    document = {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": dataclasses.asdict(found) if found else None,
        "cases": rows,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        flat = [{key: "; ".join(map(str, v)) if isinstance(v, tuple) else v for key, v in row.items()} for row in rows]
        write_table(flat, folder / FILES[0])
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        (folder / FILES[1]).write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise OutputError(f"{folder}: wanted to write the listing, got: {error.strerror}") from error
    return [folder / name for name in FILES]


def _row(case: CheckedCase) -> dict[str, object]:
    shown = (f.name for f in dataclasses.fields(case) if f.name not in ("intensities", "digest"))
    return {name: getattr(case, name) for name in shown}
