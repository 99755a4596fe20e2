"""What looks like a lesion and is none: perfusion patches, cysts, fissures, vessels end-on, defects, masses beside.

All of it keeps the label that it has: liver, or background.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from .anatomy import LIVER_TISSUES, VESSELS_OF_LIVER, Tissue
from .fields import own_chances
from .shapes import Ball, draw_ball, tissue_mask, voxel_of

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
    tissues: torch.Tensor, spacing_mm: float, rng: np.random.Generator, chance: float = 1.0, unusual: float = 1.0
) -> torch.Tensor:
    """Draw a random choice of mimics into `tissues` (changed in place).

    Args:
        tissues: uint8 (k, j, i) array of `Tissue`.
        spacing_mm: edge of its voxels.
        rng: source of all chance.
        chance: factor on the chance of each kind.
        unusual: one more factor on that of those that few people have.

    Returns:
        float32 (k, j, i) difference of grey values in lesion units, for what is no tissue of its own.
    """
    contrast = torch.zeros(tissues.shape, device=tissues.device)
    liver = torch.nonzero(tissue_mask(tissues, LIVER_TISSUES))
    if len(liver) < 200:
        return contrast
    for share, most, draw in _KINDS:
        if rng.random() < chance * share:
            for _ in range(int(rng.integers(1, most + 1))):
                draw(tissues, contrast, voxel_of(liver, rng), spacing_mm, rng)
    for own, (share, most, draw) in zip(own_chances(rng, len(_UNUSUAL)), _UNUSUAL, strict=True):
        if own.random() < chance * unusual * share:
            for _ in range(int(own.integers(1, most + 1))):
                draw(tissues, contrast, voxel_of(liver, own), spacing_mm, own)
    return contrast


def _perfusion_patch(
    tissues: torch.Tensor, contrast: torch.Tensor, centre: np.ndarray, spacing_mm: float, rng: np.random.Generator
) -> None:
    """Liver that is a little brighter or darker without an edge: perfusion, focal fat or its absence."""
    ball = draw_ball(
        tuple(tissues.shape), centre, rng.uniform(6, 35) / spacing_mm, rng.uniform(0.1, 0.4), rng, tissues.device
    )
    if ball is not None:
        strength = float(rng.uniform(0.08, 0.3) * rng.choice((-1, 1)))
        soft = strength * (1.4 - ball.level).clamp(0, 1)
        contrast[ball.box] += soft * tissue_mask(tissues[ball.box], (Tissue.LIVER,))


def _cyst(
    tissues: torch.Tensor, contrast: torch.Tensor, centre: np.ndarray, spacing_mm: float, rng: np.random.Generator
) -> None:
    """A smooth ball of fluid."""
    ball = draw_ball(tuple(tissues.shape), centre, rng.uniform(2.5, 18) / spacing_mm, 0.02, rng, tissues.device)
    if ball is not None:
        home = tissue_mask(tissues[ball.box], (Tissue.LIVER, *VESSELS_OF_LIVER))
        inside = (ball.level < 1) & home
        tissues[ball.box].masked_fill_(inside, int(Tissue.CYST))
        contrast[ball.box].masked_fill_(inside, 0.0)


def _defect(
    tissues: torch.Tensor, contrast: torch.Tensor, centre: np.ndarray, spacing_mm: float, rng: np.random.Generator
) -> None:
    """A part that was resected: fat or fluid instead of the outer liver."""
    edge = _outward(tissues, centre, rng)
    ball = draw_ball(tuple(tissues.shape), edge, rng.uniform(10, 35) / spacing_mm, 0.15, rng, tissues.device)
    if ball is not None:
        filling = Tissue.VISCERAL_FAT if rng.random() < 0.7 else Tissue.BOWEL_CONTENT
        gone = (ball.level < 1) & tissue_mask(tissues[ball.box], LIVER_TISSUES)
        tissues[ball.box].masked_fill_(gone, int(filling))


def _fissure(
    tissues: torch.Tensor, contrast: torch.Tensor, centre: np.ndarray, spacing_mm: float, rng: np.random.Generator
) -> None:
    """A cleft filled with fat that reaches in from the liver's edge."""
    edge = _outward(tissues, centre, rng)
    deep, wide = rng.uniform(15, 45) / spacing_mm, rng.uniform(1.5, 5) / spacing_mm
    ball = draw_ball(tuple(tissues.shape), edge, deep, 0.1, rng, tissues.device)
    if ball is not None:
        sheet = _distance_to_plane(ball, edge, rng) < wide / 2 * (1.3 - ball.level).clamp(0, 1)
        cleft = sheet & tissue_mask(tissues[ball.box], LIVER_TISSUES)
        tissues[ball.box].masked_fill_(cleft, int(Tissue.VISCERAL_FAT))


