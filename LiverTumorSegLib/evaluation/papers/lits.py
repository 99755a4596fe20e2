"""The LiTS challenge (Bilic et al., 2023): segmentation, detection and tumour burden."""

from __future__ import annotations

from ..summary import STRUCTURES, Summary
from ..tables import Table, number
from .layout import Layout


def tables(summary: Summary) -> list[Table]:
    """The challenge's tables of results."""
    return [_segmentation(summary), _detection(summary), _burden(summary)]


def _segmentation(summary: Summary) -> Table:
    names = ("volumetric_overlap_error", "relative_volume_difference", "assd_mm", "hausdorff_mm", "rmsd_mm")
    rows = []
    for structure in STRUCTURES:
        own = {name: summary.mask("liver", name) for name in names} if structure == "liver" else summary.partners
        dices = (summary.case_dice[structure], summary.global_dice[structure])
        rows.append((structure, *(number(d.value) for d in dices), *(number(own[name].value) for name in names)))
    heads = ("", "Dice per case", "Dice global", "VOE", "RVD", "ASSD, mm", "MSD, mm", "RMSD, mm")
    partners = f"Tumour VOE to RMSD over the {summary.partners['dice'].count} lesions detected at IoU > 0.5."
    return Table("LiTS: segmentation", heads, tuple(rows), (partners, "Dice per case is 1 where both are empty."))


def _detection(summary: Summary) -> Table:
    rows = tuple(
        (f"overlap {bound}", number(d.precision.value), number(d.recall.value), number(d.f1))
        for bound, d in (("> 0", summary.detection("overlap")), ("IoU > 0.5", summary.detection("iou")))
    )
    return Table("LiTS: lesion detection", ("", "precision", "recall", "F1"), rows)


def _burden(summary: Summary) -> Table:
    row = ("tumour burden", number(summary.burden_rmse.value, 4), number(summary.burden_worst, 4))
    return Table("LiTS: tumour burden", ("", "RMSE", "maximum"), (row,))


LAYOUT = Layout("LiTS (Bilic et al., 2023)", "70 cases whose references are hidden", tables)
