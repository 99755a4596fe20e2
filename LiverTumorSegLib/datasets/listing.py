"""A checked data set as a table, as JSON and as CSV."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from ..errors import OutputError
from ..evaluation.files import write_table
from ..evaluation.tables import Table
from ..output import aside, check_writable, publish
from .check import CheckedCase, Fingerprint
from .splits import Split, save_split

FILES = ("dataset.csv", "dataset.json")
SPLIT = "splits.json"
SCHEMA_VERSION = 1


def case_table(checked: Sequence[CheckedCase]) -> Table:
    """One row a case."""
    rows = tuple(
        (
            case.name,
            case.patient,
            case.modality or "–",
            case.scanner or "–",
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
    heads = (
        "case",
        "patient",
        "",
        "scanner",
        "voxels",
        "mm",
        "liver ml",
        "tumour ml",
        "lesions",
        "largest mm",
        "faults",
    )
    return Table(f"{len(checked)} cases", heads, rows)


def fingerprint_table(found: Fingerprint) -> Table:
    """The fingerprint, smallest, median and largest."""
    axes = zip("ijk", found.spacing_mm, found.size_voxels, strict=True)
    rows = [row for axis, spacing, size in axes for row in ((f"spacing {axis}, mm", *spacing), (f"size {axis}", *size))]
    rows += [(f"liver {axis}, mm", *extent) for axis, extent in zip("ijk", found.liver_extent_mm, strict=True)]
    rows += [("liver, ml", *found.liver_ml), ("lesions a case", *found.lesions_per_case)]
    rows += [("lesion diameter, mm", *found.lesion_diameter_mm)] if found.lesion_diameter_mm else []
    values = ", ".join(f"{name} %: {value:.4g}" for name, value in found.liver_intensity.items())
    sizes = ", ".join(f"{name}: {count}" for name, count in found.lesions_by_diameter.items())
    scanners = ", ".join(f"{name or 'unknown'}: {count}" for name, count in found.scanners.items())
    return Table(
        f"Fingerprint of {found.cases} cases, {found.patients} patients",
        ("", "smallest", "median", "largest"),
        tuple((str(row[0]), *(f"{value:.4g}" for value in row[1:])) for row in rows),
        (
            f"Intensities inside the liver: {values}; mean {found.liver_mean:.4g}, SD {found.liver_sd:.4g}.",
            f"Scanners: {scanners}.",
            f"{found.lesions} lesions ({sizes}); {found.cases_without_lesions} cases without.",
        ),
    )


def check_target(folder: Path, source: Path) -> None:
    """Make sure, before the long work, that a listing can be written and replaces no data set's own description.

    Args:
        folder: where the listing is to go.
        source: the data set.

    Raises:
        OutputError: the folder cannot be written to, has a folder where a file is to go, or is the data set's.
    """
    check_writable(folder)
    for name in (*FILES, SPLIT):
        if (folder / name).is_dir():
            raise OutputError(f"{folder / name}: wanted to write a file there, got a folder")
    if folder.resolve() == source.resolve():
        raise OutputError(
            f"{folder}: wanted another folder than the data set's, which may hold a {FILES[1]} of its own"
        )


def write_listing(
    checked: Sequence[CheckedCase], found: Fingerprint | None, folder: Path, split: Split | None = None
) -> list[Path]:
    """Write `dataset.csv`, `dataset.json` and, of a split, `splits.json` into a folder, which is made if need be.

    All of them are written, or none.

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
        with aside(folder) as private:
            fresh, earlier = private / "fresh", private / "earlier"
            fresh.mkdir()
            earlier.mkdir()
            flat = [{k: "; ".join(map(str, v)) if isinstance(v, tuple) else v for k, v in row.items()} for row in rows]
            write_table(flat, fresh / FILES[0])
            text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
            (fresh / FILES[1]).write_text(text, encoding="utf-8", newline="\n")
            if split:
                save_split(split, fresh / SPLIT)
            return publish(fresh, earlier, folder, (*FILES, SPLIT) if split else FILES)
    except OSError as error:
        raise OutputError(f"{folder}: wanted to write the listing, got: {error.strerror}") from error


def _row(case: CheckedCase) -> dict[str, object]:
    shown = (f.name for f in dataclasses.fields(case) if f.name not in ("intensities", "digest"))
    return {name: getattr(case, name) for name in shown}
