"""S3, lesions with types in several phases: tables I to V; without types, what of them can be said of any lesion."""

from __future__ import annotations

from collections.abc import Mapping

from ..sizes import VOLUMES
from ..summary import Summary
from ..tables import Table
from ..typed import TypedCounts, TypedSummary
from .layout import Layout, percent
from .s3_printed import PRINTED

# S3 leaves out lesions under 0.5 cm³.
CLASSES = VOLUMES[1:]

_SECOND = "S3, table II"
_MERGED = "Malignant types count as one there, and benign lesions called malignant do not count."
_FORMULAS = "Recall is TP / (TP + FN + FL), precision TP / (TP + FP + FL of other types), as table V computes them."
_FOUND = "Lesions of 0.5 cm³ and more, found by any overlap."
_SCREENING = "Of predictions from the plain phase alone it is table III."


def tables(summary: Summary) -> list[Table]:
    """Lesions by volume and type, detection, patients, and detection with false labels."""
    typed = summary.typed
    if typed is None:
        return [_counts(summary), _detection_by_volume(summary), _patients_with_lesions(summary)]
    groups = {**{name: typed.of(name) for name in typed.types}, "All": typed.all, "Malign": typed.malign}
    return [_counts(summary), _detection(groups), _patients(typed), _false_labels(groups)]


def _counts(summary: Summary) -> Table:
    names = {each.type: [each.type] for each in summary.lesion_counts if each.type}
    if summary.typed is not None:
        names = {name: [name] for name in summary.typed.types}
    groups = {**names, "All": list({each.type for each in summary.lesion_counts})}
    if summary.typed is not None:
        groups["Malign"] = [*summary.typed.malignant]
    rows = []
    for title, types in groups.items():
        counts = [
            sum(c.count for c in summary.lesion_counts if c.size == size.name and c.type in types) for size in CLASSES
        ]
        rows.append((title, *map(str, counts), str(sum(counts))))
    notes = ("Lesions of the references; those under 0.5 cm³ are left out.",)
    return Table("S3, table I", ("Type", *(size.name for size in CLASSES), "Total"), tuple(rows), notes)


def _detection(groups: Mapping[str, TypedCounts]) -> Table:
    rows = tuple((name, str(each.missed), str(each.false), *_shares(each)) for name, each in groups.items())
    return Table(_SECOND, ("Type", "FN", "FP", "Precision", "Recall"), rows, (_FOUND, _SCREENING))


def _patients(typed: TypedSummary) -> Table:
    sensitivity, specificity, undecided = typed.patients()
    right = sum(each.predicted_class == each.reference_class for each in typed.matchings)
    notes = (
        f"Malignant patients; {undecided} of {len(typed.matchings)} were left undecided and do not count.",
        f"The patient's class is right in {right} of {len(typed.matchings)}.",
        "Of predictions from the plain phase alone it is the screening.",
    )
    return _patient_table((percent(sensitivity), percent(specificity)), notes)


def _false_labels(groups: Mapping[str, TypedCounts]) -> Table:
    rows = tuple(
        (name, *map(str, (c.missed, c.false, c.false_label, c.true)), *_shares(c), percent(c.rough_recall))
        for name, c in groups.items()
    )
    heads = ("Type", "FN", "FP", "FL", "TP", "Precision", "Recall", "Recall-rough")
    return Table("S3, table V", heads, rows, (_FORMULAS, _MERGED))


def _detection_by_volume(summary: Summary) -> Table:
    rows = []
    for size in CLASSES:
        d = summary.detection("overlap", size.name)
        shares = (percent(d.precision.value), percent(d.recall.value))
        rows.append((size.name, str(d.missed), str(d.false), *shares))
    untyped = "The predictions carry no type, so none can be false by label."
    return Table(
        "S3, table II by volume", ("Volume", "FN", "FP", "Precision", "Recall"), tuple(rows), (_FOUND, untyped)
    )


def _patients_with_lesions(summary: Summary) -> Table:
    shares = (percent(summary.patient_sensitivity.value), percent(summary.patient_specificity.value))
    return _patient_table(shares, ("A patient is positive with any lesion; S3's are positive with a malignant one.",))


def _patient_table(shares: tuple[str, str], notes: tuple[str, ...]) -> Table:
    return Table("S3, table IV", ("Model", "Sensitivity", "Specificity"), (("ours", *shares),), notes)


def _shares(counts: TypedCounts) -> tuple[str, str]:
    return percent(counts.precision), percent(counts.recall)


LAYOUT = Layout("S3, tables I to V", "331 CT scans of its own", tables, PRINTED)
