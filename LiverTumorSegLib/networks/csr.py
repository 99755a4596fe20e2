"""The parts of CSR-UNet (S0, section 2.2.2), in 2D and 3D alike."""

from __future__ import annotations

import torch
from torch import nn

SE_REDUCTION = 8

_LAYERS = {
    2: (nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d, {"batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d}),
    3: (nn.Conv3d, nn.ConvTranspose3d, nn.MaxPool3d, {"batch": nn.BatchNorm3d, "instance": nn.InstanceNorm3d}),
}


class CSRUNet(nn.Module):
    """See `csr_unet.build_csr_unet`; here in 2D the input is (slices, channels, j, i)."""

    def __init__(self, in_channels: int, out_channels: int, dims: int, widths: tuple[int, ...], norm: str) -> None:
        super().__init__()
        conv, _, pool, _ = _LAYERS[dims]
        finest, levels = widths[0], len(widths) - 1
        self.pool = pool(2)
        self.down = nn.ModuleList()
        for level, width in enumerate(widths[:-1]):
            before = widths[level - 1] if level else in_channels
            self.down.append(_convolution_se_residual(dims, before, width, norm))
        self.bottom = _double_convolution(dims, widths[-2], widths[-1], norm)
        # From here on the lowest level is the first.
        coarse = widths[:0:-1]
        self.up = nn.ModuleList(_Up(dims, below, below_to, below_to, norm) for below, below_to in _steps(widths))
        self.side = nn.ModuleList(
            _Up(dims, below, finest, finest, norm, enlarge=2 ** (levels - 1 - n)) for n, below in enumerate(coarse[:-1])
        )
        self.heads = nn.ModuleList(conv(finest, out_channels, kernel_size=1) for _ in range(levels))

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Logits; in training those of every level above the lowest, the finest last."""
        skips: list[torch.Tensor] = []
        for block in self.down:
            x = block(self.pool(skips[-1]) if skips else x)
            skips.append(x)
        x = self.bottom(self.pool(x))
        others = []
        for level, up in enumerate(self.up):
            if self.training and level < len(self.side):
                others.append(self.heads[level](self.side[level](x, skips[0])))
            x = up(x, skips[-1 - level])
        output: torch.Tensor = self.heads[-1](x)
        return (*others, output) if self.training else output


class _Up(nn.Module):
    """Features from below, enlarged to a skip connection's size, joined with it: convolutions, SE, residual.

    The transposed convolution doubles; a branch of deep supervision is enlarged further by interpolation, so that its
    logits are those of full resolution.
    """

    def __init__(self, dims: int, below: int, skip: int, width: int, norm: str, enlarge: int = 1) -> None:
        super().__init__()
        self.doubled = _LAYERS[dims][1](below, width, kernel_size=2, stride=2)
        mode = "bilinear" if dims == 2 else "trilinear"
        self.enlarge = nn.Upsample(scale_factor=enlarge, mode=mode) if enlarge > 1 else nn.Identity()
        self.block = _convolution_se_residual(dims, width + skip, width, norm)

    def forward(self, below: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        joined = torch.cat([skip, self.enlarge(self.doubled(below))], dim=1)
        return torch.as_tensor(self.block(joined))


class _SqueezeExcitation(nn.Module):
    """Each channel times a share of 0 to 1 that follows from the means of all channels."""

    def __init__(self, dims: int, width: int) -> None:
        super().__init__()
        conv, hidden = _LAYERS[dims][0], max(1, width // SE_REDUCTION)
        self.axes = tuple(range(2, 2 + dims))
        self.share = nn.Sequential(
            conv(width, hidden, 1, bias=False), nn.ReLU(), conv(hidden, width, 1, bias=False), nn.Sigmoid()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.as_tensor(self.share(x.mean(self.axes, keepdim=True)))


class _Residual(nn.Module):
    """x and two convolutions of it, added."""

    def __init__(self, dims: int, width: int, norm: str) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *_convolution(dims, width, width, norm), nn.ReLU(), *_convolution(dims, width, width, norm)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.branch(x))


def _steps(widths: tuple[int, ...]) -> list[tuple[int, int]]:
    """(below, here) for each level above the lowest, from the bottom up."""
    return [(widths[level + 1], widths[level]) for level in reversed(range(len(widths) - 1))]


def _convolution_se_residual(dims: int, before: int, width: int, norm: str) -> nn.Sequential:
    return nn.Sequential(
        _double_convolution(dims, before, width, norm),
        _SqueezeExcitation(dims, width),
        _Residual(dims, width, norm),
    )


def _double_convolution(dims: int, before: int, width: int, norm: str) -> nn.Sequential:
    first, second = _convolution(dims, before, width, norm), _convolution(dims, width, width, norm)
    return nn.Sequential(*first, nn.ReLU(), *second, nn.ReLU())


def _convolution(dims: int, before: int, width: int, norm: str) -> tuple[nn.Module, nn.Module]:
    conv, _, _, norms = _LAYERS[dims]
    return conv(before, width, kernel_size=3, padding=1), norms[norm](width, affine=True)
