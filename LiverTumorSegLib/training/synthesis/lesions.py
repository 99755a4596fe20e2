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
from .appearance import Look
from .shapes import draw_ball, tissue_mask

_LEAST_SHARE = 0.25  # of a lesion must lie in the liver, or it is not drawn


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


def draw_lesions(
    tissues: torch.Tensor, spacing_mm: float, rng: np.random.Generator, look: Look, contrast: float = 1.0
) -> DrawnLesions:
    """Draw between no and a dozen lesions into `tissues` (changed in place: `Tissue.LESION`).

    Args:
        tissues: uint8 (k, j, i) array of `Tissue`.
        spacing_mm: edge of its voxels.
        rng: source of all chance.
        look: of the scan; no lesion is smaller or fainter than can be seen in it.
        contrast: factor on the lesions' difference to the liver.
    """
    drawn_contrast = torch.zeros(tissues.shape)
    liver = torch.nonzero(tissue_mask(tissues, LIVER_TISSUES))
    if len(liver) < 200:
        return DrawnLesions(drawn_contrast, ())
    count = 0 if rng.random() < 0.2 else int(min(12, rng.geometric(0.3)))
    kindred = _patient_contrast(rng)
    drawn = []
    for _ in range(count):
        diameter = _diameter_mm(rng, look.smallest_lesion_mm)
        centre = liver[int(rng.integers(len(liver)))].numpy() + rng.uniform(-0.5, 0.5, 3)
        strength = kindred * rng.uniform(0.7, 1.3) if rng.random() < 0.8 else _patient_contrast(rng)
        strength = contrast * float(np.sign(strength)) * max(abs(strength), look.faintest_lesion(diameter))
        if _draw_lesion(tissues, drawn_contrast, centre, diameter / spacing_mm, strength, rng):
            drawn.append(diameter)
    return DrawnLesions(drawn_contrast, tuple(drawn))


def _diameter_mm(rng: np.random.Generator, smallest_mm: float) -> float:
    """Log-uniform: about half under 20 mm, one in twelve above 60 mm."""
    low, high = (60, 130) if rng.random() < 0.08 else (smallest_mm, 60)
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _patient_contrast(rng: np.random.Generator) -> float:
    """Darker than the liver in two of three patients, else brighter."""
    strength = rng.uniform(0.25, 1.0)
    return float(-strength if rng.random() < 0.67 else strength)


def _draw_lesion(
    tissues: torch.Tensor,
    contrast: torch.Tensor,
    centre: np.ndarray,
    diameter: float,
    strength: float,
    rng: np.random.Generator,
) -> bool:
    """Draw one lesion (diameter in voxels) in its box; True if enough of it lies in the liver."""
    radius = max(diameter / 2, 0.9)
    lumps = rng.uniform(0.18, 0.35) if rng.random() < 0.15 else rng.uniform(0.0, 0.18)
    ball = draw_ball(tuple(tissues.shape), centre, radius, lumps, rng)
    if ball is None:
        return False
    box, level = ball.box, ball.level
    home = tissue_mask(tissues[box], LIVER_TISSUES)
    if rng.random() < 0.15:  # grows over the liver's edge into fat
        home |= (tissues[box] == Tissue.VISCERAL_FAT) & (level < 0.8)
    inside = (level < 1) & home
    if float(inside.sum()) < _LEAST_SHARE * 4 / 3 * np.pi * radius**3:
        return False
    # The liver's ragged edge would cut splinters off, which count as lesions of their own.
    inside = torch.as_tensor(cc3d.largest_k(inside.numpy(), k=1, connectivity=6).astype(bool))
    values = _values(level, strength, radius, rng)
    tissues[box][inside] = Tissue.LESION
    contrast[box][inside] = values[inside]
    return True


def _values(level: torch.Tensor, strength: float, radius: float, rng: np.random.Generator) -> torch.Tensor:
    """Contrast over a lesion's box: even, with a rim or capsule, with a core, or fading into the liver."""
    values = torch.full(level.shape, strength)
    style = rng.random()
    if style < 0.25 and radius > 3:  # rim or capsule
        values[level > rng.uniform(0.7, 0.88)] = strength * rng.uniform(-1.0, 0.4)
    elif style < 0.5 and radius > 3:  # necrotic or fibrotic core
        values[level < rng.uniform(0.3, 0.7)] = strength * rng.uniform(1.2, 1.8)
    elif style < 0.6:  # fades into the liver
        values = values * (1.25 - level.clamp(0, 1)).clamp(0.4, 1)
    return values
