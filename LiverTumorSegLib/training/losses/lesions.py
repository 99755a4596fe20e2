"""Losses in which every lesion counts the same, whatever its size. Lesions are the components of the last class."""

from __future__ import annotations

import cc3d
import numpy as np
import torch

from .activations import Activation, Loss, full_precision, probabilities
from .compound import dice_ce, dice_focal_rare
from .overlap import dice

_BLOB_WEIGHTS = (2.0, 1.0)  # of the whole and of the lesions, as in the paper


def blob_dice(activation: Activation) -> Loss:
    """2 `dice` + mean over the lesions of their own Dice loss: blob loss (Kofler et al., IPMI 2023).

    A lesion's own Dice is taken over the whole patch without the other lesions: 1 - 2 sum(p in it) /
    (its voxels + sum(p in it and outside all lesions)). The mean is of each patch's lesions, then of the patches
    that have any; without lesions there is only the first term.
    """
    whole = dice(activation)

    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        lesions = [
            _blob_dice_losses(p, _components(volume)).mean()
            for p, volume in zip(probabilities(logits, activation)[:, -1], target[:, -1], strict=True)
            if bool((volume > 0.5).any())
        ]
        of_lesions = torch.stack(lesions).mean() if lesions else logits.sum() * 0
        return _BLOB_WEIGHTS[0] * whole(logits, target) + _BLOB_WEIGHTS[1] * of_lesions

    return full_precision(loss)


def dice_focal_lesions(activation: Activation) -> Loss:
    """`dice_focal_rare` and half the mean of every lesion's own Dice loss: a small one counts as much as a large one.

    The idea is blob loss (Kofler et al., IPMI 2023); here a lesion is scored in its box and a few voxels
    around, so that what is called tumour elsewhere is left to the other terms.
    """
    whole = dice_focal_rare(activation)

    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        own = lesion_dice_loss(probabilities(logits, activation)[:, -1], target[:, -1])
        return whole(logits, target) + 0.5 * own

    return full_precision(loss)


def dice_ce_lesions(activation: Activation) -> Loss:
    """`dice_ce` and half the mean of every lesion's own Dice loss, as in `dice_focal_lesions`."""
    whole = dice_ce(activation)

    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        own = lesion_dice_loss(probabilities(logits, activation)[:, -1], target[:, -1])
        return whole(logits, target) + 0.5 * own

    return full_precision(loss)


def lesion_dice_loss(probability: torch.Tensor, lesions: torch.Tensor, margin: int = 4) -> torch.Tensor:
    """Mean over all lesions of 1 - 2 sum(p) in the lesion / (its voxels + sum(p) in its box); 0 without lesions.

    The box is `margin` voxels wider than the lesion; the other lesions in it do not count.

    Args:
        probability: (batch, k, j, i).
        lesions: 0 or 1, of the same shape.
        margin: in voxels.
    """
    losses = []
    for p, volume in zip(probability, lesions, strict=True):
        components = _components(volume)
        boxes = cc3d.statistics(components)["bounding_boxes"][1:] if components.any() else []
        for number, box in enumerate(boxes, 1):
            wider = tuple(slice(max(0, side.start - margin), side.stop + margin) for side in box)
            numbers = torch.as_tensor(components[wider].astype("int64"), device=p.device)
            own, free = numbers == number, (numbers == 0) | (numbers == number)
            losses.append(1 - 2 * (p[wider] * own).sum() / (own.sum() + (p[wider] * free).sum()))
    return torch.stack(losses).mean() if losses else probability.sum() * 0


def _blob_dice_losses(probability: torch.Tensor, components: np.ndarray) -> torch.Tensor:
    """One a lesion; sums of all lesions at once, as a patch may hold dozens."""
    numbers = torch.as_tensor(components.astype("int64"), device=probability.device).flatten()
    sizes = torch.bincount(numbers)
    sums = torch.zeros_like(sizes, dtype=probability.dtype).index_add(0, numbers, probability.flatten())
    return 1 - 2 * sums[1:] / (sizes[1:] + sums[1:] + sums[0])


def _components(volume: torch.Tensor) -> np.ndarray:
    """Numbers of the 6-connected components of a mask, as LiTS counts lesions."""
    return np.asarray(cc3d.connected_components((volume > 0.5).cpu().numpy(), connectivity=6))
