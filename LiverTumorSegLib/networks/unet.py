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
) -> torch.nn.Module:
    """MONAI's residual U-Net: 3x3x3 kernels, PReLU, instance normalisation, no dropout.

    The defaults are S1's network with 4,807,482 parameters. Each side of the input must be a
    multiple of the product of `strides`.

    Raises:
        RecipeError: another normalisation, or not one stride less than there are channels.
    """
    if norm not in ("instance", "batch"):
        raise RecipeError(f"network unet: norm: wanted 'instance' or 'batch', got {norm!r}")
    if len(strides) != len(channels) - 1:
        raise RecipeError(
            f"network unet: strides: wanted {len(channels) - 1} for {len(channels)} channels, got {len(strides)}"
        )
    from monai.networks.nets import UNet

    return UNet(
        spatial_dims=3,
        in_channels=in_channels,
        out_channels=out_channels,
        channels=tuple(channels),
        strides=tuple(strides),
        num_res_units=num_res_units,
        norm=norm,
        dropout=dropout,
    )
