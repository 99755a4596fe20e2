"""MONAI's DynUNet with its training heads in this library's order."""

from __future__ import annotations

import torch
from monai.networks.nets import DynUNet


class DynUNetHeads(DynUNet):
    """In training mode a tuple of logits, the output last; in evaluation mode the output alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Map (batch, channels, k, j, i) to logits (batch, classes, k, j, i)."""
        found = super().forward(x)
        # MONAI stacks the heads along a new second axis, the output first.
        return found.flip(1).unbind(1) if found.dim() == x.dim() + 1 else found
