"""What looks like a lesion and is none: perfusion patches, cysts, fissures, vessels end-on, defects, masses beside.

All of it keeps the label that it has: liver, or background.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from .anatomy import LIVER_TISSUES, Tissue
from .shapes import draw_ball, tissue_mask

_ORGANS_THAT_YIELD = (
    Tissue.VISCERAL_FAT,
    Tissue.BOWEL_WALL,
    Tissue.BOWEL_CONTENT,
    Tissue.GAS,
    Tissue.STOMACH,
    Tissue.STOMACH_CONTENT,
    Tissue.KIDNEY,
    Tissue.ADRENAL,
    Tissue.PANCREAS,
    Tissue.ARTERY,
    Tissue.GALLBLADDER,
    Tissue.SPLEEN,
)
"""What a mass beside the liver may push aside."""


def draw_mimics(
    tissues: torch.Tensor, spacing_mm: float, rng: np.random.Generator, chance: float = 1.0
) -> torch.Tensor:
    """Draw a random choice of mimics into `tissues` (changed in place).

    Args:
        tissues: uint8 (k, j, i) array of `Tissue`.
        spacing_mm: edge of its voxels.
        rng: source of all chance.
        chance: factor on the chance of each kind.

    Returns:
        float32 (k, j, i) difference of grey values in lesion units, for what is no tissue of its own.
    """
    contrast = torch.zeros(tissues.shape)
    liver = torch.nonzero(tissue_mask(tissues, LIVER_TISSUES))
    if len(liver) < 200:
        return contrast
    for share, most, draw in _KINDS:
        if rng.random() < chance * share:
            for _ in range(int(rng.integers(1, most + 1))):
                draw(tissues, contrast, liver[int(rng.integers(len(liver)))].numpy(), spacing_mm, rng)
    return contrast


def _perfusion_patch(
    tissues: torch.Tensor, contrast: torch.Tensor, centre: np.ndarray, spacing_mm: float, rng: np.random.Generator
) -> None:
    """Liver that is a little brighter or darker without an edge: perfusion, focal fat or its absence."""
    ball = draw_ball(tuple(tissues.shape), centre, rng.uniform(6, 35) / spacing_mm, rng.uniform(0.1, 0.4), rng)
    if ball is not None:
        strength = rng.uniform(0.08, 0.3) * rng.choice((-1, 1))
        soft = strength * (1.4 - ball.level).clamp(0, 1)
        contrast[ball.box] += soft * tissue_mask(tissues[ball.box], (Tissue.LIVER,))


def _cyst(
    tissues: torch.Tensor, contrast: torch.Tensor, centre: np.ndarray, spacing_mm: float, rng: np.random.Generator
) -> None:
    """A smooth ball of fluid."""
    ball = draw_ball(tuple(tissues.shape), centre, rng.uniform(2.5, 18) / spacing_mm, 0.02, rng)
    if ball is not None:
        home = tissue_mask(tissues[ball.box], (Tissue.LIVER, Tissue.HEPATIC_VESSEL))
        tissues[ball.box][(ball.level < 1) & home] = Tissue.CYST


def _defect(
    tissues: torch.Tensor, contrast: torch.Tensor, centre: np.ndarray, spacing_mm: float, rng: np.random.Generator
) -> None:
    """A part that was resected: fat or fluid instead of the outer liver."""
    edge = _outward(tissues, centre, rng)
    ball = draw_ball(tuple(tissues.shape), edge, rng.uniform(10, 35) / spacing_mm, 0.15, rng)
    if ball is not None:
        filling = Tissue.VISCERAL_FAT if rng.random() < 0.7 else Tissue.BOWEL_CONTENT
        gone = (ball.level < 1) & tissue_mask(tissues[ball.box], LIVER_TISSUES)
        tissues[ball.box][gone] = filling


def _fissure(
    tissues: torch.Tensor, contrast: torch.Tensor, centre: np.ndarray, spacing_mm: float, rng: np.random.Generator
) -> None:
    """A cleft filled with fat that reaches in from the liver's edge."""
    edge = _outward(tissues, centre, rng)
    deep, wide = rng.uniform(15, 45) / spacing_mm, rng.uniform(1.5, 5) / spacing_mm
    ball = draw_ball(tuple(tissues.shape), edge, deep, 0.1, rng)
    if ball is not None:
        sheet = _distance_to_plane(ball.box, edge, rng) < wide / 2 * (1.3 - ball.level).clamp(0, 1)
        cleft = sheet & tissue_mask(tissues[ball.box], LIVER_TISSUES)
        tissues[ball.box][cleft] = Tissue.VISCERAL_FAT