def _vessel(
    tissues: torch.Tensor, contrast: torch.Tensor, centre: np.ndarray, spacing_mm: float, rng: np.random.Generator
) -> None:
    """A straight piece of vessel, which is a round spot in the slices that it crosses."""
    ball = draw_ball(tuple(tissues.shape), centre, rng.uniform(12, 35) / spacing_mm, 0.0, rng, tissues.device)
    if ball is None:
        return
    across = torch.hypot(*(_distance_to_plane(ball, centre, rng, axis) for axis in _two_normals(rng)))
    tube = (across < max(0.8, rng.uniform(1.5, 5.5) / spacing_mm)) & (ball.level < 1)
    vessel = int(rng.choice(VESSELS_OF_LIVER))
    tissues[ball.box].masked_fill_(tube & (tissues[ball.box] == Tissue.LIVER), vessel)


def _mass_beside(
    tissues: torch.Tensor, contrast: torch.Tensor, centre: np.ndarray, spacing_mm: float, rng: np.random.Generator
) -> None:
    """A mass that touches the liver from outside: of the adrenal, the kidney, the bowel."""
    radius = rng.uniform(10, 50) / spacing_mm
    edge = _outward(tissues, centre, rng)
    away = edge - centre
    middle = edge + away / max(float(np.linalg.norm(away)), 1e-6) * radius * rng.uniform(0.5, 1.0)
    ball = draw_ball(tuple(tissues.shape), middle, radius, rng.uniform(0.02, 0.2), rng, tissues.device)
    if ball is None:
        return
    inside = (ball.level < 1) & tissue_mask(tissues[ball.box], _ORGANS_THAT_YIELD)
    tissues[ball.box].masked_fill_(inside, int(Tissue.MASS))
    core = inside & (ball.level < rng.uniform(0.3, 0.8))
    contrast[ball.box].add_(core * rng.uniform(-0.6, 0.3))


def _gallbladder_neck(
    tissues: torch.Tensor, contrast: torch.Tensor, centre: np.ndarray, spacing_mm: float, rng: np.random.Generator
) -> None:
    """A gallbladder's neck that bends away from it: bile apart from the rest in the slices that it crosses."""
    bile = torch.nonzero(tissues == Tissue.GALLBLADDER)
    if len(bile):
        start = voxel_of(bile, rng)
        reach = min(1.0, rng.uniform(15, 35) / spacing_mm / max(float(np.linalg.norm(centre - start)), 1e-6))
        box, inside = _tube(tissues, start, start + reach * (centre - start), rng.uniform(2, 4.5) / spacing_mm)
        room = tissue_mask(tissues[box], (Tissue.LIVER, *VESSELS_OF_LIVER, Tissue.VISCERAL_FAT))
        tissues[box].masked_fill_(inside & room, int(Tissue.GALLBLADDER))


