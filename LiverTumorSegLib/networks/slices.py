"""The parts and bodies of S4's two networks of single slices: tensors (slices, channels, j, i)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


def convolved(in_channels: int, out_channels: int, kernel: int, norm: str) -> nn.Sequential:
    """A convolution with "same" padding, normalisation and ReLU."""
    convolution = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, *_normalised(out_channels, norm))


class UNet2D(nn.Module):
    """A U-Net with `len(widths) - 1` downsamplings; see `build_unet2d`."""

    def __init__(self, in_channels: int, out_channels: int, widths: Sequence[int], norm: str) -> None:
        super().__init__()
        steps = list(zip((in_channels, *widths), widths, strict=False))
        self.down = nn.ModuleList(_pair(before, after, norm) for before, after in steps)
        upward = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.widen = nn.ModuleList(nn.ConvTranspose2d(below, width, 2, stride=2) for below, width in upward)
        self.up = nn.ModuleList(_pair(2 * width, width, norm) for _, width in upward)
        self.head = nn.Conv2d(widths[0], out_channels, 1)

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        """Logits (slices, out_channels, j, i)."""
        skips = []
        features = slices
        for number, level in enumerate(self.down):
            features = level(functional.max_pool2d(features, 2) if number else features)
            skips.append(features)
        for widen, level, skip in zip(self.widen, self.up, skips[-2::-1], strict=True):
            features = level(torch.cat([widen(features), skip], 1))
        return torch.as_tensor(self.head(features))


class DenseBlock(nn.Module):
    """Layers that each see all before them, fused to `width` channels and added to the input (figure 3, a and b)."""

    def __init__(self, in_channels: int, width: int, growth: int, layers: int, norm: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(convolved(in_channels + n * growth, growth, 3, norm) for n in range(layers))
        self.squeeze = convolved(in_channels + layers * growth, width, 1, norm)
        self.identity = nn.Conv2d(in_channels, width, 1, bias=False) if in_channels != width else nn.Identity()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(slices, in_channels, j, i) -> (slices, width, j, i)."""
        seen = features
        for layer in self.layers:
            seen = torch.cat([seen, layer(seen)], 1)
        return torch.as_tensor(self.squeeze(seen) + self.identity(features))


class FuseScales(nn.Module):
    """The features of every scale, resized to one of them, concatenated, and made `widths[level]` channels.

    The concatenation is never made: a 1x1 convolution of it is the sum of one of each part, and one of a coarse
    part is the same before it is enlarged as after, for a part of the memory.
    """

    def __init__(self, widths: Sequence[int], level: int, norm: str) -> None:
        super().__init__()
        self.level = level
        self.parts = nn.ModuleList(nn.Conv2d(width, widths[level], 1, bias=False) for width in widths)
        self.after = nn.Sequential(*_normalised(widths[level], norm))

    def forward(self, scales: Sequence[torch.Tensor]) -> torch.Tensor:
        """Features of all scales, each half as large as the one before -> (slices, widths[level], j, i)."""
        total: torch.Tensor | None = None
        for number, (part, features) in enumerate(zip(self.parts, scales, strict=True)):
            if number < self.level:
                resized = part(functional.max_pool2d(features, 2 ** (self.level - number)))
            elif number > self.level:
                resized = functional.interpolate(part(features), scale_factor=float(2 ** (number - self.level)))
            else:
                resized = part(features)
            total = resized if total is None else total + resized
        return torch.as_tensor(self.after(total))


class DenseMultiScale(nn.Module):
    """Stem, levels of dense blocks, their fusion, and a decoder of dense blocks; see `build_dense_multiscale`."""

    def __init__(
        self, in_channels: int, out_channels: int, widths: Sequence[int], growth: int, layers: int, norm: str
    ) -> None:
        super().__init__()
        levels = tuple(widths[1:])
        self.stem = convolved(in_channels, widths[0], 7, norm)
        steps = zip(widths, levels, strict=False)
        self.down = nn.ModuleList(DenseBlock(before, after, growth, layers, norm) for before, after in steps)
        self.fusions = nn.ModuleList(FuseScales(levels, level, norm) for level in range(len(levels)))
        upward = list(zip(levels[:0:-1], levels[-2::-1], strict=True))
        self.widen = nn.ModuleList(nn.ConvTranspose2d(below, width, 2, stride=2) for below, width in upward)
        self.up = nn.ModuleList(DenseBlock(2 * width, width, growth, layers, norm) for _, width in upward)
        self.head = nn.Conv2d(levels[0], out_channels, 1)

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        """Logits (slices, out_channels, j, i)."""
        scales = []
        features = self.stem(slices)
        for number, level in enumerate(self.down):
            features = level(functional.max_pool2d(features, 2) if number else features)
            scales.append(features)
        fused = [fusion(scales) for fusion in self.fusions]
        features = fused[-1]
        for widen, level, skip in zip(self.widen, self.up, fused[-2::-1], strict=True):
            features = level(torch.cat([widen(features), skip], 1))
        return torch.as_tensor(self.head(features))


def _normalised(channels: int, norm: str) -> tuple[nn.Module, nn.Module]:
    kind = {"batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d}[norm]
    return kind(channels, affine=True), nn.ReLU(inplace=True)


def _pair(in_channels: int, width: int, norm: str) -> nn.Sequential:
    return nn.Sequential(*convolved(in_channels, width, 3, norm), *convolved(width, width, 3, norm))
