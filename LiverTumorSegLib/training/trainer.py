"""Trains the stages of a recipe: S1's schedule, resumable, seeded.

A run's folder holds, for each stage, `<stage>.csv` (a line an epoch), `<stage>.checkpoint.safetensors`
(to resume) and `<stage>.best.safetensors` (lowest validation loss so far).
"""

from __future__ import annotations

import csv
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from ..errors import BundleError
from ..networks import build_network
from ..networks.weights import check_weights, load_weights, save_weights
from ..recipe import Recipe
from .checkpoint import Progress, load_checkpoint, save_checkpoint
from .losses import LOSSES
from .patches import SyntheticPatches
from .synthesis.library import AnatomyLibrary
from .synthesis.settings import SHIFTED, TRAINING

log = logging.getLogger(__name__)

VALIDATION_PATCHES = 24


@dataclass(frozen=True)
class Epoch:
    """One line of the log: losses and validation Dice of liver and tumour."""

    epoch: int
    learning_rate: float
    training_loss: float
    validation_loss: float
    liver_dice: float
    tumour_dice: float
    seconds: float


@dataclass(frozen=True)
class Run:
    """What stays the same over the stages of one training run.

    Attributes:
        recipe: what is trained.
        library: bodies for the synthetic scans.
        folder: where logs and weights go.
        seed: of weights and data.
        device: a torch device.
        workers: processes that draw scans ahead.
        initial: a folder with `<stage>.safetensors`, as bundles have: weights to begin with, where they fit.
        bf16: compute forward passes in bfloat16 (the loss stays in float32).
        on_epoch: called after every epoch with the stage's name and its log line.
    """

    recipe: Recipe
    library: AnatomyLibrary
    folder: Path
    seed: int = 0
    device: str = "cpu"
    workers: int = 1
    initial: Path | None = None
    bf16: bool = True
    on_epoch: Callable[[str, Epoch], None] | None = None

    def best(self, stage: int) -> Path:
        """Where the best weights of a stage lie."""
        return self.folder / f"{self.recipe.stages[stage].name}.best.safetensors"


