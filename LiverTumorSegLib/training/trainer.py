"""Trains the stages of a recipe, each as its `Training` says: resumable to the same numbers, alone or in a team.

A run's folder holds, for each stage, `<stage>.csv` (a line an epoch), `tensorboard/<stage>` (curves and pictures),
`<stage>.checkpoint.safetensors` (to resume, written every minute and at the end of every epoch) and
`<stage>.best.safetensors` (lowest validation loss so far).
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Subset

from ..errors import BundleError, LiverTumorSegError, TrainingError, warn
from ..networks import build_network
from ..networks.weights import save_weights
from ..recipe import OPTIONS, Recipe, Training
from .averaging import running_average
from .beginning import load_fitting_weights
from .checkpoint import Progress, State, load_checkpoint, save_checkpoint
from .fitting import Fitting, fit_epoch, moved, validate
from .loading import patch_loader, reason_of_process
from .logs import Curves, Epoch, Pace, append_line, keep_lines
from .patches import Patch
from .pictures import side_by_side
from .precision import check_bf16_on_cpu, laid_out, prove_bf16
from .schedules import build_optimiser, learning_rate, set_rate
from .sources import PatchSource
from .tasks import TASKS
from .team import Team

VALIDATION_PATCHES = 24

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """What stays the same over the stages of one training run.

    Attributes:
        recipe: what is trained.
        source: of the patches.
        folder: where logs and weights go.
        seed: of weights and of chance in the steps; the source has its own.
        device: a torch device.
        workers: processes that make patches ahead.
        initial: a folder with `<stage>.safetensors`, as bundles have: weights to begin with, where they fit.
        validation_patches: how many judge each epoch.
        origin: of the patches, as far as JSON can say it: the fold, for example. A run goes on with the same only.
        on_epoch: called after every epoch with the stage's name and its log line.
        progress: called now and then with a text and the share of the stage that is done.
        checkpoint_every_s: how old the checkpoint may get while an epoch's steps are done.
        bf16_on_cpu: let a recipe's bf16 hold on a CPU, too, where the network's gradients prove right.
    """

    recipe: Recipe
    source: PatchSource
    folder: Path
    seed: int = 0
    device: str = "cpu"
    workers: int = 1
    initial: Path | None = None
    validation_patches: int = VALIDATION_PATCHES
    origin: Mapping[str, object] = field(default_factory=dict)
    on_epoch: Callable[[str, Epoch], None] | None = None
    progress: Callable[[str, float], None] | None = None
    checkpoint_every_s: float = 60.0
    bf16_on_cpu: bool = False

    def best(self, stage: int) -> Path:
        """Where the best weights of a stage lie."""
        return self.file(stage, "best.safetensors")

    def file(self, stage: int, ending: str) -> Path:
        """A file of a stage."""
        return self.folder / f"{self.recipe.stages[stage].name}.{ending}"


def train(run: Run, stages: tuple[int, ...] | None = None, team: Team | None = None) -> list[Path]:
    """Train the stages in order; each may begin from the best weights of the one before (S1, section 3.2.2).

    A finished stage is not trained again; an interrupted one goes on from its checkpoint, to the same numbers.

    Args:
        run: what, from what, and where to.
        stages: their numbers; all by default.
        team: of `team.joined_team`, whose processes all call this; by default this process trains alone.

    Returns:
        The best weights' files, one a stage.

    Raises:
        TrainingError: a loss is not finite, the folder holds another run, or bf16 on this CPU is not to be trusted.
        BundleError: the weights to begin with do not fit.
    """
    chosen = stages if stages is not None else tuple(range(len(run.recipe.stages)))
    if run.bf16_on_cpu:
        check_bf16_on_cpu(run.device, [run.recipe.training[stage] for stage in chosen])
    run.folder.mkdir(parents=True, exist_ok=True)
    team = team or Team()
    for stage in chosen:
        _check_stage(run, stage)
    for stage in chosen:
        with _told_in_one_line(run, stage):
            _train_stage(run, stage, team)
        team.wait()
    return [run.best(stage) for stage in chosen]


def _check_stage(run: Run, stage: int) -> None:
    """Refuse what the last stage cannot be trained with before the first one is, which may take days.

    Raises:
        RecipeError: the network or its loss cannot be built.
        BundleError: there are no weights to begin with.
    """
    spec = run.recipe.stages[stage]
    build_network(spec.network, spec.arguments)
    TASKS[spec.task](run.recipe, stage, "cpu")
    if run.initial is not None and not (given := run.initial / f"{spec.name}.safetensors").is_file():
        raise BundleError(f"{given}: wanted weights to begin with, there is no such file")


@contextmanager
def _told_in_one_line(run: Run, stage: int) -> Iterator[None]:
    """What torch refuses, as patches that do not fit the network, or what goes wrong in a process that makes patches.

    An OSError of this process passes: whoever knows the file tells of it.

    Raises:
        TrainingError: instead.
    """
    try:
        yield
    except (ValueError, RuntimeError, AssertionError, MemoryError, OSError) as error:  # what torch and MONAI raise
        training, name = run.recipe.training[stage], run.recipe.stages[stage].name
        if (reason := reason_of_process(error)) is not None:
            raise TrainingError(f"stage {name}: {reason}") from error
        if isinstance(error, LiverTumorSegError | OSError):
            raise
        wanted = f"steps of {training.batch_size} patches of {training.patch} voxels"
        got = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TrainingError(f"stage {name}: wanted {wanted}, got: {got}") from error


def _train_stage(run: Run, stage: int, team: Team) -> None:
    training, name = run.recipe.training[stage], run.recipe.stages[stage].name
    state = _start(run, stage, team)
    if _is_over(state.progress, training.epochs, training.patience):
        if not run.best(stage).is_file():
            again = f"delete {run.file(stage, 'checkpoint.safetensors').name} to train the stage again"
            raise TrainingError(f"{run.best(stage)}: wanted the weights of a finished stage, got none; {again}")
        return
    validation = list(_validation_batches(run, stage, team))
    steps, progress = training.iterations_per_epoch, state.progress
    done = progress.epoch * steps + progress.step
    batches = _training_batches(run, stage, team, done)
    if run.bf16_on_cpu and training.bf16:
        batches = _proving(run, stage, state, batches)
    fitting = Fitting(
        state.network,
        team.wrapped(state.network),
        state.average,
        state.optimiser,
        TASKS[run.recipe.stages[stage].task](run.recipe, stage, run.device, run.bf16_on_cpu),
        team,
        run.device,
        training.clip_gradient,
        run.file(stage, "bad_batch.safetensors" if team.leads else f"bad_batch_{team.number}.safetensors"),
        (run.seed, stage),
    )
    pace = Pace(name, training.epochs, steps, done, run.progress)
    keeper = _Keeper(run, stage, state, fitting, validation[0]) if team.leads else None

    def stepped() -> None:
        if keeper is not None:
            keeper.keep_step()
        pace.step(progress.epoch, progress.step)

    try:
        while not _is_over(progress, training.epochs, training.patience):
            line = _train_epoch(training, progress, fitting, batches, validation, stepped)
            if keeper is not None:
                keeper.keep(line)
    finally:
        if keeper is not None:
            keeper.close()


def _proving(run: Run, stage: int, state: State, batches: Iterator[Patch]) -> Iterator[Patch]:
    """The same batches, after the first one has shown that the stage can be trained in bf16 on this CPU.

    Raises:
        TrainingError: it cannot.
    """
    spec, first = run.recipe.stages[stage], next(batches)
    exact, rounded = (TASKS[spec.task](run.recipe, stage, run.device, bf16) for bf16 in (False, True))
    epoch = state.progress.epoch
    off = prove_bf16(
        state.network,
        lambda network: exact.loss(network, *moved(first, run.device), epoch),
        lambda network: rounded.loss(network, *moved(first, run.device), epoch),
    )
    log.info("stage %s: in bf16 on this CPU the gradients are %.1f %% from float32's", spec.name, 100 * off)
    return itertools.chain([first], batches)


def _train_epoch(
    training: Training,
    progress: Progress,
    fitting: Fitting,
    batches: Iterator[Patch],
    validation: list[Patch],
    stepped: Callable[[], None],
) -> Epoch:
    """The steps that are left of an epoch, and its validation; what it came to."""
    began = time.monotonic() - progress.seconds
    rate = learning_rate(training, progress.epoch)
    set_rate(fitting.optimiser, rate)

    def timed() -> None:
        progress.seconds = time.monotonic() - began
        stepped()

    fitted = fit_epoch(fitting, batches, training.iterations_per_epoch, progress, timed)
    loss, scores = validate(fitting, validation)
    if not math.isfinite(loss):
        raise TrainingError(f"validation loss: wanted a finite number, got {loss} after epoch {progress.epoch + 1}")
    progress.end_epoch(loss)
    return Epoch(progress.epoch, rate, fitted, loss, scores, time.monotonic() - began)


class _Keeper:
    """Writes what steps and epochs leave behind; there is one in a team."""

    def __init__(self, run: Run, stage: int, state: State, fitting: Fitting, shown: Patch):
        self._run, self._stage, self._state, self._fitting, self._shown = run, stage, state, fitting, shown
        keep_lines(run.file(stage, "csv"), state.progress.epoch)
        self._curves = Curves(run.folder / "tensorboard" / run.recipe.stages[stage].name, state.progress.epoch)
        self._saved = time.monotonic()

    def keep_step(self) -> None:
        """Save the state within an epoch when the last checkpoint is too old.

        Not after an epoch's last step: the validation that is next wants what the others in a team have by themselves,
        the statistics of BatchNorm, and its end is saved anyhow.
        """
        left = self._run.recipe.training[self._stage].iterations_per_epoch - self._state.progress.step
        if left > 0 and time.monotonic() - self._saved >= self._run.checkpoint_every_s:
            self._save()

    def keep(self, line: Epoch) -> None:
        """Log an epoch and save the weights.

        The checkpoint comes last: an epoch that is cut off before it is done again, to the same numbers.
        """
        run, stage, progress = self._run, self._stage, self._state.progress
        if progress.best_epoch == line.epoch:
            save_weights(self._fitting.average.module, run.best(stage), half=False)
        append_line(run.file(stage, "csv"), line)
        self._curves.add(line, self._picture)
        self._save()
        if run.on_epoch is not None:
            run.on_epoch(run.recipe.stages[stage].name, line)

    def _save(self) -> None:
        path = self._run.file(self._stage, "checkpoint.safetensors")
        save_checkpoint(path, self._state, _plan(self._run, self._stage, self._fitting.team))
        self._saved = time.monotonic()

    def close(self) -> None:
        """End the curves."""
        self._curves.close()

    @torch.no_grad()
    def _picture(self) -> np.ndarray:
        network = self._fitting.average.module.eval()
        reference, predicted = self._fitting.task.picture(network, *moved(self._shown, self._fitting.device))
        channels = self._shown[0][0]
        return side_by_side(channels[len(channels) // 2].cpu().numpy(), reference, predicted)


def _start(run: Run, stage: int, team: Team) -> State:
    """Network, its average, optimiser and progress: resumed, begun from other weights, or new."""
    training, spec = run.recipe.training[stage], run.recipe.stages[stage]
    torch.manual_seed(run.seed)
    network = laid_out(build_network(spec.network, spec.arguments), run.device)
    average = running_average(network, training.weight_average)
    state = State(network, average, build_optimiser(training, network.parameters()), Progress())
    checkpoint = run.file(stage, "checkpoint.safetensors")
    if checkpoint.exists():
        load_checkpoint(checkpoint, state, _plan(run, stage, team))
        log.info("stage %s: going on after epoch %d, step %d", spec.name, state.progress.epoch, state.progress.step)
    elif run.initial is not None:
        given = run.initial / f"{spec.name}.safetensors"
        filled, wanted = load_fitting_weights(network, given), len(network.state_dict())
        if not filled:
            raise BundleError(f"{given}: wanted weights to begin with, got none that fits the network")
        if filled < wanted:
            warn(
                f"stage {spec.name}: {filled} of {wanted} tensors begin from the given weights, the others from chance"
            )
    elif stage > 0 and training.hand_over and run.best(stage - 1).exists():
        load_fitting_weights(network, run.best(stage - 1))
    return state


def _plan(run: Run, stage: int, team: Team) -> dict[str, str]:
    """What must be the same again when a run is resumed; it may be given more epochs or patience."""
    spec, training = dataclasses.asdict(run.recipe.stages[stage]), dataclasses.asdict(run.recipe.training[stage])
    free = ("epochs", "patience")
    plan = {**spec, **{f"training.{key}": value for key, value in training.items() if key not in free}}
    shown = dataclasses.asdict(run.recipe)
    plan |= {f"recipe.{key}": shown[key] for key in ("crop", "phases", "label_names", *OPTIONS)}
    plan |= {f"origin.{key}": value for key, value in run.origin.items()}
    plan |= {"seed": run.seed, "processes": team.size, "validation_patches": run.validation_patches}
    plan["bf16_on_cpu"] = run.bf16_on_cpu
    return {key: json.dumps(value) for key, value in plan.items()}


def _is_over(progress: Progress, epochs: int, patience: int) -> bool:
    return progress.epoch >= epochs or progress.epoch - progress.best_epoch >= patience


def _training_batches(run: Run, stage: int, team: Team, done: int) -> Iterator[Patch]:
    """This process's batches after so many steps of all epochs; made ahead, also while an epoch is validated."""
    training = run.recipe.training[stage]
    per_step = training.batch_size * team.size
    count = (training.epochs * training.iterations_per_epoch - done) * per_step
    patches = team.leader_first(lambda: run.source.patches(stage, done * per_step, count))
    mine = Subset(patches, team.share(count, training.batch_size))
    return iter(patch_loader(mine, training.batch_size, run.workers, run.device))


def _validation_batches(run: Run, stage: int, team: Team) -> Iterator[Patch]:
    count = max(run.validation_patches, team.size)
    patches = team.leader_first(lambda: run.source.patches(stage, 0, count, validation=True))
    return iter(patch_loader(Subset(patches, team.share(count)), 1, run.workers, run.device))
