"""Smooth random fields and filters on (k, j, i) tensors, the raw material of synthetic scans."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

Shape = tuple[int, int, int]


def torch_generator(rng: np.random.Generator, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator whose stream follows from the numpy generator's state."""
    return torch.Generator(device=device).manual_seed(int(rng.integers(2**62)))


def own_chances(rng: np.random.Generator, count: int) -> list[np.random.Generator]:
    """So many streams of chance that follow from a generator and leave its own numbers as they are.

    More of them in a later version leave the first ones as they are, too.
    """
    return rng.spawn(1)[0].spawn(count)


def smooth_noise(shape: Shape, scale_voxels: float, generator: torch.Generator) -> torch.Tensor:
    """Random field of zero mean and unit deviation that varies over about `scale_voxels`.

    White noise on a coarse lattice, enlarged trilinearly: as smooth as needed and cheap at any size.
    """
    coarse = [max(2, round(n / scale_voxels) + 2) for n in shape]
    lattice = torch.randn(1, 1, *coarse, generator=generator, device=generator.device)
    field = enlarged(lattice[0, 0], shape)
    return (field - field.mean()) / field.std().clamp_min(1e-6)


def enlarged(field: torch.Tensor, shape: Shape) -> torch.Tensor:
    """A (k, j, i) field stretched linearly over more voxels, corner on corner."""
    return functional.interpolate(field[None, None], size=shape, mode="trilinear", align_corners=True)[0, 0]


def gaussian_blur(volume: torch.Tensor, sigma_voxels: tuple[float, float, float]) -> torch.Tensor:
    """Separable Gaussian blur of a (k, j, i) float tensor with replicated borders; sigma in (k, j, i) order."""
    blurred = volume[None, None]
    for axis, sigma in enumerate(sigma_voxels):
        if sigma < 0.1:
            continue
        radius = max(1, int(np.ceil(2.5 * sigma)))
        offsets = torch.arange(-radius, radius + 1, dtype=volume.dtype, device=volume.device)
        kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
        size, padding = [1, 1, 1], [0] * 6
        size[axis] = kernel.numel()
        padding[4 - 2 * axis] = padding[5 - 2 * axis] = radius
        padded = functional.pad(blurred, padding, mode="replicate")
        blurred = functional.conv3d(padded, (kernel / kernel.sum()).reshape(1, 1, *size))
    return blurred[0, 0]


def thick_slices(volume: torch.Tensor, axis: int, factor: float) -> torch.Tensor:
    """The volume as it looks when scanned in slices `factor` voxels thick along `axis` and resampled back.

    Neighbouring voxels are averaged into slices, and the slices interpolated linearly: the partial
    volume effect and the blur of a thick-slice scan on a finer grid.
    """
    size: list[int] = list(volume.shape)
    size[axis] = max(2, round(size[axis] / factor))
    slices = functional.interpolate(volume[None, None], size=size, mode="area")
    return functional.interpolate(slices, size=list(volume.shape), mode="trilinear", align_corners=False)[0, 0]