def train(run: Run, stages: tuple[int, ...] | None = None) -> list[Path]:
    """Train the stages in order and hand each one's best weights to the next (S1, section 3.2.2).

    A finished stage is not trained again; an interrupted one goes on from its last epoch.

    Returns:
        The best weights' files, one a stage.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    chosen = stages if stages is not None else tuple(range(len(run.recipe.stages)))
    return [_train_stage(run, stage) for stage in chosen]


def _train_stage(run: Run, stage: int) -> Path:
    network, average, optimiser, progress = _start(run, stage)
    training, name = run.recipe.training, run.recipe.stages[stage].name
    loss = LOSSES[training.loss_of(stage)]()
    epochs = training.epochs_of(stage)
    validation = [_moved(patch, run.device) for patch in _loader(run, stage, 0, VALIDATION_PATCHES, validation=True)]
    per_epoch = training.iterations_per_epoch * training.batch_size
    for epoch in range(progress.epoch, epochs):
        if epoch - progress.best_epoch >= training.patience:
            log.info("stage %s: no better for %d epochs, stopped", name, training.patience)
            break
        began = time.monotonic()
        rate = learning_rate(training.learning_rate, epoch, epochs, training.schedule_power)
        for group in optimiser.param_groups:
            group["lr"] = rate
        loader = _loader(run, stage, epoch * per_epoch, per_epoch)
        fitted = _fit(run, network, average, optimiser, loss, loader)
        scores = _validate(run, average.module, loss, validation)
        progress.epoch = epoch + 1
        if scores[0] < progress.best_loss:
            progress.best_loss, progress.best_epoch = scores[0], epoch + 1
            save_weights(average.module, run.best(stage), half=False)
        line = Epoch(epoch + 1, rate, fitted, *scores, time.monotonic() - began)
        _append(run.folder / f"{name}.csv", line)
        save_checkpoint(_checkpoint(run, stage), network, average, optimiser, progress)
        if run.on_epoch is not None:
            run.on_epoch(name, line)
    return run.best(stage)


def learning_rate(initial: float, epoch: int, epochs: int, power: float) -> float:
    """alpha = alpha0 * (1 - e / Ne) ** power (S1, equation 6)."""
    return float(initial * (1 - epoch / epochs) ** power)


def _start(run: Run, stage: int) -> tuple[torch.nn.Module, AveragedModel, torch.optim.Adam, Progress]:
    """Network, its average, optimiser and progress: resumed, begun from a bundle or the stage before, or new."""
    torch.manual_seed(run.seed)
    spec = run.recipe.stages[stage]
    network = build_network(spec.network, spec.arguments)
    network.to(run.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    average = running_average(network, run.recipe.training.weight_average)
    optimiser = torch.optim.Adam(network.parameters(), lr=run.recipe.training.learning_rate)
    if _checkpoint(run, stage).exists():
        progress = load_checkpoint(_checkpoint(run, stage), network, average, optimiser)
        log.info("stage %s: going on after epoch %d", spec.name, progress.epoch)
        return network, average, optimiser, progress
    if run.initial is not None:
        load_fitting_weights(network, run.initial / f"{spec.name}.safetensors")
    elif stage > 0 and run.recipe.training.hand_over and run.best(stage - 1).exists():
        load_weights(network, run.best(stage - 1))
    return network, average, optimiser, Progress()


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


def load_fitting_weights(network: torch.nn.Module, path: Path) -> int:
    """Fill those of a network's tensors that `path` has with the same name and shape; the others stay as they are.

    Returns:
        How many were filled.

    Raises:
        BundleError: none fits.
    """
    wanted = network.state_dict()
    check_weights(path)
    fitting = {
        n: t.to(wanted[n].dtype) for n, t in load_file(path).items() if n in wanted and t.shape == wanted[n].shape
    }
    if not fitting:
        raise BundleError(f"{path}: wanted weights to begin with, got none that fits the network")
    network.load_state_dict({**wanted, **fitting})
    log.info("%d of %d tensors begin from %s", len(fitting), len(wanted), path)
    return len(fitting)


def _checkpoint(run: Run, stage: int) -> Path:
    return run.folder / f"{run.recipe.stages[stage].name}.checkpoint.safetensors"


def _loader(
    run: Run, stage: int, start: int, count: int, validation: bool = False
) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    names = run.library.validation if validation else run.library.training
    seed = run.seed + 10_000_019 if validation else run.seed
    settings = SHIFTED if validation else TRAINING
    patches = SyntheticPatches(run.library, names, run.recipe, stage, seed, start, count, settings)
    return DataLoader(
        patches,
        batch_size=1 if validation else run.recipe.training.batch_size,
        num_workers=run.workers,
        worker_init_fn=_one_thread,
        prefetch_factor=4 if run.workers else None,
    )


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)


def _moved(patch: tuple[torch.Tensor, torch.Tensor], device: str) -> tuple[torch.Tensor, torch.Tensor]:
    volume, labels = patch
    return volume.to(device, memory_format=torch.channels_last_3d), labels.to(device)


def _logits(run: Run, network: torch.nn.Module, volume: torch.Tensor) -> torch.Tensor:
    with torch.autocast(torch.device(run.device).type, torch.bfloat16, enabled=run.bf16):
        return torch.as_tensor(network(volume)).float()


def _fit(
    run: Run,
    network: torch.nn.Module,
    average: AveragedModel,
    optimiser: torch.optim.Adam,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    loader: DataLoader[tuple[torch.Tensor, torch.Tensor]],
) -> float:
    """One epoch of steps; the mean training loss."""
    network.train()
    total, steps = 0.0, 0
    for patch in loader:
        volume, labels = _moved(patch, run.device)
        value = loss(_logits(run, network, volume), labels)
        if not math.isfinite(float(value.detach())):
            raise RuntimeError(f"training loss became {float(value.detach())} at step {steps + 1} of the epoch")
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12.0)
        optimiser.step()
        average.update_parameters(network)
        total, steps = total + float(value.detach()), steps + 1
    return total / max(steps, 1)


@torch.no_grad()
def _validate(
    run: Run,
    network: torch.nn.Module,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    patches: list[tuple[torch.Tensor, torch.Tensor]],
) -> tuple[float, float, float]:
    """Mean loss, and Dice of liver (tumours included) and tumour over all validation voxels together."""
    network.eval()
    total = 0.0
    overlap = torch.zeros(2)
    size = torch.zeros(2)
    for volume, labels in patches:
        logits = _logits(run, network, volume)
        total += float(loss(logits, labels))
        voted = logits.max(1, keepdim=True)[1]
        for row, above in enumerate((1, 2)):
            overlap[row] += float(((voted >= above) & (labels >= above)).sum())
            size[row] += float((voted >= above).sum() + (labels >= above).sum())
    dice = 2 * overlap / size.clamp_min(1)
    return total / max(len(patches), 1), float(dice[0]), float(dice[1])


def _append(path: Path, line: Epoch) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(line.__dataclass_fields__)
        writer.writerow([round(v, 6) for v in line.__dict__.values()])
