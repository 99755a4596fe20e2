"""CSR-UNet, the network of S0 (section 2.2.2, figure 4): convolution, squeeze-and-excitation, residual."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from ..errors import RecipeError

if TYPE_CHECKING:
    import torch

WIDTHS = (16, 32, 64, 128, 256)
"""The released network's."""


def build_csr_unet(
    in_channels: int = 1,
    out_channels: int = 3,
    dims: Literal[2, 3] = 2,
    widths: Sequence[int] = WIDTHS,
    norm: Literal["instance", "batch"] = "instance",
) -> torch.nn.Module:
    """A U-Net whose every level but the lowest weighs its channels and ends in a residual block.

    (batch, in_channels, k, j, i) becomes logits (batch, out_channels, k, j, i). In 2D, slices along k are a batch;
    2.5D is 2D with neighbouring slices as channels (S0: five). In training it gives a tuple, one for each level above
    the lowest, all at full resolution, the output last; in evaluation the output alone.

    With one class, 2D and its usual widths it has 2,804,980 parameters for one channel and 2,805,556 for five, as the
    authors' released one; 8,048,276 in 3D.

    Args:
        in_channels: channels of the input.
        out_channels: classes; S0 has one with a sigmoid in each of its networks.
        dims: 2 or 3.
        widths: channels of each level, from full resolution down; each side (in 2D j and i) must be a multiple of
            2 ** (len(widths) - 1).
        norm: after every convolution. "batch" is the paper's and wants many slices in a step.

    Raises:
        RecipeError: another normalisation or number of dimensions, or fewer than two widths.
    """
    if norm not in ("instance", "batch"):
        raise RecipeError(f"network csr_unet: norm: wanted 'instance' or 'batch', got {norm!r}")
    if dims not in (2, 3):
        raise RecipeError(f"network csr_unet: dims: wanted 2 or 3, got {dims!r}")
    if len(widths) < 2:
        raise RecipeError(f"network csr_unet: widths: wanted two or more, got {tuple(widths)}")
    from .csr import CSRUNet
    from .folding import FoldSlices

    network = CSRUNet(in_channels, out_channels, dims, tuple(widths), norm)
    return FoldSlices(network) if dims == 2 else network
