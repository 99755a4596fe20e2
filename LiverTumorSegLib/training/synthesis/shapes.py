"""Lumpy balls in a box: the shape of lesions and of what looks like them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cc3d
import numpy as np
import torch

from .anatomy import Tissue
from .fields import smooth_noise, torch_generator

Box = tuple[slice, slice, slice]

_REACH = 2.0  # radii: the longest axis of 1.3 and the largest lumps


def tissue_mask(tissues: torch.Tensor, wanted: Iterable[Tissue]) -> torch.Tensor:
    """Boolean array of the same shape: where any of the wanted tissues is."""
    mask = torch.zeros_like(tissues, dtype=torch.bool)
    for tissue in wanted:
        mask |= tissues == int(tissue)
    return mask


def voxel_of(voxels: torch.Tensor, rng: np.random.Generator) -> np.ndarray:
    """One of (n, 3) voxels by chance, on the CPU whatever device they are on."""
    return np.asarray(voxels[int(rng.integers(len(voxels)))].cpu().numpy())


@dataclass(frozen=True)
class Ball:
    """A bent ellipsoid within an array.

    Attributes:
        box: the part of the array that it may touch.
        level: float32 over the box, the distance from the centre divided by the surface's: below 1 is inside.
        limit: the same of a round ball that just fits into the box: nothing reaches farther than that.
    """

    box: Box
    level: torch.Tensor
    limit: torch.Tensor

    def scaled(self, factor: torch.Tensor) -> Ball:
        """Its levels times those of a field over its box: another outline, within the limit."""
        return Ball(self.box, torch.maximum(self.level * factor, self.limit), self.limit)


def draw_ball(
    shape: tuple[int, ...],
    centre: np.ndarray,
    radius: float,
    lumps: float,
    rng: np.random.Generator,
    device: torch.device | str = "cpu",
) -> Ball | None:
    """A ball with random axes and lumps, or None where hardly any of its box lies in the array.

    Args:
        shape: of the array (k, j, i).
        centre: in voxels.
        radius: mean radius in voxels.
        lumps: how far, as a share, its surface departs from an ellipsoid's.
        rng: source of all chance.
        device: where the ball is drawn.
    """
    reach = int(np.ceil(radius * _REACH))
    middle = np.round(centre).astype(int)
    low, high = np.maximum(middle - reach, 0), np.minimum(middle + reach + 1, shape)
    if (high - low < 2).any():
        return None
    axes = [
        torch.arange(int(a), int(b), dtype=torch.float32, device=device) - float(c)
        for a, b, c in zip(low, high, centre, strict=True)
    ]
    offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    stretch = rng.uniform(0.75, 1.3, 3)
    matrix = torch.as_tensor(turn / (radius * stretch)[None, :], dtype=torch.float32, device=device)
    distance = torch.einsum("akji,ab->bkji", offsets, matrix).square().sum(0).sqrt()
    size = (distance.shape[0], distance.shape[1], distance.shape[2])
    noise = smooth_noise(size, max(2.0, radius * rng.uniform(0.5, 1.0)), torch_generator(rng, device))
    box = (slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1])), slice(int(low[2]), int(high[2])))
    limit = offsets.square().sum(0).sqrt() / (reach - 0.5)
    return Ball(box, distance, limit).scaled((1 + lumps * noise).clamp(0.65, 1.6))


def in_one_piece(mask: torch.Tensor) -> torch.Tensor:
    """The largest 6-connected part of a mask, which is found on the CPU."""
    largest = cc3d.largest_k(mask.cpu().numpy(), k=1, connectivity=6).astype(bool)
    return torch.as_tensor(largest, device=mask.device)
