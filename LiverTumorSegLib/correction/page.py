"""A study's report: one HTML page without scripts, the same numbers as CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..resources import resource_path
from . import charts
from .agreement import agreement_rows
from .reading import Reading
from .results import session_row
from .study import Study
from .summary import MEASURES, OUTCOMES, PARTS, Finished, summarise

PAGE, NUMBERS = "report.html", "report.json"
SCHEMA_VERSION = 1


def write_study_report(study: Study, folder: Path) -> tuple[list[Path], dict[str, Any]]:
    """Work out a study's report and write it: all files, or none.

    Args:
        study: the study; unfinished is as good as finished.
        folder: where; made when it does not exist. Files of an earlier report are replaced.

    Returns:
        The files, the page first, and what `report.json` holds.

    Raises:
        OutputError: the folder cannot be written to, or Jinja or SciPy is not installed.
        ImageError: a corrected segmentation cannot be read.
    """
    reads = list(study.reads())

    def folder_of(each: Finished) -> Path:
        return study.session_folder(Reading(each.reader, each.case, each.arm, each.period, each.position))

    summary = summarise(study.manifest, reads, lambda arm, sessions: agreement_rows(sessions, folder_of))
    files = {PAGE: page_of(summary), NUMBERS: _json(summary)}
    files |= {f"{name}.csv": _csv(rows) for name, rows in tables_of(summary).items()}
    files["sessions.csv"] = _csv([session_row(read.document) for read in reads if read.document is not None])
    return _write_all(files, Path(folder)), summary


def page_of(summary: Mapping[str, Any]) -> str:
    """The report as HTML.

    Raises:
        OutputError: Jinja is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise OutputError(
            "a study's report needs jinja2: install it with: pip install 'LiverTumorSegLib[report]'"
        ) from error
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": _number, "p": _p_value}
    template = resource_path("study.html.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(summary, figures=_figures(summary))


def tables_of(summary: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The report's tables as rows: name -> rows."""
    return {
        "accuracy": [
            {"arm": arm, "segment": group, "measure": measure, **table[group][measure]}
            for arm, table in summary["accuracy"].items()
            for group in table
            for measure in MEASURES
        ],
        "times": [
            {"arm": arm, "part": part, **table[part]}
            for arm, table in summary["times"].items()
            for part in (*PARTS, "idle")
        ],
        "lesions": [
            {"arm": arm, "rule": rule, **{outcome: table[rule][outcome] for outcome in OUTCOMES}}
            for arm, table in summary["lesions"].items()
            for rule in table
        ],
        "time_saved": [
            {"baseline": each["baseline"], "arm": each["arm"], **row}
            for each in summary["saved"]
            for row in each["cases"]
        ],
        "agreement": [
            {"arm": arm, **row, "readers": " ".join(row["readers"])}
            for arm, each in summary["agreement"].items()
            for row in each["pairs"]
        ],
        "learning": [
            {"reader": reader, **point} for reader, each in summary["learning"].items() for point in each["points"]
        ],
        "left_out": list(summary["left_out"]),
    }


def _figures(summary: Mapping[str, Any]) -> dict[str, Any]:
    burden = summary["burden"]
    lesions, size = "lesions in the corrected segmentation", "long axis of the largest lesion, mm"
    return {
        "saved": [charts.pairs_by_case(each["cases"], each["baseline"], each["arm"]) for each in summary["saved"]],
        "times": charts.stacked_times(summary["times"]),
        "dice": {arm: charts.dice_bars(cases) for arm, cases in summary["dice_by_case"].items()},
        "by_lesions": charts.scatter({arm: each["lesions"]["points"] for arm, each in burden.items()}, lesions),
        "by_size": charts.scatter({arm: each["largest_mm"]["points"] for arm, each in burden.items()}, size),
        "learning": charts.curves(summary["learning"]),
    }


def _json(summary: Mapping[str, Any]) -> str:
    document = {"schema_version": SCHEMA_VERSION, "intended_use": "research only; not a medical device", **summary}
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    if rows:
        table.writeheader()
        table.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    return "" if value is None else round(value, 5) if isinstance(value, float) else value


def _write_all(files: Mapping[str, str], folder: Path) -> list[Path]:
    """Write everything aside, then move it out; what an earlier report left is replaced only then."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".report-", dir=folder))
        try:
            for name, text in files.items():
                (aside / name).write_text(text, encoding="utf-8", newline="\n")
            return [_moved(aside / name, folder / name) for name in files]
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"{folder}: wanted to write the study's report, got: {error.strerror}") from error


def _moved(source: Path, target: Path) -> Path:
    os.replace(source, target)
    return target


def _number(value: float | None, digits: int = 1) -> str:
    """A number with so many decimals and a true minus, a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def _p_value(value: float | None) -> str:
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def describe(summary: Mapping[str, Any]) -> Iterable[str]:
    """The report in a few lines for a terminal."""
    yield f"{summary['finished']} of {summary['planned']} readings finished"
    for arm, table in summary["times"].items():
        total = table["total"]
        if total["sessions"]:
            yield (
                f"{arm}: {total['median']:.1f} min a volume ({total['low']:.1f} to {total['high']:.1f}), "
                f"liver {table['liver']['median']:.1f}, tumour {table['tumour']['median']:.1f}"
            )
    for each in summary["saved"]:
        if each["difference"]:
            found = each["difference"]
            minutes, p = _number(found["median"]), _p_value(found["p_value"])
            yield f"{each['arm']} saves {minutes} min a volume against {each['baseline']}, p {p}"
