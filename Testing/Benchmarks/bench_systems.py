"""The five systems on the same scan: size, arithmetic, time, memory, and what is spent outside the networks.

    python Testing/Benchmarks/bench_systems.py [--size 512 512 200] [--recipes NAME ...] [--budget 5] [--skip fusion]

Weights are random, so the networks' answers are replaced by what the drawn scan shows, and every system goes its whole
way: liver, crops, lesions; S3 with four phases, which it registers. Windows of one size are computed until `--budget`
seconds are spent on them, at least one, and the others are taken to last as long; 0 computes none, and shows time and
memory outside the networks alone. Memory is the peak of a process of its own, in which the networks stay loaded.
An addition and a multiplication are two operations.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from LiverTumorSegLib.bundle import Bundle
from LiverTumorSegLib.geometry import Box
from LiverTumorSegLib.inference import Engine, Reduce, open_engine
from LiverTumorSegLib.networks import build_network
from LiverTumorSegLib.recipe import Recipe, Stage, load_recipe
from LiverTumorSegLib.resources import resource_path
from LiverTumorSegLib.systems import system_named
from LiverTumorSegLib.systems.stages import Networks, StageOutput, Study

RECIPES = ("s0_csr_unet", "s1_highresnet", "s2_elanres_msca", "s3_multiphase", "s4_multiscale")
FIELD_MM = (400.0, 400.0, 300.0)
AIR, FAT, LIVER, LESION = -1000, -100, 110, 160  # HU; lesions brighter than the liver, so that no border looks like one
SURE = 8.0


def main() -> None:
    """Measure each system in a process of its own and print the tables."""
    options = _options()
    if options.measure:
        print(json.dumps(measure(Path(options.measure), options.device, options.size, options.budget)))
        return
    print(f"{' x '.join(map(str, options.size))} voxels, {os.cpu_count()} cores\n")
    columns = ("system", "device", "parameters", "windows", "GFLOP", "seconds", "in networks", "outside", "peak GB")
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for name in options.recipes:
            recipe = load_recipe(resource_path("Recipes", f"{name}_repaired.json"))
            bundle = random_bundle(recipe, Path(folder) / name)
            for device in _devices():
                print(line(recipe, device, in_new_process(bundle, device, options)), flush=True)
    if "fusion" not in options.skip:
        fusion()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, nargs=3, default=(512, 512, 200), help="voxels of the scan")
    parser.add_argument("--recipes", nargs="+", default=RECIPES, metavar="NAME", help="without _repaired.json")
    parser.add_argument("--budget", type=float, default=5.0, metavar="S", help="seconds for windows of one size")
    parser.add_argument("--skip", nargs="*", default=[], choices=("fusion",))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--device", default="cpu", help=argparse.SUPPRESS)
    return parser.parse_args()


def _devices() -> list[str]:
    import torch

    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def random_bundle(recipe: Recipe, folder: Path) -> Path:
    """A bundle of a recipe that nobody trained."""
    import torch

    from LiverTumorSegLib.networks.weights import save_weights
    from LiverTumorSegLib.training.export import export_bundle

    torch.manual_seed(0)
    weights = []
    folder.mkdir()
    for stage in recipe.stages:
        weights.append(folder / f"{stage.name}.safetensors")
        save_weights(build_network(stage.network, stage.arguments), weights[-1], half=False)
    return export_bundle(recipe, weights, folder / "bundle", "nothing", "none").path


def drawn_scan(size: tuple[int, int, int], breath_mm: float = 0.0) -> sitk.Image:
    """A body of fat with a liver and seven lesions of 8 to 50 mm, 400 x 400 x 300 mm; breath moves them down."""
    spacing = [mm / n for mm, n in zip(FIELD_MM, size, strict=True)]
    x, y, z = (((np.arange(n) + 0.5) * s - n * s / 2).astype(np.float32) for n, s in zip(size, spacing, strict=True))
    volume = np.full(size[::-1], AIR, np.int16)

    def paint(centre: tuple[float, float, float], radii: tuple[float, float, float], hu: int) -> None:
        axes = (x, y, z + breath_mm)
        parts = [((axis - c) / r) ** 2 for axis, c, r in zip(axes, centre, radii, strict=True)]
        volume[parts[2][:, None, None] + parts[1][None, :, None] + parts[0][None, None, :] <= 1] = hu

    paint((0, 0, 0), (180, 130, 1000), FAT)
    paint((-60, -10, 10), (95, 75, 75), LIVER)
    for number, radius in enumerate((4, 5, 7, 9, 12, 17, 25)):
        paint((-110 + 18 * number, -20 + 25 * (number % 2), -20 + 10 * number), (radius,) * 3, LESION)
    volume += np.random.default_rng(round(breath_mm)).integers(-8, 9, volume.shape, dtype=np.int16)
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing(spacing)
    return image


@dataclass
class Meter:
    """An engine that computes some windows of each size, times them, and counts the others.

    Attributes:
        engine: the real one.
        classes: channels of its answer.
        budget: seconds after which it computes no further ones of a size; there is at least one above 0.
        calls: size -> how many were asked for.
        seconds: size -> of those that were computed; the first of a size also compiles and does not count after that.
        inside: seconds that were spent in here.
    """

    engine: Engine
    classes: int
    budget: float
    calls: dict[tuple[int, ...], int] = field(default_factory=dict)
    seconds: dict[tuple[int, ...], list[float]] = field(default_factory=dict)
    inside: float = 0.0
    _answers: dict[tuple[int, ...], np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.name, self.device, self.precision = self.engine.name, self.engine.device, self.engine.precision

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """See `Engine`."""
        size = array.shape
        self.calls[size] = self.calls.get(size, 0) + 1
        if sum(self.seconds.get(size, [])) < self.budget:
            began = time.perf_counter()
            self._answers[size] = self.engine(array)
            self.seconds.setdefault(size, []).append(time.perf_counter() - began)
            self.inside += self.seconds[size][-1]
        if size not in self._answers:
            self._answers[size] = np.zeros((size[0], self.classes, *size[2:]), np.float32)
        return self._answers[size].copy()  # the caller's to change, as an engine's answer is

    def get_ready(self, shape: tuple[int, ...]) -> None:
        """See `Engine`."""
        self.engine.get_ready(shape)

    def move_to_cpu(self) -> None:
        """See `Engine`."""
        self.engine.move_to_cpu()

    @property
    def all_seconds(self) -> float:
        """What all windows would have lasted."""
        warm = {size: float(np.mean(each[1:] or each)) for size, each in self.seconds.items()}
        return sum(count * warm.get(size, 0.0) for size, count in self.calls.items())


class Told(Networks):
    """Networks whose answers about a region are what its grey values show, and about a patch of a lesion: nothing."""

    def __init__(self, recipe: Recipe, meters: Mapping[str, Meter]) -> None:
        super().__init__(recipe, meters)
        self.telling = 0.0

    def run(
        self, study: Study, key: str | int, box: Box, reduce: Reduce | None = None, filled_up: bool = False
    ) -> StageOutput:
        """See `Networks`."""
        output = super().run(study, key, box, reduce, filled_up)
        began = time.perf_counter()
        volume, stage = output.volumes[0], self.stage(key)
        assert volume is not None
        keep: Callable[[np.ndarray], np.ndarray] = reduce or (lambda slab: slab)
        for k in range(len(volume)):  # a slice at a time, as all classes of all slices may not fit
            output.logits[:, k : k + 1] = keep(self._told(stage, volume[k : k + 1]))
        self.telling += time.perf_counter() - began
        return output

    def run_array(self, key: str | int, array: np.ndarray, *more: Any, **named: Any) -> np.ndarray:
        """See `Networks`."""
        logits = super().run_array(key, array, *more, **named)
        if logits.dtype == np.float32:
            nothing = self._told(self.stage(key), np.full((1, 1, 1), AIR))
            logits[: len(nothing)] = nothing
        return logits

    def _told(self, stage: Stage, volume: np.ndarray) -> np.ndarray:
        lesion, inside = volume > (LIVER + LESION) / 2, volume > (FAT + LIVER) / 2
        nested = stage.activation == "sigmoid"
        shown = {"liver": inside if nested else inside & ~lesion, "background": ~inside}
        shown[next((name for name in self.recipe.lesion_names if name in stage.classes), "tumour")] = lesion
        no = np.zeros(volume.shape, bool)
        return np.stack([np.where(shown.get(name, no), SURE, -SURE) for name in stage.classes]).astype(np.float32)


def measure(path: Path, device: str, size: tuple[int, int, int], budget: float) -> dict[str, Any]:
    """One system on one scan; in a process that has done nothing else."""
    bundle, scan = Bundle.load(path), drawn_scan(size)
    recipe = bundle.recipe
    meters = {
        stage.name: Meter(open_engine(bundle, stage, device), len(stage.classes), budget) for stage in recipe.stages
    }
    networks = Told(recipe, meters)
    phases: dict[str, sitk.Image | None] = {
        phase.name: drawn_scan(size, 3.0 * number) for number, phase in enumerate(recipe.phases, 1)
    }
    began = time.perf_counter()
    study = Study(scan, phases, "CT")
    outcome = system_named(recipe.system)(study, networks)
    labels = outcome.evidence.labels_like(scan)
    wall = time.perf_counter() - began
    outside = wall - networks.telling - sum(meter.inside for meter in meters.values())
    steps = {name: round(seconds, 2) for name, seconds in study.seconds.items() if "network" not in name}
    return {
        "outside": outside,
        "networks": sum(meter.all_seconds for meter in meters.values()),
        "peak_gb": peak_gb(),
        "gpu_gb": gpu_gb() if device != "cpu" else 0.0,
        "calls": {name: list(meter.calls.items()) for name, meter in meters.items()},
        "steps": steps,
        "liver": bool((sitk.GetArrayViewFromImage(labels) > 0).any()),
    }


def peak_gb() -> float:
    """Highest resident memory of this process; `getrusage` would also count what its parent had when it began."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)
    (kilobytes,) = (row.split()[1] for row in status.read_text(encoding="utf-8").splitlines() if "VmHWM" in row)
    return int(kilobytes) / 1e6


