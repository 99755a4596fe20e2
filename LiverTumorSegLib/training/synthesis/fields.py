"""Smooth random fields and filters on (k, j, i) tensors, the raw material of synthetic scans."""

from __future__ import annotations

import math

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
    """Separable Gaussian blur of a (k, j, i) float tensor with replicated borders; sigma in (k, j, i) order.

    The kernel is the Gaussian's integral over each voxel: its values at their centres lose a blur of less than a voxel.
    """
    blurred = volume[None, None]
    for axis, sigma in enumerate(sigma_voxels):
        if sigma < 0.1:
            continue
        radius = max(1, int(np.ceil(2.5 * sigma)))
        offsets = torch.arange(-radius, radius + 1, dtype=volume.dtype, device=volume.device)
        kernel = torch.special.ndtr((offsets + 0.5) / sigma) - torch.special.ndtr((offsets - 0.5) / sigma)
        size, padding = [1, 1, 1], [0] * 6
        size[axis] = kernel.numel()
        padding[4 - 2 * axis] = padding[5 - 2 * axis] = radius
        padded = functional.pad(blurred, padding, mode="replicate")
        blurred = functional.conv3d(padded, (kernel / kernel.sum()).reshape(1, 1, *size))
    return blurred[0, 0]


def slice_filters(
    count: int, thickness: float, device: torch.device | str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Matrices that turn a row of voxels into slices and back.

    Args:
        count: voxels in the row.
        thickness: of the slices, in voxels; they lie side by side, as many above the row's middle as below it.
        device: of the matrices.

    Returns:
        (slices, count), the mean over each slice's part of the row, partly covered voxels by their share; and (count,
        slices), the linear interpolation between the slices' centres, beyond the last of which nothing changes.
    """
    slices = max(2, math.ceil(count / thickness))
    first = (count - slices * thickness) / 2
    voxels = torch.arange(count, dtype=torch.float32, device=device)
    edges = first + thickness * torch.arange(slices + 1, dtype=torch.float32, device=device)[:, None]
    covered = (torch.minimum(edges[1:], voxels + 1) - torch.maximum(edges[:-1], voxels)).clamp_min(0)
    place = ((voxels + 0.5 - first) / thickness - 0.5).clamp(0, slices - 1)
    back = (1 - (place[:, None] - torch.arange(slices, device=device)).abs()).clamp_min(0)
    return covered / covered.sum(1, keepdim=True), back


def slice_centres(count: int, thickness: float) -> list[int]:
    """The voxel in which the centre of each slice of `slice_filters` lies."""
    slices = max(2, math.ceil(count / thickness))
    first = (count - slices * thickness) / 2
    return [min(max(math.floor(first + (n + 0.5) * thickness), 0), count - 1) for n in range(slices)]


def along(matrix: torch.Tensor, volume: torch.Tensor, axis: int) -> torch.Tensor:
    """Every row of a (k, j, i) tensor along an axis times a (new length, length) matrix."""
    return torch.tensordot(matrix, volume, dims=([1], [axis])).movedim(0, axis)
