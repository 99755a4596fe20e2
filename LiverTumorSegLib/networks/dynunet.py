"""The nnU-Net-like U-Net of S3's two stages, by MONAI's DynUNet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from ..errors import RecipeError

if TYPE_CHECKING:
    import torch

Steps = Sequence[int | Sequence[int]]

THIN_FIRST: tuple[tuple[int, int, int], ...] = ((3, 3, 1), (3, 3, 1), (3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
"""For slices six times as thick as pixels are wide: nnU-Net leaves the thick axis alone until voxels are cubes."""

HALVINGS: tuple[tuple[int, int, int], ...] = ((1, 1, 1), (2, 2, 1), (2, 2, 1), (2, 2, 2), (2, 2, 2), (2, 2, 1))


def build_dynunet(
    in_channels: int = 1,
    out_channels: int = 3,
    filters: Sequence[int] = (32, 64, 128, 256, 320, 320),
    kernels: Steps = THIN_FIRST,
    strides: Steps = HALVINGS,
    norm: Literal["instance", "batch"] = "instance",
    residual: bool = False,
    dropout: float = 0.0,
    deep_supervision: int = 0,
) -> torch.nn.Module:
    """nnU-Net's plain U-Net: two convolutions, instance normalisation and leaky ReLU a level, transposed upsampling.

    The defaults suit S3's CT, 5 mm slices of 0.6 to 1.0 mm pixels: sides must be multiples of 32, 32 and 4
    (i, j, k), and S3's patches of 128 x 128 x 16 pass five halvings in plane and two across.

    Args:
        in_channels: phases.
        out_channels: classes.
        filters: channels of each level.
        kernels, strides: of each level, whole numbers or (i, j, k) triples; the first stride is 1.
        norm: what follows each convolution.
        residual: with a shortcut in each block, as nnU-Net's later presets have.
        dropout: share of channels dropped.
        deep_supervision: how many of the levels below the last have heads; in training mode the network
            then gives a tuple of logits, all enlarged to the input's size, the lowest level's first, the output last.

    Raises:
        RecipeError: another normalisation, not as many kernels and strides as filters, or too many heads.
    """
    if norm not in ("instance", "batch"):
        raise RecipeError(f"network dynunet: norm: wanted 'instance' or 'batch', got {norm!r}")
    for name, steps in (("kernels", kernels), ("strides", strides)):
        if len(steps) != len(filters):
            raise RecipeError(
                f"network dynunet: {name}: wanted {len(filters)}, one for each of filters, got {len(steps)}"
            )
    if not 0 <= deep_supervision <= max(len(filters) - 3, 0):
        raise RecipeError(
            f"network dynunet: deep_supervision: wanted 0 to {max(len(filters) - 3, 0)} heads, got {deep_supervision}"
        )
    from .dynunet_heads import DynUNetHeads

    down = [_reversed(each) for each in strides]
    return DynUNetHeads(
        spatial_dims=3,
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=[_reversed(each) for each in kernels],
        strides=down,
        upsample_kernel_size=down[1:],
        filters=tuple(filters),
        dropout=dropout or None,
        norm_name=(norm, {"affine": True}),
        deep_supervision=deep_supervision > 0,
        deep_supr_num=max(deep_supervision, 1),
        res_block=residual,
    )


def _reversed(step: int | Sequence[int]) -> tuple[int, int, int]:
    """A recipe's number or (i, j, k) triple in the order of a tensor's axes."""
    i, j, k = (step,) * 3 if isinstance(step, int) else step
    return k, j, i
