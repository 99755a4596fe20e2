"""Maps of a network's grid: in half the memory, on another grid, of a part of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..geometry import GridGeometry, resample_to_grid, whole_box

NEVER = -20.0
"""The logit of what was rejected, or never asked about."""


def on_grid(logits: np.ndarray, own: GridGeometry, other: GridGeometry) -> np.ndarray:
    """A (k, j, i) map of one grid on another one, interpolated linearly; `NEVER` beyond its own."""
    image = own.image(logits.astype(np.float32))
    return resample_to_grid(image, whole_box(image), other, NEVER)


def in_half_precision(logits: np.ndarray) -> np.ndarray:
    """The same in float16, from -100 to 100: beyond them nothing is any surer. A `reduce` for `Networks.run`."""
    return np.clip(logits, -100, 100).astype(np.float16)


def cropped(geometry: GridGeometry, box: tuple[slice, ...]) -> GridGeometry:
    """The grid of a part of a grid's array, told as slices (k, j, i) with both ends."""
    k, j, i = box
    size = (i.stop - i.start, j.stop - j.start, k.stop - k.start)
    return dataclasses.replace(geometry, origin=place_of(geometry, (i.start, j.start, k.start)), size=size)


def place_of(geometry: GridGeometry, voxel: Sequence[float]) -> tuple[float, ...]:
    """Where a place (i, j, k) of a grid lies, LPS millimetres; a voxel's centre is a whole number."""
    frame = geometry.image(np.zeros((1, 1, 1), np.uint8))
    return tuple(frame.TransformContinuousIndexToPhysicalPoint([float(each) for each in voxel]))
