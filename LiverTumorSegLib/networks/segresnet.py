"""SegResNet, as S1 used it (section 3.2.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from ..errors import RecipeError

if TYPE_CHECKING:
    import torch

GROUPS = 8  # MONAI's own default


def build_segresnet(
    in_channels: int = 1,
    out_channels: int = 3,
    init_filters: int = 8,
    blocks_down: Sequence[int] = (1, 2, 2, 4),
    blocks_up: Sequence[int] = (1, 1, 1),
    norm: Literal["group", "instance", "batch"] = "group",
    dropout: float = 0.0,
) -> torch.nn.Module:
    """MONAI's SegResNet: 3x3x3 kernels, ReLU, group normalisation, no dropout, no autoencoder branch.

    The defaults are S1's network with 1,176,195 parameters. Each side of the input must be a
    multiple of 2 ** (len(blocks_down) - 1).

    Raises:
        RecipeError: another normalisation, or not one up block less than there are down blocks.
    """
    norms: dict[str, Any] = {"group": ("group", {"num_groups": GROUPS}), "instance": "instance", "batch": "batch"}
    if norm not in norms:
        raise RecipeError(f"network segresnet: norm: wanted one of {', '.join(norms)}, got {norm!r}")
    if len(blocks_up) != len(blocks_down) - 1:
        raise RecipeError(
            f"network segresnet: blocks_up: wanted {len(blocks_down) - 1} for {len(blocks_down)} blocks_down,"
            f" got {len(blocks_up)}"
        )
    from monai.networks.nets import SegResNet

    return SegResNet(
        spatial_dims=3,
        in_channels=in_channels,
        out_channels=out_channels,
        init_filters=init_filters,
        blocks_down=tuple(blocks_down),
        blocks_up=tuple(blocks_up),
        norm=norms[norm],
        dropout_prob=dropout or None,
    )
