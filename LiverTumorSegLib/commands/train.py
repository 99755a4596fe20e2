"""Recipe -> bundle, alone or as one process of `torchrun`."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import os
import signal
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from ..console import Console, QuietConsole
from ..errors import LiverTumorSegError, OutputError, RecipeError, TrainingError, heard_warnings, recorded_warnings
from .cohort import add_ray, cluster_of
from .options import LAYOUTS, above_0, at_least_1, check_used, whole_number

if TYPE_CHECKING:
    from ..cluster import Cluster
    from ..recipe import Recipe
    from ..training.jobs import Data, Drawn, Job, Outcome, Progress
    from ..training.logs import Epoch


def add_train(parser: argparse.ArgumentParser) -> None:
    """What `livertumorseg train` is told."""
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="recipe JSON file")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="RUN_DIR", help="resumed when it exists")
    parser.add_argument("--stage", action="append", metavar="NAME", help="train only this stage (repeatable)")
    parser.add_argument("--init", metavar="NAME|DIR", help="begin from this bundle's weights, where they fit")
    parser.add_argument("--seed", type=whole_number, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    parser.add_argument(
        "--bf16-on-cpu",
        action="store_true",
        help="let the recipe's bf16 hold on a CPU, too, if this network's gradients prove right there",
    )
    parser.add_argument("--workers", type=_workers, default=1, metavar="N", help="processes that make patches")
    parser.add_argument(
        "--validation-patches", type=at_least_1, metavar="N", help="how many judge each epoch (default: 24)"
    )
    measured = parser.add_argument_group("measured cases")
    measured.add_argument("--data", type=Path, metavar="DIR", help="a data set with scans and labels")
    measured.add_argument("--layout", choices=LAYOUTS, default="nifti", help="of the data set (default: nifti)")
    measured.add_argument("--fold", type=whole_number, metavar="K", help="validate on fold K, train on the others")
    measured.add_argument("--all-folds", action="store_true", help="train every fold, each in RUN_DIR/fold_K")
    add_ray(measured)
    measured.add_argument("--splits", type=Path, metavar="FILE", help="what dataset check --folds wrote")
    measured.add_argument("--cache", type=Path, metavar="DIR", help="of prepared cases (default: RUN_DIR/cache)")
    measured.add_argument("--cache-limit", type=above_0, metavar="GB", help="what it may take (default: 100)")
    measured.add_argument(
        "--adapt", action="store_true", help="first fit patch, batch and learning rate to the fold's training cases"
    )
    measured.add_argument(
        "--memory",
        type=above_0,
        metavar="TIMES",
        help="with --adapt: this machine's memory in those that the recipe's own patch and batch fit (default: 1)",
    )
    drawn = parser.add_argument_group("synthetic scans, without --data")
    drawn.add_argument("--labelmaps", type=Path, metavar="DIR", help="anatomy from label maps instead of formulas")
    drawn.add_argument(
        "--bodies",
        type=at_least_1,
        default=3,
        metavar="N",
        help="bodies drawn around every label map, or 10 N from formulas",
    )
    parser.set_defaults(run=train_recipe)


def _workers(text: str) -> int:
    most = max(64, 2 * (os.cpu_count() or 1))
    if (count := whole_number(text)) > most:
        raise argparse.ArgumentTypeError(f"wanted at most {most} processes, got {count}")
    return count


def train_recipe(options: argparse.Namespace, console: Console) -> int:
    """`livertumorseg train`: exit code 1 where a fold of several could not be trained, 130 when interrupted."""
    from ..bundle import Bundle
    from ..networks.devices import resolve_device
    from ..output import check_writable
    from ..recipe import load_recipe
    from ..systems import check_recipe
    from ..training.jobs import Job, train_fold
    from ..training.precision import check_bf16_on_cpu
    from ..training.team import is_follower

    if is_follower():
        console = QuietConsole()
    recipe = load_recipe(options.recipe)
    check_recipe(recipe)
    stages = _chosen_stages(recipe, options.stage)
    if options.bf16_on_cpu:
        check_bf16_on_cpu(resolve_device(options.device), [recipe.training[stage] for stage in stages])
    check_writable(options.output)
    initial = Bundle.load(options.init).path / "weights" if options.init else None
    job = Job(recipe, options.output, stages, _patients(options), initial, bf16_on_cpu=options.bf16_on_cpu)
    job = dataclasses.replace(job, seed=options.seed, device=options.device, workers=options.workers)
    if options.validation_patches is not None:
        job = dataclasses.replace(job, validation_patches=options.validation_patches)

    def finished(name: str, line: Epoch) -> None:
        console.result("epoch", {"stage": name, **line.columns()}, f"{name}: {_epoch_text(line)}")

    alone = _only_one(options.output, is_follower())
    try:
        with heard_warnings(console.note), recorded_warnings(), alone, _interruptible(console.progress) as progress:
            if options.all_folds:
                return _train_all_folds(job, console, progress, is_follower(), cluster_of(options))
            outcome = train_fold(job, finished, progress, console.note)
    except KeyboardInterrupt:
        if any(options.output.rglob("*.checkpoint.safetensors")):
            told = f"interrupted; the same command goes on from the checkpoint in {options.output}, a minute or so old"
        else:
            told = "interrupted before the first checkpoint; the same command begins the training anew"
        console.note(told)
        return 130
    if outcome.bundle is not None:
        _show_bundle(outcome.bundle, console)
    elif not is_follower():
        missing = ", ".join(outcome.missing)
        console.note(f"no bundle yet: it wants the weights of all stages, there are none of {missing}")
    return 0


@contextmanager
def _interruptible(progress: Progress) -> Iterator[Progress]:
    """Have an interrupt heard at the next progress at the latest.

    Python ignores what its callbacks after a fork raise, and with it an interrupt while a process for patches starts.
    """
    heard: list[int] = []

    def interrupt(number: int, _: FrameType | None) -> None:
        heard.append(number)
        raise KeyboardInterrupt

    def told(step: str, share: float) -> None:
        if heard:
            raise KeyboardInterrupt
        progress(step, share)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _only_one(folder: Path, follows: bool) -> Iterator[None]:
    """Keep others from training in this folder meanwhile; those who follow do so in the name of the first.

    Raises:
        JournalError: another process trains there.
        OutputError: the folder cannot be made.
    """
    if follows:
        yield
        return
    from ..correction.lock import FileLock

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", str(folder))
    except OSError as error:
        raise OutputError(f"{folder}: wanted a folder to train in, got: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def _chosen_stages(recipe: Recipe, wanted: list[str] | None) -> tuple[int, ...]:
    names = [stage.name for stage in recipe.stages]
    for name in wanted or ():
        if name not in names:
            raise RecipeError(f"--stage: wanted one of {', '.join(names)}, got {name!r}")
    return tuple(n for n, name in enumerate(names) if name in (wanted or names))


def _patients(options: argparse.Namespace) -> Data | Drawn:
    from ..training.jobs import Data, Drawn

    if options.data is None:
        names = ("fold", "splits", "cache", "cache_limit", "adapt", "memory", "all_folds", "ray", "threads")
        check_used(options, names, "--data")
        return Drawn(options.labelmaps, options.bodies)
    if options.labelmaps is not None:
        raise TrainingError("train: wanted either --data or --labelmaps, got both")
    if (options.fold is None) == (not options.all_folds):
        got = "both" if options.all_folds else "neither"
        raise TrainingError(f"train: wanted either --fold or --all-folds with --data, got {got}")
    if options.ray is not None and not options.all_folds:
        raise TrainingError("--ray: wanted it with --all-folds, got one fold")
    if options.ray is None:
        check_used(options, ("threads",), "--ray")
    if not options.adapt:
        check_used(options, ("memory",), "--adapt")
    cache = options.cache or options.output / "cache"
    data = Data(options.data, options.layout, options.fold or 0, options.splits, cache)
    if options.cache_limit is not None:
        data = dataclasses.replace(data, cache_limit_gb=options.cache_limit)
    return dataclasses.replace(data, adapt_to=options.memory or 1.0) if options.adapt else data


def _train_all_folds(job: Job, console: Console, progress: Progress, follows: bool, cluster: Cluster | None) -> int:
    """One fold after the other, or side by side; one that fails is told and does not keep the others from training."""
    from ..training.jobs import Data, count_folds

    assert isinstance(job.patients, Data)
    jobs = {
        fold: dataclasses.replace(
            job, folder=job.folder / f"fold_{fold}", patients=dataclasses.replace(job.patients, fold=fold)
        )
        for fold in range(count_folds(job.patients))
    }
    outcomes: dict[int, Outcome] = {}
    with closing(_one_by_one(jobs, console, progress) if cluster is None else _side_by_side(jobs, cluster)) as done:
        for fold, outcome, error in done:
            if outcome is None:
                console.note(f"fold {fold} is left out: {error}")
            else:
                outcomes[fold] = outcome
                for line in outcome.adapted if cluster is not None else ():
                    console.note(f"fold {fold}, {line}")
            console.progress("folds", len(outcomes) / len(jobs))
    if outcomes and not follows:
        _write_folds(job.folder / "folds.csv", {fold: outcomes[fold] for fold in sorted(outcomes)})
    if not follows:
        text = f"{len(outcomes)} of {len(jobs)} folds trained"
        console.result("folds", {"trained": sorted(outcomes), "of": len(jobs)}, text)
    return 0 if len(outcomes) == len(jobs) else 1


def _one_by_one(
    jobs: dict[int, Job], console: Console, progress: Progress
) -> Generator[tuple[int, Outcome | None, str], None, None]:
    from ..training.jobs import train_fold
    from ..training.team import is_in_team

    for fold, job in jobs.items():

        def finished(name: str, line: Epoch, fold: int = fold) -> None:
            content = {"fold": fold, "stage": name, **line.columns()}
            console.result("epoch", content, f"fold {fold}, {name}: {_epoch_text(line)}")

        def adapted(line: str, fold: int = fold) -> None:
            console.note(f"fold {fold}, {line}")

        try:
            yield fold, train_fold(job, finished, progress, adapted), ""
        # RuntimeError is all that torch raises: too little memory of a GPU, for example.
        except (LiverTumorSegError, OSError, MemoryError, RuntimeError) as error:
            if is_in_team():  # the other processes are still at this fold
                raise
            yield fold, None, " ".join(str(error).split()) or type(error).__name__


def _side_by_side(jobs: dict[int, Job], cluster: Cluster) -> Generator[tuple[int, Outcome | None, str], None, None]:
    from ..cluster import train_on_ray

    return train_on_ray(jobs, cluster)


def _write_folds(path: Path, outcomes: dict[int, Outcome]) -> None:
    """The best epoch of every stage and fold as a table."""
    from ..networks.weights import write_durably

    rows = [
        {"fold": fold, "stage": stage, **line}
        for fold, outcome in outcomes.items()
        for stage, line in outcome.best.items()
    ]
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    table = csv.DictWriter(text, names)
    table.writeheader()
    table.writerows(rows)
    write_durably(path, text.getvalue().encode())


def _show_bundle(folder: Path, console: Console) -> None:
    from ..bundle import Bundle

    bundle = Bundle.load(folder)
    console.result("bundle", {"folder": str(bundle.path), "sha256": bundle.sha256}, f"bundle: {bundle.path}")


def _epoch_text(line: Epoch) -> str:
    scores = "  ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in line.scores.items())
    return (
        f"epoch {line.epoch}  loss {line.training_loss:.3f}  validation {line.validation_loss:.3f}  "
        f"{scores}  {line.seconds:.0f} s"
    )
