"""The organ as the stage before would find it, for stages that are `in_organ`: near the truth, wrong in places."""

from __future__ import annotations

import numpy as np
import torch

from ..postprocessing import filled
from ..preprocessing import confined
from .synthesis.fields import gaussian_blur, smooth_noise, torch_generator
from .synthesis.shapes import draw_ball

_SOFT_MM = (0.75, 3.75)  # how far the outline is smoothed
_WAVY, _WAVES_MM = 0.35, (7.5, 30.0)  # how far it strays at most, as a share of the soft edge, and over what lengths
_LUMP_MM = (6.0, 24.0)  # radius of what is taken for organ, or left out
_TAKEN_IN, _LEFT_OUT = 0.5, 0.2  # chance of one to three such lumps


def confine(
    channels: np.ndarray, labels: np.ndarray, spacing_mm: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A patch as a stage sees it that is `in_organ`, and the labels that it can tell.

    Args:
        channels: (channels, k, j, i) after scaling.
        labels: uint8 (k, j, i), above 0 in the liver and its lesions.
        spacing_mm: edge of a voxel, the smallest where they differ.
        rng: all chance.

    Returns:
        Channels as `preprocessing.confined` gives them, and the labels with 0 beyond the organ.
    """
    organ = found_organ(labels > 0, spacing_mm, rng)
    return confined(channels, organ), np.where(organ, labels, 0).astype(np.uint8)


def found_organ(organ: np.ndarray, spacing_mm: float, rng: np.random.Generator) -> np.ndarray:
    """An organ with a smoother, wavy outline, sometimes with lumps of what lies beside it, or without some of it.

    Args:
        organ: (k, j, i) mask of the true one.
        spacing_mm: edge of a voxel.
        rng: all chance.
    """
    shape = (organ.shape[0], organ.shape[1], organ.shape[2])
    sigma = rng.uniform(*_SOFT_MM) / spacing_mm
    strength, scale = rng.uniform(0, _WAVY), rng.uniform(*_WAVES_MM) / spacing_mm
    soft = gaussian_blur(torch.from_numpy(organ.astype(np.float32)), (sigma, sigma, sigma))
    waves = strength * smooth_noise(shape, max(scale, 1.0), torch_generator(rng))
    found = (soft + waves > 0.5) & (soft > 0.1)
    edge = torch.nonzero((soft > 0.3) & (soft < 0.7)).numpy()
    for chance, is_organ in ((_TAKEN_IN, True), (_LEFT_OUT, False)):
        for _ in range(int(rng.integers(1, 4)) if len(edge) and rng.random() < chance else 0):
            centre = edge[int(rng.integers(len(edge)))]
            ball = draw_ball(shape, centre, rng.uniform(*_LUMP_MM) / spacing_mm, 0.3, rng)
            if ball is not None:
                found[ball.box][ball.level < 1] = is_organ
    return filled(found.numpy())
