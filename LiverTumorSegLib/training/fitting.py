"""One epoch: the steps, the validation, and what is left behind where a step goes wrong."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch.optim.swa_utils import AveragedModel

from ..errors import TrainingError
from ..networks.weights import write_durably
from .patches import Patch
from .precision import memory_layout
from .tasks import Task
from .team import Team


@dataclass(frozen=True)
class Fitting:
    """What the steps of a stage work with.

    Attributes:
        network: being trained.
        shared: the same for the forward passes of steps; averages gradients over the team.
        average: of its weights.
        optimiser: of the network's parameters.
        task: what the network is trained for.
        team: the processes that train it together.
        device: a torch device.
        clip_gradient: largest norm of a step's gradient.
        bad_batch: the file for a batch whose loss is not finite.
    """

    network: torch.nn.Module
    shared: torch.nn.Module
    average: AveragedModel
    optimiser: torch.optim.Optimizer
    task: Task
    team: Team
    device: str
    clip_gradient: float
    bad_batch: Path


def fit_epoch(
    fitting: Fitting, batches: Iterator[Patch], steps: int, epoch: int, stepped: Callable[[int], None]
) -> float:
    """So many steps; epochs count from 0, and `stepped` hears the number of steps that are done.

    Returns:
        The mean training loss over the steps and the team.

    Raises:
        TrainingError: a loss or a gradient is not finite; the batch is in `fitting.bad_batch`.
    """
    fitting.shared.train()
    total = 0.0
    for number, (volume, labels) in enumerate(itertools.islice(batches, steps), 1):
        loss = fitting.task.loss(fitting.shared, *moved((volume, labels), fitting.device), epoch)
        value = float(loss.detach())
        _check(fitting, "loss", value, (volume, labels), epoch, number)
        fitting.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(fitting.network.parameters(), fitting.clip_gradient)
        _check(fitting, "gradient", float(norm), (volume, labels), epoch, number)
        fitting.optimiser.step()
        fitting.average.update_parameters(fitting.network)
        total += value
        stepped(number)
    return float(fitting.team.summed(torch.tensor([total], dtype=torch.float64))) / (steps * fitting.team.size)


@torch.no_grad()
def validate(fitting: Fitting, patches: Sequence[Patch]) -> tuple[float, dict[str, float]]:
    """The averaged network's mean loss and scores over the validation patches of the whole team.

    Args:
        fitting: its average is judged.
        patches: this process's share, each a batch.
    """
    network = fitting.average.module.eval()
    judged = [fitting.task.judge(network, *moved(patch, fitting.device)) for patch in patches]
    losses = torch.tensor([sum(each.loss for each in judged), len(judged)], dtype=torch.float64)
    total, count = fitting.team.summed(losses).tolist()
    counts = fitting.team.summed(torch.stack([each.counts for each in judged]).sum(0).double())
    return total / count, fitting.task.scores(counts)


def moved(patch: Patch, device: str) -> Patch:
    """A patch or batch on a device."""
    volume, labels = patch
    volume = volume.to(device, non_blocking=True, memory_format=memory_layout(device))
    return volume, labels.to(device, non_blocking=True)


def _check(fitting: Fitting, what: str, value: float, batch: Patch, epoch: int, step: int) -> None:
    """Stop where a number is not finite: every later one would be nonsense."""
    if math.isfinite(value):
        return
    tensors = dict(zip(("volume", "labels"), (each.contiguous() for each in batch), strict=True))
    write_durably(fitting.bad_batch, save(tensors, {"epoch": str(epoch + 1), "step": str(step), what: str(value)}))
    raise TrainingError(
        f"training {what}: wanted a finite number, got {value} in step {step} of epoch {epoch + 1}; "
        f"the batch is in {fitting.bad_batch}"
    )
