"""How long Slicer's scene takes for a large scan: 512 x 512 x 200 voxels, a liver with 20 lesions.

    python Testing/Benchmarks/bench_scene.py [--runs 5]

Medians, on real MRML nodes without a window (slicer-core). The liver is an ellipsoid of 2.3 million voxels; what
the networks would have said is drawn on a grid of 2 mm.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Python"))

import slicer

from LiverTumorSegLib import scene
from LiverTumorSegLib.bundle import Bundle
from LiverTumorSegLib.geometry import Box, fit_grid, resample_to_grid
from LiverTumorSegLib.postprocessing import Evidence
from LiverTumorSegLib.recipe import Grid
from LiverTumorSegLib.segmentation import Segmentation
from slicer_host.application import start
from slicer_host.nodes import Editor, result_of

SIZE, SPACING_MM = (512, 512, 200), (0.8, 0.8, 1.5)
CENTRE, RADII_MM = (200, 250, 100), (95.0, 70.0, 85.0)
LESIONS, FACTORS = 20, (0.25, 4.0, 0.5, 2.0, 1.0)


def main() -> None:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        application = start(Path(folder))
        result = draw_result()
        volume = scene.add_volume(result.image, application.scene, "CT")
        print(f"{SIZE} voxels, {len(result.lesions)} lesions, medians of {runs} runs\n")
        print(f"{'':<58}{'seconds':>9}{'goal':>7}")
        between_nodes_and_images(result, volume, runs)
        for separate in (False, True):
            writing(result, volume, runs, separate)
        changing_sensitivity(result, volume, runs)
        lesions(result, volume, runs)
        strokes(application, result, volume, runs)


def draw_result() -> Segmentation:
    """A liver with `LESIONS` spheres of 3 to 18 mm radius that do not touch, and evidence that votes for them."""
    labels = np.zeros(SIZE[::-1], np.uint8)
    axes = [(np.arange(n) - c) * s for n, c, s in zip(SIZE, CENTRE, SPACING_MM, strict=True)]
    x, y, z = axes[0], axes[1][:, None], axes[2][:, None, None]
    labels[(x / RADII_MM[0]) ** 2 + (y / RADII_MM[1]) ** 2 + (z / RADII_MM[2]) ** 2 <= 1] = 1
    random, drawn = np.random.default_rng(0), 0
    while drawn < LESIONS:
        centre, radius = random.uniform(-1, 1, 3) * RADII_MM, random.uniform(3, 18)
        distance = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2)
        if (labels[distance <= radius + 4] == 1).all():
            labels[distance <= radius] = 2
            drawn += 1
    scan = sitk.GetImageFromArray((labels * 50).astype(np.int16))
    scan.SetSpacing(SPACING_MM)
    result = result_of(scan, labels, sensitivity=1.0)
    return Segmentation(result.labels, scan, result.provenance, draw_evidence(result.labels))


def draw_evidence(labels: sitk.Image) -> Evidence:
    """Logits that follow the labels, less sure towards their borders and for some lesions."""
    array = sitk.GetArrayViewFromImage(labels)
    low = [int(n.min()) for n in np.nonzero(array)][::-1]
    high = [int(n.max()) + 1 for n in np.nonzero(array)][::-1]
    i, j, k = (max(0, a - 20) for a in low)
    box = Box((i, j, k), tuple(min(n, b + 20) - a for n, b, a in zip(SIZE, high, (i, j, k), strict=True)))
    geometry = fit_grid(labels, box, Grid(spacing_mm=2.0, multiple_of=16))
    organ, tumour = (
        resample_to_grid(sitk.Cast(mask, sitk.sitkFloat32), box, geometry, 0.0) for mask in (labels > 0, labels == 2)
    )
    unsure = np.random.default_rng(1).normal(0, 0.5, tumour.shape)
    rules = Bundle.load("default").recipe.postprocessing
    return Evidence((12 * organ - 6).astype(np.float16), (14 * tumour - 7 + unsure).astype(np.float16), geometry, rules)


def between_nodes_and_images(result: Segmentation, volume: object, runs: int) -> None:
    """Reading what is in the scene."""
    node = scene.add_segmentation(volume)
    scene.write_segmentation(result, node, volume)
    row("volume node -> image", lambda: scene.image_from_volume(volume), runs)
    row("segmentation node -> labels", lambda: scene.labels_from_segmentation(node, volume), runs)
    volume.GetScene().RemoveNode(node)


def writing(result: Segmentation, volume: object, runs: int, separate: bool) -> None:
    """With surfaces, and without: a node that nothing displays has none."""
    how = "one segment each" if separate else "one segment"
    shown, hidden = scene.add_segmentation(volume), volume.GetScene().AddNewNodeByClass("vtkMRMLSegmentationNode")
    bare = row(f"write, lesions as {how}", lambda: _write(result, hidden, volume, separate), runs, 0.5)
    whole = timed(lambda: _write(result, shown, volume, separate), runs)
    show("  surfaces", whole - bare, 1.0)
    for node in (shown, hidden):
        volume.GetScene().RemoveNode(node)


def changing_sensitivity(result: Segmentation, volume: object, runs: int) -> None:
    """Every other factor draws other lesions; the vote is part of it."""
    for surfaces in (True, False):
        node = scene.add_segmentation(volume)
        scene.write_segmentation(result, node, volume, separate_lesions=True)
        if not surfaces:
            node.RemoveClosedSurfaceRepresentation()
        votes, draws = [], []
        for run in range(runs):
            began = time.perf_counter()
            again = result.with_sensitivity(FACTORS[run % len(FACTORS)])
            voted = time.perf_counter()
            scene.redraw(again, node, volume)
            votes.append(voted - began)
            draws.append(time.perf_counter() - voted)
        shown = "with surfaces" if surfaces else "no surfaces shown"
        show(f"sensitivity change, {shown}", statistics.median(map(sum, zip(votes, draws, strict=True))), 0.5)
        show("  of it the vote", statistics.median(votes))
        show("  of it drawing", statistics.median(draws))
        volume.GetScene().RemoveNode(node)


def lesions(result: Segmentation, volume: object, runs: int) -> None:
    """What the lesion table does; the largest lesions are rejected."""
    node = scene.add_segmentation(volume)
    scene.write_segmentation(result, node, volume, separate_lesions=True)
    for _ in range(3):
        volume.GetScene().AddNode(slicer.vtkMRMLSliceNode())
    probability = result.evidence.tumour_probability()
    row("lesions_in, with probabilities", lambda: scene.lesions_in(node, volume, probability), runs)
    row("summary_of", lambda: scene.summary_of(node, volume), runs)
    placed = scene.lesions_in(node, volume)
    row("table jump", lambda: scene.jump_to(volume.GetScene(), placed[-1].lesion.centroid_ras_mm), runs, 0.1)
    rows = [scene.LesionRow(each) for each in placed]
    row("lesion table", lambda: scene.write_lesion_table(volume.GetScene(), node, rows), runs)
    rejected: list[scene.Rejected] = []
    for shown in ("with surfaces", "no surfaces shown"):
        row(f"reject, {shown}", lambda: rejected.append(scene.reject_lesion(node, volume, placed[len(rejected)])), runs)
        row(f"restore, {shown}", lambda: scene.restore_lesion(node, rejected.pop()), runs)
        node.RemoveClosedSurfaceRepresentation()
    volume.GetScene().RemoveNode(node)


def strokes(application: object, result: Segmentation, volume: object, runs: int) -> None:
    """Erasing cubes of 10 voxels from the largest lesion, by Slicer's logic, with and without the keeper."""
    seconds = {}
    for kept in (False, True):
        node = scene.add_segmentation(volume)
        scene.write_segmentation(result, node, volume, separate_lesions=True)
        node.RemoveClosedSurfaceRepresentation()
        editor = Editor(application, node, volume)
        keeper = scene.LiverKeeper(node) if kept else None
        k, j, i = (part.start for part in _box_of(node, volume))
        box = tuple(slice(a + 8, a + 18) for a in (k, j, i))
        taken = []
        for _ in range(2 * runs):
            editor.paint("tumour_1", box)
            began = time.perf_counter()
            editor.erase("tumour_1", box)
            taken.append(time.perf_counter() - began)
        seconds[kept] = statistics.median(taken)
        if keeper is not None:
            keeper.stop()
        volume.GetScene().RemoveNode(node)
    show("a stroke in the Segment Editor, no surfaces shown", seconds[False])
    show("  more with LiverKeeper", seconds[True] - seconds[False], 0.005)


def _box_of(node: object, volume: object) -> tuple[slice, ...]:
    voxels = scene.lesions_in(node, volume)[0].voxels
    return tuple(slice(a, a + n) for a, n in zip(voxels.start[::-1], voxels.array.shape, strict=True))


def _write(result: Segmentation, node: object, volume: object, separate: bool) -> None:
    scene.write_segmentation(result, node, volume, separate_lesions=separate)


def row(name: str, call: Callable[[], object], runs: int, goal: float | None = None) -> float:
    """Time a call, print and return the median."""
    seconds = timed(call, runs)
    show(name, seconds, goal)
    return seconds


def timed(call: Callable[[], object], runs: int) -> float:
    """Median of some runs, in seconds."""
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def show(name: str, seconds: float, goal: float | None = None) -> None:
    """Print one line; a figure above its goal is marked."""
    told = "" if goal is None else f"{goal:>7.3f}{'  above' if seconds > goal else ''}"
    print(f"{name:<58}{seconds:>9.4f}{told}", flush=True)


if __name__ == "__main__":
    main()
