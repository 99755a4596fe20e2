"""The parts and the body of S2's network; tensors are (batch, channels, k, j, i)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from .folding import FoldSlices

STRIPS = (7, 11, 21)
"""Lengths of the attention's strips in voxels (S2, figure 4)."""

_WIDENING = 4  # of the perceptron behind the attention, and the scale it begins with, as in SegNeXt (Guo et al., 2022)
_FIRST_SCALE = 1e-2


def normalised(channels: int, norm: str) -> nn.Module:
    """The normalisation that the recipe names."""
    return {"batch": nn.BatchNorm3d, "instance": nn.InstanceNorm3d}[norm](channels, affine=True)


def convolved(in_channels: int, out_channels: int, kernel: int, norm: str) -> nn.Sequential:
    """A convolution with "same" padding and its normalisation."""
    convolution = nn.Conv3d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, normalised(out_channels, norm))


class RepConv(nn.Module):
    """The sum of two 3x3x3 convolutions, a 1x1x1 one and the identity: one 3x3x3 convolution, once it is trained.

    Batch normalisation stands in every branch, as its statistics are numbers by then; instance
    normalisation, whose statistics are the input's, stands behind the sum.
    """

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()

        def branch(kernel: int) -> nn.Sequential:
            linear = nn.Conv3d(channels, channels, kernel, padding=kernel // 2, bias=False) if kernel else nn.Identity()
            return nn.Sequential(linear, normalised(channels, norm) if norm == "batch" else nn.Identity())

        self.channels = channels
        self.branches = nn.ModuleList(branch(kernel) for kernel in (3, 3, 1, 0))
        self.after = nn.Identity() if norm == "batch" else normalised(channels, norm)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Same shape."""
        total = self.branches[0](features)
        for branch in self.branches[1:]:
            total = total + branch(features)
        return torch.as_tensor(self.after(total))

    @torch.no_grad()
    def fuse(self) -> None:
        """Put one convolution in place of the branches, with the statistics of evaluation mode; once."""
        if len(self.branches) == 1:
            return
        kernels, biases = zip(*(_as_kernel(branch, self.channels) for branch in self.branches), strict=True)
        fused = nn.Conv3d(self.channels, self.channels, 3, padding=1)
        fused.weight.copy_(sum(kernels))
        fused.bias.copy_(sum(biases))  # type: ignore[union-attr]
        like = next(self.branches.parameters())
        self.branches = nn.ModuleList([fused.to(like.device, like.dtype)])


def _as_kernel(branch: nn.Module, channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A branch as a 3x3x3 kernel (out, in, k, j, i) and a bias, in float64 on the CPU."""
    linear, norm = branch.children()
    if isinstance(linear, nn.Conv3d):
        kernel = linear.weight.cpu().double()
        kernel = functional.pad(kernel, [(3 - kernel.shape[-1]) // 2] * 6)
    else:
        kernel = torch.zeros(channels, channels, 3, 3, 3, dtype=torch.float64)
        kernel[range(channels), range(channels), 1, 1, 1] = 1.0
    if not isinstance(norm, nn.BatchNorm3d):
        return kernel, torch.zeros(channels, dtype=torch.float64)
    mean, variance = (each.cpu().double() for each in (norm.running_mean, norm.running_var))  # type: ignore[union-attr]
    scale = norm.weight.cpu().double() / torch.sqrt(variance + norm.eps)
    return kernel * scale.view(-1, 1, 1, 1, 1), norm.bias.cpu().double() - mean * scale


class ELANResBlock(nn.Module):
    """Features of four depths side by side, fused, and the input added (figure 3).

    Two 1x1x1 branches of half the width; behind the second one two `RepConv`s in a row; all four are
    concatenated.
    """

    def __init__(self, in_channels: int, channels: int, norm: str) -> None:
        super().__init__()
        half = channels // 2
        self.direct = convolved(in_channels, half, 1, norm)
        self.entry = convolved(in_channels, half, 1, norm)
        self.deeper = nn.ModuleList(RepConv(half, norm) for _ in range(2))
        self.fusion = convolved(4 * half, channels, 1, norm)
        self.identity = nn.Conv3d(in_channels, channels, 1, bias=False) if in_channels != channels else nn.Identity()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, in_channels, k, j, i) -> (batch, channels, k, j, i)."""
        depths = [functional.relu(self.direct(features)), functional.relu(self.entry(features))]
        for step in self.deeper:
            depths.append(functional.relu(step(depths[-1])))
        return functional.relu(self.fusion(torch.cat(depths, 1)) + self.identity(features))


class PlainBlock(nn.Sequential):
    """Two 3x3x3 convolutions, as in a 3D U-Net: what the paper's ablation has in place of `ELANResBlock`."""

    def __init__(self, in_channels: int, channels: int, norm: str) -> None:
        steps = ((in_channels, channels), (channels, channels))
        super().__init__(*(nn.Sequential(convolved(a, b, 3, norm), nn.ReLU(inplace=True)) for a, b in steps))


class MSCABlock(nn.Module):
    """Multi-scale attention within each slice, and a perceptron, both added to what came in (figure 4)."""

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        wide = _WIDENING * channels
        perceptron = nn.Sequential(
            nn.Conv2d(channels, wide, 1), _depthwise(wide, 3, 3), nn.GELU(), nn.Conv2d(wide, channels, 1)
        )
        # Depthwise convolutions are ten times as fast in two dimensions as with kernels one slice thick.
        self.parts = nn.ModuleList(FoldSlices(part) for part in (_SliceAttention(channels), perceptron))
        self.norms = nn.ModuleList(normalised(channels, norm) for _ in self.parts)
        self.scales = nn.ParameterList(torch.full((channels, 1, 1, 1), _FIRST_SCALE) for _ in self.parts)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Same shape."""
        for norm, scale, part in zip(self.norms, self.scales, self.parts, strict=True):
            features = features + scale * part(norm(features))
        return features


class _SliceAttention(nn.Module):
    """Slices (n, channels, j, i), times a gate that sees 5x5 voxels and strips of up to 21 through them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.entry = nn.Conv2d(channels, channels, 1)
        self.near = _depthwise(channels, 5, 5)
        self.strips = nn.ModuleList(
            nn.Sequential(_depthwise(channels, 1, length), _depthwise(channels, length, 1)) for length in STRIPS
        )
        self.mix = nn.Conv2d(channels, channels, 1)
        self.exit = nn.Conv2d(channels, channels, 1)

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        entered = functional.gelu(self.entry(slices))
        near = self.near(entered)
        scales = near
        for strip in self.strips:
            scales = scales + strip(near)
        return torch.as_tensor(self.exit(self.mix(scales) * entered))


def _depthwise(channels: int, height: int, width: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, (height, width), padding=(height // 2, width // 2), groups=channels)


class ELANResMSCAUNet(nn.Module):
    """See `build_elanres_msca_unet`."""

    def __init__(
        self, in_channels: int, out_channels: int, features: Sequence[int], norm: str, elanres: bool, msca: bool
    ) -> None:
        super().__init__()
        block = ELANResBlock if elanres else PlainBlock
        steps = zip((in_channels, *features), features, strict=False)
        self.encoder = nn.ModuleList(block(before, width, norm) for before, width in steps)
        self.attention = nn.ModuleList(MSCABlock(width, norm) if msca else nn.Identity() for width in features)
        upward = list(zip(features[:0:-1], features[-2::-1], strict=True))
        self.widen = nn.ModuleList(nn.ConvTranspose3d(below, width, 2, stride=2) for below, width in upward)
        self.decoder = nn.ModuleList(block(2 * width, width, norm) for _, width in upward)
        self.heads = nn.ModuleList(nn.Conv3d(width, out_channels, 1) for _, width in upward)

    def forward(self, volume: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Logits (batch, out_channels, k, j, i); in training mode those of every decoder level, the finest last."""
        skips: list[torch.Tensor] = []
        for level, attention in zip(self.encoder, self.attention, strict=True):
            entering = functional.max_pool3d(skips[-1], 2) if skips else volume
            skips.append(attention(level(entering)))
        features = skips.pop()
        outputs = []
        for widen, level, head in zip(self.widen, self.decoder, self.heads, strict=True):
            features = level(torch.cat([widen(features), skips.pop()], 1))
            if self.training:
                size = volume.shape[2:]
                outputs.append(functional.interpolate(head(features), size, mode="trilinear", align_corners=False))
        return tuple(outputs) if self.training else torch.as_tensor(self.heads[-1](features))

    def fuse(self) -> ELANResMSCAUNet:
        """Fold the branches of every re-parameterisable convolution, for inference only; itself."""
        for module in list(self.modules()):
            if isinstance(module, RepConv):
                module.fuse()
        return self
