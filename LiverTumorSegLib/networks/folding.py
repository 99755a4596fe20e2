"""Networks of single slices as networks of volumes, so that nothing else has to know which it has."""

from __future__ import annotations

import torch
from torch import nn

_AT_ONCE = 8  # slices of 512 x 512 voxels; 64 channels of them are 0.5 GB


class FoldSlices(nn.Module):
    """Runs a 2D network over the slices of a volume as if they were a batch.

    In evaluation mode it takes a few slices at a time, so that memory does not grow with their number. An exported
    file takes all slices at once: give the stage a window of few of them.

    Attributes:
        network: maps (slices, channels, j, i) to one tensor (slices, classes, j, i), or in training to several.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, volume: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """(batch, channels, k, j, i) -> (batch, classes, k, j, i), for each of the network's outputs."""
        batch, channels, k, j, i = volume.shape
        slices = volume.transpose(1, 2).reshape(batch * k, channels, j, i)
        if self.training or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            found = self.network(slices)
        else:
            found = torch.cat([self.network(few) for few in slices.split(_AT_ONCE)])
        if isinstance(found, torch.Tensor):
            return _unfolded(found, batch, k)
        return tuple(_unfolded(each, batch, k) for each in found)


def _unfolded(slices: torch.Tensor, batch: int, k: int) -> torch.Tensor:
    _, classes, j, i = slices.shape
    return slices.reshape(batch, k, classes, j, i).transpose(1, 2)
