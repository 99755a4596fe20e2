"""Scan -> what a network sees, and the way back.

Resampling lies in `geometry.py`; here is the scaling of the (k, j, i) array on the small grid.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from .filters import filtered
from .recipe import Intensity

LIVER_CLIP = 2.0
"""Where "liver" scaling ends, in its own units."""

TYPICAL_LIVER_HU = 90.0

LEAST_LIVER_VOXELS = 30
"""Of fewer no level is told."""


def scale_intensity(
    volume: np.ndarray, intensity: Intensity, modality: str, liver_level: float | None = None
) -> np.ndarray:
    """Clip, scale and filter grey values as the recipe says.

    Args:
        volume: (k, j, i) array in HU (CT) or arbitrary units (MR).
        intensity: what to do.
        modality: "CT" or "MR".
        liver_level: the liver's median grey value, for "liver"; a typical one where it is not known.

    Returns:
        float32 array of the same shape: 0..1 for "unit", -1..1 for "symmetric", zero mean and unit deviation
        for "zscore", -2..2 with the liver at 0 for "liver".
    """
    return filtered(_scaled(volume.astype(np.float32), intensity, modality, liver_level), intensity)


def _scaled(volume: np.ndarray, intensity: Intensity, modality: str, liver_level: float | None) -> np.ndarray:
    """Clipped and scaled grey values of an array that may be changed."""
    if intensity.scale == "liver":
        level = liver_level if liver_level is not None else _typical_level(volume, modality)
        width = intensity.liver_window[0] if modality == "CT" else max(intensity.liver_window[1] * level, 1e-6)
        return np.asarray(np.clip((volume - level) / width, -LIVER_CLIP, LIVER_CLIP), np.float32)
    limits = intensity.ct_clip_hu if modality == "CT" else _body_percentiles(volume, intensity)
    if limits is not None:
        np.clip(volume, *limits, out=volume)
    if intensity.scale == "zscore":
        return np.asarray((volume - volume.mean()) / max(float(volume.std()), 1e-6), np.float32)
    low, high = limits if limits is not None else (float(volume.min()), float(volume.max()))
    volume = np.asarray((volume - low) / max(high - low, 1e-6), np.float32)
    return volume * 2 - 1 if intensity.scale == "symmetric" else volume


def confined(channels: np.ndarray, organ: np.ndarray) -> np.ndarray:
    """What a stage sees that is `in_organ`: grey values everywhere, those in the organ alone, and the organ itself.

    Args:
        channels: (channels, k, j, i) after scaling.
        organ: (k, j, i) mask.

    Returns:
        float32 (2 channels + 1, k, j, i); the last channel is 1 in the organ and 0 beyond it.
    """
    return np.concatenate([channels, np.where(organ, channels, 0), organ[None]]).astype(np.float32, copy=False)


def with_context(channels: np.ndarray, slices: int) -> np.ndarray:
    """Neighbouring slices as channels, for networks that look at single slices (S0's 2.5D).

    Args:
        channels: (channels, k, j, i).
        slices: how many along k, odd; 1 leaves the array as it is. At the ends the last slice stands for those beyond.

    Returns:
        (channels * slices, k, j, i): for each channel, the slices from the lowest to the highest k. It may be a
        read-only view of `channels`.
    """
    if slices == 1:
        return channels
    reach = slices // 2
    padded = np.pad(channels, ((0, 0), (reach, reach), (0, 0), (0, 0)), mode="edge")
    windows = np.moveaxis(np.lib.stride_tricks.sliding_window_view(padded, slices, axis=1), -1, 1)
    return windows.reshape(-1, *channels.shape[1:])


def liver_level(volume: np.ndarray, liver: np.ndarray) -> float | None:
    """The median grey value of a liver; None where there are too few voxels to say."""
    values = volume[liver]
    return float(np.median(values)) if values.size >= LEAST_LIVER_VOXELS else None


def _typical_level(volume: np.ndarray, modality: str) -> float:
    if modality == "CT":
        return TYPICAL_LIVER_HU
    body = volume[volume > 0.05 * np.percentile(volume, 99.5)]
    return float(np.median(body)) if body.size else float(volume.max())


def _body_percentiles(volume: np.ndarray, intensity: Intensity) -> tuple[float, float] | None:
    """The recipe's percentiles of what is brighter than a twentieth of the scan's brightest: the body, not the air."""
    if intensity.mr_clip_percentiles is None:
        return None
    body = volume[volume > 0.05 * np.percentile(volume, 99.5)]
    if body.size < 100:
        return float(volume.min()), float(volume.max())
    low, high = np.percentile(body, intensity.mr_clip_percentiles)
    return (float(low), float(high)) if high > low else (float(volume.min()), float(volume.max()))


def padding_value(image: sitk.Image, modality: str) -> float:
    """The grey value of nothing: air for CT, the scan's minimum for MR."""
    if modality == "CT":
        return -1024.0
    extremes = sitk.MinimumMaximumImageFilter()
    extremes.Execute(image)
    return float(extremes.GetMinimum())
