"""S2, ELANRes-MSCA-UNet: tables 2 to 9; 3 and 4 (ablation) are laid out as 7 and 8 (other networks)."""

from __future__ import annotations

from ..statistics import Estimate
from ..summary import Summary
from ..tables import Table, number, plus_minus
from .layout import ONLY_WITH_BUNDLE, Layout, whole

_LIVER = "S2, tables 3 and 7: liver"
_TUMOUR = "S2, tables 4 and 8: tumour"
_AXIS = "S2, table 6: mean long axis, mm"
_LOSSES = "S2, table 2: Dice by loss"


def tables(summary: Summary) -> list[Table]:
    """Loss, liver, tumour, size and time, long axes."""
    return [_losses(summary), _liver(summary), _tumour(summary), _costs(summary), _axes(summary)]


def _losses(summary: Summary) -> Table:
    dices = (number(summary.mask("liver", "dice").value), number(summary.mask("tumour", "dice").value))
    return Table(_LOSSES, ("Loss", "Liver", "Tumour"), (("ours", *dices),), ("One bundle a loss, see --against.",))


def _liver(summary: Summary) -> Table:
    values = [number(summary.mask("liver", name).value) for name in ("dice", "assd_mm")]
    return Table(_LIVER, ("Model", "Dice", "ASD"), (("ours", *values),))


def _tumour(summary: Summary) -> Table:
    names = ("dice", "assd_mm", "relative_volume_difference", "precision", "sensitivity")
    values = [number(summary.mask("tumour", name).value) for name in names]
    return Table(_TUMOUR, ("Model", "Dice", "ASD", "RVD", "Precision", "Recall"), (("ours", *values),))


def _costs(summary: Summary) -> Table:
    heads = ("Model", "Parameters", "Parameters, fused", "Training time", "Testing time, s a case")
    costs = summary.costs
    if costs is None:
        row: tuple[str, ...] = ("ours", "–", "–", "–", "–")
        notes: tuple[str, ...] = (ONLY_WITH_BUNDLE,)
    else:
        row = ("ours", whole(costs.parameters), whole(costs.fused), "–", plus_minus(costs.seconds, 2))
        notes = (
            "Of all networks of the bundle; fused as inference runs them, re-parameterised branches folded.",
            f"Seconds on {costs.device}, loading left out. A bundle does not tell how long its training lasted.",
        )
    return Table("S2, tables 5 and 9: parameters and time", heads, (row,), notes)


def _axes(summary: Summary) -> Table:
    groups = [_length(estimate) for estimate in (summary.axis_groups.low, summary.axis_groups.high)]
    note = "By each lesion's own Dice; S2 does not say whose Dice makes the groups."
    return Table(_AXIS, ("Model", "Dice < 0.6", "Dice ≥ 0.6"), (("ours", *groups),), (note,))


def _length(estimate: Estimate) -> str:
    return f"{number(estimate.value, 2)} ({estimate.count} lesions)"


# The copy of the paper at hand has its tables' figures only where its text repeats them.
LAYOUT = Layout(
    "S2, tables 2 to 9",
    "20 cases of LiTS that it does not name",
    tables,
    {
        _LOSSES: (
            ("S2, Dice", "0.951", "–"),
            ("S2, Tversky", "0.949", "–"),
            ("S2, BCE", "0.958", "–"),
            ("S2, Hybrid1", "0.972", "0.729"),
            ("S2, Hybrid2", "0.968", "–"),
        ),
        _LIVER: (
            ("S2, UNet", "0.937", "3.242"),
            ("S2, MSCA-UNet", "0.946", "–"),
            ("S2, ELANRes-UNet", "–", "2.369"),
            ("S2, ELANRes-MSCA-UNet", "0.972", "1.263"),
        ),
        _TUMOUR: (("S2, ELANRes-MSCA-UNet", "0.729", "1.012", "–", "0.564", "–"),),
        _AXIS: (
            ("S2, UNet", "23.37", "–"),
            ("S2, MSCA-UNet", "20.11", "–"),
            ("S2, ELANRes-UNet", "21.42", "–"),
            ("S2, ELANRes-MSCA-UNet", "18.16", "41.83"),
        ),
    },
)
