"""ELANRes-MSCA-UNet: S2's network for the liver and, once more, for the tumours (section 2.2, figures 2 to 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from ..errors import RecipeError

if TYPE_CHECKING:
    import torch

FEATURES = (16, 32, 64, 128, 256)


def build_elanres_msca_unet(
    in_channels: int = 1,
    out_channels: int = 3,
    features: Sequence[int] = FEATURES,
    elanres: bool = True,
    msca: bool = True,
    norm: Literal["instance", "batch"] = "batch",
) -> torch.nn.Module:
    """A 3D U-Net of ELANRes blocks, with multi-scale attention to slices at every level of its encoder.

    With two classes it has 4,790,584 parameters, and 3,258,648 after `fuse()`, which gives every
    re-parameterisable convolution one kernel in place of its branches and leaves the output as it was.
    In training mode it returns a tuple of logits at full resolution, one for each decoder level and the
    finest last; in evaluation mode the last alone. Each side of the input must be a multiple of
    2 ** (len(features) - 1).

    Args:
        in_channels: channels of the input.
        out_channels: classes.
        features: of each level, from full resolution down; even.
        elanres: ELANRes blocks, or pairs of plain convolutions as in the paper's ablation (table 3).
        msca: attention, or none, likewise.
        norm: "batch" is the paper's, one in each branch. "instance" does not depend on what else is in a batch
            of one, and stands behind the branches' sum, so that they can still be fused.

    Raises:
        RecipeError: another normalisation, fewer than two levels, or an odd or empty one.
    """
    if norm not in ("instance", "batch"):
        raise RecipeError(f"network elanres_msca_unet: norm: wanted 'instance' or 'batch', got {norm!r}")
    if len(features) < 2 or any(width < 2 or width % 2 for width in features):
        raise RecipeError(
            f"network elanres_msca_unet: features: wanted two or more even numbers, got {tuple(features)}"
        )
    from .elanres_msca_blocks import ELANResMSCAUNet

    return ELANResMSCAUNet(in_channels, out_channels, tuple(features), norm, elanres, msca)
