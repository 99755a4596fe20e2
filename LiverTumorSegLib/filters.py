"""Grey values made easier to read before a network sees them: denoised, smoothed, with more contrast.

S4 (section 2.1) does the three to every slice and gives no numbers; so they are numbers of the recipe. Slices are
filtered one by one, so that thick ones do not run into each other.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from .recipe import Intensity


def filtered(volume: np.ndarray, intensity: Intensity) -> np.ndarray:
    """What a recipe's filters make of scaled grey values; the very same array where it has none.

    Args:
        volume: float32 (k, j, i); within 0 to 1 where the contrast is raised.
        intensity: the recipe's.

    Returns:
        float32 of the same shape and range.
    """
    image = sitk.GetImageFromArray(volume) if intensity.denoise_voxels or intensity.smooth_voxels else None
    if image is not None and intensity.denoise_voxels:
        image = sitk.Median(image, [intensity.denoise_voxels, intensity.denoise_voxels, 0])
    if image is not None and intensity.smooth_voxels:
        variance = intensity.smooth_voxels**2
        image = sitk.DiscreteGaussian(image, [variance, variance, 0.0], useImageSpacing=False)
    if image is not None:
        volume = np.asarray(sitk.GetArrayFromImage(image))
    return raised_contrast(volume, intensity.contrast) if intensity.contrast else volume


def raised_contrast(volume: np.ndarray, gain: float) -> np.ndarray:
    """Grey values 0 to 1 on a logistic curve through (0, 0), (1/2, 1/2) and (1, 1), as steep there as `gain` says.

    The middle is spread gain / 4 / tanh(gain / 4) times as wide, and what lies at the ends less.
    """
    image = sitk.Sigmoid(sitk.GetImageFromArray(volume), 1 / gain, 0.5, 1.0, 0.0)
    lowest = 1 / (1 + np.exp(gain / 2))
    return np.asarray((sitk.GetArrayFromImage(image) - lowest) / (1 - 2 * lowest), np.float32)
