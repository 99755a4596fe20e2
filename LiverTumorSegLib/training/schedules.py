"""Learning rates over the epochs, and the optimisers that they drive."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from ..recipe import Training


def learning_rate(training: Training, epoch: int) -> float:
    """The rate of an epoch, counted from 0 of Ne.

    - "poly": a0 (1 - e / Ne)^power (S1, equation 6)
    - "cosine": a0 (1 + cos(pi e / Ne)) / 2 (S0, section 2.2.5; Loshchilov and Hutter 2017, without restarts)
    - "step": a0 factor^(e // schedule_epochs) (S2: 0.8 every 30)
    - "constant": a0
    """
    share = epoch / training.epochs
    if training.schedule == "poly":
        factor = (1 - share) ** training.schedule_power
    elif training.schedule == "cosine":
        factor = (1 + math.cos(math.pi * share)) / 2
    elif training.schedule == "step":
        factor = training.schedule_factor ** (epoch // training.schedule_epochs)
    else:
        factor = 1.0
    return float(training.learning_rate * factor)


def build_optimiser(training: Training, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """Adam, AdamW, or SGD with Nesterov's momentum of 0.99 (nnU-Net's, Isensee et al. 2021)."""
    rate, decay = training.learning_rate, training.weight_decay
    if training.optimiser == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=0.99, nesterov=True, weight_decay=decay)
    if training.optimiser == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
    return torch.optim.Adam(parameters, lr=rate, weight_decay=decay)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Let the next steps use this rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate
