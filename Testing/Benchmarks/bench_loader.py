"""How fast patches of measured cases come, ours against MONAI's CacheDataset on the same transforms, and who waits.

    python Testing/Benchmarks/bench_loader.py [--recipe default] [--stage crop] [--augmentation s1] [--cases 4]

Synthetic cases are written to a temporary folder as a data set. Both sides prepare a case with `prepare` and cut and
augment a patch with `MeasuredPatches`; what differs is the cache: memory maps on disk, which workers and runs share, or
MONAI's lists in memory, filled anew by each run. The share of a training step that waits for its patch is measured with
the stage's own network on this computer; below 10 % is the goal.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from monai.data import CacheDataset
from monai.transforms import RandomizableTransform, Transform
from torch.utils.data import DataLoader, Dataset

from LiverTumorSegLib.datasets.layouts import find_cases
from LiverTumorSegLib.networks import build_network
from LiverTumorSegLib.recipe import Recipe, load_recipe
from LiverTumorSegLib.resources import resource_path
from LiverTumorSegLib.training.caching import Cache
from LiverTumorSegLib.training.measured import MeasuredPatches, MeasuredSource
from LiverTumorSegLib.training.preparing import prepare
from LiverTumorSegLib.training.synthesis.cases import write_case
from LiverTumorSegLib.training.tasks import TASKS


class Prepare(Transform):
    """What CacheDataset keeps: a prepared case."""

    def __init__(self, recipe: Recipe, stage: int) -> None:
        self.recipe, self.stage = recipe, stage

    def __call__(self, item: dict) -> dict:
        """A case and its variant -> the prepared case."""
        return {**item, "entry": prepare(item["case"], self.recipe, self.stage, item["variant"])}


class Cut(RandomizableTransform):
    """What is done anew each time: the same code as ours, with the entry that MONAI kept for a cache."""

    def __init__(self, patches: MeasuredPatches) -> None:
        super().__init__()
        self.patches = patches

    def __call__(self, item: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """The prepared case -> a patch of it."""

        class Kept:
            @staticmethod
            def get(key, make):
                return item["entry"]

        return dataclasses.replace(self.patches, cache=Kept(), start=int(self.R.randint(2**31)), count=1)[0]


def main() -> None:
    """Print seconds to the first patch, patches a second, and the share of a step that waits."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--stage", default="crop")
    parser.add_argument("--augmentation", default="s1")
    parser.add_argument("--cases", type=int, default=4, metavar="N")
    parser.add_argument("--spacing", type=float, default=2.0, metavar="MM")
    parser.add_argument("--patches", type=int, default=60, metavar="N")
    parser.add_argument("--workers", type=int, default=1, metavar="N")
    parser.add_argument("--steps", type=int, default=10, metavar="N")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    recipe = load_recipe(resource_path("Recipes", f"{options.recipe}.json"))
    stage = [spec.name for spec in recipe.stages].index(options.stage)
    training = tuple(dataclasses.replace(each, augmentation=options.augmentation) for each in recipe.training)
    recipe = dataclasses.replace(recipe, training=training)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data").mkdir()
        for seed in range(options.cases):
            write_case(Path(folder) / "data", f"case_{seed}", seed, "CT", options.spacing)
        compare(recipe, stage, Path(folder), options)


def compare(recipe: Recipe, stage: int, folder: Path, options: argparse.Namespace) -> None:
    """Ours, twice as a second run would find it, then MONAI's; then our share of a training step."""
    cases = find_cases(folder / "data")
    print(f"{len(cases)} cases, patches of {recipe.training[stage].patch} voxels, {options.workers} worker(s)")
    for run in ("first run", "second run"):
        began = time.perf_counter()
        source = MeasuredSource(recipe, cases, (), Cache(folder / "cache"))
        ours = source.patches(stage, 0, options.patches)
        report(f"ours, {run}", began, ours, options)
    began = time.perf_counter()
    items = [{"case": case, "variant": n} for case in cases for n in range(len(ours.cases[0].keys))]
    kept = CacheDataset(items, [Prepare(recipe, stage), Cut(ours)], num_workers=0, progress=False)
    report("MONAI's CacheDataset", began, Repeated(kept, options.patches), options)
    wait(recipe, stage, ours, options)


class Repeated(Dataset):
    """An epoch of as many patches as ours."""

    def __init__(self, inner: Dataset, count: int) -> None:
        self.inner, self.count = inner, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int):
        if index >= self.count:
            raise IndexError(index)
        return self.inner[index % len(self.inner)]


def report(name: str, began: float, patches: Dataset, options: argparse.Namespace) -> None:
    """Time a whole epoch of one loader."""
    ready = time.perf_counter()
    for _ in loader(patches, options.workers):
        pass
    seconds = time.perf_counter() - ready
    print(f"{name}: ready after {ready - began:.1f} s, {len(patches) / seconds:.1f} patches/s")


def wait(recipe: Recipe, stage: int, patches: Dataset, options: argparse.Namespace) -> None:
    """Train some steps and add up the time in which the network has nothing to do."""
    spec = recipe.stages[stage]
    network = build_network(spec.network, spec.arguments).to(options.device)
    task = TASKS[spec.task](recipe, stage, options.device)
    stream: Iterator = iter(loader(patches, options.workers))
    next(stream)  # starting the workers is no part of a step
    waited = worked = 0.0
    for _ in range(min(options.steps, options.patches - 1)):
        began = time.perf_counter()
        volume, labels = (part.to(options.device) for part in next(stream))
        waited += (arrived := time.perf_counter()) - began
        task.loss(network, volume, labels, epoch=0).backward()
        if options.device != "cpu":
            torch.cuda.synchronize()
        worked += time.perf_counter() - arrived
    share = waited / (waited + worked)
    print(f"a step of {(waited + worked) / options.steps:.2f} s on {options.device} waits {share:.1%} for its patch")


def loader(patches: Dataset, workers: int) -> DataLoader:
    """As the trainer makes it."""
    return DataLoader(
        patches,
        batch_size=1,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=one_thread if workers else None,
    )


def one_thread(_: int) -> None:
    """Workers share the cores."""
    torch.set_num_threads(1)


if __name__ == "__main__":
    main()
