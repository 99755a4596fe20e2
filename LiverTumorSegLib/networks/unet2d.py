"""The U-Net of single slices that S4's first stage is (section 2.2), after Ronneberger et al., MICCAI 2015."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from ..errors import RecipeError

if TYPE_CHECKING:
    import torch

WIDTHS = (64, 128, 256, 512, 512)
"""S4: from 64 to 512 kernels, doubled; its fourth downsampling finds them at 512 and leaves them there."""


def build_unet2d(
    in_channels: int = 1,
    out_channels: int = 3,
    widths: Sequence[int] = WIDTHS,
    norm: Literal["instance", "batch"] = "instance",
) -> torch.nn.Module:
    """Pairs of 3x3 convolutions at every level, halved by maximum pooling and doubled by transposed convolutions.

    Slices along k are a batch: (batch, in_channels, k, j, i) becomes logits (batch, out_channels, k, j, i).
    "Same" padding keeps the size; j and i must be multiples of 2 ** (len(widths) - 1).

    Args:
        in_channels: channels of the input.
        out_channels: classes.
        widths: kernels of each level, from full resolution down.
        norm: after every convolution; S4 does not say. "batch" wants several slices in a step.

    Raises:
        RecipeError: another normalisation, or fewer than two widths.
    """
    if norm not in ("instance", "batch"):
        raise RecipeError(f"network unet2d: norm: wanted 'instance' or 'batch', got {norm!r}")
    if len(widths) < 2:
        raise RecipeError(f"network unet2d: widths: wanted two or more, got {tuple(widths)}")
    from .folding import FoldSlices
    from .slices import UNet2D

    return FoldSlices(UNet2D(in_channels, out_channels, tuple(widths), norm))
