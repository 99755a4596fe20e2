"""A whole training as plain data, so that it can be done here, in a team, or sent to another computer."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..datasets.check import Fingerprint
from ..errors import TrainingError, warn
from ..networks.devices import resolve_device
from ..recipe import Recipe
from .caching import DEFAULT_LIMIT_GB
from .export import export_bundle
from .logs import Epoch
from .sources import PatchSource, SyntheticSource, check_drawable
from .team import Team, joined_team
from .trainer import VALIDATION_PATCHES, Run, train

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Data:
    """Measured cases to train on.

    Attributes:
        folder: of the data set.
        layout: a key of `datasets.layouts.LAYOUTS`.
        fold: which one is for validation, from 0.
        splits: what `dataset check --folds` wrote; by default as `measured.open_measured` finds it.
        cache: folder for prepared cases, which may be shared by jobs.
        cache_limit_gb: what it may take.
        adapt_to: fit each stage's patch, batch and learning rate to the fold's training cases, for this many times the
            memory that the recipe's own take; None trains the recipe as it is.
    """

    folder: Path
    layout: str
    fold: int
    splits: Path | None
    cache: Path
    cache_limit_gb: float = DEFAULT_LIMIT_GB
    adapt_to: float | None = None


@dataclass(frozen=True)
class Drawn:
    """Synthetic scans to train on.

    Attributes:
        labelmaps: a folder of label maps to take organs from; None for organs from formulas.
        bodies: how many are drawn around every label map, or a tenth of how many from formulas.
    """

    labelmaps: Path | None = None
    bodies: int = 3


@dataclass(frozen=True)
class Job:
    """One training: everything it needs, and no open file or process in it.

    Attributes:
        recipe: what is trained.
        folder: where it goes; a job that was interrupted there goes on.
        stages: numbers of those to train; the bundle is written when all have weights.
        patients: measured cases or synthetic scans.
        initial: a folder of weights to begin with.
        seed: of everything.
        device: what `networks.devices.resolve_device` takes.
        workers: processes that make patches.
        validation_patches: how many judge each epoch.
        bf16_on_cpu: see `Run`.
    """

    recipe: Recipe
    folder: Path
    stages: tuple[int, ...]
    patients: Data | Drawn = field(default_factory=Drawn)
    initial: Path | None = None
    seed: int = 0
    device: str = "auto"
    workers: int = 1
    validation_patches: int = VALIDATION_PATCHES
    bf16_on_cpu: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a job came to.

    Attributes:
        weights: the file of the best weights of each stage by its name.
        best: the log line of those weights, by stage and column.
        bundle: its folder, if all stages have weights.
        missing: names of the stages that have none yet.
        adapted: what was changed in the recipe, a line for each stage; none where it was trained as it is.
    """

    weights: dict[str, Path]
    best: dict[str, dict[str, float]]
    bundle: Path | None
    missing: tuple[str, ...] = ()
    adapted: tuple[str, ...] = ()


def train_fold(
    job: Job,
    on_epoch: Callable[[str, Epoch], None] | None = None,
    progress: Progress | None = None,
    on_adapted: Callable[[str], None] | None = None,
) -> Outcome:
    """Do a job: alone, or under `torchrun` together with the other processes.

    Args:
        job: what to do; the same job again does what is left of it.
        on_epoch: told of every epoch with the stage's name; in a team only the first process tells.
        progress: told a text and a share now and then; likewise.
        on_adapted: told what was changed in the recipe, a line for each stage; likewise.

    Raises:
        LiverTumorSegError: the recipe, the data and the device do not go together, or a loss is not finite.
    """
    with _files_told_of(), joined_team(resolve_device(job.device)) as (team, device):
        progress = progress if team.leads else None
        job, lines = _adapted(job, team, progress)
        if on_adapted is not None and team.leads:
            for line in lines:
                on_adapted(line)
        source = team.leader_first(lambda: _source(job, device, progress))
        run = Run(
            job.recipe,
            source,
            job.folder,
            job.seed,
            device,
            _workers(job, source),
            job.initial,
            job.validation_patches,
            origin=_origin(job.patients, source),
            on_epoch=on_epoch,
            progress=progress,
            bf16_on_cpu=job.bf16_on_cpu,
        )
        trained = train(run, job.stages, team)
        everything = [run.best(number) for number in range(len(job.recipe.stages))]
        missing = tuple(
            stage.name for stage, path in zip(job.recipe.stages, everything, strict=True) if not path.exists()
        )
        bundle = job.folder / "bundle" if not missing else None
        if bundle is not None and team.leads:
            _export(job, everything, bundle)
        team.wait()
        best = {
            name: _best_line(job.folder / f"{name}.csv") for name in (job.recipe.stages[n].name for n in job.stages)
        }
    files = {job.recipe.stages[number].name: path for number, path in zip(job.stages, trained, strict=True)}
    return Outcome(files, best, bundle, missing, lines)


