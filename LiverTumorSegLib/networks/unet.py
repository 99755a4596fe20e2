"""3D U-Net, as S1 used it (section 3.2.1) and as the default bundle uses it, smaller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from ..errors import RecipeError

if TYPE_CHECKING:
    import torch


def build_unet(
    in_channels: int = 1,
    out_channels: int = 3,
    channels: Sequence[int] = (16, 32, 64, 128, 256),
    strides: Sequence[int] = (2, 2, 2, 2),
    num_res_units: int = 2,
    norm: Literal["instance", "batch"] = "instance",
    dropout: float = 0.0,
    head: Literal["monai", "linear"] = "monai",
) -> torch.nn.Module:
    """MONAI's residual U-Net: 3x3x3 kernels, PReLU, instance normalisation, no dropout.

    The defaults are S1's network with 4,807,482 parameters. Each side of the input must be a
    multiple of the product of `strides`.

    MONAI's head normalises the classes' own channels, each to the same spread in every window, whether the
    class is there or not. "linear" ends instead in a unit of `channels[0]` channels at the resolution
    below and one transposed convolution to the classes; `strides[0]` must be 2 for it.

    Raises:
        RecipeError: another normalisation or head, or not one stride less than there are channels.
    """
    if head not in ("monai", "linear") or (head == "linear" and strides[0] != 2):
        raise RecipeError(f"network unet: head: wanted 'monai', or 'linear' with a first stride of 2, got {head!r}")
    if norm not in ("instance", "batch"):
        raise RecipeError(f"network unet: norm: wanted 'instance' or 'batch', got {norm!r}")
    if len(strides) != len(channels) - 1:
        raise RecipeError(
            f"network unet: strides: wanted {len(channels) - 1} for {len(channels)} channels, got {len(strides)}"
        )
    from monai.networks.nets import UNet

    network = UNet(
        spatial_dims=3,
        in_channels=in_channels,
        out_channels=out_channels,
        channels=tuple(channels),
        strides=tuple(strides),
        num_res_units=num_res_units,
        norm=norm,
        dropout=dropout,
    )
    if head == "linear":
        below = channels[0] if len(channels) > 2 else channels[1]
        network.model[2] = _linear_head(channels[0] + below, channels[0], out_channels, norm)
    return network


def _linear_head(in_channels: int, channels: int, out_channels: int, norm: str) -> torch.nn.Module:
    from monai.networks.blocks import Convolution
    from torch import nn

    return nn.Sequential(
        Convolution(3, in_channels, channels, norm=norm, dropout=0.0),
        nn.ConvTranspose3d(channels, out_channels, kernel_size=4, stride=2, padding=1),
    )
