"""Losses that judge every voxel by itself: binary and plain cross-entropy, and the focal terms."""

from __future__ import annotations

import torch
from torch.nn import functional

from .activations import Activation, Loss, full_precision, one_against_rest, without_background


def bce(activation: Activation) -> Loss:
    """-mean(g log p + (1 - g) log(1 - p)) over voxels and the classes without the background (S2, table 1).

    With "softmax" p is the class's share, against all other classes together.
    """

    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        against_rest = one_against_rest(logits) if activation == "softmax" else logits
        return functional.binary_cross_entropy_with_logits(
            without_background(against_rest, activation), without_background(target, activation)
        )

    return full_precision(loss)


def cross_entropy(activation: Activation) -> Loss:
    """-mean(log p of the voxel's own class), the background among them; with "sigmoid" the same as `bce`."""
    if activation == "sigmoid":
        return bce(activation)

    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(logits, target)

    return full_precision(loss)


def focal_terms(logits: torch.Tensor, target: torch.Tensor, activation: Activation, gamma: float = 2.0) -> torch.Tensor:
    """-(1 - s)^gamma log s of every voxel and class, in the logits' shape.

    "softmax": s is the share of the voxel's own class, and the other classes' terms are 0 (S1, equation 5).
    MONAI's FocalLoss takes the softmax over what is left when the background is left out, so that a background
    voxel's share is never seen; hence our own. "sigmoid": s is the share of the right answer, yes or no (Lin et
    al. 2017), and every class has a term.
    """
    if activation == "softmax":
        share = functional.log_softmax(logits, dim=1)
        return target * (1 - share.exp()) ** gamma * -share
    share = functional.logsigmoid(torch.where(target > 0.5, logits, -logits))
    return (1 - share.exp()) ** gamma * -share
