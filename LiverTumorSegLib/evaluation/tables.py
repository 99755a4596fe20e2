"""Figures as rows and columns of text, for the terminal, the page and CSV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..matching import RULES
from .froc import FrocPoint, froc_score
from .sizes import DIAMETERS, VOLUMES
from .statistics import Comparison, Estimate, holm
from .summary import Summary

NAMES = {
    "dice": "Dice",
    "jaccard": "Jaccard",
    "volumetric_overlap_error": "VOE",
    "sensitivity": "Sensitivity",
    "precision": "Precision",
    "relative_volume_difference": "RVD",
    "volume_similarity": "VS",
    "assd_mm": "ASSD, mm",
    "rmsd_mm": "RMSD, mm",
    "hausdorff_mm": "HD, mm",
    "hd95_mm": "HD95, mm",
    "nsd_1mm": "NSD at 1 mm",
    "nsd_2mm": "NSD at 2 mm",
}
"""Measure -> what a table calls it."""

RULE_NAMES = {"overlap": "any overlap", "iou": "IoU > 0.5", "half": "half of the lesion"}


@dataclass(frozen=True)
class Table:
    """Text in rows and columns.

    Attributes:
        title: above it.
        columns: their heads; the first column names the row.
        rows: cells.
        notes: below it, one line each.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """Aligned for a terminal."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[n]) for line in lines) for n in range(len(self.columns))]
        shown = [
            "  ".join(c.ljust(w) if n == 0 else c.rjust(w) for n, (c, w) in enumerate(zip(line, widths, strict=True)))
            for line in lines
        ]
        return "\n".join([self.title, *(line.rstrip() for line in shown), *self.notes])


def number(value: float, digits: int = 3) -> str:
    """A figure with a fixed number of decimals and a real minus; a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def plus_minus(estimate: Estimate, digits: int = 3) -> str:
    """Mean ± sample SD; the mean alone where there is no SD."""
    mean, sd = number(estimate.value, digits), number(estimate.sd, digits)
    return mean if sd == "–" else f"{mean} ± {sd}"


def interval(estimate: Estimate, digits: int = 3) -> str:
    """The 95 % interval."""
    ends = number(estimate.low, digits), number(estimate.high, digits)
    return "–" if "–" in ends else f"{ends[0]} to {ends[1]}"


def with_interval(estimate: Estimate, digits: int = 3) -> str:
    """A figure with its 95 % interval."""
    ends = interval(estimate, digits)
    return number(estimate.value, digits) + ("" if ends == "–" else f" ({ends})")


def voxel_table(summary: Summary) -> Table:
    """Every voxel measure of liver and tumour."""
    rows = []
    for measure, name in NAMES.items():
        cells = [name]
        for structure in ("liver", "tumour"):
            found = next(m for m in summary.masks if (m.structure, m.measure) == (structure, measure))
            digits = 2 if measure.endswith("_mm") else 3
            cells += [
                plus_minus(found.estimate, digits),
                interval(found.estimate, digits),
                number(found.median, digits),
            ]
        rows.append(tuple(cells))
    counts = [summary.mask(structure, "dice").count for structure in ("liver", "tumour")]
    heads = ("mean ± SD", "95 % interval", "median")
    return Table(
        "Voxels",
        ("", *(f"{structure}: {head}" for structure in ("liver", "tumour") for head in heads)),
        tuple(rows),
        (
            f"Liver over {counts[0]} cases; tumour over the {counts[1]} with one in the reference or the prediction.",
            f"Global Dice: liver {with_interval(summary.global_dice['liver'])}, "
            f"tumour {with_interval(summary.global_dice['tumour'])}.",
            "Surfaces are border voxels by 18 neighbours (LiTS); NSD counts border voxels.",
        ),
    )


