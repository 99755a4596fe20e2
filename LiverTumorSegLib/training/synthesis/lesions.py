"""Draws lesions into a liver: how many, how large, what shape, how they differ from the liver.

Counts and sizes follow what S0, S1 and S3 report of their patients (S1, section 3.1: 2.8 lesions a
case, median 1.6 ml, 0.02 to 236 ml; S0, table 2: more than half under 20 mm). The shapes and the
idea of training on drawn lesions are after Hu et al., CVPR 2023 (idea only).
"""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import numpy as np
import torch

from .anatomy import LIVER_TISSUES, Tissue
from .fields import smooth_noise, torch_generator


@dataclass(frozen=True)
class DrawnLesions:
    """What was drawn.

    Attributes:
        contrast: float32 (k, j, i), the lesion's difference to the liver in units in which +-1 is
            strong; 0 outside lesions.
        diameters_mm: one a lesion, as drawn.
    """

    contrast: torch.Tensor
    diameters_mm: tuple[float, ...]


def draw_lesions(tissues: torch.Tensor, spacing_mm: float, rng: np.random.Generator) -> DrawnLesions:
    """Draw between no and a dozen lesions into `tissues` (changed in place: `Tissue.LESION`).

    Args:
        tissues: uint8 (k, j, i) array of `Tissue`.
        spacing_mm: edge of its voxels.
        rng: source of all chance.
    """
    contrast = torch.zeros(tissues.shape)
    liver = torch.nonzero(torch.isin(tissues, torch.tensor(LIVER_TISSUES, dtype=torch.uint8)))
    if len(liver) < 200:
        return DrawnLesions(contrast, ())
    count = 0 if rng.random() < 0.2 else int(min(12, rng.geometric(0.35)))
    kindred = _patient_contrast(rng)
    drawn = []
    for _ in range(count):
        diameter = _diameter_mm(rng)
        centre = liver[int(rng.integers(len(liver)))].numpy() + rng.uniform(-0.5, 0.5, 3)
        strength = kindred * rng.uniform(0.7, 1.3) if rng.random() < 0.8 else _patient_contrast(rng)
        if _draw_lesion(tissues, contrast, centre, diameter / spacing_mm, strength, rng):
            drawn.append(diameter)
    return DrawnLesions(contrast, tuple(drawn))


def _diameter_mm(rng: np.random.Generator) -> float:
    """Log-uniform: about half under 20 mm, one in twelve above 60 mm."""
    low, high = (60, 130) if rng.random() < 0.08 else (4.5, 60)
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _patient_contrast(rng: np.random.Generator) -> float:
    """Darker than the liver in three of four patients, else brighter; never invisible."""
    strength = rng.uniform(0.22, 1.0)
    return float(-strength if rng.random() < 0.75 else strength)


def _draw_lesion(
    tissues: torch.Tensor,
    contrast: torch.Tensor,
    centre: np.ndarray,
    diameter: float,
    strength: float,
    rng: np.random.Generator,
) -> bool:
    """Draw one lesion (diameter in voxels) in its box; True if any voxel became lesion."""
    radius = max(diameter / 2, 0.9)
    reach = int(np.ceil(radius * 1.6)) + 1
    low = np.maximum(np.round(centre).astype(int) - reach, 0)
    high = np.minimum(np.round(centre).astype(int) + reach + 1, tissues.shape)
    if (high - low < 2).any():
        return False
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    level = _distance_field(low, high, centre, radius, rng)
    home = torch.isin(tissues[box], torch.tensor(LIVER_TISSUES, dtype=torch.uint8))
    if rng.random() < 0.15:  # grows over the liver's edge into fat
        home |= torch.isin(tissues[box], torch.tensor([Tissue.VISCERAL_FAT], dtype=torch.uint8)) & (level < 0.8)
    inside = (level < 1) & home
    if not bool(inside.any()):
        return False
    # The liver's ragged edge would cut splinters off, which count as lesions of their own.
    inside = torch.as_tensor(cc3d.largest_k(inside.numpy(), k=1, connectivity=6).astype(bool))
    values = torch.full(level.shape, strength)
    style = rng.random()
    if style < 0.25 and radius > 3:  # rim or capsule
        values[level > rng.uniform(0.7, 0.88)] = strength * rng.uniform(-1.0, 0.4)
    elif style < 0.5 and radius > 3:  # necrotic or fibrotic core
        values[level < rng.uniform(0.3, 0.7)] = strength * rng.uniform(1.2, 1.8)
    elif style < 0.6:  # fades into the liver
        values = values * (1.25 - level.clamp(0, 1)).clamp(0.3, 1)
    tissues[box][inside] = Tissue.LESION
    contrast[box][inside] = values[inside]
    return True


def _distance_field(
    low: np.ndarray, high: np.ndarray, centre: np.ndarray, radius: float, rng: np.random.Generator
) -> torch.Tensor:
    """Normalised distance from the lesion's centre: 1 on its surface, an ellipsoid with lumps."""
    axes = [
        torch.arange(int(a), int(b), dtype=torch.float32) - float(c) for a, b, c in zip(low, high, centre, strict=True)
    ]
    offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    stretch = rng.uniform(0.75, 1.3, 3)
    matrix = torch.as_tensor(turn / (radius * stretch)[None, :], dtype=torch.float32)
    distance = torch.einsum("akji,ab->bkji", offsets, matrix).square().sum(0).sqrt()
    lumps = smooth_noise(tuple(distance.shape), max(2.0, radius * rng.uniform(0.5, 1.0)), torch_generator(rng))  # type: ignore[arg-type]
    return distance * (1 + rng.uniform(0.0, 0.18) * lumps).clamp(0.5, 1.6)
