"""How fast training scans are drawn, and what share of a training step that is.

    python Testing/Benchmarks/bench_synthesis.py [--recipe default] [--bodies RUN_DIR/bodies] [--patches 12]

One thread draws, as a worker of the trainer does; the step is measured on one thread too. Below 1 scan drawn a step
training waits for its data: use more workers.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from LiverTumorSegLib.networks import build_network
from LiverTumorSegLib.recipe import load_recipe
from LiverTumorSegLib.resources import resource_path
from LiverTumorSegLib.training.sources import SyntheticSource
from LiverTumorSegLib.training.synthesis.library import AnatomyLibrary, build_library, open_library
from LiverTumorSegLib.training.tasks import TASKS


def main() -> None:
    """Print one line for each stage of the recipe."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--bodies", type=Path, help="of a training run; by default a few are drawn from formulas")
    parser.add_argument("--patches", type=int, default=12, metavar="N")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.bodies is not None:
        measure(open_library(options.bodies), options.recipe, options.patches)
        return
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        library = build_library(Path(folder), None, variants=1, held_out=1, procedural=3)
        print(f"drawing a body from formulas: {(time.perf_counter() - began) / 3:.1f} s")
        measure(library, options.recipe, options.patches)


def measure(library: AnatomyLibrary, name: str, count: int) -> None:
    """Median seconds of a drawn patch and of a step with it, for each stage."""
    recipe = load_recipe(resource_path("Recipes", f"{name}.json"))
    for stage, spec in enumerate(recipe.stages):
        stream = SyntheticSource(library, recipe).patches(stage, 0, count)
        drawing, patches = timed(lambda n, s=stream: s[n], count)
        network = build_network(spec.network, spec.arguments)
        task = TASKS[spec.task](recipe, stage, "cpu")

        def step(number: int, network=network, task=task, patches=patches) -> None:
            volume, labels = (part[None] for part in patches[number])
            task.loss(network, volume, labels, epoch=0).backward()

        stepping, _ = timed(step, count)
        print(
            f"{spec.name}: {1 / drawing:.1f} scans/s of {recipe.training[stage].patch} voxels on one thread, "
            f"{drawing / stepping:.2f} of a training step of {stepping:.2f} s"
        )


def timed(work, count: int) -> tuple[float, list]:
    """Median seconds of work(0) to work(count - 1), and what they returned."""
    seconds, results = [], []
    for number in range(count):
        began = time.perf_counter()
        results.append(work(number))
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds), results


if __name__ == "__main__":
    main()
