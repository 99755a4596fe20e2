"""Maps of logits: in half the memory, and on another network's grid."""

from __future__ import annotations

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
