"""Lesion shuffle (S3, section III.B, equation 9, figure 4): lesions and normal liver texture change places.

Both networks' patches, in training and in inference, come from here. Masks are (k, j, i), volumes (channels, k, j, i).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...lesions import Slices
from ...windows import Window, cut, shifted_inside

_TRIES = 60
_LEAST_INSIDE = 0.9  # of what is transplanted lies in healthy liver; what sticks out is cut off


@dataclass(frozen=True)
class Graft:
    """Voxels that have a place: a lesion, or normal texture in a lesion's shape.

    Attributes:
        box: where it lies, as slices of a volume's (k, j, i).
        mask: (k, j, i) of the box, which voxels are its.
        values: (channels, k, j, i) of the box; what is not in the mask means nothing.
    """

    box: Slices
    mask: np.ndarray
    values: np.ndarray


def cut_out(volume: np.ndarray, box: Slices, mask: np.ndarray) -> Graft:
    """A part of a volume in its own place."""
    return Graft(box, mask, volume[(slice(None), *box)].copy())


def transplanted(graft: Graft, healthy: np.ndarray, rng: np.random.Generator) -> Graft | None:
    """A lesion at a random place of healthy liver ("shuffled positive"); None where it has no room."""
    found = room_for(graft.mask, healthy, rng)
    return None if found is None else Graft(found[0], found[1], graft.values)


def healed(
    volume: np.ndarray, box: Slices, mask: np.ndarray, healthy: np.ndarray, rng: np.random.Generator
) -> Graft | None:
    """Normal liver texture in a lesion's place and shape ("shuffled negative"); None where there is none to take.

    Args:
        volume: (channels, k, j, i), where the texture comes from.
        box, mask: the lesion.
        healthy: liver without any lesion.
        rng: source of all chance.
    """
    found = room_for(mask, healthy, rng)
    if found is None:
        return None
    place, inside = found
    texture = cut_out(volume, place, inside).values
    missing = mask & ~inside
    if missing.any():
        spots = rng.choice(np.flatnonzero(inside), np.count_nonzero(missing))
        texture[:, missing] = texture.reshape(len(volume), -1)[:, spots]
    return Graft(box, mask, texture)


def room_for(shape: np.ndarray, free: np.ndarray, rng: np.random.Generator) -> tuple[Slices, np.ndarray] | None:
    """A random place where a shape fits.

    Args:
        shape: its mask in its box.
        free: where it may lie.
        rng: source of all chance.

    Returns:
        The box there, and which voxels of the shape are free: nine in ten at least. None if as many tries as are
        worth their time found no such place.
    """
    places, wanted = np.flatnonzero(free), np.count_nonzero(shape)
    if len(places) < wanted or wanted == 0:
        return None
    size = np.array(shape.shape)
    for place in rng.choice(places, _TRIES):
        start = np.array(np.unravel_index(place, free.shape)) - size // 2
        if (start < 0).any() or (start + size > free.shape).any():
            continue
        box = tuple(slice(int(a), int(a + n)) for a, n in zip(start, size, strict=True))
        inside = shape & free[box]
        if np.count_nonzero(inside) >= _LEAST_INSIDE * wanted:
            return box, inside
    return None


def liver_patch(
    volume: np.ndarray, liver: np.ndarray, window: Window, graft: Graft | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """What a window shows of the liver, with a graft in it.

    Args:
        volume: (channels, k, j, i).
        liver: its voxels; the others are 0 in the patch.
        window: of the volume.
        graft: what takes the place of the volume's own voxels, be they liver or not.

    Returns:
        The patch (channels, *window.size), and which of its voxels (*window.size) are the graft's.
    """
    patch, seen = cut(volume, window), cut(liver, window)
    if graft is None:
        return patch * seen, np.zeros(seen.shape, bool)
    # The window as the graft's box sees it.
    frame = Window(tuple(a - edge.start for a, edge in zip(window.start, graft.box, strict=True)), window.size)
    own = cut(graft.mask, frame)
    return np.where(own, cut(graft.values, frame), patch * seen), own


def window_holding(box: Slices, shape: Sequence[int], size: Sequence[int], rng: np.random.Generator) -> Window:
    """A window of a fixed size at a random place around a box.

    Args:
        box: it holds all of it, or its middle on axes where the box is longer.
        shape: of the array that it stays on, where that is long enough.
        size: of the window.
        rng: source of all chance.
    """
    start = []
    for edge, width in zip(box, size, strict=True):
        low, high = sorted((edge.stop - width, edge.start))
        start.append(int(rng.integers(low, high + 1)) if edge.stop - edge.start <= width else (low + high) // 2)
    return shifted_inside(Window(tuple(start), tuple(size)), shape)
