"""What happens to a scan on its way into a file: a round field of view, a window, few grey values.

The chance for each comes from a stream of its own, so that scans without it are as if it did not exist.
"""

from __future__ import annotations

import numpy as np
import torch

from .anatomy import LIVER_TISSUES, Tissue
from .appearance import Modality
from .fields import own_chances
from .shapes import tissue_mask

_ROUND, _CLIPPED, _STEPPED = 0.08, 0.12, 0.15
_PADDING_HU = (-1024.0, -2000.0, -3024.0)  # beyond the round field, as makers write it


def stored(
    volume: torch.Tensor,
    tissues: torch.Tensor,
    modality: Modality,
    rng: np.random.Generator,
    share: float,
    whole_body: bool,
) -> torch.Tensor:
    """The scan as a file may hold it.

    Args:
        volume: float32 (k, j, i) in HU or arbitrary units.
        tissues: changed where the scan ends.
        modality: of the scan.
        rng: what all chance follows from; its own numbers stay as they are.
        share: factor on how often; 0 for never.
        whole_body: whether the field shows the scan's borders.
    """
    bounds, window, steps = own_chances(rng, 3)
    if modality == "CT" and whole_body and bounds.random() < share * _ROUND:
        outside = _outside_circle(volume, bounds.uniform(0.85, 1.1))
        tissues.masked_fill_(outside, int(Tissue.AIR))
        volume = volume.masked_fill(outside, float(bounds.choice(_PADDING_HU)))
    if window.random() < share * _CLIPPED:
        volume = _clipped(volume, tissues, modality, window)
    if steps.random() < share * _STEPPED:
        low, high = volume.amin(), volume.amax()
        step = ((high - low) / (255 if steps.random() < 0.6 else 4095)).clamp_min(1e-6)
        volume = ((volume - low) / step).round() * step + low
    return volume


def _outside_circle(volume: torch.Tensor, size: float) -> torch.Tensor:
    """Where a slice lies outside the circle that is `size` times as wide as its longer side."""
    _, height, width = volume.shape
    j, i = (torch.arange(n, dtype=torch.float32, device=volume.device) - (n - 1) / 2 for n in (height, width))
    return (torch.hypot(j[:, None], i[None, :]) > size * max(height, width) / 2).expand(volume.shape)


def _clipped(volume: torch.Tensor, tissues: torch.Tensor, modality: Modality, rng: np.random.Generator) -> torch.Tensor:
    """Cut to a window of soft tissue (CT), or without the brightest voxels but for liver and lesions (MR)."""
    if modality == "CT":
        low = rng.uniform(-250, -100)
        return volume.clamp(low, low + rng.uniform(320, 700))
    sample, there = volume[::2, ::2, ::2], tissues[::2, ::2, ::2]
    top = _share_below(sample.flatten(), rng.uniform(0.96, 0.999))
    for kept in (sample[tissue_mask(there, LIVER_TISSUES)], sample[there == Tissue.LESION]):
        if len(kept):
            top = torch.maximum(top, _share_below(kept, 0.98))
    return torch.minimum(volume, top)


def _share_below(values: torch.Tensor, share: float) -> torch.Tensor:
    """The grey value that so many of the values do not exceed."""
    return values.kthvalue(max(1, int(len(values) * share))).values
