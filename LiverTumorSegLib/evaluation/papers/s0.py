"""S0, coarse-to-fine fusion for small lesions: tables 1 to 3."""

from __future__ import annotations

from ..sizes import MERGED_DIAMETERS
from ..summary import Summary
from ..tables import Table, number
from .layout import Layout

DIAMETERS = ("5–10 mm", "10–30 mm", "> 30 mm")
TYPES = {
    "hcc": "HCC",
    "metastasis": "Metastases",
    "icc": "ICC",
    "cyst": "Hepatic cyst",
    "haemangioma": "Haemangioma",
}
"""Our name of a type -> the heads of table 2."""

_SMALL = "Lesions under 5 mm count as 5–10 mm, as S0 counts them."
_FOUND = "F1 and recall are of lesions found by any overlap; S0 does not say what finds one."


def tables(summary: Summary) -> list[Table]:
    """Overall, lesions by size and type, and by size."""
    return [_overall(summary), _counts(summary), _by_size(summary)]


def _overall(summary: Summary) -> Table:
    found = summary.detection("overlap")
    voxels = [number(summary.mask("tumour", name).value) for name in ("dice", "jaccard")]
    similarity = number(summary.mask("tumour", "volume_similarity").value)
    row = ("ours", *voxels, number(found.f1), similarity, number(found.recall.value))
    return Table("S0, table 1", ("Method", "Dice", "IOU", "F1-Score", "VS", "Recall"), (row,), (_FOUND,))


def _counts(summary: Summary) -> Table:
    typed = all(each.type for each in summary.lesion_counts)
    rows = []
    for title, size in zip(DIAMETERS, MERGED_DIAMETERS, strict=True):
        counts = {each.type: each.count for each in summary.lesion_counts if each.size == size.name}
        total = sum(counts.values())
        known = [counts.get(name, 0) for name in TYPES]
        shown = [str(count) if typed else "–" for count in (*known, total - sum(known))]
        rows.append((title, *shown, str(total)))
    notes = ("Lesions of the references.", _SMALL) + (() if typed else ("These references name no types.",))
    return Table("S0, table 2", ("Diameter", *TYPES.values(), "Other", "All"), tuple(rows), notes)


def _by_size(summary: Summary) -> Table:
    rows = []
    for title, size in zip(DIAMETERS, MERGED_DIAMETERS, strict=True):
        d = summary.detection("overlap", size.name)
        rows.append(("ours", title, *(number(v) for v in (d.dice.value, d.jaccard.value, d.f1, d.recall.value))))
    heads = ("Method", "Diameter", "Dice", "IOU", "F1-Score", "Recall")
    return Table("S0, table 3", heads, tuple(rows), (_FOUND, "Dice and IoU by size are of single lesions.", _SMALL))


LAYOUT = Layout(
    "S0, tables 1 to 3",
    "44 delayed-phase MR scans of its own",
    tables,
    {
        "S0, table 1": (
            ("S0, 3D U-Net", "0.801", "0.740", "0.816", "0.851", "0.733"),
            ("S0, nnU-Net", "0.847", "0.750", "0.823", "0.859", "0.776"),
            ("S0, nnDetection + nnU-Net", "0.856", "0.762", "0.891", "0.904", "0.858"),
            ("S0, the same + CSR-UNet", "0.859", "0.771", "0.895", "0.904", "0.858"),
            ("S0, proposed", "0.869", "0.778", "0.897", "0.910", "0.867"),
        ),
        "S0, table 2": (
            ("S0, 5–10 mm", "24", "83", "60", "105", "31", "–", "303"),
            ("S0, 10–30 mm", "84", "85", "74", "130", "78", "–", "451"),
            ("S0, > 30 mm", "11", "13", "8", "22", "9", "–", "63"),
        ),
        "S0, table 3": (
            ("S0, 3D U-Net", "5–10 mm", "0.418", "0.302", "0.594", "0.537"),
            ("S0, 3D U-Net", "10–30 mm", "0.520", "0.382", "0.829", "0.847"),
            ("S0, 3D U-Net", "> 30 mm", "0.821", "0.749", "1.000", "1.000"),
            ("S0, nnU-Net", "5–10 mm", "0.438", "0.327", "0.614", "0.597"),
            ("S0, nnU-Net", "10–30 mm", "0.521", "0.430", "0.869", "0.857"),
            ("S0, nnU-Net", "> 30 mm", "0.842", "0.791", "1.000", "1.000"),
            ("S0, nnDetection + nnU-Net", "5–10 mm", "0.487", "0.363", "0.758", "0.736"),
            ("S0, nnDetection + nnU-Net", "10–30 mm", "0.531", "0.398", "0.910", "0.905"),
            ("S0, nnDetection + nnU-Net", "> 30 mm", "0.857", "0.807", "1.000", "1.000"),
            ("S0, the same + CSR-UNet", "5–10 mm", "0.521", "0.387", "0.768", "0.760"),
            ("S0, the same + CSR-UNet", "10–30 mm", "0.552", "0.448", "0.910", "0.760"),
            ("S0, the same + CSR-UNet", "> 30 mm", "0.873", "0.829", "1.000", "1.000"),
            ("S0, proposed", "5–10 mm", "0.532", "0.409", "0.785", "0.761"),
            ("S0, proposed", "10–30 mm", "0.561", "0.464", "0.912", "0.909"),
            ("S0, proposed", "> 30 mm", "0.889", "0.831", "1.000", "1.000"),
        ),
    },
)
