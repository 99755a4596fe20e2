"""Draws lesions into a liver: how many, how large, what shape, how they differ from the liver.

Counts and sizes follow what S0, S1 and S3 report of their patients (S1, section 3.1: 2.8 lesions a
case, median 1.6 ml, 0.02 to 236 ml; S0, table 2: more than half under 20 mm). The shapes and the
idea of training on drawn lesions are after Hu et al., CVPR 2023 (idea only).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from .anatomy import LIVER_TISSUES, Tissue
from .appearance import Look
from .shapes import draw_ball, in_one_piece, tissue_mask, voxel_of
from .unusual_lesions import Unusual

Aim = Literal["any", "middle", "none"]
"""Which lesions are drawn: as many as chance wills, one or more with one in the field's middle, or none."""

_LEAST_SHARE = 0.25  # of a lesion must lie in the liver, or it is not drawn
_TRIES = 6  # for the one in the middle
_LEAST_RADIUS = 0.9  # voxels: smaller ones may fall between them


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
    tissues: torch.Tensor,
    spacing_mm: float,
    rng: np.random.Generator,
    look: Look,
    contrast: float = 1.0,
    aim: Aim = "any",
    unusual: float = 1.0,
) -> DrawnLesions:
    """Draw between no and a dozen lesions into `tissues` (changed in place: `Tissue.LESION`).

    Args:
        tissues: uint8 (k, j, i) array of `Tissue`.
        spacing_mm: edge of its voxels.
        rng: source of all chance.
        look: of the scan; no lesion is smaller or fainter than can be seen in it.
        contrast: factor on the lesions' difference to the liver.
        aim: which lesions.
        unusual: factor on how often they have what few lesions have; see `unusual_lesions`.
    """
    drawn_contrast = torch.zeros(tissues.shape, device=tissues.device)
    liver = torch.nonzero(tissue_mask(tissues, LIVER_TISSUES))
    if len(liver) < 200 or aim == "none":
        return DrawnLesions(drawn_contrast, ())
    count = 0 if rng.random() < 0.2 else int(min(12, rng.geometric(0.3)))
    bright = look.palette.bright_lesions
    kindred = _patient_contrast(rng, bright)
    besides = Unusual.of(rng, unusual, look.modality)

    def one(places: torch.Tensor) -> list[float]:
        """Its diameter, or nothing where there is no room."""
        diameter = _diameter_mm(rng, look.smallest_lesion_mm)
        centre = voxel_of(places, rng) + rng.uniform(-0.5, 0.5, 3)
        strength = kindred * rng.uniform(0.7, 1.3) if rng.random() < 0.8 else _patient_contrast(rng, bright)
        strength = contrast * look.visible(strength, diameter)
        least = contrast * look.faintest_lesion(diameter)
        moved = besides.centre(tissues, places, diameter / 2 / spacing_mm)
        centre = centre if moved is None else moved
        is_drawn = _draw_lesion(tissues, drawn_contrast, centre, diameter / spacing_mm, (strength, least), rng, besides)
        return [max(diameter, 2 * _LEAST_RADIUS * spacing_mm)] if is_drawn else []

    drawn: list[float] = []
    if aim == "middle":
        middle, count = _middle(liver, tissues.shape), max(0, count - 1)
        drawn += next((found for _ in range(_TRIES) if (found := one(middle))), [])
    for _ in range(count):
        drawn += one(liver)
    return DrawnLesions(drawn_contrast, tuple(drawn))


def _middle(liver: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Those of the liver's voxels (n, 3) that lie in the middle half of a field, along every axis; all if none does."""
    k, j, i = ((liver[:, axis] - (n - 1) / 2).abs() <= n / 4 for axis, n in enumerate(shape))
    near = liver[k & j & i]
    return near if len(near) else liver


def _diameter_mm(rng: np.random.Generator, smallest_mm: float) -> float:
    """Log-uniform: about half under 20 mm, one in twelve above 60 mm."""
    low, high = (60, 130) if rng.random() < 0.08 else (smallest_mm, 60)
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _patient_contrast(rng: np.random.Generator, bright: float) -> float:
    """Brighter than the liver with that chance, else darker."""
    strength = rng.uniform(0.25, 1.0)
    return float(strength if rng.random() < bright else -strength)


def _draw_lesion(
    tissues: torch.Tensor,
    contrast: torch.Tensor,
    centre: np.ndarray,
    diameter: float,
    strengths: tuple[float, float],
    rng: np.random.Generator,
    besides: Unusual,
) -> bool:
    """Draw one lesion (diameter in voxels; its contrast, and the least) in its box; True if enough is in the liver."""
    radius = max(diameter / 2, _LEAST_RADIUS)
    lumps = rng.uniform(0.18, 0.35) if rng.random() < 0.15 else rng.uniform(0.0, 0.18)
    ball = draw_ball(tuple(tissues.shape), centre, radius, lumps, rng, tissues.device)
    if ball is None:
        return False
    ball = besides.outlined(ball, radius)
    box, level = ball.box, ball.level
    home = tissue_mask(tissues[box], LIVER_TISSUES)
    if rng.random() < 0.15:  # grows over the liver's edge into fat
        home |= (tissues[box] == Tissue.VISCERAL_FAT) & (level < 0.8)
    inside = (level < 1) & home
    if float(inside.sum()) < _LEAST_SHARE * 4 / 3 * np.pi * radius**3:
        return False
    # The liver's ragged edge would cut splinters off, which count as lesions of their own.
    inside = in_one_piece(inside)
    strength, least = strengths
    values = _values(level, strength, radius, rng)
    values *= max(1.0, min(least, abs(strength)) / max(float(values[inside].square().mean().sqrt()), 1e-6))
    values = besides.calcified(values, level, radius)
    tissues[box].masked_fill_(inside, int(Tissue.LESION))
    contrast[box].copy_(torch.where(inside, values, contrast[box]))
    return True


def _values(level: torch.Tensor, strength: float, radius: float, rng: np.random.Generator) -> torch.Tensor:
    """Contrast over a lesion's box: even, with a rim or capsule, with a core, or fading into the liver."""
    values = torch.full(level.shape, strength, device=level.device)
    style = rng.random()
    if style < 0.2 and radius > 3:  # rim or capsule
        rim = strength * rng.uniform(-1.0, 0.4)
        values.masked_fill_(level > rng.uniform(0.7, 0.92), rim)
    elif style < 0.28 and radius > 3:  # only its rim differs from the liver
        values = values * rng.uniform(0, 0.3)
        values.masked_fill_(level > rng.uniform(0.6, 0.85), strength * rng.uniform(1.0, 1.5))
    elif style < 0.5 and radius > 3:  # necrotic or fibrotic core, darker in a bright lesion at times
        core = strength * (rng.uniform(1.2, 1.8) if rng.random() < 0.7 else -rng.uniform(0.0, 0.8))
        values.masked_fill_(level < rng.uniform(0.3, 0.7), core)
    elif style < 0.6:  # fades into the liver
        values = values * (1.25 - level.clamp(0, 1)).clamp(0.4, 1)
    return values
