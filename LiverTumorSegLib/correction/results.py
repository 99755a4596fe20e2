"""The files of one finished session: `session.json`, the corrected segmentation and a row of `sessions.csv`.

All of them are written, or none: they are made in a private folder and moved out of it when the last one is complete.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from ..errors import OutputError, SessionError
from ..output import write_seg_nrrd
from .account import Account
from .journal_lines import SESSION, Contents
from .lock import waiting_lock

CORRECTED = "corrected.seg.nrrd"
TABLE = "sessions.csv"
SCHEMA_VERSION = 1

Column = Callable[[Mapping[str, Any]], object]


def _of_reading(name: str) -> Column:
    return lambda document: document["reading"][name]


def _lesion_count(rule: str, outcome: str) -> Column:
    return lambda document: document["lesion_counts"][rule][outcome]


def _minutes(*path: str) -> Column:
    def column(document: Mapping[str, Any]) -> object:
        value: Any = document["times"]
        for name in path:
            value = value[name]
        return round(value / 60_000, 4)

    return column


def _measure(group: str, name: str) -> Column:
    def column(document: Mapping[str, Any]) -> object:
        value = document["comparison"][group][name]
        return round(value, 5) if isinstance(value, float) else value

    return column


# One line a column, over what `session.json` holds.
COLUMNS: dict[str, Column] = {
    "session": lambda d: d["session"],
    **{name: _of_reading(name) for name in ("reader", "case", "arm", "period", "position")},
    "started_utc": lambda d: d["started_utc"],
    "finished_utc": lambda d: d["finished_utc"],
    "whole_min": _minutes("whole_ms"),
    "active_min": _minutes("active_ms"),
    "editing_min": _minutes("editing_ms"),
    "reviewing_min": _minutes("reviewing_ms"),
    "idle_min": _minutes("idle_ms"),
    "paused_min": _minutes("paused_ms"),
    "liver_min": _minutes("active_by_group_ms", "liver"),
    "tumour_min": _minutes("active_by_group_ms", "tumour"),
    "no_segment_min": _minutes("active_by_group_ms", "none"),
    "strokes": lambda d: sum(effort["strokes"] for effort in d["effort"].values()),
    "recoveries": lambda d: d["recoveries"],
    "clock_gaps": lambda d: len(d["gaps"]),
    **{
        f"{group}_{name}": _measure(group, name)
        for group in ("liver", "tumour")
        for name in (
            *("dice", "sensitivity", "precision", "assd_mm", "hd95_mm", "start_ml", "corrected_ml"),
            *("voxels_added", "voxels_removed", "added_ml", "removed_ml"),
        )
    },
    "lesions": lambda d: len(d["lesions"]),
    **{
        f"{outcome}_{rule}": _lesion_count(rule, outcome)
        for rule in ("half", "overlap", "iou")
        for outcome in ("found", "missed", "false_positive", "split", "merged")
    },
}


def write_session(
    folder: Path,
    document: Mapping[str, Any],
    corrected: sitk.Image,
    algorithm_types: Mapping[int, str],
    seal: Callable[[str], dict[str, Any]],
) -> Path:
    """Write a session's results into its folder, and its row into `sessions.csv` in the folder above.

    Args:
        folder: the session's.
        document: what `session.json` shall hold; the version of its schema, the checksum of the corrected
            segmentation's file and the journal's seal are added.
        corrected: the labels that the reader leaves.
        algorithm_types: label -> AUTOMATIC, SEMIAUTOMATIC or MANUAL, for DICOM.
        seal: closes the journal with the checksum of the results, and returns its length and its own checksum; called
            when all else is ready.

    Returns:
        The path of `session.json`, which appears last.

    Raises:
        OutputError: something cannot be written; then nothing is.
    """
    try:
        with waiting_lock(folder.parent / f".{TABLE}.lock", TABLE):
            aside = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
            try:
                name = f"LiverTumorSeg, corrected by reader {document['reading']['reader']}"
                write_seg_nrrd(corrected, aside / CORRECTED, algorithm_name=name, algorithm_types=algorithm_types)
                _write_text(aside / TABLE, _table(folder.parent / TABLE, document))
                whole = {"schema_version": SCHEMA_VERSION, **document, "corrected_sha256": _sha256(aside / CORRECTED)}
                whole["journal"] = seal(results_sha256(whole))
                _write_text(aside / SESSION, json.dumps(whole, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
                _publish(aside, folder)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"{folder.name}: wanted to write the session's results, got: {error.strerror}") from error
    return folder / SESSION


def results_sha256(document: Mapping[str, Any]) -> str:
    """The checksum of all that `session.json` says, but for the journal's seal; the journal's last line keeps it."""
    said = {name: value for name, value in document.items() if name != "journal"}
    text = json.dumps(said, sort_keys=True, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_results(folder: Path, account: Account, journal: Contents) -> dict[str, Any]:
    """A finished session's `session.json`, checked against its journal and the file of the corrected segmentation.

    Raises:
        SessionError: something was changed since, or is missing.
    """
    try:
        document = json.loads((folder / SESSION).read_text(encoding="utf-8"))
        seal, corrected = document["journal"], document["corrected_sha256"]
        finish = journal.lines[-1].get("detail")
        for what, wanted, got in (
            ("the journal's length and checksum", {"lines": len(journal.lines), "sha256": journal.sha256}, seal),
            ("a journal that ends with the results", "finished", account.state),
            ("what was written when the session ended", finish, results_sha256(document)),
            ("the corrected segmentation that was written then", corrected, _sha256(folder / CORRECTED)),
        ):
            if wanted != got:
                raise SessionError(f"{SESSION}: wanted {what}, got another")
    except OSError as error:
        raise SessionError(f"{Path(error.filename).name}: wanted to read it, got: {error.strerror}") from error
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise SessionError(f"{SESSION}: wanted a finished session, got: {error!r}") from error
    return document


def session_row(document: Mapping[str, Any]) -> dict[str, object]:
    """A session as a row of `sessions.csv`: column -> value, "" where there is none."""
    return {name: "" if (value := column(document)) is None else value for name, column in COLUMNS.items()}


def _table(path: Path, document: Mapping[str, Any]) -> str:
    """`sessions.csv` with this session's row at its end."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n", restval="", extrasaction="ignore")
    table.writeheader()
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            table.writerows(row for row in csv.DictReader(file) if row.get("session") != document["session"])
    table.writerow(session_row(document))
    return text.getvalue()


def _publish(aside: Path, folder: Path) -> None:
    """Move the files out, `session.json` last; when one cannot be moved, put back what was there."""
    table = folder.parent / TABLE
    earlier = table.read_bytes() if table.exists() else None
    try:
        for path in (folder / CORRECTED, table, folder / SESSION):
            os.replace(aside / path.name, path)
    except OSError:
        (folder / CORRECTED).unlink(missing_ok=True)
        if earlier is None:
            table.unlink(missing_ok=True)
        else:
            table.write_bytes(earlier)
        raise


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_text(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
