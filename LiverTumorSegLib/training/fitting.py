"""One epoch: the steps, the validation, and what is left behind where a step goes wrong."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch.optim.swa_utils import AveragedModel

from ..errors import TrainingError
from ..networks.weights import write_durably
from .checkpoint import Progress
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
        seed: the numbers that all chance within the steps comes from, with those of the step and the process.
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
    seed: tuple[int, ...]


def fit_epoch(
    fitting: Fitting, batches: Iterator[Patch], steps: int, progress: Progress, stepped: Callable[[], None]
) -> float:
    """What is left of an epoch of so many steps; `progress` counts them, and `stepped` is called after each.

    Returns:
        The mean training loss over all steps of the epoch and the team.

    Raises:
        TrainingError: a loss or a gradient is not finite; the batch is in `fitting.bad_batch`.
    """
    fitting.shared.train()
    for batch in itertools.islice(batches, steps - progress.step):
        _seed(fitting, progress)
        loss = fitting.task.loss(fitting.shared, *moved(batch, fitting.device), progress.epoch)
        value = float(loss.detach())
        _check(fitting, "loss", value, batch, progress)
        fitting.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(fitting.network.parameters(), fitting.clip_gradient)
        _check(fitting, "gradient", float(norm), batch, progress)
        fitting.optimiser.step()
        fitting.average.update_parameters(fitting.network)
        progress.step += 1
        # Summed at every step, so that what the first process saves holds the others' losses, too.
        progress.loss += float(fitting.team.summed(torch.tensor([value], dtype=torch.float64)))
        stepped()
    return progress.loss / (steps * fitting.team.size)


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


def _seed(fitting: Fitting, progress: Progress) -> None:
    """Have dropout's chance come from numbers alone: the same wherever the run was broken, others within the team."""
    numbers = [*fitting.seed, progress.epoch, progress.step, fitting.team.number]
    torch.manual_seed(int(np.random.default_rng(numbers).integers(2**62)))


def _check(fitting: Fitting, what: str, value: float, batch: Patch, progress: Progress) -> None:
    """Stop where a number is not finite: every later one would be nonsense."""
    if math.isfinite(value):
        return
    epoch, step = progress.epoch + 1, progress.step + 1
    tensors = dict(zip(("volume", "labels"), (each.contiguous() for each in batch), strict=True))
    write_durably(fitting.bad_batch, save(tensors, {"epoch": str(epoch), "step": str(step), what: str(value)}))
    raise TrainingError(
        f"training {what}: wanted a finite number, got {value} in step {step} of epoch {epoch}; "
        f"the batch is in {fitting.bad_batch}"
    )
