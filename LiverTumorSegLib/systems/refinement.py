"""S0's second look (section 2.2.1): a fixed box around each small finding, slice by slice through the fine network.

Arrays, boxes and windows are (k, j, i).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ..detection import Box as GridBox
from ..detection import Detection, box_detection
from ..geometry import Box, GridGeometry
from ..recipe import CoarseToFine
from ..windows import Window, cut, paste, shifted_inside, window_around
from .maps import NEVER
from .stages import Networks, Study

_SURELY = 2.0  # the least logit of a box that is filled as the authors' code does


def refined_lesions(
    study: Study,
    networks: Networks,
    stage: str,
    region: Box,
    geometry: GridGeometry,
    findings: Sequence[Detection],
    options: CoarseToFine,
) -> np.ndarray:
    """What the fine network says in the boxes of small findings.

    Args:
        study: whose scan and phases.
        networks: among them the fine one.
        stage: its name.
        region: of the scan, around the liver.
        geometry: the fine network's grid over that region.
        findings: on that grid.
        options: the boxes' size, and what stands where the network leaves a finding's slice empty.

    Returns:
        (k, j, i) float32 logits, `NEVER` outside all boxes.
    """
    refined = np.full(geometry.size[::-1], NEVER, np.float32)
    name = networks.stage(stage).name
    spacing = tuple(round(edge, 4) for edge in geometry.spacing_mm)
    study.stages[name] = {"spacing_mm": spacing, "size_voxels": options.box, "boxes": len(findings)}
    if not findings:
        return refined
    with study.step(f"{name}: prepare"):
        array = networks.input_of(study, stage, study.volumes(region, geometry))
        windows = [window_of(each, options, refined.shape) for each in findings]
        stack = np.concatenate([cut(array, each, float(array.min())) for each in windows], axis=1)
    with study.step(f"{name}: network"):
        # The network takes slices one by one, so that those of all boxes are one volume to it.
        logits = networks.run_array(stage, stack, progress=lambda share: study.progress(f"{name}: network", share))[0]
    ends = np.cumsum([each.size[0] for each in windows])
    for finding, window, part in zip(findings, windows, np.split(logits, ends[:-1]), strict=True):
        own = _within(finding.box, window)
        paste(refined, window, with_empty_slices_filled(part, own, options.empty_slices, finding.score), np.maximum)
    return refined


def window_of(finding: Detection, options: CoarseToFine, shape: Sequence[int]) -> Window:
    """The finding's slices, and in each the recipe's box around its centre, moved to lie on the grid where it can.

    Args:
        finding: on the grid.
        options: the box's size, and how many slices beyond the finding's own are asked for.
        shape: of the grid's array.
    """
    slices = finding.box[0]
    first = max(0, slices.start - options.slices_beyond)
    last = min(int(shape[0]), slices.stop + options.slices_beyond)
    plane = window_around(finding.centre[1:], options.box[1::-1])
    plane = shifted_inside(plane, shape[1:])
    return Window((first, *plane.start), (last - first, *plane.size))


def with_empty_slices_filled(
    logits: np.ndarray, box: GridBox, how: Literal["ellipsoid", "box"], score: float
) -> np.ndarray:
    """The fine network's answer with something in each slice of the finding where it saw nothing at all.

    Args:
        logits: (k, j, i) in the window.
        box: the finding in the window.
        how: "box" fills all of the finding's box for sure as soon as a slice of the window is empty, as the authors'
            code does; "ellipsoid" fills, in those of the finding's own slices that are empty, the sections of the
            ellipsoid in its box, as sure as the detector was.
        score: probability that the finding is a lesion.
    """
    own = logits[box]
    empty = np.asarray((logits[box[0]] if how == "box" else own).max(axis=(1, 2)) <= 0)
    if not empty.any():
        return logits
    probability = np.clip(score, 1e-6, 1 - 1e-6)
    sure = float(np.log(probability / (1 - probability)))
    result = logits.copy()
    if how == "box":
        result[box] = np.maximum(own, max(sure, _SURELY))
    else:
        section = ellipsoid(own.shape) & empty.reshape(-1, 1, 1)
        result[box] = np.where(section, np.maximum(own, sure), own)
    return result


def ellipsoid(shape: Sequence[int]) -> np.ndarray:
    """Bool (k, j, i): the voxels whose centres lie in the ellipsoid that touches all sides of a box of this shape."""
    offsets = np.meshgrid(*((np.arange(n) - (n - 1) / 2) / (n / 2) for n in shape), indexing="ij")
    return np.asarray(sum(each**2 for each in offsets) <= 1)


def carried_over(finding: Detection, own: GridGeometry, other: GridGeometry) -> Detection | None:
    """A finding told on another grid with the same axes: its box and place; None where it lies outside of it."""
    start, frame = own.image(np.zeros((1, 1, 1), np.uint8)), other.image(np.zeros((1, 1, 1), np.uint8))

    def moved(place: Sequence[float]) -> list[float]:
        point = start.TransformContinuousIndexToPhysicalPoint([float(each) - 0.5 for each in place[::-1]])
        return [each + 0.5 for each in frame.TransformPhysicalPointToContinuousIndex(point)][::-1]

    low, high = moved([s.start for s in finding.box]), moved([s.stop for s in finding.box])
    return box_detection(low, high, finding.score, other.spacing_mm[::-1], other.size[::-1])


def _within(box: GridBox, window: Window) -> GridBox:
    """A finding's box in a window's voxels, cut to the window."""
    sides = (
        slice(max(0, s.start - a), min(n, s.stop - a)) for s, a, n in zip(box, window.start, window.size, strict=True)
    )
    k, j, i = sides
    return k, j, i
