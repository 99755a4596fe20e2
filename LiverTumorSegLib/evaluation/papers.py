"""Tables laid out as the LiTS challenge and the five papers print theirs.

A paper's own figures stand beside ours only where the user says that the cases are the paper's; otherwise a line says
what the paper's data were. None of the papers publishes which cases it tested on.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

from .statistics import Estimate
from .summary import DIAMETERS, VOLUMES, Summary
from .tables import Table, number, plus_minus

Row = tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """One paper's way to print.

    Attributes:
        source: authors' short name and table.
        data: what the paper tested on.
        tables: of a summary.
        printed: the paper's own rows, one tuple a table.
    """

    source: str
    data: str
    tables: Callable[[Summary], list[Table]]
    printed: tuple[tuple[Row, ...], ...] = ()


def paper_tables(key: str, summary: Summary, same_data: bool = False) -> list[Table]:
    """The tables of one paper.

    Args:
        key: of `LAYOUTS`.
        summary: of all cases.
        same_data: whether the cases are those of the paper, so that its figures belong beside ours.
    """
    layout = LAYOUTS[key]
    tables = layout.tables(summary)
    shown = same_data and bool(layout.printed)
    if shown:
        both = zip(tables, layout.printed, strict=True)
        tables = [dataclasses.replace(table, rows=(*table.rows, *theirs)) for table, theirs in both]
    reason = "shown because the cases were said to be the same" if shown else "not shown, since these are other data"
    note = f"Laid out as {layout.source}. Its figures were computed on {layout.data}; they are {reason}."
    return [*tables[:-1], dataclasses.replace(tables[-1], notes=(*tables[-1].notes, note))]


def _lits(summary: Summary) -> list[Table]:
    """Segmentation and detection (Bilic et al., 2023, tables of results)."""
    names = ("volumetric_overlap_error", "relative_volume_difference", "assd_mm", "hausdorff_mm", "rmsd_mm")
    rows = []
    for structure in ("liver", "tumour"):
        own = {name: summary.mask("liver", name) for name in names} if structure == "liver" else summary.partners
        dices = (summary.case_dice[structure], summary.global_dice[structure])
        rows.append((structure, *(number(d.value) for d in dices), *(number(own[name].value) for name in names)))
    detection = tuple(
        (f"overlap {bound}", number(d.precision.value), number(d.recall.value), number(d.f1))
        for bound, d in (("> 0", summary.detection("overlap")), ("IoU > 0.5", summary.detection("iou")))
    )
    burden = (("tumour burden", number(summary.burden_rmse.value, 4), number(summary.burden_worst, 4)),)
    heads = ("", "Dice per case", "Dice global", "VOE", "RVD", "ASSD, mm", "MSD, mm", "RMSD, mm")
    partners = f"Tumour VOE to RMSD over the {summary.partners['dice'].count} lesions detected at IoU > 0.5."
    return [
        Table("LiTS: segmentation", heads, tuple(rows), (partners, "Dice per case is 1 where both are empty.")),
        Table("LiTS: lesion detection", ("", "precision", "recall", "F1"), detection),
        Table("LiTS: tumour burden", ("", "RMSE", "maximum"), burden),
    ]


def _s0(summary: Summary) -> list[Table]:
    """Tables 1 and 3; F1 and recall of lesions, found by any overlap, as S0 does not say what finds one."""
    found = summary.detection("overlap")
    voxels = [number(summary.mask("tumour", name).value) for name in ("dice", "jaccard")]
    similarity = number(summary.mask("tumour", "volume_similarity").value)
    overall = (("ours", *voxels, number(found.f1), similarity, number(found.recall.value)),)
    by_size = []
    for size in DIAMETERS[1:]:
        d = summary.detection("overlap", size.name)
        by_size.append(("ours", size.name, *(number(v) for v in (d.dice.value, d.jaccard.value, d.f1, d.recall.value))))
    note = "F1 and recall are of lesions found by any overlap. Dice and IoU by size are of single lesions."
    return [
        Table("S0, table 1", ("Method", "Dice", "IOU", "F1-Score", "VS", "Recall"), overall, (note,)),
        Table("S0, table 3", ("Method", "Diameter", "Dice", "IOU", "F1-Score", "Recall"), tuple(by_size), (note,)),
    ]


def _s1(summary: Summary) -> list[Table]:
    """Table 2, and figure 8's confusion matrix of lesions."""
    names = ("sensitivity", "precision", "dice")
    rows = tuple(
        (title, *(plus_minus(summary.mask(structure, name)) for name in names))  # type: ignore[arg-type]
        for structure, title in (("liver", "Liver"), ("tumour", "Tumors"))
    )
    d = summary.detection("half")
    matrix = (("tumor", str(d.found), str(d.missed)), ("no tumor", str(d.false), "–"))
    return [
        Table("S1, table 2", ("Subject", "Sensitivity", "Precision", "Dice"), rows),
        Table(
            "S1, figure 8",
            ("In the reference", "predicted", "not predicted"),
            matrix,
            ("A lesion is found when half of it is. S1's own tumour Dice leaves out tumours that were missed.",),
        ),
    ]