def gpu_gb() -> float:
    """Highest memory that torch held on the GPU."""
    import torch

    return torch.cuda.max_memory_allocated() / 1e9


def in_new_process(bundle: Path, device: str, options: argparse.Namespace) -> dict[str, Any]:
    """`measure` of a bundle, its peak memory its own."""
    size = [str(n) for n in options.size]
    command = [sys.executable, __file__, "--measure", str(bundle), "--device", device]
    command += ["--budget", str(options.budget), "--size", *size]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def line(recipe: Recipe, device: str, measured: Mapping[str, Any]) -> str:
    """A row of the table."""
    prepared = {stage.name: prepared_network(stage) for stage in recipe.stages}
    parameters = sum(each.numel() for network in prepared.values() for each in network.parameters())
    operations = sum(
        count * floating_operations(prepared[name], size)
        for name, calls in measured["calls"].items()
        for size, count in calls
    )
    seconds = measured["outside"] + measured["networks"]
    windows = sum(count for calls in measured["calls"].values() for _, count in calls)
    sizes = (f"{parameters:,}", f"{windows:,}", f"{operations / 1e9:,.0f}")
    share = f"{100 * measured['outside'] / seconds:.0f} %"
    memory = f"{measured['peak_gb']:.2f}" + (f", GPU {measured['gpu_gb']:.2f}" if measured["gpu_gb"] else "")
    cells = (recipe.name.removesuffix("_repaired"), device, *sizes)
    return f"| {' | '.join(cells)} | {seconds:.1f} | {measured['networks']:.1f} | {share} | {memory} |"


