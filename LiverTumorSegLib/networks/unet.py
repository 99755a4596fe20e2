"""3D U-Net, as S1 used it (section 3.2.1) and as the shipped bundles use it, smaller or with blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from ..errors import RecipeError
from .segresnet import GROUPS

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
    blocks: int | Sequence[int] = 0,
) -> torch.nn.Module:
    """MONAI's residual U-Net: 3x3x3 kernels, PReLU, instance normalisation, no dropout.

    The defaults are S1's network with 4,807,482 parameters. Each side of the input must be a
    multiple of the product of `strides`.

    MONAI's head normalises the classes' own channels, each to the same spread in every window, whether the
    class is there or not. "linear" ends instead in a unit of `channels[0]` channels at the resolution
    below and one transposed convolution to the classes; `strides[0]` must be 2 for it.

    With `blocks`, so many residual blocks (of MONAI's SegResNet: group normalisation, ReLU, 3x3x3) follow every unit
    of encoder, bottom, decoder and linear head; or a number for each level, the bottom's last. They begin as the
    identity and leave the other weights' names as they are, so that a trained network without blocks goes on where it
    was; their channels must be multiples of 8.

    Raises:
        RecipeError: another normalisation or head, not one stride less than there are channels, or blocks that do not
            fit.
    """
    if head not in ("monai", "linear") or (head == "linear" and strides[0] != 2):
        raise RecipeError(f"network unet: head: wanted 'monai', or 'linear' with a first stride of 2, got {head!r}")
    if norm not in ("instance", "batch"):
        raise RecipeError(f"network unet: norm: wanted 'instance' or 'batch', got {norm!r}")
    if len(strides) != len(channels) - 1:
        raise RecipeError(
            f"network unet: strides: wanted {len(channels) - 1} for {len(channels)} channels, got {len(strides)}"
        )
    counts = (blocks,) * len(channels) if isinstance(blocks, int) else tuple(blocks)
    if len(counts) != len(channels) or min(counts) < 0:
        raise RecipeError(f"network unet: blocks: wanted 0 or more, or that for {len(channels)} levels, got {blocks}")
    if any(count and number % GROUPS for count, number in zip(counts, channels, strict=True)):
        raise RecipeError(f"network unet: channels: wanted multiples of {GROUPS} with blocks, got {tuple(channels)}")
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
    _deepen(network.model, channels, counts)
    if head == "linear":
        _follow(network.model[2][0], channels[0], counts[0])
    return network


def _linear_head(in_channels: int, channels: int, out_channels: int, norm: str) -> torch.nn.Module:
    from monai.networks.blocks import Convolution
    from torch import nn

    return nn.Sequential(
        Convolution(3, in_channels, channels, norm=norm, dropout=0.0),
        nn.ConvTranspose3d(channels, out_channels, kernel_size=4, stride=2, padding=1),
    )


def _deepen(level: Any, channels: Sequence[int], counts: Sequence[int]) -> None:
    """Blocks for a level of MONAI's U-Net (encoder, skip connection, decoder) and all below it.

    A decoder gives the channels of the level above its own; the uppermost gives the classes.
    """
    _follow(level[0], channels[0], counts[0])
    below = level[1].submodule
    if len(channels) == 2:
        _follow(below, channels[1], counts[1])
        return
    _deepen(below, channels[1:], counts[1:])
    _follow(below[2], channels[0], counts[0])


def _follow(unit: torch.nn.Module, channels: int, count: int) -> None:
    """Let blocks follow a unit, under a name that leaves those of its own weights as they are; 0 change nothing."""
    if not count:
        return
    from monai.networks.blocks.segresnet_block import ResBlock
    from torch import nn

    blocks = [ResBlock(3, channels, norm=("group", {"num_groups": GROUPS})) for _ in range(count)]
    for block in blocks:
        nn.init.zeros_(block.conv2.conv.weight)
    unit.add_module("blocks", nn.Sequential(*blocks))
    if not isinstance(unit, nn.Sequential):  # which runs all that it holds
        unit.register_forward_hook(_through_blocks)


def _through_blocks(unit: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    return unit.blocks(output)