def _s2(summary: Summary) -> list[Table]:
    """Tables 7, 8 and 6."""
    liver = [number(summary.mask("liver", name).value) for name in ("dice", "assd_mm")]
    names = ("dice", "assd_mm", "relative_volume_difference", "precision", "sensitivity")
    tumour = [number(summary.mask("tumour", name).value) for name in names]
    groups = [_length(estimate) for estimate in (summary.axis_groups.low, summary.axis_groups.high)]
    return [
        Table("S2, table 7: liver", ("Model", "Dice", "ASD"), (("ours", *liver),)),
        Table("S2, table 8: tumour", ("Model", "Dice", "ASD", "RVD", "Precision", "Recall"), (("ours", *tumour),)),
        Table(
            "S2, table 6: mean long axis, mm",
            ("Model", "Dice < 0.6", "Dice ≥ 0.6"),
            (("ours", *groups),),
            ("By each lesion's own Dice; S2 does not say whose Dice makes the groups.",),
        ),
    ]


def _s3(summary: Summary) -> list[Table]:
    """Table II by volume instead of type, and table IV."""
    rows = []
    for size in VOLUMES[1:]:
        d = summary.detection("overlap", size.name)
        rows.append((size.name, str(d.missed), str(d.false), _percent(d.precision.value), _percent(d.recall.value)))
    shares = (summary.patient_sensitivity.value, summary.patient_specificity.value)
    return [
        Table(
            "S3, table II",
            ("Volume", "FN", "FP", "Precision", "Recall"),
            tuple(rows),
            ("Lesions of 0.5 cm³ and more, found by any overlap. They carry no type, so none can be false by label.",),
        ),
        Table(
            "S3, table IV",
            ("", "Sensitivity", "Specificity"),
            (("ours", *(_percent(s) for s in shares)),),
            ("A patient is positive with any lesion; S3's are positive with a malignant one.",),
        ),
    ]


def _s4(summary: Summary) -> list[Table]:
    """Table 1."""
    return [
        Table("S4, table 1", ("Method", "Dice per case"), (("ours", number(summary.mask("tumour", "dice").value)),))
    ]


def _length(estimate: Estimate) -> str:
    return f"{number(estimate.value, 2)} ({estimate.count} lesions)"


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}%"


LAYOUTS = {
    "lits": Layout("LiTS (Bilic et al., 2023)", "70 cases whose references are hidden", _lits),
    "S0": Layout(
        "S0, tables 1 and 3",
        "44 delayed-phase MR scans of its own",
        _s0,
        (
            (("S0, proposed", "0.869", "0.778", "0.897", "0.910", "0.867"),),
            (
                ("S0, proposed", "5–10 mm", "0.532", "0.409", "0.785", "0.761"),
                ("S0, proposed", "10–30 mm", "0.561", "0.464", "0.912", "0.909"),
                ("S0, proposed", "> 30 mm", "0.889", "0.831", "1.000", "1.000"),
            ),
        ),
    ),
    "S1": Layout(
        "S1, table 2 and figure 8",
        "10 T1-weighted MR scans of its own (test set #1)",
        _s1,
        (
            (
                ("Liver, S1", "0.988 ± 0.003", "0.903 ± 0.019", "0.944 ± 0.009"),
                ("Tumors, S1", "0.832 ± 0.163", "0.699 ± 0.124", "0.780 ± 0.119"),
            ),
            (("tumor, S1", "15", "2"),),
        ),
    ),
    "S2": Layout(
        "S2, tables 6 to 8",
        "20 cases of LiTS that it does not name",
        _s2,
        ((("S2", "0.972", "1.263"),), (("S2", "0.729", "1.012", "–", "0.564", "–"),), (("S2", "18.16", "41.83"),)),
    ),
    "S3": Layout(
        "S3, tables II and IV",
        "331 four-phase CT scans of its own",
        _s3,
        ((("S3, High+ReCls, all", "40", "30", "82.5%", "81.0%"),), (("S3, High+ReCls", "99.2%", "97.1%"),)),
    ),
    "S4": Layout("S4, table 1", "20 cases of LiTS with tumours that it does not name", _s4, ((("S4", "0.665"),),)),
}
"""What can be asked for -> how it is printed."""
