"""S4, 2D cascade with multi-scale fusion: table 1."""

from __future__ import annotations

from ..summary import Summary
from ..tables import Table, number
from .layout import Layout


def tables(summary: Summary) -> list[Table]:
    """The tumour's Dice."""
    dice = number(summary.mask("tumour", "dice").value)
    notes = (
        "The tumour's, of cases with a tumour in the reference or the prediction; all of S4's have one.",
        "What the crop gains (S4: about 12 %): a bundle without it, see --against.",
    )
    return [Table("S4, table 1", ("Author", "Method", "Dice per case"), (("ours", "this", dice),), notes)]


LAYOUT = Layout(
    "S4, table 1",
    "20 cases of LiTS with tumours that it does not name; the other authors' are other cases still",
    tables,
    {
        "S4, table 1": (
            ("Dey and Hong", "hybrid cascaded network", "0.681"),
            ("He et al.", "multi-scale attention U-Net", "0.596"),
            ("Bellver et al.", "bounding box sampling", "0.590"),
            ("Vorontsov et al.", "joint U-Net", "0.661"),
            ("S4", "proposed", "0.665"),
        )
    },
)