def _wide_duct(
    tissues: torch.Tensor, contrast: torch.Tensor, centre: np.ndarray, spacing_mm: float, rng: np.random.Generator
) -> None:
    """A dilated bile duct within the liver."""
    way = rng.normal(size=3)
    way *= rng.uniform(15, 50) / spacing_mm / np.linalg.norm(way)
    box, inside = _tube(tissues, centre, centre + way, rng.uniform(1.2, 4) / spacing_mm)
    tissues[box].masked_fill_(inside & (tissues[box] == Tissue.LIVER), int(Tissue.DUCT))


def _ascites(
    tissues: torch.Tensor, contrast: torch.Tensor, centre: np.ndarray, spacing_mm: float, rng: np.random.Generator
) -> None:
    """Fluid in the fat around the liver."""
    near = tissue_mask(tissues, LIVER_TISSUES).to(contrast.dtype)[None, None]
    reach = max(1, round(rng.uniform(4, 20) / spacing_mm))
    for axis in range(3):
        size, padding = [1, 1, 1], [0, 0, 0]
        size[axis], padding[axis] = 2 * reach + 1, reach
        near = functional.max_pool3d(near, size, stride=1, padding=padding)
    tissues.masked_fill_((near[0, 0] > 0) & (tissues == Tissue.VISCERAL_FAT), int(Tissue.FLUID))


def _tube(
    tissues: torch.Tensor, start: np.ndarray, end: np.ndarray, radius: float
) -> tuple[tuple[slice, ...], torch.Tensor]:
    """The box around a straight tube that narrows to half its radius, and where in it the tube is; all in voxels."""
    reach = max(radius, 0.8)
    low = np.maximum(np.floor(np.minimum(start, end) - reach), 0).astype(int)
    high = np.maximum(np.minimum(np.ceil(np.maximum(start, end) + reach) + 1, tissues.shape), low).astype(int)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    offsets = [
        (torch.arange(s.start, s.stop, dtype=torch.float32, device=tissues.device) - float(p)).reshape(view)
        for s, p, view in zip(box, start, ((-1, 1, 1), (1, -1, 1), (1, 1, -1)), strict=True)
    ]
    way = [float(n) for n in end - start]
    length = max(sum(n * n for n in way), 1e-6)
    along = sum((o * n for o, n in zip(offsets, way, strict=True)), torch.zeros((), device=tissues.device)) / length
    along = along.clamp(0, 1)
    squares = [(o - along * n).square() for o, n in zip(offsets, way, strict=True)]
    return box, squares[0] + squares[1] + squares[2] < (reach * (1 - along / 2)).square()


def _outward(tissues: torch.Tensor, start: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Where a straight way from `start` in a random direction leaves the liver, in voxels."""
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    limit = np.array(tissues.shape) - 1
    steps = start + np.arange(2 * max(tissues.shape))[:, None] * direction
    inside = ((steps >= 0) & (steps <= limit)).all(1)
    steps = steps[inside]
    k, j, i = torch.as_tensor(steps.round().astype(np.int64), device=tissues.device).T
    liver = tissue_mask(tissues[k, j, i], LIVER_TISSUES).cpu().numpy()
    return np.asarray(steps[int(np.argmin(liver))] if not liver.all() else steps[-1])


def _two_normals(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors at right angles to each other."""
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return turn[0], turn[1]


def _distance_to_plane(
    ball: Ball, point: np.ndarray, rng: np.random.Generator, normal: np.ndarray | None = None
) -> torch.Tensor:
    """Distance in voxels of the ball's box to the plane through `point`, a random one where no normal is given."""
    normal = _two_normals(rng)[0] if normal is None else normal
    parts = [
        (torch.arange(s.start, s.stop, dtype=torch.float32, device=ball.level.device) - float(p)) * float(n)
        for s, p, n in zip(ball.box, point, normal, strict=True)
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
_UNUSUAL: tuple[tuple[float, int, Draw], ...] = (
    (0.10, 1, _gallbladder_neck),
    (0.05, 6, _wide_duct),
    (0.05, 1, _ascites),
)
