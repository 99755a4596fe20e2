"""What every loss needs: the types, probabilities of the classes that count, and sums of losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

Activation = Literal["softmax", "sigmoid"]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits, target), both (batch, classes, k, j, i), -> a scalar in float32."""


def full_precision(loss: Loss) -> Loss:
    """The same loss in float32: sums over a whole volume lose small lesions in bf16."""

    def computed(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return loss(logits.float(), target.float())

    return computed


def added(*losses: Loss) -> Loss:
    """The plain sum of losses."""

    def computed(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return torch.stack([loss(logits, target) for loss in losses]).sum()

    return computed


def probabilities(logits: torch.Tensor, activation: Activation) -> torch.Tensor:
    """Of every class, in the logits' shape."""
    return logits.softmax(dim=1) if activation == "softmax" else logits.sigmoid()


def without_background(channels: torch.Tensor, activation: Activation) -> torch.Tensor:
    """The channels of classes that are not the background; with "sigmoid" there is none."""
    return channels[:, 1:] if activation == "softmax" else channels


def one_against_rest(logits: torch.Tensor) -> torch.Tensor:
    """Logits whose sigmoid is the softmax of `logits`: z_c - log sum exp of the other classes.

    So the logarithms of p and of 1 - p are exact, also where p is next to 0 or 1.
    """
    classes = range(logits.shape[1])
    rest = [logits[:, [c for c in classes if c != own]].logsumexp(dim=1) for own in classes]
    return logits - torch.stack(rest, dim=1)
