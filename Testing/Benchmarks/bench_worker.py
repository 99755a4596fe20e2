"""Measure the warm worker: what the second Apply saves, how soon Cancel ends a run, how long files take.

    python Testing/Benchmarks/bench_worker.py [--bundle default] [--runs 5]

The scan is that of `phantom.py`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import SimpleITK as sitk
from bench_segment import row
from phantom import write_scan

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Python"))
from LiverTumorSegLib import Segmenter, read_image
from LiverTumorSegLib.exchange import load_segmentation, read_volume, save_segmentation, write_volume
from LiverTumorSegLib.panel.client import Job, WorkerClient, worker_command
from LiverTumorSegLib.panel.worker_process import worker_environment
from worker_host import Ear, Loop, PipedProcess, reaches

STEPS = ("reading the scan", "whole: network", "crop: prepare", "crop: network", "labels")


def main() -> None:
    """Run everything and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        image = read_image(write_scan(Path(name) / "scan.nii.gz"))
        print(f"scan {image.GetSize()}, {os.cpu_count()} cores, medians of {options.runs}\n")
        loading(options.bundle, options.runs)
        applying(image, options.bundle, options.runs)
        cancelling(image, options.bundle, options.runs)
        exchanging(image, options.bundle, Path(name), options.runs)


def loading(bundle: str, runs: int) -> None:
    """From the start of a process to networks that are loaded, and the same when they are."""
    ready, first, second = [], [], []
    for _ in range(runs):
        loop, lines = Loop(), list[str]()
        process = PipedProcess(loop)
        began = time.perf_counter()
        process.start(worker_command(), worker_environment(), lines.append, print, lambda code: None)
        process.write(f'{{"id": 1, "do": "open", "bundle": "{bundle}", "device": "cpu"}}')
        loop.run(lambda lines=lines: bool(lines))
        ready.append(time.perf_counter() - began)
        loop.run(lambda lines=lines: any('"done"' in line for line in lines))
        first.append(time.perf_counter() - began)
        began = time.perf_counter()
        process.write(f'{{"id": 2, "do": "open", "bundle": "{bundle}", "device": "cpu"}}')
        loop.run(lambda lines=lines: '"done"' in lines[-1] and '"id": 2' in lines[-1])
        second.append(time.perf_counter() - began)
        process.kill()
    row("process started until it says ready", statistics.median(ready), "s")
    row("process started, libraries imported, networks loaded", statistics.median(first), "s")
    row("the same for the second Apply", statistics.median(second), "s")
    row("  share saved (goal: at least 90)", 100 * (1 - statistics.median(second) / statistics.median(first)), "%")


def applying(image: sitk.Image, bundle: str, runs: int) -> None:
    """From Apply to the segmentation in the panel, in a new process and in a warm one."""
    first, second = [], []
    for _ in range(runs):
        loop = Loop()
        client = WorkerClient(partial(PipedProcess, loop), loop)
        for seconds in (first, second):
            ear = Ear()
            began = time.perf_counter()
            client.segment(image, Job(bundle, "cpu"), ear)
            loop.run(lambda ear=ear: ear.ended, 600)
            seconds.append(time.perf_counter() - began)
            if not ear.results:
                raise SystemExit(f"failed: {ear.failures}")
        client.close()
    row("Apply to result, first", statistics.median(first), "s")
    row("Apply to result, second", statistics.median(second), "s")


def cancelling(image: sitk.Image, bundle: str, runs: int) -> None:
    """From Cancel, at moments spread over a run, to no run, no file, and where need be no process."""
    loop, seconds, killed = Loop(), [], 0
    for number in range(runs):
        started: list[PipedProcess] = []

        def new_process(started: list[PipedProcess] = started) -> PipedProcess:
            started.append(PipedProcess(loop))
            return started[-1]

        client, ear = WorkerClient(new_process, loop), Ear()
        client.segment(image, Job(bundle, "cpu"), ear)
        loop.run(reaches(ear, STEPS[number % len(STEPS)]), 600)
        client.cancel()
        seconds.append(loop.run(lambda ear=ear: ear.ended))
        killed += not started[0].is_running()
        client.close()
    row("Cancel to its end, median", statistics.median(seconds), "s")
    row("Cancel to its end, longest (goal: at most 2)", max(seconds), "s")
    row("  runs in which the worker had to be killed", killed, f"of {runs}")


def exchanging(image: sitk.Image, bundle: str, folder: Path, runs: int) -> None:
    """The four steps of handing a scan over and a result back."""
    segmentation = Segmenter(bundle, device="cpu")(image)
    row("write the scan", timed(lambda: write_volume(image, folder / "scan.nrrd"), runs), "s")
    row("read the scan", timed(lambda: read_volume(folder / "scan.nrrd"), runs), "s")
    save = timed(lambda: save_segmentation(segmentation, folder, segmentation.image), runs)
    load = timed(lambda: load_segmentation(folder, segmentation.image), runs)
    row("save the segmentation", save, "s")
    row("load the segmentation", load, "s")
    row("  both (goal: at most 0.3)", save + load, "s")


def timed(call: Callable[[], object], runs: int) -> float:
    """Median seconds of a call."""
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
