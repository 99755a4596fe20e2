"""How long one case takes to evaluate, on one core: everything of ours, and the surfaces of `surface-distance`.

    python Testing/Benchmarks/bench_evaluation.py [--repeats 5]

The pair is drawn: 512 x 512 x 200 voxels, a liver and 20 lesions, every fifth of them missed. Two things are timed:
the two masks, liver and tumour (our 13 measures against what surface-distance has of them: average distance,
Hausdorff, its 95 %, NSD at 1 and 2 mm, Dice); and the whole of `score_case`, which also measures every lesion and
matches them by three rules.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import SimpleITK as sitk

from LiverTumorSegLib.evaluation.scores import score_case, score_masks

SIZE, SPACING_MM, LESIONS = (200, 512, 512), (1.5, 0.75, 0.75), 20
CENTRE, RADII_MM = np.array([100.0, 250.0, 190.0]), np.array([105.0, 82.0, 105.0])


def main() -> None:
    """Print both times and their ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    reference, prediction = draw_pair()
    score = score_case(reference, prediction)
    print(
        f"{len(score.lesions)} lesions, {len(score.predicted)} predicted, tumour Dice {score.tumour.values['dice']:.3f}"
    )
    arrays = [sitk.GetArrayFromImage(image) for image in (reference, prediction)]
    work: dict[str, Callable[[], object]] = {
        "whole": lambda: score_case(reference, prediction),
        "masks": lambda: masks_of(*arrays),
    }
    if find_spec("surface_distance") is not None:
        work["theirs"] = lambda: surface_distance_of(*arrays)
    seconds = shortest(work, options.repeats)
    print(f"everything, lesions too: ours {seconds['whole']:.2f} s (goal: at most 3)")
    if "theirs" not in seconds:
        print("surface-distance is not installed: no comparison (extra test)")
        return
    theirs, ours = seconds["theirs"], seconds["masks"]
    print(
        f"liver and tumour: ours {ours:.2f} s, surface-distance {theirs:.2f} s: "
        f"{ours / theirs:.2f} of it (goal: at most 0.33)"
    )
    print(f"our everything against its liver and tumour: {seconds['whole'] / theirs:.2f}")


def draw_pair() -> tuple[sitk.Image, sitk.Image]:
    """Draw a reference and a prediction that is a little off everywhere."""
    rng = np.random.default_rng(0)
    reference = ellipsoid(CENTRE, RADII_MM).astype(np.uint8)
    prediction = ellipsoid(CENTRE + np.array([1, 2, -2]), RADII_MM * (1.01, 0.98, 1.02)).astype(np.uint8)
    # Places on a spiral keep the lesions apart, so that 20 are drawn and 20 are found.
    for number in range(LESIONS):
        turn, height = number * 2.4, 0.75 * (2 * number / (LESIONS - 1) - 1)
        reach = 0.62 * np.sqrt(1 - height**2)
        offset = np.array([height, reach * np.sin(turn), reach * np.cos(turn)]) * RADII_MM
        centre, radius = CENTRE + offset / SPACING_MM, rng.uniform(3, 14)
        reference[ellipsoid(centre, np.full(3, radius)) & (reference > 0)] = 2
        if number % 5:
            moved = ellipsoid(centre + rng.normal(0, 1.5, 3), np.full(3, radius * rng.uniform(0.85, 1.1)))
            prediction[moved & (prediction > 0)] = 2
    images = [sitk.GetImageFromArray(array) for array in (reference, prediction)]
    for image in images:
        image.SetSpacing(SPACING_MM[::-1])
    return images[0], images[1]


def ellipsoid(centre: np.ndarray, radii_mm: np.ndarray) -> np.ndarray:
    """Return where the ellipsoid is; centre in voxels (k, j, i)."""
    axes = np.ogrid[tuple(slice(0, n) for n in SIZE)]
    parts = zip(axes, centre, SPACING_MM, radii_mm, strict=True)
    return np.asarray(sum(((axis - c) * s / r) ** 2 for axis, c, s, r in parts) <= 1)


def masks_of(reference: np.ndarray, prediction: np.ndarray) -> None:
    """Compute our measures of liver and tumour."""
    for level in (1, 2):
        score_masks(reference >= level, prediction >= level, SPACING_MM)


def surface_distance_of(reference: np.ndarray, prediction: np.ndarray) -> None:
    """Compute what surface-distance has, of liver and tumour."""
    import surface_distance

    for level in (1, 2):
        masks = reference >= level, prediction >= level
        distances = surface_distance.compute_surface_distances(*masks, SPACING_MM)
        surface_distance.compute_average_surface_distance(distances)
        for percent in (95, 100):
            surface_distance.compute_robust_hausdorff(distances, percent)
        for tolerance in (1.0, 2.0):
            surface_distance.compute_surface_dice_at_tolerance(distances, tolerance)
        surface_distance.compute_dice_coefficient(*masks)


def shortest(work: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the shortest time of each in seconds; they take turns, so that a busy moment falls on all of them."""
    times = dict.fromkeys(work, float("inf"))
    for _ in range(repeats):
        for name, each in work.items():
            began = time.perf_counter()
            each()
            times[name] = min(times[name], time.perf_counter() - began)
    return times


if __name__ == "__main__":
    main()
