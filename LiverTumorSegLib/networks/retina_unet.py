"""Retina U-Net, S0's detector of small lesions (section 2.2.1), after Jaeger et al., ML4H 2020, on MONAI's parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import RecipeError
from ..recipe import FINDING_CHANNELS

if TYPE_CHECKING:
    import torch


def build_retina_unet(
    in_channels: int = 1,
    out_channels: int = 2 + FINDING_CHANNELS,
    widths: Sequence[int] = (16, 16, 32, 48),
    channels: int = 32,
    anchors: Sequence[Sequence[int]] = ((6, 6, 6), (8, 8, 8), (10, 10, 10)),
) -> torch.nn.Module:
    """A U-Net at strides 1, 2, 4 and 8 whose finest level segments and whose other three carry RetinaNet's heads.

    The defaults have 577,959 parameters. Each side of the input must be a multiple of 8.

    In evaluation (batch, in_channels, k, j, i) becomes (batch, out_channels, k, j, i): the classes' logits and then,
    for each voxel, the finding that the heads propose there; see `detection.proposed_findings`. In training it gives
    what `training.detecting` judges.

    Args:
        in_channels: channels of the input.
        out_channels: classes of the segmentation, and seven more for a finding.
        widths: channels of the encoder at the four strides.
        channels: of every level of the decoder and of the heads; a multiple of 8.
        anchors: (i, j, k) voxels of the boxes that are tried at every place of the finest level that has heads; twice
            and four times as large at the others.

    Raises:
        RecipeError: not four widths, channels that are no multiple of 8, no anchors, or no class to segment.
    """
    if len(widths) != 4:
        raise RecipeError(f"network retina_unet: widths: wanted 4, one for each stride, got {tuple(widths)}")
    if channels < 8 or channels % 8:
        raise RecipeError(f"network retina_unet: channels: wanted a multiple of 8, got {channels}")
    if not anchors or any(len(each) != 3 or min(each) < 2 for each in anchors):
        raise RecipeError(f"network retina_unet: anchors: wanted triples of 2 or more voxels, got {anchors}")
    if out_channels <= FINDING_CHANNELS:
        raise RecipeError(
            f"network retina_unet: out_channels: wanted the classes and {FINDING_CHANNELS} more, got {out_channels}"
        )
    from .retina import RetinaUNet

    shapes = tuple((int(k), int(j), int(i)) for i, j, k in anchors)
    return RetinaUNet(in_channels, out_channels - FINDING_CHANNELS, tuple(widths), channels, shapes)
