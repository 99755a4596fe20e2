"""The files of an evaluation: all of them are written, or none; those of an earlier one are replaced together."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import OutputError, warn
from ..json_text import finite
from ..matching import RULES
from ..output import aside, check_writable, lesion_columns, publish
from .run import Evaluation
from .scores import MEASURES
from .summary import STRUCTURES, Summary
from .tables import Table

PAGE, REPORT, CASES, LESIONS, SUMMARY = (
    "evaluation.html",
    "evaluation.json",
    "cases.csv",
    "lesions.csv",
    "summary.csv",
)
FILES = (CASES, LESIONS, SUMMARY, PAGE, REPORT)
SCHEMA_VERSION = 1
_NEEDED = {"jinja2": "Jinja2", "PIL": "Pillow", "matplotlib": "Matplotlib"}

Row = dict[str, Any]


def check_request(directory: Path, comparing: bool) -> None:
    """Make sure, before the long work, that the results can be written and compared.

    Raises:
        OutputError: the folder cannot be written to, or SciPy is not installed and a comparison is wanted.
    """
    check_writable(directory)
    for name in FILES:
        if (directory / name).is_dir():
            raise OutputError(f"{directory / name}: wanted to write a file there, got a folder")
    if comparing and find_spec("scipy") is None:
        raise OutputError("a comparison needs SciPy: install it with: pip install 'LiverTumorSegLib[report]'")


def write_evaluation(
    evaluation: Evaluation, directory: Path, tables: Sequence[Table] = (), html: bool = True
) -> list[Path]:
    """Write tables, report and page into a folder, which is made when it does not exist.

    Args:
        evaluation: what to write.
        directory: where.
        tables: further ones for the page, as papers lay them out.
        html: also the page, which needs the extra `report`; without it, a warning and no page.

    Returns:
        The files, in the order of `FILES`.

    Raises:
        OutputError: the folder cannot be written to.
    """
    directory = Path(directory)
    summary = evaluation.summary if evaluation.cases else None
    try:
        with aside(directory) as folder:
            fresh, earlier = folder / "fresh", folder / "earlier"
            fresh.mkdir()
            earlier.mkdir()
            write_table(case_rows(evaluation), fresh / CASES)
            write_table(lesion_rows(evaluation), fresh / LESIONS)
            write_table(summary_rows(summary) if summary else (), fresh / SUMMARY)
            if html:
                _write_page(evaluation, summary, tables, fresh / PAGE)
            (fresh / REPORT).write_text(report_json(evaluation, summary), encoding="utf-8", newline="\n")
            return publish(fresh, earlier, directory, FILES)
    except OSError as error:
        raise OutputError(f"{directory}: wanted to write the evaluation, got: {error.strerror or error}") from error


def report_json(evaluation: Evaluation, summary: Summary | None) -> str:
    """Everything as JSON; what has no value is null."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "intended_use": "research only; not a medical device",
        "software": f"LiverTumorSeg {__version__}",
        "title": evaluation.title,
        "dataset": evaluation.dataset,
        "seed": evaluation.seed,
        "provenance": evaluation.provenance,
        "remarks": [dataclasses.asdict(remark) for remark in evaluation.remarks],
        "summary": dataclasses.asdict(summary) if summary else None,
        "froc": [dataclasses.asdict(point) for point in evaluation.froc],
        "against": evaluation.against,
        "comparison": [
            {"structure": structure, "measure": measure, **dataclasses.asdict(each)}
            for (structure, measure), each in evaluation.comparison.items()
        ],
        "cases": [dataclasses.asdict(case) for case in evaluation.cases],
    }
    return json.dumps(finite(document), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def case_rows(evaluation: Evaluation) -> Iterator[Row]:
    """One row a case, those that could not be judged too."""
    texts: dict[str, list[str]] = {}
    for remark in evaluation.remarks:
        texts.setdefault(remark.case, []).append(remark.text)
    for case in evaluation.cases:
        row: Row = {"case": case.name, "patient": case.patient, "evaluated": 1}
        for structure in STRUCTURES:
            score = getattr(case, structure)
            row |= {f"{structure}_{name}": score.values[name] for name in MEASURES}
            for name in ("shared_voxels", "reference_voxels", "predicted_voxels"):
                row[f"{structure}_{name}"] = getattr(score, name)
        row |= {"lesions": len(case.lesions), "predicted_lesions": len(case.predicted)}
        for rule in RULES:
            row[f"found_{rule}"] = sum(rule in lesion.found for lesion in case.lesions)
            row[f"false_{rule}"] = case.false_positives(rule)
        row |= {"burden": case.burden, "predicted_burden": case.predicted_burden}
        yield {**row, "remarks": "; ".join(texts.pop(case.name, ()))}
    for name, remarks in texts.items():
        yield {"case": name, "evaluated": 0, "remarks": "; ".join(remarks)}


def lesion_rows(evaluation: Evaluation) -> Iterator[Row]:
    """One row a lesion of the references, and one a predicted lesion."""
    for case in evaluation.cases:
        for scored in case.lesions:
            row: Row = {"case": case.name, "of": "reference", **lesion_columns(scored.lesion)}
            row |= {rule: int(rule in scored.found) for rule in RULES}
            row |= {"dice": scored.dice, "jaccard": scored.jaccard}
            if scored.partner:
                row |= {f"partner_{name}": scored.partner.values[name] for name in MEASURES}
            yield row
        for each in case.predicted:
            row = {"case": case.name, "of": "prediction", **lesion_columns(each.lesion)}
            yield row | {rule: int(rule in each.right) for rule in RULES}


def summary_rows(summary: Summary) -> Iterator[Row]:
    """One row a figure over all cases."""
    for mask in summary.masks:
        row = {"of": mask.structure, "figure": mask.measure, **dataclasses.asdict(mask.estimate)}
        yield row | {"median": mask.median, "least": mask.least, "most": mask.most}
    for name, figures in (("case_dice", summary.case_dice), ("global_dice", summary.global_dice)):
        for structure, estimate in figures.items():
            yield {"of": structure, "figure": name, **dataclasses.asdict(estimate)}
    for measure, estimate in summary.partners.items():
        yield {"of": "detected lesions", "figure": measure, **dataclasses.asdict(estimate)}
    for detection in summary.detections:
        for name in ("recall", "precision", "false_per_case", "dice", "jaccard"):
            row = {"of": f"lesions {detection.size}", "figure": name, "rule": detection.rule}
            yield row | dataclasses.asdict(getattr(detection, name))
    for name in ("burden_rmse", "patient_sensitivity", "patient_specificity"):
        yield {"of": "patients", "figure": name, **dataclasses.asdict(getattr(summary, name))}
    yield {"of": "patients", "figure": "burden_worst", "value": summary.burden_worst}
    for name in ("high", "low"):
        estimate = getattr(summary.axis_groups, name)
        yield {"of": f"lesions of {name} Dice", "figure": "long_axis_mm", **dataclasses.asdict(estimate)}
    for each in summary.lesion_counts:
        yield {"of": f"lesions {each.size}", "figure": f"count {each.type}".rstrip(), "value": each.count}
    if summary.costs:
        for name in ("parameters", "fused", "opening_seconds"):
            yield {"of": "bundle", "figure": name, "value": getattr(summary.costs, name)}
        yield {"of": "bundle", "figure": "seconds", **dataclasses.asdict(summary.costs.seconds)}


def write_table(rows: Iterator[Row] | Sequence[Row], path: Path) -> None:
    """Write rows as CSV under the union of their columns; NaN is left empty, figures keep six decimals."""
    lines = [{key: _cell(value) for key, value in row.items()} for row in rows]
    columns = list(dict.fromkeys(key for line in lines for key in line))
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(lines)


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else round(value, 6)
    return value


def _write_page(evaluation: Evaluation, summary: Summary | None, tables: Sequence[Table], path: Path) -> None:
    missing = [name for module, name in _NEEDED.items() if find_spec(module) is None]
    if missing:
        warn(f"no {PAGE}: {', '.join(missing)} not installed; pip install 'LiverTumorSegLib[report]'")
        return
    from .page import write_page

    write_page(evaluation, summary, tables, path)
