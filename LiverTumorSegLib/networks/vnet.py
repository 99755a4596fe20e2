"""V-Net, as S1 used it (section 3.2.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ..errors import RecipeError

if TYPE_CHECKING:
    import torch


def build_vnet(
    in_channels: int = 1,
    out_channels: int = 3,
    dropout: float = 0.5,
    norm: Literal["batch", "instance"] = "batch",
) -> torch.nn.Module:
    """MONAI's V-Net: 5x5x5 kernels, ELU, batch normalisation, half of the feature maps dropped in training.

    45.6 million parameters. Each side of the input must be a multiple of 16.

    Args:
        in_channels: channels of the input; must divide 16.
        out_channels: classes.
        dropout: share of feature maps dropped in training.
        norm: "instance" does not depend on what else is in a batch of one.

    Raises:
        RecipeError: another normalisation.
    """
    if norm not in ("instance", "batch"):
        raise RecipeError(f"network vnet: norm: wanted 'batch' or 'instance', got {norm!r}")
    from monai.networks.nets import VNet

    network = VNet(
        spatial_dims=3,
        in_channels=in_channels,
        out_channels=out_channels,
        act=("elu", {"inplace": True}),
        dropout_prob_down=dropout,
        dropout_prob_up=(dropout, dropout),
        dropout_dim=3,
    )
    if norm == "instance":
        _replace_batch_norm(network)
    return network


def _replace_batch_norm(module: torch.nn.Module) -> None:
    """MONAI's V-Net has no choice of normalisation; affine keeps the tensors' names and shapes."""
    from torch import nn

    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm3d):
            setattr(module, name, nn.InstanceNorm3d(child.num_features, affine=True))
        else:
            _replace_batch_norm(child)
