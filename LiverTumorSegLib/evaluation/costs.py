"""What a bundle costs to run: the size of its networks and the seconds a case."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import DeviceError
from ..networks import build_network
from ..networks.export import prepare_for_inference
from ..recipe import Recipe
from .statistics import Estimate


@dataclass(frozen=True)
class Costs:
    """A bundle on one computer.

    Attributes:
        parameters: of all its networks as they are trained; None where torch or MONAI is not installed.
        fused: of all its networks as inference runs them, re-parameterised branches folded (S2); likewise.
        opening_seconds: to load the bundle and its networks.
        seconds: a case, from the scan in memory to its labels, loading left out; over the cases that were segmented.
        device: what the networks ran on.
    """

    parameters: int | None
    fused: int | None
    opening_seconds: float
    seconds: Estimate
    device: str


def count_parameters(recipe: Recipe) -> tuple[int | None, int | None]:
    """Parameters of all networks of a recipe, as trained and as inference runs them.

    Returns:
        Both counts, or twice None where torch or MONAI is not installed.
    """
    trained = fused = 0
    for stage in recipe.stages:
        try:
            network = build_network(stage.network, stage.arguments)
        except DeviceError:  # not installed; OpenVINO runs the bundle without them
            return None, None
        trained += sum(each.numel() for each in network.parameters())
        fused += sum(each.numel() for each in prepare_for_inference(network).parameters())
    return trained, fused
