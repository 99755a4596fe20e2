"""What a validation batch amounts to, whatever the task."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Judgement:
    """What validation says of one batch; batches of several patches and processes are added up.

    Attributes:
        loss: the mean of the batch; the lower it is, the better the network.
        counts: what the task's scores are made of.
    """

    loss: float
    counts: torch.Tensor
