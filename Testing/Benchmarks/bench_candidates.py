"""Which network learns most in the same time, and what it then costs: candidates for the default bundle's second stage.

    python Testing/Benchmarks/bench_candidates.py [--bodies RUN_DIR/bodies] [--seconds 120] [--networks unet_blocks ...]

Each begins from chance and is trained for so many seconds of one core, float32, on the same drawn patches in the same
order, with the recipe's loss and a rate that falls to 0 over the time; a step that has begun is finished. Then the loss
and the Dice of shifted validation patches, and how long one window takes at inference (OpenVINO, one core, the fastest
of five). Drawing is not counted.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from LiverTumorSegLib.networks import build_network
from LiverTumorSegLib.networks.engines import OpenVINOEngine
from LiverTumorSegLib.networks.export import export_openvino
from LiverTumorSegLib.recipe import Recipe, load_recipe
from LiverTumorSegLib.resources import resource_path
from LiverTumorSegLib.training.patches import Patch
from LiverTumorSegLib.training.precision import laid_out
from LiverTumorSegLib.training.sources import SyntheticSource
from LiverTumorSegLib.training.synthesis.library import AnatomyLibrary, build_library, open_library
from LiverTumorSegLib.training.tasks import TASKS

STAGE = 1
HALVINGS = [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2]]
CUBES = [[3, 3, 3]] * 5
LEVELS: Mapping[str, object] = {"channels": [16, 32, 64, 64, 96], "strides": [2, 2, 2, 2], "num_res_units": 1}
CANDIDATES: dict[str, tuple[str, Mapping[str, object]]] = {
    "unet": ("unet", {**LEVELS, "head": "linear"}),
    "unet_blocks": ("unet", {**LEVELS, "head": "linear", "blocks": 1}),
    "dynunet": ("dynunet", {"filters": [16, 32, 64, 96, 96], "kernels": CUBES, "strides": HALVINGS}),
    "segresnet": ("segresnet", {"init_filters": 8}),
    "highresnet": ("highresnet", {"norm": "instance"}),
}
"""All for one channel in and three classes; "unet_blocks" is what the bundle has."""


def main() -> None:
    """Print a table with a line for each candidate."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bodies", type=Path, help="of a training run; by default a few are drawn from formulas")
    parser.add_argument("--seconds", type=float, default=120.0, metavar="S", help="of training, each")
    parser.add_argument("--patches", type=int, default=300, metavar="N", help="to train on; used again when all were")
    parser.add_argument("--validation", type=int, default=48, metavar="N", help="patches")
    parser.add_argument("--networks", nargs="+", default=list(CANDIDATES), choices=list(CANDIDATES), metavar="NAME")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.bodies is not None:
        compare(open_library(options.bodies), options)
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(build_library(Path(folder), None, variants=1, held_out=1, procedural=4), options)


def compare(library: AnatomyLibrary, options: argparse.Namespace) -> None:
    """Train every candidate on scans of these bodies."""
    recipe = load_recipe(resource_path("Recipes", "default.json"))
    source = SyntheticSource(library, recipe)
    trained_on = drawn(source, options.patches)
    judged_on = drawn(source, options.validation, validation=True)
    print("| network | parameters | steps | s a step | loss | liver, tumour | s a window |\n|" + "---|" * 7)
    for name in options.networks:
        print(line(name, recipe, trained_on, judged_on, options.seconds), flush=True)


def drawn(source: SyntheticSource, count: int, validation: bool = False) -> list[Patch]:
    """Patches as batches of one, laid out as training has them."""
    stream = source.patches(STAGE, 0, count, validation)
    whole = ((volume[None], labels[None]) for volume, labels in (stream[number] for number in range(count)))
    return [(volume.contiguous(memory_format=torch.channels_last_3d), labels) for volume, labels in whole]


def line(name: str, recipe: Recipe, trained_on: Sequence[Patch], judged_on: Sequence[Patch], seconds: float) -> str:
    """Train a candidate, judge it, time it."""
    torch.manual_seed(0)
    kind, arguments = CANDIDATES[name]
    network = laid_out(build_network(kind, dict(arguments)), "cpu")
    task = TASKS["segment"](recipe, STAGE, "cpu")
    optimiser = torch.optim.Adam(network.parameters())
    network.train()
    began, steps, left = time.perf_counter(), 0, 1.0
    while left > 0:
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * left**0.9
        optimiser.zero_grad(set_to_none=True)
        task.loss(network, *trained_on[steps % len(trained_on)], epoch=0).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.training[STAGE].clip_gradient)
        optimiser.step()
        steps += 1
        left = 1 - (time.perf_counter() - began) / seconds
    step = (time.perf_counter() - began) / steps
    network.eval()
    with torch.no_grad():
        judgements = [task.judge(network, *patch) for patch in judged_on]
    loss = np.mean([each.loss for each in judgements])
    scores = task.scores(torch.stack([each.counts for each in judgements]).sum(0).double())
    dice = ", ".join(f"{value:.3f}" for value in scores.values())
    size = sum(each.numel() for each in network.parameters()) / 1e6
    return f"| {name} | {size:.1f} M | {steps} | {step:.2f} | {loss:.3f} | {dice} | {window(network, recipe):.2f} |"


def window(network: torch.nn.Module, recipe: Recipe) -> float:
    """Seconds that one window of the recipe takes at inference."""
    stage = recipe.stages[STAGE]
    assert stage.window is not None
    array = np.random.default_rng(0).normal(size=(1, 1, *stage.window[::-1])).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.xml"
        export_openvino(network, path, multiple=16)
        engine = OpenVINOEngine(path, stage)
        engine(array)  # compiles
        times = []
        for _ in range(5):
            began = time.perf_counter()
            engine(array)
            times.append(time.perf_counter() - began)
    return min(times)


if __name__ == "__main__":
    main()
