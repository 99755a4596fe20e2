"""HighResNet, the backbone of S1 (section 3.2.1), after Li et al., IPMI 2017."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ..errors import RecipeError

if TYPE_CHECKING:
    import torch


def build_highresnet(
    in_channels: int = 1,
    out_channels: int = 3,
    final_activation: bool = False,
    norm: Literal["batch", "instance"] = "batch",
    dropout: float = 0.0,
) -> torch.nn.Module:
    """MONAI's HighResNet: residual pairs of 3x3x3 convolutions with dilations 1, 2 and 4 at full resolution.

    It never downsamples, so the input may have any size.

    Args:
        in_channels: channels of the input.
        out_channels: classes.
        final_activation: keep MONAI's head, which ends in batch normalisation and ReLU, so that no
            output is below 0 (809,030 parameters, the paper's 809 K); else the head is one plain
            convolution with a bias (809,027 parameters).
        norm: "instance" does not depend on what else is in a batch of one.
        dropout: share of voxels dropped before the head in training.

    Raises:
        RecipeError: another normalisation.
    """
    norms: dict[str, Any] = {"batch": ("batch", {"affine": True}), "instance": ("instance", {"affine": True})}
    if norm not in norms:
        raise RecipeError(f"network highresnet: norm: wanted one of {', '.join(norms)}, got {norm!r}")
    if not isinstance(final_activation, bool):
        raise RecipeError(f"network highresnet: final_activation: wanted true or false, got {final_activation!r}")
    from monai.networks.nets import HighResNet
    from torch import nn

    network = HighResNet(
        spatial_dims=3,
        in_channels=in_channels,
        out_channels=out_channels,
        norm_type=norms[norm],
        dropout_prob=dropout or None,
    )
    if not final_activation:
        features = network.blocks[-1].conv.in_channels
        network.blocks[-1] = nn.Conv3d(features, out_channels, kernel_size=1)
    return network
