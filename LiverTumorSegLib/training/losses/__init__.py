"""The losses: one builder each, with its formula and source; `LOSSES` is a plain dict.

A builder takes the stage's activation, "softmax" (one class a voxel, channel 0 is the background) or "sigmoid" (a
yes/no a class, no background channel), and gives a function of

- logits (batch, classes, k, j, i), of any floating type; all sums are made in float32,
- a target of the same shape, 0 or 1 (`targets.class_targets`).

To add one, write a builder and one line here.
"""

from __future__ import annotations

from collections.abc import Callable

from .activations import Activation, Loss
from .compound import dice_bce, dice_ce, dice_focal, dice_focal_all, dice_focal_rare, focal_tversky, tversky_bce
from .lesions import blob_dice, dice_ce_lesions, dice_focal_lesions
from .overlap import dice, tversky
from .voxelwise import bce

__all__ = ["LOSSES", "Activation", "Loss"]

LOSSES: dict[str, Callable[[Activation], Loss]] = {
    "bce": bce,
    "blob_dice": blob_dice,
    "dice": dice,
    "dice_bce": dice_bce,
    "dice_ce": dice_ce,
    "dice_ce_lesions": dice_ce_lesions,
    "dice_focal": dice_focal,
    "dice_focal_all": dice_focal_all,
    "dice_focal_lesions": dice_focal_lesions,
    "dice_focal_rare": dice_focal_rare,
    "focal_tversky": focal_tversky,
    "tversky": tversky,
    "tversky_bce": tversky_bce,
}
