"""The page of an evaluation: one HTML file without scripts, everything inside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from ..errors import LiverTumorSegError
from ..resources import resource_path
from .figures import figures, worst_first
from .pictures import Picture, pictures
from .run import Evaluation
from .scores import CaseScore
from .summary import Summary
from .tables import (
    Table,
    comparison_table,
    froc_table,
    interval,
    number,
    patient_table,
    rule_table,
    size_table,
    voxel_table,
)

WORST_SHOWN = 6
LISTED_CASES = 300


def write_page(evaluation: Evaluation, summary: Summary | None, tables: Sequence[Table], path: Path) -> None:
    """Write the page.

    Args:
        evaluation: what is shown.
        summary: of its cases; None where no case could be judged.
        tables: further ones, as papers lay them out.
        path: of the file.
    """
    import jinja2

    template = resource_path("evaluation.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    ordered = sorted(evaluation.cases, key=worst_first)
    page = environment.from_string(template).render(
        evaluation=evaluation,
        software=f"LiverTumorSeg {__version__}",
        summary=summary,
        headlines=_headlines(summary) if summary else [],
        faults=[remark for remark in evaluation.remarks if not remark.evaluated],
        notes=[remark for remark in evaluation.remarks if remark.evaluated],
        figures=figures(evaluation, summary) if summary else [],
        worst=_worst(evaluation, ordered),
        tables=_tables(evaluation, summary) if summary else [],
        papers=tables,
        cases=[_case_row(case) for case in ordered[:LISTED_CASES]],
        unlisted=len(ordered[LISTED_CASES:]),
    )
    path.write_text(page, encoding="utf-8", newline="\n")


def _headlines(summary: Summary) -> list[tuple[str, str, str]]:
    """The four figures at the top: name, value, interval or explanation."""
    found = summary.detection("half")
    liver, tumour = (summary.mask(structure, "dice") for structure in ("liver", "tumour"))
    return [
        ("Liver Dice", number(liver.value), interval(liver)),
        ("Tumour Dice", number(tumour.value), interval(tumour)),
        ("Lesions found", f"{found.found} of {found.recall.count}", interval(found.recall)),
        ("False lesions a case", number(found.false_per_case.value, 2), interval(found.false_per_case, 2)),
    ]


def _tables(evaluation: Evaluation, summary: Summary) -> list[Table]:
    shown = [comparison_table(evaluation.comparison, evaluation.against)] if evaluation.comparison else []
    shown += [rule_table(summary), size_table(summary), size_table(summary, "volume"), voxel_table(summary)]
    shown += [froc_table(evaluation.froc)] if evaluation.froc else []
    return [*shown, patient_table(summary)]


def _worst(evaluation: Evaluation, ordered: Sequence[CaseScore]) -> list[tuple[CaseScore, list[Picture]]]:
    """The worst cases with their pictures; none where the files are gone."""
    shown = []
    for case in ordered[:WORST_SHOWN]:
        pair = evaluation.pairs.get(case.name)
        try:
            found = pictures(pair) if pair else []
        except LiverTumorSegError:  # read once already: moved since, which costs the picture and no figure
            found = []
        if found:
            shown.append((case, found))
    return shown


def _case_row(case: CaseScore) -> tuple[str, ...]:
    tumour = case.tumour.values if case.tumour.reference_voxels or case.tumour.predicted_voxels else {}
    found = sum("half" in lesion.found for lesion in case.lesions)
    nan = math.nan
    return (
        case.name,
        number(case.liver.values["dice"]),
        number(case.liver.values["assd_mm"], 2),
        number(case.liver.values["hd95_mm"], 1),
        number(tumour.get("dice", nan)),
        number(tumour.get("sensitivity", nan)),
        number(tumour.get("precision", nan)),
        f"{found} of {len(case.lesions)}",
        str(case.false_positives("half")),
        number(100 * case.burden, 2),
        number(100 * case.predicted_burden, 2),
    )