def rule_table(summary: Summary) -> Table:
    """Lesions under the three rules."""
    rows = []
    for rule in RULES:
        d = summary.detection(rule)
        rows.append(
            (
                RULE_NAMES[rule],
                f"{d.found} of {d.recall.count}",
                with_interval(d.recall),
                f"{d.right} of {d.precision.count}",
                with_interval(d.precision),
                number(d.f1),
                with_interval(d.false_per_case, 2),
            )
        )
    return Table(
        "Lesions",
        ("A lesion is found by", "found", "recall", "predicted right", "precision", "F1", "false a case"),
        tuple(rows),
    )


def size_table(summary: Summary, by: str = "diameter") -> Table:
    """Lesions by size, under the three rules.

    Args:
        summary: of all cases.
        by: "diameter" or "volume".
    """
    rows = []
    for size in DIAMETERS if by == "diameter" else VOLUMES:
        each = [summary.detection(rule, size.name) for rule in RULES]
        rows.append(
            (
                size.name,
                str(each[0].recall.count),
                *(number(d.recall.value) for d in each),
                *(number(d.precision.value) for d in each),
                with_interval(each[0].dice),
            )
        )
    heads = [f"{what}, {RULE_NAMES[rule]}" for what in ("recall", "precision") for rule in RULES]
    what = "longest axial diameter" if by == "diameter" else "volume"
    return Table(
        f"Lesions by {what}",
        (what, "lesions", *heads, "lesion Dice"),
        tuple(rows),
        ("Dice of a lesion with all predicted lesions that touch it; a missed lesion counts 0.",),
    )


def patient_table(summary: Summary) -> Table:
    """Burden and patients."""
    groups = summary.axis_groups
    return Table(
        "Patients",
        ("", "value", "over"),
        (
            ("Tumour burden, RMSE", with_interval(summary.burden_rmse, 4), f"{summary.burden_rmse.count} cases"),
            ("Tumour burden, worst", number(summary.burden_worst, 4), f"{summary.burden_rmse.count} cases"),
            _patients("Sensitivity for any lesion", summary.patient_sensitivity),
            _patients("Specificity for any lesion", summary.patient_specificity),
            ("Long axis where Dice ≥ 0.6, mm", with_interval(groups.high, 2), f"{groups.high.count} lesions"),
            ("Long axis where Dice < 0.6, mm", with_interval(groups.low, 2), f"{groups.low.count} lesions"),
        ),
        ("Burden is the tumours' share of the liver, 0 to 1. Long axes are the reference's, in 3D.",),
    )


def froc_table(points: Sequence[FrocPoint]) -> Table:
    """The FROC curve's points under the rule "half"."""
    chosen = [point for point in points if point.rule == "half"]
    rows = [
        (
            f"{point.factor:g}",
            f"{point.found} of {point.lesions}",
            number(point.sensitivity),
            number(point.false_per_case, 2),
            number(point.tumour_dice),
        )
        for point in chosen
    ]
    score = number(froc_score(chosen)) if chosen and chosen[0].lesions else "–"
    return Table(
        "Sensitivity factor",
        ("Factor", "found", "sensitivity", "false a case", "tumour Dice"),
        tuple(rows),
        (f"Found by half of the lesion. Mean sensitivity at 1/8 to 8 false lesions a case: {score}.",),
    )


def comparison_table(compared: dict[tuple[str, str], Comparison], against: str) -> Table:
    """This result against another; p-values by Wilcoxon, and adjusted by Holm for their number."""
    adjusted = holm([each.p for each in compared.values()])
    rows = []
    for ((structure, measure), each), p in zip(compared.items(), adjusted, strict=True):
        rows.append(
            (
                f"{structure}: {NAMES.get(measure, measure)}",
                number(each.first),
                number(each.second),
                with_interval(each.difference),
                str(each.difference.count),
                number(each.p, 4),
                number(p, 4),
            )
        )
    return Table(
        f"Against {against}",
        ("", against, "this", "difference", "cases", "p", "p, Holm"),
        tuple(rows),
        ("Paired over cases; two-sided Wilcoxon signed-rank test; the last column is adjusted for all rows.",),
    )


def _patients(name: str, estimate: Estimate) -> tuple[str, str, str]:
    return name, with_interval(estimate), f"{estimate.count} patients"
