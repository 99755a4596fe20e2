"""How long a scan takes from file to files, where the time goes, and what it is compared with.

    python Testing/Benchmarks/bench_segment.py [--runs 5] [--bundle default] [--skip monai huge]

Everything is measured in one run, so that the ratios hold even where the machine is noisy. The scan is that of
`phantom.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from phantom import write_scan

from LiverTumorSegLib.bundle import Bundle
from LiverTumorSegLib.evaluation.metrics import dice
from LiverTumorSegLib.images import read_image
from LiverTumorSegLib.output import write_results
from LiverTumorSegLib.rendering import get_ready
from LiverTumorSegLib.segmenter import Segmenter

PAPER_SECONDS = 4.82  # S1, section 4.2.1, on an RTX 3090


def main() -> None:
    """Run everything and print the tables."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        scan = write_scan(folder / "scan.nii.gz")
        print(f"scan {sitk.ReadImage(str(scan)).GetSize()}, {os.cpu_count()} cores\n")
        cold, peak = cold_runs(scan, folder, options.bundle, options.runs)
        bare, _ = cold_runs(scan, folder, options.bundle, options.runs, "--no-html")
        warm, inside = warm_runs(scan, folder, options.bundle, options.runs)
        row("file to files, new process", cold, "s")
        row("file to files, new process, no HTML report", bare, "s")
        row("file to files, warm", warm, "s")
        row("  of it in the networks", inside, "s")
        row("  share outside the networks", 100 * (1 - inside / warm), "%")
        row("peak memory, new process", peak / 1000, "GB")
        row("ratio to S1's 4.82 s on an RTX 3090 (new process)", cold / PAPER_SECONDS, "x")
        row("livertumorseg --help", min(_timed_process([*_command(), "--help"])[0] for _ in range(5)), "s")
        row("with_sensitivity", sensitivity_seconds(scan, options.bundle), "s")
        flops_against_floor(scan, options.bundle, inside)
        precision_agreement(scan, options.bundle)
        if "monai" not in options.skip:
            for overlap in (0.25, 0.5):  # MONAI's own, and that of the shipped recipe
                command = [sys.executable, str(PLAIN), str(scan), options.bundle, str(overlap)]
                plain, plain_peak = _timed_process(command)
                row(f"plain MONAI pipeline of the same networks, overlap {overlap}", plain, "s")
                row("  its peak memory", plain_peak / 1000, "GB")
                row("ratio of ours to it (new process, no HTML report)", bare / plain, "x")
        if "huge" not in options.skip:
            huge = write_scan(folder / "huge.nii.gz", slices=1000)
            seconds, peak = cold_runs(huge, folder, options.bundle, 1)
            row("512 x 512 x 1000, new process", seconds, "s")
            row("  its peak memory", peak / 1000, "GB")


PLAIN = Path(__file__).with_name("plain_monai.py")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--skip", nargs="*", default=[], choices=("monai", "huge"))
    return parser.parse_args()


def row(name: str, value: float, unit: str) -> None:
    """Print one figure."""
    print(f"{name:<58}{value:>9.3f} {unit}", flush=True)


def _command() -> list[str]:
    return [sys.executable, "-m", "LiverTumorSegLib"]


def _timed_process(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak MB of a process."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"failed: {' '.join(command)}")
    return seconds, usage.ru_maxrss / 1000


def cold_runs(scan: Path, folder: Path, bundle: str, runs: int, *more: str) -> tuple[float, float]:
    """Median seconds and highest peak MB of new processes that go from file to files."""
    command = [*_command(), "segment", str(scan), "-o", str(folder / "out"), "--bundle", bundle, "-q", *more]
    measured = [_timed_process(command) for _ in range(runs)]
    return float(np.median([seconds for seconds, _ in measured])), max(peak for _, peak in measured)


def warm_runs(scan: Path, folder: Path, bundle: str, runs: int) -> tuple[float, float]:
    """Median seconds from file to files with the networks loaded, and the networks' part."""
    segmenter = Segmenter(bundle)
    measured = []
    for number in range(runs + 1):
        began = time.perf_counter()
        get_ready()
        image = read_image(scan)
        read = time.perf_counter()
        segmentation = segmenter(image)
        segmented = time.perf_counter()
        write_results(segmentation, folder / "out")
        written = time.perf_counter()
        seconds = {"read": round(read - began, 3), **segmentation.provenance.seconds}
        seconds["write"] = round(written - segmented, 3)
        inside = sum(value for step, value in seconds.items() if step.endswith("network"))
        if number:
            measured.append((written - began, inside))
    print("seconds a step, warm: " + json.dumps(seconds))
    wall, inside = np.median(np.array(measured), axis=0)
    return float(wall), float(inside)


def sensitivity_seconds(scan: Path, bundle: str) -> float:
    """Median seconds of a change of the sensitivity factor."""
    segmentation = Segmenter(bundle)(read_image(scan))
    times = []
    for factor in (0.5, 2.0, 4.0, 1.5, 0.8):
        began = time.perf_counter()
        segmentation.with_sensitivity(factor)
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def flops_against_floor(scan: Path, bundle_name: str, inside: float) -> None:
    """Floating-point operations of the forward passes over the fastest that this machine multiplies matrices."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from LiverTumorSegLib.networks import build_network

    segmentation = Segmenter(bundle_name)(read_image(scan))
    total = 0
    for stage in Bundle.load(bundle_name).recipe.stages:
        size = segmentation.provenance.stages[stage.name]["size_voxels"]
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            build_network(stage.network, stage.arguments).eval()(torch.zeros(1, 1, *reversed(size)))  # type: ignore[arg-type]
        total += counter.get_total_flops()
    rates = {name: _matrix_rate(kind) for name, kind in (("f32", torch.float32), ("bf16", torch.bfloat16))}
    row("forward passes", total / 1e9, "GFLOP")
    for name, rate in rates.items():
        row(f"  matrix rate of this machine, {name}", rate / 1e9, "GFLOP/s")
    best = max(rates.values())
    row("  time in the networks over the floor", inside / (total / best), "x")


def _matrix_rate(kind: object) -> float:
    import torch

    a = torch.randn(2048, 2048).to(kind)  # type: ignore[call-overload]
    times = []
    for _ in range(6):
        began = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - began)
    return 2 * 2048**3 / min(times)


def precision_agreement(scan: Path, bundle: str) -> None:
    """Dice of the masks in bf16 and in f32."""
    image = read_image(scan)
    masks = {p: sitk.GetArrayFromImage(Segmenter(bundle, precision=p)(image).labels) for p in ("f32", "bf16")}
    for name, label in (("liver", 1), ("tumour", 2)):
        row(f"Dice of bf16 and f32, {name}", dice(masks["f32"] >= label, masks["bf16"] >= label), "")


if __name__ == "__main__":
    main()
