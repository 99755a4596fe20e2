"""How fast training scans are drawn, and what share of a training step waits for them.

    python Testing/Benchmarks/bench_synthesis.py [--recipe default] [--bodies RUN_DIR/bodies] [--patches 30]

For each stage of the recipe: scans and patches a second on one core; the same on the GPU where there is one; and the
share of a training step that waits for its patch, as the trainer would have it: with `--workers` processes on the CPU,
and with the GPU drawing for itself. Below 10 % is the goal, as for measured cases (`bench_loader.py`).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from LiverTumorSegLib.networks import build_network
from LiverTumorSegLib.recipe import Recipe, load_recipe
from LiverTumorSegLib.resources import resource_path
from LiverTumorSegLib.training.fitting import moved
from LiverTumorSegLib.training.sources import SyntheticSource
from LiverTumorSegLib.training.synthesis.generator import drawn_scan
from LiverTumorSegLib.training.synthesis.library import AnatomyLibrary, build_library, open_library
from LiverTumorSegLib.training.tasks import TASKS

UNCOUNTED = 3  # the first ones open libraries and read bodies from the disk


def main() -> None:
    """Print a few lines for each stage of the recipe."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--bodies", type=Path, help="of a training run; by default a few are drawn from formulas")
    parser.add_argument("--patches", type=int, default=30, metavar="N")
    parser.add_argument("--steps", type=int, default=10, metavar="N")
    parser.add_argument("--workers", type=int, default=1, metavar="N")
    options = parser.parse_args()
    recipe = load_recipe(resource_path("Recipes", f"{options.recipe}.json"))
    if options.bodies is not None:
        measure(open_library(options.bodies), recipe, options)
        return
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        library = build_library(Path(folder), None, variants=1, held_out=1, procedural=4)
        print(f"drawing a body from formulas: {(time.perf_counter() - began) / 4:.1f} s")
        measure(library, recipe, options)


def measure(library: AnatomyLibrary, recipe: Recipe, options: argparse.Namespace) -> None:
    """Every stage on the CPU, and on the GPU if there is one."""
    for stage, spec in enumerate(recipe.stages):
        for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
            patches = SyntheticSource(library, recipe, device=device).patches(stage, 0, options.patches)
            field = patches.drawn_field()

            def scan(number: int, device=device, field=field, names=patches.names) -> None:
                body = library.load(names[number % len(names)])
                drawn_scan(body, field, np.random.default_rng(number), device=device)

            with one_core():
                scans = rate(scan, options.patches, device)
                made = rate(patches.__getitem__, options.patches, device)
            where = "one core" if device == "cpu" else torch.cuda.get_device_name()
            print(
                f"{spec.name}, {where}: {scans:.1f} scans/s of {field.shape} voxels, {made:.1f} patches/s", flush=True
            )
            wait(recipe, stage, patches, device, options)


@contextmanager
def one_core() -> Iterator[None]:
    """Torch computes on one thread inside, as in a worker of the trainer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def rate(work: Callable[[int], object], count: int, device: str) -> float:
    """How often a second `work` is done, over numbers UNCOUNTED to count."""
    for number in range(UNCOUNTED):
        work(number)
    finished(device)
    began = time.perf_counter()
    for number in range(UNCOUNTED, count):
        work(number)
    finished(device)
    return (count - UNCOUNTED) / (time.perf_counter() - began)


def wait(recipe: Recipe, stage: int, patches: Dataset, device: str, options: argparse.Namespace) -> None:
    """Train some steps and add up the time in which the network has nothing to do."""
    spec, batch = recipe.stages[stage], recipe.training[stage].batch_size
    network = build_network(spec.network, spec.arguments).to(device)
    optimiser = torch.optim.Adam(network.parameters())
    task = TASKS[spec.task](recipe, stage, device)
    workers = options.workers if device == "cpu" else 0
    stream: Iterator = iter(
        DataLoader(
            patches,
            batch_size=batch,
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            worker_init_fn=one_thread if workers else None,
        )
    )
    next(stream)  # starting the workers is no part of a step
    waited = worked = 0.0
    steps = min(options.steps, options.patches // batch - 1)
    for _ in range(steps):
        began = time.perf_counter()
        patch = moved(next(stream), device)
        finished(device)
        waited += (arrived := time.perf_counter()) - began
        optimiser.zero_grad(set_to_none=True)
        task.loss(network, *patch, epoch=0).backward()
        optimiser.step()
        finished(device)
        worked += time.perf_counter() - arrived
    by = f"{workers} worker(s)" if workers else "drawn by the training process"
    share = waited / (waited + worked)
    print(
        f"  a step of {(waited + worked) / steps:.2f} s on {device} waits {share:.1%} for its patch, {by}", flush=True
    )


def finished(device: str) -> None:
    """What was asked of the GPU is done."""
    if device != "cpu":
        torch.cuda.synchronize()


def one_thread(_: int) -> None:
    """Workers share the cores."""
    torch.set_num_threads(1)


if __name__ == "__main__":
    main()