@contextmanager
def _files_told_of() -> Iterator[None]:
    """A full disk, a folder in a file's place, a file that may not be read: one line that names it.

    Raises:
        TrainingError: instead.
    """
    try:
        yield
    except OSError as error:
        what = error.filename or "train"
        raise TrainingError(f"{what}: wanted to read or write it, got: {error.strerror or error}") from error


def _adapted(job: Job, team: Team, progress: Progress | None) -> tuple[Job, tuple[str, ...]]:
    """The job with the recipe that is trained, and what was changed in it, a line for each stage."""
    from .adapting import changes, check_not_adapted, run_recipe, training_fingerprint
    from .measured import fold_cases

    data = job.patients
    if not isinstance(data, Data) or data.adapt_to is None:
        check_not_adapted(job.folder)
        return job, ()
    memory = data.adapt_to

    def look() -> Fingerprint:
        training, _ = fold_cases(data.folder, data.layout, data.fold, data.splits)
        return training_fingerprint(training, progress)

    used = team.leader_first(lambda: run_recipe(job.folder, job.recipe, memory, look))
    return dataclasses.replace(job, recipe=used), tuple(changes(job.recipe, used))


def count_folds(data: Data) -> int:
    """How many folds a data set has.

    Raises:
        DatasetError: the data set or its split cannot be read.
    """
    from .measured import find_folds

    return len(find_folds(data.folder, data.layout, data.splits)[1].folds)


def _origin(patients: Data | Drawn, source: PatchSource) -> dict[str, object]:
    """What tells a run that another one in the same folder was of other patients."""
    from .measured import MeasuredSource
    from .synthesis.library import DRAWING
    from .typed import TypedSource

    if isinstance(patients, Data):
        assert isinstance(source, MeasuredSource)
        return {"data": "measured", "fold": patients.fold, "patients": source.digest}
    origin: dict[str, object] = {
        "data": "synthetic",
        "labelmaps": patients.labelmaps is not None,
        "bodies": patients.bodies,
    }
    if isinstance(source, SyntheticSource | TypedSource):
        origin["drawing"] = DRAWING
        if source.library.sources:
            origin["sources"] = source.library.sources
    if isinstance(source, SyntheticSource):  # a seed draws other scans on another kind of device
        origin["device"] = source.device.partition(":")[0]
    return origin


def _source(job: Job, device: str, progress: Progress | None) -> PatchSource:
    if isinstance(job.patients, Data):
        from .caching import Cache
        from .measured import open_measured

        data = job.patients
        cache = Cache(data.cache, data.cache_limit_gb)
        first = _first_weights(job)
        return open_measured(
            job.recipe, data.folder, data.layout, data.fold, cache, job.seed, data.splits, progress, first, device
        )
    return _drawn_source(job, job.patients, device, progress)


def _drawn_source(job: Job, drawn: Drawn, device: str, progress: Progress | None) -> PatchSource:
    from .synthesis.library import build_library
    from .typed import TypedSource

    if job.recipe.typing is None:
        check_drawable(job.recipe)

    def bodies(done: int, count: int) -> None:
        if progress is not None:
            progress("drawing bodies", done / count)

    library = build_library(
        job.folder / "bodies",
        drawn.labelmaps,
        variants=drawn.bodies if drawn.labelmaps else 1,
        procedural=10 * drawn.bodies,
        seed=job.seed,
        progress=bodies,
    )
    if job.recipe.typing is not None:
        return TypedSource(library, job.recipe, job.seed, _first_weights(job))
    return SyntheticSource(library, job.recipe, job.seed, device=device)


def _workers(job: Job, source: PatchSource) -> int:
    """None where the patches are drawn on the device: that is for the process that trains."""
    return 0 if isinstance(source, SyntheticSource) and source.device != "cpu" else job.workers


def _first_weights(job: Job) -> Path:
    """Where the first stage's best weights are, or will be, whose mistakes a second stage for lesions is shown."""
    from .measured import shows_lesions

    first = job.folder / f"{job.recipe.stages[0].name}.best.safetensors"
    shown = [job.recipe.stages[n].name for n in job.stages if shows_lesions(job.recipe, n)]
    if shown and 0 not in job.stages and not first.exists():
        warn(f"stage {shown[0]}: wanted {first.name}, whose mistakes it is shown; without it, it is shown none")
    return first


def _export(job: Job, weights: list[Path], folder: Path) -> None:
    if isinstance(job.patients, Data):
        source, kind = f"measured cases, all but fold {job.patients.fold} of a split by patient", "measured"
        if job.patients.adapt_to is not None:
            source += ", with patch, batch and learning rate fitted to them"
    else:
        drawn_from = "label maps" if job.patients.labelmaps else "procedural anatomy"
        source, kind = f"synthetic scans drawn from {drawn_from}", "synthetic"
    export_bundle(job.recipe, weights, folder, source, "see model_card.md", data_type=kind)


def _best_line(path: Path) -> dict[str, float]:
    with path.open(newline="", encoding="utf-8") as file:
        lines = [{name: float(value) for name, value in line.items()} for line in csv.DictReader(file)]
    if not lines:
        raise TrainingError(f"{path}: wanted a line an epoch, got none")
    return min(lines, key=lambda line: line["validation_loss"])