def _vessel(
    tissues: torch.Tensor, contrast: torch.Tensor, centre: np.ndarray, spacing_mm: float, rng: np.random.Generator
) -> None:
    """A straight piece of vessel, which is a round spot in the slices that it crosses."""
    ball = draw_ball(tuple(tissues.shape), centre, rng.uniform(12, 35) / spacing_mm, 0.0, rng)
    if ball is None:
        return
    across = torch.hypot(*(_distance_to_plane(ball.box, centre, rng, axis) for axis in _two_normals(rng)))
    tube = (across < max(0.8, rng.uniform(1.5, 5.5) / spacing_mm)) & (ball.level < 1)
    tissues[ball.box][tube & (tissues[ball.box] == Tissue.LIVER)] = Tissue.HEPATIC_VESSEL


def _mass_beside(
    tissues: torch.Tensor, contrast: torch.Tensor, centre: np.ndarray, spacing_mm: float, rng: np.random.Generator
) -> None:
    """A mass that touches the liver from outside: of the adrenal, the kidney, the bowel."""
    radius = rng.uniform(10, 50) / spacing_mm
    edge = _outward(tissues, centre, rng)
    away = edge - centre
    middle = edge + away / max(float(np.linalg.norm(away)), 1e-6) * radius * rng.uniform(0.5, 1.0)
    ball = draw_ball(tuple(tissues.shape), middle, radius, rng.uniform(0.02, 0.2), rng)
    if ball is None:
        return
    inside = (ball.level < 1) & tissue_mask(tissues[ball.box], _ORGANS_THAT_YIELD)
    tissues[ball.box][inside] = Tissue.MASS
    core = inside & (ball.level < rng.uniform(0.3, 0.8))
    contrast[ball.box][core] += rng.uniform(-0.6, 0.3)


def _outward(tissues: torch.Tensor, start: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Where a straight way from `start` in a random direction leaves the liver, in voxels."""
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    limit = np.array(tissues.shape) - 1
    steps = start + np.arange(2 * max(tissues.shape))[:, None] * direction
    inside = ((steps >= 0) & (steps <= limit)).all(1)
    steps = steps[inside]
    k, j, i = torch.as_tensor(steps.round().astype(np.int64)).T
    liver = tissue_mask(tissues[k, j, i], LIVER_TISSUES).numpy()
    return np.asarray(steps[int(np.argmin(liver))] if not liver.all() else steps[-1])


def _two_normals(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors at right angles to each other."""
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return turn[0], turn[1]


def _distance_to_plane(
    box: tuple[slice, slice, slice], point: np.ndarray, rng: np.random.Generator, normal: np.ndarray | None = None
) -> torch.Tensor:
    """Distance in voxels of every voxel of the box to the plane through `point`, random where no normal is given."""
    normal = _two_normals(rng)[0] if normal is None else normal
    parts = [
        (torch.arange(s.start, s.stop, dtype=torch.float32) - float(p)) * float(n)
        for s, p, n in zip(box, point, normal, strict=True)
    ]
    return (parts[0][:, None, None] + parts[1][None, :, None] + parts[2][None, None, :]).abs()


Draw = Callable[[torch.Tensor, torch.Tensor, np.ndarray, float, np.random.Generator], None]

# Chance in a scan, how many at most, and how.
_KINDS: tuple[tuple[float, int, Draw], ...] = (
    (0.10, 1, _defect),
    (0.30, 2, _fissure),
    (0.40, 4, _vessel),
    (0.30, 3, _perfusion_patch),
    (0.12, 4, _cyst),
    (0.15, 1, _mass_beside),
)
