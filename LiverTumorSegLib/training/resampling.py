"""Label maps on a network's grid, without losing a lesion.

Each class is a map of 0 and 1 that is averaged and linearly interpolated like the scan; the strongest class wins.
Nearest neighbours would skip lesions that are thin on the new grid: one of 5 mm is a single slice of 5 mm.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from itertools import product

import numpy as np
import SimpleITK as sitk

from ..geometry import Box, GridGeometry, resample_to_grid, whole_box
from ..lesions import Slices, iterate_components

_AROUND = 8  # voxels around a lesion alone: averaging drops what is left over of a block at the far end


def resample_labels(labels: sitk.Image, box: Box, geometry: GridGeometry, lesions: Collection[int]) -> np.ndarray:
    """A box of a label map on a grid.

    Args:
        labels: uint8, on the scan's grid.
        box: of its voxels.
        geometry: the grid.
        lesions: values of which no 6-connected component may vanish: one that wins no voxel is drawn where its share
            of the voxels is at least half of its largest.

    Returns:
        uint8 (k, j, i), background outside the box.
    """
    array = sitk.GetArrayFromImage(labels)
    result = np.zeros(geometry.size[::-1], np.uint8)
    strongest, background = np.zeros(result.shape, np.float32), np.ones(result.shape, np.float32)
    for value in (int(v) for v in np.unique(array[box.slices]) if v):
        map_of_value = sitk.GetImageFromArray((array == value).astype(np.float32))
        map_of_value.CopyInformation(labels)
        share = resample_to_grid(map_of_value, box, geometry, 0)
        result[share > strongest] = value
        np.maximum(strongest, share, out=strongest)
        background -= share
    result[background >= strongest] = 0
    inside = np.zeros(array.shape, bool)
    inside[box.slices] = True
    for value in lesions:
        for near, mask in iterate_components((array == value) & inside):
            _keep_alive(result, value, near, mask, labels, geometry)
    return result


def _keep_alive(
    result: np.ndarray, value: int, near: Slices, lesion: np.ndarray, labels: sitk.Image, geometry: GridGeometry
) -> None:
    """Draw a lesion, a mask in a box of the label map, that none of the grid's voxels shows."""
    alone = sitk.GetImageFromArray(np.pad(lesion, _AROUND).astype(np.float32))
    first = [float(part.start - _AROUND) for part in near[::-1]]
    alone.SetOrigin(labels.TransformContinuousIndexToPhysicalPoint(first))
    alone.SetSpacing(labels.GetSpacing())
    alone.SetDirection(labels.GetDirection())
    part, window = _part_of_grid(alone, geometry)
    share = resample_to_grid(alone, whole_box(alone), part, 0)
    seen = result[window]
    if not (seen[share > 0] == value).any():
        seen[share >= max(0.5 * float(share.max()), 1e-6)] = value


def _part_of_grid(image: sitk.Image, geometry: GridGeometry) -> tuple[GridGeometry, tuple[slice, ...]]:
    """What an image covers of a grid: a grid of its own, and its place in the whole one as slices of (k, j, i)."""
    frame = geometry.image(np.zeros((1, 1, 1), np.uint8))
    ends = product(*((0.0, n - 1.0) for n in image.GetSize()))
    places = (image.TransformContinuousIndexToPhysicalPoint(end) for end in ends)
    corners = np.array([frame.TransformPhysicalPointToContinuousIndex(place) for place in places])
    size = np.array(geometry.size)
    low = np.clip(np.floor(corners.min(0)).astype(int), 0, size - 1)
    high = np.clip(np.ceil(corners.max(0)).astype(int) + 1, low + 1, size)
    origin = frame.TransformContinuousIndexToPhysicalPoint([float(n) for n in low])
    i, j, k = (int(n) for n in high - low)
    window = tuple(slice(int(a), int(b)) for a, b in zip(low[::-1], high[::-1], strict=True))
    return dataclasses.replace(geometry, origin=origin, size=(i, j, k)), window
