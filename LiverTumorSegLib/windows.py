"""Windows of one fixed size on an array, and the way back: the boxes, patches and tiles of the papers.

A window may stand over the array's border. What lies beyond is filled when it is cut and forgotten when it is pasted,
so that every part has the same shape wherever it comes from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Combine = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(what is there, what comes) -> what stays there; `np.maximum` and `np.add` are such."""


@dataclass(frozen=True)
class Window:
    """A window over the last axes of an array, in the array's own order: (k, j, i) for a volume, (j, i) for a slice.

    Attributes:
        start: its first voxel; below 0 where it stands over the border.
        size: how many voxels it has on each axis.
    """

    start: tuple[int, ...]
    size: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.start) != len(self.size) or min(self.size, default=0) < 1:
            raise ValueError(
                f"window: wanted a start and a size of 1 or more on the same axes, got {self.start}, {self.size}"
            )

    def inside(self, shape: Sequence[int]) -> tuple[slice, ...]:
        """The part of it that lies on an array of this shape, as slices of the array; empty where they do not meet."""
        bounds = zip(self.start, self.size, shape, strict=True)
        return tuple(slice(min(max(a, 0), n), max(min(a + length, n), min(max(a, 0), n))) for a, length, n in bounds)

    def covered(self, shape: Sequence[int]) -> tuple[slice, ...]:
        """The same part as slices of what is cut out."""
        return tuple(slice(s.start - a, s.stop - a) for s, a in zip(self.inside(shape), self.start, strict=True))


def window_around(centre: Sequence[float], size: Sequence[int]) -> Window:
    """The window whose middle is nearest to a place.

    Args:
        centre: in voxels of the array; the first voxel's own centre is 0.
        size: voxels on each axis; with an odd number the middle is a voxel.
    """
    start = (int(np.floor(c - (n - 1) / 2 + 0.5)) for c, n in zip(centre, size, strict=True))
    return Window(tuple(start), tuple(int(n) for n in size))


def shifted_inside(window: Window, shape: Sequence[int]) -> Window:
    """The window moved as little as possible to lie on an array; on an axis that is too short for it, in its middle."""
    bounds = zip(window.start, window.size, shape, strict=True)
    start = (min(max(a, 0), n - length) if length <= n else (n - length) // 2 for a, length, n in bounds)
    return Window(tuple(start), window.size)


def sliding_starts(length: int, side: int, overlap: float) -> list[int]:
    """First voxels of windows that slide along an axis: they cover it, evenly spread, the last one ends where it ends.

    Args:
        length: of the axis, in voxels.
        side: of a window; where the axis is not longer, there is one window, which begins at 0.
        overlap: share of a window that neighbours have in common at least, 0 up to 1.
    """
    if side >= length:
        return [0]
    step = max(1, int(side * (1 - overlap)))
    gaps = math.ceil((length - side) / step)
    return [round(n * (length - side) / gaps) for n in range(gaps + 1)]


def cut(array: np.ndarray, window: Window, fill: float = 0) -> np.ndarray:
    """A copy of what a window shows.

    Args:
        array: (..., k, j, i) or (..., j, i); axes before the window's own are kept whole.
        window: of its last axes.
        fill: the value beyond the array's border.

    Returns:
        (..., *window.size) of the array's type.
    """
    shape = array.shape[array.ndim - len(window.size) :]
    part = np.full(array.shape[: array.ndim - len(shape)] + window.size, fill, array.dtype)
    part[_last(window.covered(shape))] = array[_last(window.inside(shape))]
    return part


def paste(array: np.ndarray, window: Window, part: np.ndarray, combine: Combine | None = None) -> None:
    """Put what `cut` took out back in its place, in the array itself; what lies beyond the border is dropped.

    Args:
        array: as for `cut`.
        window: of its last axes.
        part: (..., *window.size).
        combine: what becomes of the values that are there; by default they are replaced.
    """
    shape = array.shape[array.ndim - len(window.size) :]
    place, seen = _last(window.inside(shape)), part[_last(window.covered(shape))]
    array[place] = seen if combine is None else combine(array[place], seen)


def _last(region: tuple[slice, ...]) -> Any:
    """A region of an array's last axes, with all that stands before them."""
    return (Ellipsis, *region)
