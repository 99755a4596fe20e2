"""Losses of networks that answer at several depths while they are trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from .activations import Loss


def supervised_loss(
    loss: Loss, outputs: torch.Tensor | Sequence[torch.Tensor], target: torch.Tensor, alpha: float
) -> torch.Tensor:
    """loss(last) + alpha * sum of the losses of the other outputs (S2, section 2.3; S0: alpha = 1).

    Args:
        loss: of one output.
        outputs: logits, the last ones the network's answer; one tensor counts as the last. Coarser ones are enlarged
            (trilinear) rather than the target reduced, which would lose small lesions.
        target: (batch, classes, k, j, i), 0 or 1.
        alpha: weight of the outputs before the last; with 0 they are not looked at.
    """
    *others, last = (outputs,) if isinstance(outputs, torch.Tensor) else outputs
    total = loss(last, target)
    for logits in others if alpha else ():
        total = total + alpha * loss(_enlarged(logits, target), target)
    return total


def supervision_weight(alpha: float, decay: float, every: int, epoch: int) -> float:
    """alpha * decay ** (number of whole `every` epochs that are over) (S2, section 2.3: 0.4, 0.8, 30).

    `epoch` counts from 0.
    """
    return alpha * decay ** (epoch // every)


def _enlarged(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    if logits.shape[2:] == target.shape[2:]:
        return logits
    return functional.interpolate(logits.float(), size=target.shape[2:], mode="trilinear", align_corners=False)
