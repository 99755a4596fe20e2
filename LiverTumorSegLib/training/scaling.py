"""`preprocessing`'s scaling of grey values for patches that are made on a GPU, and stay there.

The two are the same but for the last bits, which a test holds them to. Filters are not done here.
"""

from __future__ import annotations

import torch

from ..preprocessing import LEAST_LIVER_VOXELS, LIVER_CLIP, TYPICAL_LIVER_HU
from ..recipe import Intensity


def scaled_on_device(
    volume: torch.Tensor, intensity: Intensity, modality: str, liver_level: float | None
) -> torch.Tensor:
    """As `preprocessing.scale_intensity`, without filters.

    Args:
        volume: float32 (k, j, i).
        intensity: what to do.
        modality: "CT" or "MR".
        liver_level: the liver's median grey value, for "liver"; a typical one where it is not known.

    Returns:
        float32 of the same shape, on the volume's device.
    """
    if intensity.scale == "liver":
        level = liver_level if liver_level is not None else _typical_level(volume, modality)
        width = intensity.liver_window[0] if modality == "CT" else max(intensity.liver_window[1] * level, 1e-6)
        return ((volume - level) / width).clamp(-LIVER_CLIP, LIVER_CLIP)
    limits = intensity.ct_clip_hu if modality == "CT" else _body_percentiles(volume, intensity)
    if limits is not None:
        volume = volume.clamp(*limits)
    if intensity.scale == "zscore":
        return (volume - volume.mean()) / volume.std(correction=0).clamp_min(1e-6)
    low, high = limits if limits is not None else _range(volume)
    volume = (volume - low) / max(high - low, 1e-6)
    return volume * 2 - 1 if intensity.scale == "symmetric" else volume


def liver_level_on_device(volume: torch.Tensor, liver: torch.Tensor) -> float | None:
    """As `preprocessing.liver_level`; one number leaves the device."""
    values = volume[liver]
    return _quantiles(values, 50.0)[0] if values.numel() >= LEAST_LIVER_VOXELS else None


def with_context_on_device(channels: torch.Tensor, slices: int) -> torch.Tensor:
    """As `preprocessing.with_context`, of (channels, k, j, i)."""
    if slices == 1:
        return channels
    depth, reach = channels.shape[1], slices // 2
    places = (
        torch.arange(depth, device=channels.device) + torch.arange(-reach, reach + 1, device=channels.device)[:, None]
    )
    return channels[:, places.clamp(0, depth - 1)].flatten(0, 1)


def _typical_level(volume: torch.Tensor, modality: str) -> float:
    if modality == "CT":
        return TYPICAL_LIVER_HU
    body = _body(volume)
    return _quantiles(body, 50.0)[0] if body.numel() else _range(volume)[1]


def _body_percentiles(volume: torch.Tensor, intensity: Intensity) -> tuple[float, float] | None:
    if intensity.mr_clip_percentiles is None:
        return None
    body = _body(volume)
    if body.numel() < 100:
        return _range(volume)
    low, high = _quantiles(body, *intensity.mr_clip_percentiles)
    return (low, high) if high > low else _range(volume)


def _body(volume: torch.Tensor) -> torch.Tensor:
    return volume[volume > 0.05 * _quantiles(volume.flatten(), 99.5)[0]]


def _quantiles(values: torch.Tensor, *percentages: float) -> list[float]:
    """Percentiles of a flat tensor, between its values linearly; `torch.quantile` takes no more than 2^24 of them."""
    ordered = values.sort().values
    places = [percent / 100 * (len(ordered) - 1) for percent in percentages]
    pairs = [torch.stack((ordered[int(place)], ordered[min(int(place) + 1, len(ordered) - 1)])) for place in places]
    found = torch.stack(pairs).cpu().tolist()
    return [low + (high - low) * (place % 1) for (low, high), place in zip(found, places, strict=True)]


def _range(volume: torch.Tensor) -> tuple[float, float]:
    low, high = torch.stack(torch.aminmax(volume)).cpu().tolist()
    return low, high
