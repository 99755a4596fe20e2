"""The dense residual U-Net with all scales' features at every level: S4's second stage (section 2.2, figures 2, 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from ..errors import RecipeError

if TYPE_CHECKING:
    import torch

WIDTHS = (64, 128, 256, 512, 512)
"""Of the stem and of the four levels; S4 prints none, these are its first network's."""


def build_dense_multiscale(
    in_channels: int = 1,
    out_channels: int = 3,
    widths: Sequence[int] = WIDTHS,
    growth: int = 32,
    layers: int = 4,
    norm: Literal["instance", "batch"] = "instance",
) -> torch.nn.Module:
    """A 7x7 stem, dense blocks with a residual at four scales, all scales fused at each, and the way up.

    Three poolings, not the U-Net's four or five: "excessive pooling process will inevitably lead to the loss of
    information, which is non negligible in small target segmentation". Slices along k are a batch, as in `unet2d`;
    j and i must be multiples of 2 ** (len(widths) - 2), which is 8.

    Args:
        in_channels: channels of the input.
        out_channels: classes.
        widths: of the stem and of every level.
        growth: channels that each layer of a dense block adds (S4 is silent; DenseNet's 32).
        layers: of a dense block.
        norm: after every convolution; S4 does not say. "batch" wants several slices in a step.

    Raises:
        RecipeError: another normalisation, or fewer than three widths.
    """
    if norm not in ("instance", "batch"):
        raise RecipeError(f"network dense_multiscale: norm: wanted 'instance' or 'batch', got {norm!r}")
    if len(widths) < 3:
        raise RecipeError(f"network dense_multiscale: widths: wanted three or more, got {tuple(widths)}")
    from .folding import FoldSlices
    from .slices import DenseMultiScale

    return FoldSlices(DenseMultiScale(in_channels, out_channels, tuple(widths), growth, layers, norm))
