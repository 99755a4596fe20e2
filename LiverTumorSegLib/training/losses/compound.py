"""Sums of an overlap loss and a voxelwise one: the losses that the five systems are trained with."""

from __future__ import annotations

import torch

from .activations import Activation, Loss, added, full_precision, without_background
from .overlap import dice, monai_tversky, squared_dice, tversky
from .voxelwise import bce, cross_entropy, focal_terms


def dice_bce(activation: Activation) -> Loss:
    """`dice` + `bce`: Hybrid1, S2's best (section 2.3, table 1)."""
    return added(dice(activation), bce(activation))


def tversky_bce(activation: Activation) -> Loss:
    """`tversky` + `bce`: Hybrid2 (S2, section 2.3, table 1)."""
    return added(tversky(activation), bce(activation))


def dice_ce(activation: Activation) -> Loss:
    """`dice` + cross-entropy, as nnU-Net trains (Isensee et al. 2021), whose networks S3 uses."""
    return added(dice(activation), cross_entropy(activation))


def focal_tversky(activation: Activation) -> Loss:
    """mean over classes of (1 - T)^0.75, + `bce`; T = (TP + 1) / (TP + 0.3 FP + 0.7 FN + 1).

    S0, section 2.2.4, with the numbers of its authors' code; Abraham and Khan 2019. The mean leaves out the
    background.
    """
    tversky_losses = monai_tversky(activation, smooth=1.0, reduction="none")

    def focal(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        # The slope of x^0.75 is infinite at 0, which a sure network reaches.
        return torch.as_tensor(tversky_losses(logits, target).clamp_min(1e-7) ** 0.75).mean()

    return added(full_precision(focal), bce(activation))


def dice_focal(activation: Activation) -> Loss:
    """`squared_dice` of every patch + the focal mean, as S1 prints it (section 3.2.1, equations 3 to 5).

    Both are means of the classes without the background.
    """

    def focal(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return without_background(focal_terms(logits, target, activation), activation).mean()

    return added(squared_dice(activation, over_batch=False), full_precision(focal))


def dice_focal_all(activation: Activation) -> Loss:
    """`dice_focal` with the background in the focal term, and Dice summed over the batch.

    As printed nothing but Dice speaks against false tumours, and in a patch without tumour Dice is
    flat; here every voxel has a say.
    """

    def focal(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return focal_terms(logits, target, activation).mean()

    return added(squared_dice(activation, over_batch=True), full_precision(focal))


def dice_focal_rare(activation: Activation) -> Loss:
    """Dice summed over the batch, and the focal terms weighted by 1 / sqrt(share of the voxel's class).

    A lesion of a few hundred among a million voxels hardly moves a plain mean, and Dice hardly moves
    where the probability is still near 0; with this weight small lesions are learnt from the start.
    With "sigmoid" the yes and the no of a class are weighted by their own shares.
    """

    def focal(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        voxels = target.numel() / target.shape[1]
        places = [0, 2, 3, 4]
        ones = target.sum(dim=places, keepdim=True)
        weight = target * (voxels / ones.clamp_min(1)).sqrt()
        if activation == "sigmoid":
            weight = weight + (1 - target) * (voxels / (voxels - ones).clamp_min(1)).sqrt()
        return (weight * focal_terms(logits, target, activation)).sum() / weight.sum()

    return added(squared_dice(activation, over_batch=True), full_precision(focal))
