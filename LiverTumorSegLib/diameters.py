"""How long a lesion is: the largest distance between two points of its surface, in 3D or within an axial slice.

Surface points are the centres of the voxel faces that separate the mask from the rest, which are the vertices of its
marching-cubes mesh. A single voxel thus reads its longest edge, a row of n voxels n edges, and a digital ball its
diameter within about one edge. The distances are exact: the same as from trying every pair of points.

Arrays are (k, j, i), and so are the spacings here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# 150 directions spread over a half sphere leave none farther than 10.3 degrees (this cosine) from one of them.
_DIRECTIONS, _NEAREST = 150, 0.984


def longest_diameter_mm(mask: np.ndarray, spacing_mm: Sequence[float] | np.ndarray) -> float:
    """The largest distance between two surface points of a mask (IBSI, maximum 3D diameter, L0JK).

    Args:
        mask: (k, j, i), bool, with at least one True voxel.
        spacing_mm: edges of a voxel along (k, j, i).
    """
    return _farthest_pair(_surface_points(mask) * spacing_mm)[0]


def axial_diameters_mm(
    mask: np.ndarray, spacing_mm: Sequence[float] | np.ndarray, axial_axis: int
) -> tuple[float, float, int]:
    """The longest line within one slice of a mask, and how far the mask reaches across it there.

    Args:
        mask: (k, j, i), bool, with at least one True voxel.
        spacing_mm: edges of a voxel along (k, j, i).
        axial_axis: the array's axis that runs across the slices.

    Returns:
        The largest distance in mm between two points of one slice's outline (RECIST 1.1, longest diameter); the
        outline's extent in mm at right angles to that line, in the same slice (WHO's second diameter); and the
        slice's index in the mask.
    """
    slices = np.moveaxis(mask, axial_axis, 0)
    outlines = [_surface_points(each) * np.delete(spacing_mm, axial_axis) if each.any() else None for each in slices]
    spans = [0.0 if each is None else float(np.hypot(*np.ptp(each, axis=0))) for each in outlines]
    best, direction, level = 0.0, np.zeros(2), 0
    for candidate in np.argsort(-np.array(spans), kind="stable"):
        outline = outlines[candidate]
        if outline is None or spans[candidate] <= best:
            break
        # The corners of an outline's box are farther apart than any two of its points; this is a closer bound.
        middle = (outline.min(axis=0) + outline.max(axis=0)) / 2
        if 2 * float(_squared(outline, middle).max()) ** 0.5 <= best:
            continue
        diameter, along = _farthest_pair(outline)
        if diameter > best:
            best, direction, level = diameter, along, int(candidate)
    across = np.array([-direction[1], direction[0]])
    outline = outlines[level]
    return best, 0.0 if outline is None else float(np.ptp(outline @ across)), level


def _surface_points(mask: np.ndarray) -> np.ndarray:
    """Centres of the first and last face of every row of voxels along every axis, in voxels: (n, axes).

    No other face's centre can be an end of a diameter: it lies between these two.
    """
    points = []
    for axis in range(mask.ndim):
        rows = np.argwhere(mask.any(axis=axis)).astype(np.float64)
        across = np.moveaxis(mask, axis, -1)[mask.any(axis=axis)]
        first = across.argmax(axis=1) - 0.5
        last = across.shape[1] - across[:, ::-1].argmax(axis=1) - 0.5
        points += [np.insert(rows, axis, end, axis=1) for end in (first, last)]
    return np.concatenate(points)


def _farthest_pair(points: np.ndarray) -> tuple[float, np.ndarray]:
    """The largest distance between two of the points (n, axes), and the unit vector along it; exact.

    A point at distance r from the centre is at most r + r_max from any other, so the search goes inwards from the
    outermost point and ends where that sum falls below the best found.
    """
    ends = points[:1]
    for _ in range(4):  # a good first guess: from each point to the farthest one
        ends = np.concatenate([ends[-1:], points[[_squared(points, ends[-1]).argmax()]]])
    best, centre = float(_squared(ends[:1], ends[1]).item()) ** 0.5, ends.mean(axis=0)
    if len(points) > 2000 and points.shape[1] == 3:
        points = _possible_ends(points, best)
    for step in range(2, 30):  # towards the centre of the smallest ball around them (Badoiu and Clarkson, 2003)
        centre = centre + (points[_squared(points, centre).argmax()] - centre) / step
    inwards = -np.sqrt(_squared(points, centre))
    order = np.argsort(inwards)
    points, inwards = points[order], inwards[order]
    for number, point in enumerate(points):
        # Partners further inwards than this cannot beat the best either.
        count = int(np.searchsorted(inwards, -inwards[number] - best))
        if count <= number:
            break
        distances = _squared(points[number:count], point)
        farthest = int(distances.argmax())
        if distances[farthest] > best * best:
            best, ends = float(distances[farthest]) ** 0.5, np.stack([point, points[number + farthest]])
    return best, (ends[1] - ends[0]) / best


def _possible_ends(points: np.ndarray, best: float) -> np.ndarray:
    """The points (n, 3) that can be ends of a diameter longer than `best`, or nearly so; for speed only.

    The set lies in the ball around one end of its diameter that passes through the other end. So in a direction at
    most `_NEAREST` off the diameter's, that end is nearly the set's outermost point, and the set nearly as wide.
    """
    number = np.arange(_DIRECTIONS) + 0.5
    height = 1 - number / _DIRECTIONS
    turn, radius = number * np.pi * (3 - 5**0.5), np.sqrt(1 - height * height)
    directions = np.stack([radius * np.cos(turn), radius * np.sin(turn), height])  # on a half sphere, golden angle
    heights = (points - points[0]).astype(np.float32) @ directions.astype(np.float32)
    low, high = heights.min(axis=0), heights.max(axis=0)
    rounding = 1e-4 * best
    wide = high - low >= _NEAREST * best - rounding
    slack = (high - low).max() / _NEAREST * (1 - _NEAREST) + rounding
    return points[((heights >= high - slack) | (heights <= low + slack))[:, wide].any(axis=1)]


def _squared(points: np.ndarray, point: np.ndarray) -> np.ndarray:
    away = points - point
    return np.asarray(np.einsum("na,na->n", away, away))
