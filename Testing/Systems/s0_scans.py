"""Synthetic scans with lesions of S0's sizes: table 2 has 303 lesions of 5 to 10 mm, 451 of 10 to 30 and 63 larger.

A liver with vessels in a body of fat, on 5 mm slices as S0's are; each slice is the mean of what lies in it, so that
small lesions are as faint as they are in thick slices. Nothing here comes from a patient.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

SIZES_MM = ((5.0, 10.0, 303), (10.0, 30.0, 451), (30.0, 50.0, 63))
"""Diameters from, to, and how many of S0's lesions have them (table 2, malignant and benign)."""

SPACING_MM = (1.5, 1.5, 5.0)
SIZE = (144, 112, 26)
_FINE = 4  # so many thin slices are drawn for each thick one


def draw(seed: int) -> tuple[sitk.Image, sitk.Image]:
    """A CT scan in HU (int16) and its labels 0/1/2 (uint8); the same seed gives the same scan."""
    rng = np.random.default_rng(seed)
    k, j, i = (n * f for n, f in zip(SIZE[::-1], (_FINE, 1, 1), strict=True))
    edges = np.array([SPACING_MM[2] / _FINE, SPACING_MM[1], SPACING_MM[0]])
    axes = [(np.arange(n) + 0.5) * mm - n * mm / 2 for n, mm in zip((k, j, i), edges, strict=True)]
    place = np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)
    half = np.array([n * mm / 2 for n, mm in zip((k, j, i), edges, strict=True)])
    body = ((place[1] / half[1] / 0.94) ** 2 + (place[2] / half[2] / 0.94) ** 2) < 1
    liver = _ball(place, rng.normal(0, 4, 3), np.array([46.0, 52.0, 70.0]) * rng.uniform(0.88, 1.06, 3), rng) < 1
    liver &= body
    grey = np.where(body, -90.0, -1000.0) + _bumps((k, j, i), edges, rng, 12.0, 40.0) * body
    level = rng.uniform(95, 125)
    grey[liver] = (level + _bumps((k, j, i), edges, rng, 6.0, 15.0))[liver]
    for _ in range(5):
        grey[_vessel(place, rng) & liver] = level + rng.uniform(25, 60)
    labels = liver.astype(np.float32)
    lesions = np.zeros_like(labels)
    for _ in range(int(rng.integers(4, 11))):
        _draw_lesion(place, edges, liver, lesions, grey, level, rng)
    thick = [each.reshape(SIZE[2], _FINE, *SIZE[1::-1]).mean(1) for each in (grey, labels, lesions)]
    grey = thick[0] + rng.normal(0, rng.uniform(8, 14), thick[0].shape)
    found = (thick[1] > 0.5).astype(np.uint8)
    found[thick[2] > 0.4] = 2
    return tuple(_image(each) for each in (grey.round().clip(-1024, 1500).astype(np.int16), found))  # type: ignore[return-value]


def write(folder: Path, first: int, count: int) -> Path:
    """Scans with these seeds as `case_<seed>.nii.gz` and `case_<seed>_labels.nii.gz`; what is there stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        paths = [folder / f"case_{seed:04d}{end}.nii.gz" for end in ("", "_labels")]
        if not all(path.exists() for path in paths):
            for image, path in zip(draw(seed), paths, strict=True):
                sitk.WriteImage(image, str(path))
    return folder


def diameter_mm(rng: np.random.Generator) -> float:
    """One lesion's, as table 2 has them; even within a group."""
    counts = np.array([count for _, _, count in SIZES_MM], float)
    low, high, _ = SIZES_MM[int(rng.choice(len(SIZES_MM), p=counts / counts.sum()))]
    return float(rng.uniform(low, high))


def _draw_lesion(
    place: np.ndarray,
    edges: np.ndarray,
    liver: np.ndarray,
    lesions: np.ndarray,
    grey: np.ndarray,
    level: float,
    rng: np.random.Generator,
) -> None:
    """A darker or brighter ellipsoid with a soft edge in the liver, clear of those that are there."""
    radius = diameter_mm(rng) / 2
    spots = np.argwhere(liver)
    for _ in range(20):
        voxel = spots[rng.integers(len(spots))]
        centre = place[(slice(None), *voxel)]
        reach = np.ceil((radius * 1.3 + 3) / edges).astype(int)
        box = tuple(slice(max(0, v - r), v + r + 1) for v, r in zip(voxel, reach, strict=True))
        distance = _ball(place[(slice(None), *box)], centre, radius * rng.uniform(0.85, 1.1, 3), rng)
        inside = distance < 1
        if (lesions[box][distance < 1.4] > 0).any() or liver[box][inside].mean() < 0.9:
            continue
        strength = -rng.uniform(30, 70) if rng.random() < 0.75 else rng.uniform(40, 70)
        share = np.clip((1 - distance) * radius / 1.5 + 0.5, 0, 1)
        grey[box] = grey[box] * (1 - share) + (level + strength) * share
        lesions[box][inside & liver[box]] = 1
        return


def _ball(place: np.ndarray, centre: np.ndarray, radii: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Distance from the centre of a turned ellipsoid, 1 on its surface."""
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)) * 0.15 + np.eye(3))
    offset = np.tensordot(turn.astype(np.float32), place - np.asarray(centre, np.float32).reshape(3, 1, 1, 1), 1)
    return np.sqrt(((offset / np.asarray(radii, np.float32).reshape(3, 1, 1, 1)) ** 2).sum(0))


def _vessel(place: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A straight tube of 4 to 9 mm through the liver's middle third."""
    axis = rng.normal(size=3) * np.array([0.4, 1, 1])
    axis /= np.linalg.norm(axis)
    offset = place - rng.normal(0, 18, 3).reshape(3, 1, 1, 1).astype(np.float32)
    along = np.tensordot(axis.astype(np.float32), offset, 1)
    return np.asarray((offset**2).sum(0) - along**2 < rng.uniform(2.0, 4.5) ** 2)


def _bumps(
    shape: tuple[int, ...], edges: np.ndarray, rng: np.random.Generator, height: float, length_mm: float
) -> np.ndarray:
    """Smooth noise of this deviation, whose bumps are about so long."""
    coarse = rng.normal(0, height, [max(2, round(n * mm / length_mm)) for n, mm in zip(shape, edges, strict=True)])
    image = sitk.GetImageFromArray(coarse.astype(np.float32))
    size = [int(n) for n in shape[::-1]]
    spacing = [(a - 1) / max(b - 1, 1) for a, b in zip(image.GetSize(), size, strict=True)]
    grown = sitk.Resample(image, size, sitk.Transform(), sitk.sitkLinear, (0.0, 0.0, 0.0), spacing)
    return np.asarray(sitk.GetArrayFromImage(grown))


def _image(array: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING_MM)
    image.SetOrigin([-n * mm / 2 for n, mm in zip(SIZE, SPACING_MM, strict=True)])
    return image
