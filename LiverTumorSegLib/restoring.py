"""Network output on its grid -> labels on the scan's grid, in one pass over the box.

The vote between the classes is taken after interpolating the logits, never the labels, so that
borders are smooth. Two differences decide it: a = liver - background and b = tumour - background;
tumour where b > max(a, 0), liver where a > 0 and not tumour.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from .geometry import Box, GridGeometry, axes_towards_lps

THREADS = 2


def restore_labels(
    liver: np.ndarray, tumour: np.ndarray, geometry: GridGeometry, image: sitk.Image, box: Box
) -> np.ndarray:
    """The labels of a box of the scan.

    Args:
        liver, tumour: float32 (k, j, i) logit differences to the background on the grid.
        geometry: the grid.
        image: the scan, for its geometry.
        box: where labels are wanted.

    Returns:
        uint8 (k, j, i) array of the box's size: 0, 1 or 2.
    """
    steps = _aligned_steps(geometry, image, box)
    if steps is None:
        return _restore_oblique(liver, tumour, geometry, image, box)
    order, (i, j, k) = steps
    # The scan's axis `order[n]` runs along the grid's axis n = i, j, k; work in the grid's order.
    labels = np.empty((k.lower.size, j.lower.size, i.lower.size), np.uint8)
    has_tumour = tumour.max(axis=(1, 2)) > 0  # what lies between two planes without a tumour has none

    def one_slice(n: int) -> None:
        a = j.along(i.along(k.one(liver, n), 1), 0)
        np.greater(a, 0, out=labels[n].view(bool))
        if has_tumour[k.lower[n]] or has_tumour[k.upper[n]]:
            b = j.along(i.along(k.one(tumour, n), 1), 0)
            labels[n][b > np.maximum(a, 0, out=a)] = 2

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one_slice, range(labels.shape[0])))
    grid_axis_of = {axis: n for n, axis in enumerate(order)}
    # (k, j, i) of the grid is axes (2, 1, 0); the result's axes are the scan's k, j, i.
    return np.ascontiguousarray(labels.transpose([2 - grid_axis_of[axis] for axis in (2, 1, 0)]))


@dataclass(frozen=True)
class _Steps:
    """Where the scan's voxels lie between the grid's along one axis.

    Attributes:
        lower, upper: (n,) the neighbours' indices; beyond the border both are the last voxel.
        share: (n,) float32 weight of the upper one.
    """

    lower: np.ndarray
    upper: np.ndarray
    share: np.ndarray

    @classmethod
    def at(cls, positions: np.ndarray, size: int) -> _Steps:
        """From fractional positions on a grid of `size` voxels."""
        positions = np.clip(positions, 0, size - 1)
        lower = positions.astype(int)
        return cls(lower, np.minimum(lower + 1, size - 1), (positions - lower).astype(np.float32))

    def along(self, field: np.ndarray, axis: int) -> np.ndarray:
        """The field interpolated linearly at all positions along one of its axes."""
        share = self.share.reshape([-1 if n == axis else 1 for n in range(field.ndim)])
        low = np.take(field, self.lower, axis)
        high = np.take(field, self.upper, axis)
        high -= low
        high *= share
        high += low
        return high

    def one(self, field: np.ndarray, n: int) -> np.ndarray:
        """The field at the n-th position along its first axis."""
        low, high, share = field[self.lower[n]], field[self.upper[n]], self.share[n]
        return np.asarray(low + (high - low) * share)


def _aligned_steps(
    geometry: GridGeometry, image: sitk.Image, box: Box
) -> tuple[tuple[int, int, int], list[_Steps]] | None:
    """The scan's voxels along the grid's i, j and k axis, or None when the grid is turned against the scan."""
    order, signs = axes_towards_lps(image)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    own = np.stack([direction[:, axis] * sign for axis, sign in zip(order, signs, strict=True)], axis=1)
    if not np.allclose(own, np.array(geometry.direction).reshape(3, 3), atol=1e-6):
        return None
    frame = geometry.image(np.zeros((1, 1, 1), np.uint8))
    start = frame.TransformPhysicalPointToContinuousIndex(image.TransformIndexToPhysicalPoint(box.start))
    steps = []
    for n, (axis, sign) in enumerate(zip(order, signs, strict=True)):
        step = sign * image.GetSpacing()[axis] / geometry.spacing_mm[n]
        steps.append(_Steps.at(start[n] + step * np.arange(box.size[axis]), geometry.size[n]))
    return order, steps


def _restore_oblique(
    liver: np.ndarray, tumour: np.ndarray, geometry: GridGeometry, image: sitk.Image, box: Box
) -> np.ndarray:
    """The same for a grid turned against the scan, by resampling both differences in space."""
    target = sitk.RegionOfInterest(image, box.size, box.start)
    outside = float(min(liver.min(), tumour.min(), -1.0))
    a, b = (
        sitk.GetArrayFromImage(
            sitk.Resample(geometry.image(part), target, sitk.Transform(), sitk.sitkLinear, outside, sitk.sitkFloat32)
        )
        for part in (np.asarray(liver, np.float32), np.asarray(tumour, np.float32))
    )
    labels = (a > 0).astype(np.uint8)
    labels[b > np.maximum(a, 0)] = 2
    return labels
