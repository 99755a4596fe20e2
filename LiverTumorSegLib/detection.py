"""Lesions as single findings: where each one is, how large and how sure; the same whoever found them.

Arrays, places, boxes and spacings are (k, j, i) here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .diameters import longest_diameter_mm
from .lesions import iterate_components

Box = tuple[slice, slice, slice]

_PROPOSALS = 2000  # so many boxes are compared with each other


@dataclass(frozen=True)
class Detection:
    """One finding on a grid.

    Attributes:
        box: the voxels between its outermost ones, as slices of the grid's array; never empty.
        centre: the mean position of its voxels, or its box's middle where it has none; the first voxel's centre is 0.
        volume_ml: of its voxels; of the ellipsoid that fills its box where it has none.
        long_axis_mm: the largest distance between two of its surface points; its box's longest side where it has none.
        score: probability that it is a lesion, 0 to 1: the highest one among its voxels, never scaled.
        mask: which voxels of the box belong to it, or None where a detector gave the box alone.
    """

    box: Box
    centre: tuple[float, float, float]
    volume_ml: float
    long_axis_mm: float
    score: float
    mask: np.ndarray | None = None


def seg2det(mask: np.ndarray, probability: np.ndarray, spacing_mm: Sequence[float]) -> list[Detection]:
    """The connected findings of a segmentation (S3, "seg2det"), largest first.

    S3 links 2D components of neighbouring slices where they overlap. That is one 3D labelling in which a voxel's
    neighbours are the four in its slice and the two through its centre above and below: 6-connectivity.

    Args:
        mask: (k, j, i) bool, where lesions were voted for; `scaled_vote` makes one from one class.
        probability: (k, j, i), of being lesion, not scaled: what scores come from.
        spacing_mm: edges of a voxel along (k, j, i).
    """
    edges = np.asarray(spacing_mm, float)
    found = []
    for box, own in iterate_components(mask):
        k, j, i = (float(places.mean()) + s.start for places, s in zip(np.nonzero(own), box, strict=True))
        found.append(
            Detection(
                box=(box[0], box[1], box[2]),
                centre=(k, j, i),
                volume_ml=float(np.count_nonzero(own) * edges.prod() / 1000),
                long_axis_mm=longest_diameter_mm(own, edges),
                score=float(probability[box][own].max()),
                mask=own,
            )
        )
    return found


def scaled_vote(logit: np.ndarray, factor: float) -> np.ndarray:
    """Where a lesion wins when its probability p counts `factor` times against 1 - p (S3's f; 1 is the plain vote).

    What is scaled is no probability any more; this is a vote and nothing else may be read from it.

    Args:
        logit: of being lesion, log(p / (1 - p)), any shape.
        factor: above 0.
    """
    return np.asarray(logit > -np.log(factor))


def box_detection(
    low: Sequence[float], high: Sequence[float], score: float, spacing_mm: Sequence[float], shape: Sequence[int]
) -> Detection | None:
    """A detector's box as a finding on a grid; None where it lies outside.

    Args:
        low, high: its corners in voxels (k, j, i); the first voxel reaches from 0 to 1.
        score: probability that it is a lesion.
        spacing_mm: edges of a voxel along (k, j, i).
        shape: of the grid's array.
    """
    first = np.floor(np.asarray(low) + 0.5).astype(int)
    last = np.maximum(np.floor(np.asarray(high) + 0.5).astype(int), first + 1)
    if (last <= 0).any() or (first >= shape).any():
        return None
    first, last = first.clip(0), last.clip(None, shape)
    k, j, i = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    sides = (np.asarray(high, float) - low) * spacing_mm
    middle = [float(m) - 0.5 for m in (np.asarray(high, float) + low) / 2]
    volume = float(np.pi / 6 * sides.prod() / 1000)
    return Detection((k, j, i), (middle[0], middle[1], middle[2]), volume, float(sides.max()), float(score))


def proposed_findings(
    dense: np.ndarray, spacing_mm: Sequence[float], score: float = 0.5, overlap: float = 0.22, at_most: int = 100
) -> list[Detection]:
    """A detector network's proposals, one a voxel, as findings: the surest first, no two of them alike.

    Args:
        dense: (7, k, j, i): the logit of a finding, the distances in voxels from the voxel's centre to the low sides
            of its box along k, j, i, and to the high sides. Neighbours propose much the same, so every second voxel of
            each axis is asked.
        spacing_mm: edges of a voxel along (k, j, i).
        score: probability that a finding needs.
        overlap: of two boxes with a larger intersection over union the less sure one goes (nnDetection: 0.22).
        at_most: as many as are kept.
    """
    asked = dense[:, ::2, ::2, ::2]
    places = np.argwhere(asked[0] >= np.log(score / (1 - score)))
    values = asked[:, places[:, 0], places[:, 1], places[:, 2]].astype(np.float64)
    surest = np.argsort(-values[0], kind="stable")[:_PROPOSALS]
    centre, values = 2 * places[surest] + 0.5, values[:, surest].T
    low, high = centre - values[:, 1:4], centre + values[:, 4:]
    found = []
    for n in kept_boxes(low, high, overlap)[:at_most]:
        each = box_detection(low[n], high[n], float(1 / (1 + np.exp(-values[n, 0]))), spacing_mm, dense.shape[1:])
        found += [] if each is None else [each]
    return found


def kept_boxes(low: np.ndarray, high: np.ndarray, overlap: float) -> list[int]:
    """Non-maximum suppression of boxes that come in falling order: which ones stay.

    Args:
        low, high: (n, axes) corners.
        overlap: the largest intersection over union that two of those that stay may have.
    """
    volume = (high - low).clip(0).prod(axis=1)
    kept: list[int] = []
    left = np.flatnonzero(volume > 0)
    while left.size:
        first, left = int(left[0]), left[1:]
        kept.append(first)
        shared = (np.minimum(high[left], high[first]) - np.maximum(low[left], low[first])).clip(0).prod(axis=1)
        left = left[shared <= overlap * (volume[left] + volume[first] - shared)]
    return kept


def smaller_than(detections: Sequence[Detection], long_axis_mm: float) -> list[Detection]:
    """Those whose long axis is shorter (S0, section 2.2.1: lesions under 30 mm are refined)."""
    return [each for each in detections if each.long_axis_mm < long_axis_mm]
