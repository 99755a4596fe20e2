"""Where the patches of a case are cut: in its lesions, in liver without lesions, or anywhere.

The shares are the recipe's (`recipe.Sampling`). Two of the papers' ways are choices of its `windows_overlap`:

- S0's "sliding augmentation" (section 2.2.3): a window slides over the volume in every dimension, and windows weigh
  more where the network must look. Patches then begin only where such windows do; the shares are the weights.
- S4's tiles (section 3.1): each slice is cut into tiles that do not overlap (an overlap of 0), those with a tumour are
  kept, and some with liver alone.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..lesions import label_components
from ..recipe import Sampling
from ..windows import Window, shifted_inside, sliding_starts, window_around

Aim = Literal["lesion", "liver", "anywhere"]

_KEPT_OF_A_LESION = 4096  # voxels to draw from, evenly spread
_KEPT_OF_THE_LIVER = 32768
_TRIES = 24  # to find a patch of liver without a lesion; a case may have none


@dataclass(frozen=True)
class Places:
    """Voxels of one case to centre patches in, as positions in its flattened (k, j, i) label map.

    Attributes:
        lesion_voxels: one lesion after the other.
        lesion_ends: where each lesion's voxels end among them.
        lesion_sizes: how many voxels each lesion has in the label map.
        liver_voxels: lesions left out.
    """

    lesion_voxels: np.ndarray
    lesion_ends: np.ndarray
    lesion_sizes: np.ndarray
    liver_voxels: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """By name, for a cache."""
        return dict(vars(self))

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Places:
        """From what `arrays` gave, among others."""
        return cls(*(arrays[name] for name in cls.__dataclass_fields__))


def find_places(labels: np.ndarray, liver: int, lesions: Collection[int]) -> Places:
    """Look for lesions, 6-connected and of any type, and for the liver.

    Args:
        labels: (k, j, i).
        liver: value of the liver.
        lesions: values of lesions.
    """
    numbers, count = label_components(np.isin(labels, list(lesions)))
    inside = np.flatnonzero(numbers)
    order = np.argsort(numbers.ravel()[inside], kind="stable")
    sizes = np.bincount(numbers.ravel()[inside], minlength=count + 1)[1:]
    whole = np.split(inside[order], np.cumsum(sizes)[:-1]) if count else []
    kept = [_thinned(voxels, _KEPT_OF_A_LESION) for voxels in whole]
    ends = np.cumsum([voxels.size for voxels in kept], dtype=np.int64)
    flat = np.concatenate(kept) if kept else np.zeros(0, np.int64)
    return Places(flat, ends, sizes.astype(np.int64), _thinned(np.flatnonzero(labels == liver), _KEPT_OF_THE_LIVER))


def lesion_chances(sizes: Sequence[int] | np.ndarray, inverse_size: bool) -> np.ndarray:
    """How likely each lesion of a case is to be looked at.

    Args:
        sizes: voxels of each.
        inverse_size: by the inverse of the lesion's diameter (that of a ball of its volume): one of 5 mm six times as
            often as one of 30 mm, and the latter still. Else by volume, so that every voxel is as likely as another.

    Returns:
        Chances with a sum of 1.
    """
    weights = np.asarray(sizes, np.float64) ** (-1 / 3 if inverse_size else 1)
    return np.asarray(weights / weights.sum())


def draw_aim(rng: np.random.Generator, sampling: Sampling) -> Aim:
    """What the next patch shall show, by the recipe's shares."""
    chance = rng.random()
    if chance < sampling.lesion:
        return "lesion"
    return "liver" if chance < sampling.lesion + sampling.liver_without_lesion else "anywhere"


def draw_window(
    rng: np.random.Generator,
    aim: Aim,
    places: Places,
    labels: np.ndarray,
    lesions: Collection[int],
    sampling: Sampling,
    patch: tuple[int, ...],
) -> Window:
    """Where to cut a patch.

    Args:
        rng: all chance.
        aim: "lesion": some voxel of a lesion is the middle, as near as the volume's border lets it; "liver": some voxel
            of the liver is, and where one of some tries shows no lesion, it is that one, else the one that shows
            the least; "anywhere": every place is as likely. A case without lesions or liver is shown anywhere.
        places: of the case.
        labels: (k, j, i), its label map.
        lesions: values of lesions in it.
        sampling: the recipe's.
        patch: (k, j, i) voxels.

    Returns:
        A window on the label map; where the map is smaller than the patch, around its middle.
    """
    if aim == "lesion" and places.lesion_sizes.size:
        number = rng.choice(places.lesion_sizes.size, p=lesion_chances(places.lesion_sizes, sampling.inverse_size))
        first = int(places.lesion_ends[number - 1]) if number else 0
        voxel = places.lesion_voxels[rng.integers(first, int(places.lesion_ends[number]))]
        return _around(rng, voxel, labels.shape, sampling, patch)
    if aim == "liver" and places.liver_voxels.size:
        return _without_lesions(rng, places, labels, lesions, sampling, patch)
    starts = (_starts(size, side, sampling) for size, side in zip(labels.shape, patch, strict=True))
    return Window(tuple(int(rng.choice(each)) for each in starts), patch)


def _without_lesions(
    rng: np.random.Generator,
    places: Places,
    labels: np.ndarray,
    lesions: Collection[int],
    sampling: Sampling,
    patch: tuple[int, ...],
) -> Window:
    best, least = Window(tuple(0 for _ in patch), patch), math.inf
    for _ in range(_TRIES):
        voxel = places.liver_voxels[rng.integers(places.liver_voxels.size)]
        window = _around(rng, voxel, labels.shape, sampling, patch)
        part = labels[window.inside(labels.shape)]
        seen = sum(int(np.count_nonzero(part == value)) for value in lesions)
        if seen < least:
            best, least = window, seen
        if not seen or not places.lesion_sizes.size:
            break
    return best


def _around(
    rng: np.random.Generator, voxel: int, shape: tuple[int, ...], sampling: Sampling, patch: tuple[int, ...]
) -> Window:
    """The patch around a voxel, or one of the sliding windows that hold it."""
    centre = [int(n) for n in np.unravel_index(int(voxel), shape)]
    if sampling.windows_overlap is None:
        return shifted_inside(window_around(centre, patch), shape)
    corner = []
    for place, size, side in zip(centre, shape, patch, strict=True):
        starts = _starts(size, side, sampling)
        corner.append(int(rng.choice(starts[(starts <= place) & (place < starts + side)])))
    return Window(tuple(corner), patch)


def _starts(size: int, side: int, sampling: Sampling) -> np.ndarray:
    """Where a patch may begin along an axis; where it does not fit, its middle is the axis's."""
    if side >= size:
        return np.array([(size - side) // 2])
    if sampling.windows_overlap is None:
        return np.arange(size - side + 1)
    return np.array(sliding_starts(size, side, sampling.windows_overlap))


def _thinned(voxels: np.ndarray, most: int) -> np.ndarray:
    """At most so many of them, evenly spread."""
    if voxels.size <= most:
        return voxels.astype(np.int64)
    return voxels[np.linspace(0, voxels.size - 1, most).astype(np.int64)].astype(np.int64)