def prepared_network(stage: Stage) -> Any:
    """A stage's network as inference has it, without numbers."""
    from LiverTumorSegLib.networks.export import prepare_for_inference

    return prepare_for_inference(build_network(stage.network, stage.arguments)).to("meta")


def floating_operations(network: Any, size: tuple[int, ...]) -> int:
    """Of the convolutions and matrix products in one pass over an input of this size."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(torch.zeros(tuple(size), device="meta"))
    return int(counter.get_total_flops())


def fusion() -> None:
    """S2's network with its branches and with them folded, in torch on the same window."""
    import torch

    from LiverTumorSegLib.networks.export import prepare_for_inference

    stage = load_recipe(resource_path("Recipes", "s2_elanres_msca_as_printed.json")).stages[0]
    branched = build_network(stage.network, stage.arguments).eval()
    fused = prepare_for_inference(copy.deepcopy(branched))
    window = torch.randn(1, 1, 48, 128, 128)
    seconds: dict[str, list[float]] = {"branches": [], "fused": []}
    with torch.inference_mode():
        for _ in range(4):  # in turn, so that whatever else the computer does is in both
            for name, network in zip(seconds, (branched, fused), strict=True):
                began = time.perf_counter()
                network(window)
                seconds[name].append(time.perf_counter() - began)
    print("\n| S2's network, 128 x 128 x 48 | parameters | GFLOP | seconds |\n|---|---|---|---|")
    for name, network in zip(seconds, (branched, fused), strict=True):
        parameters = sum(each.numel() for each in network.parameters())
        operations = floating_operations(copy.deepcopy(network).to("meta"), tuple(window.shape))
        print(f"| {name} | {parameters:,} | {operations / 1e9:.1f} | {min(seconds[name][1:]):.2f} |", flush=True)


if __name__ == "__main__":
    main()
