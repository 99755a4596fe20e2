"""The running average of a network's weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.optim.swa_utils import AveragedModel


def running_average(network: torch.nn.Module, share: float) -> AveragedModel:
    """A copy of the network that follows it; after n updates at most n / (n + 9) of it is older than the last one.

    Batches of one patch leave the weights noisy, which their average is not; S1's schedule alone needs
    its last epochs, with a rate near 0, for the same.
    """

    def follow(mine: Sequence[torch.Tensor], new: Sequence[torch.Tensor], updates: torch.Tensor | int) -> None:
        kept = min(share, float(updates) / (float(updates) + 9))
        for own, other in zip(mine, new, strict=True):
            own.lerp_(other, 1 - kept)

    return AveragedModel(network, multi_avg_fn=follow)
