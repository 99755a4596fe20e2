"""Outlines of a mask's pixels, to be drawn over a slice."""

from __future__ import annotations

import numpy as np

_TOP, _RIGHT, _BOTTOM, _LEFT = (0, 1), (1, 2), (2, 1), (1, 0)
_TURNS = {
    1: ((_TOP, _LEFT),),
    2: ((_RIGHT, _TOP),),
    3: ((_RIGHT, _LEFT),),
    4: ((_BOTTOM, _RIGHT),),
    5: ((_TOP, _LEFT), (_BOTTOM, _RIGHT)),
    6: ((_BOTTOM, _TOP),),
    7: ((_BOTTOM, _LEFT),),
    8: ((_LEFT, _BOTTOM),),
    9: ((_TOP, _BOTTOM),),
    10: ((_RIGHT, _TOP), (_LEFT, _BOTTOM)),
    11: ((_RIGHT, _BOTTOM),),
    12: ((_LEFT, _RIGHT),),
    13: ((_TOP, _RIGHT),),
    14: ((_LEFT, _TOP),),
}


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Closed curves around a mask's True pixels, slightly smoothed.

    Args:
        mask: (rows, columns), bool.

    Returns:
        For each curve its (n, 2) points: columns and rows from the outer edge of the first pixel.
    """
    padded = np.pad(mask, 1).astype(np.uint8)
    # Marching squares: each square of four pixel centres sends the curve from one of its sides to another,
    # with the mask on the left. A side has the number of twice the place of its middle.
    corners = padded[:-1, :-1] + 2 * padded[:-1, 1:] + 4 * padded[1:, 1:] + 8 * padded[1:, :-1]
    following: dict[tuple[int, int], tuple[int, int]] = {}
    rows, columns = np.nonzero((corners > 0) & (corners < 15))
    for row, column, kind in zip(rows.tolist(), columns.tolist(), corners[rows, columns].tolist(), strict=True):
        for (y0, x0), (y1, x1) in _TURNS[kind]:
            following[2 * row + y0, 2 * column + x0] = (2 * row + y1, 2 * column + x1)
    curves = []
    while following:
        start, place = following.popitem()
        curve = [start]
        while place != start:
            curve.append(place)
            place = following.pop(place)
        curves.append(_smoothed(np.array(curve, float)[:, ::-1] / 2 - 0.5))
    return curves


def _smoothed(curve: np.ndarray) -> np.ndarray:
    """Round off the pixels' corners of a closed curve; a single pixel keeps half of its width."""
    for _ in range(2 if len(curve) > 8 else 0):
        curve = (np.roll(curve, 1, axis=0) + 2 * curve + np.roll(curve, -1, axis=0)) / 4
    return curve
