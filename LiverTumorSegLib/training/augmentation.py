"""The papers' augmentations of a patch, all chance from the patch's own generator.

`AUGMENTATIONS[name](volume, labels, rng, view)` gives back a volume (channels, k, j, i) float32 and labels (k, j, i)
uint8 of the same shapes. Two rules hold for all of them:

- Labels are moved as one-hot maps between which the strongest wins; no grey value's filter ever touches them.
- A patch of a whole-body stage is never mirrored left to right: no patient's liver lies on that side, and such a stage
  learns where organs lie. Patches of the liver or of a lesion may be.

A channel that is 0 everywhere is a phase that the study lacks, and stays so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from ..errors import RecipeError
from ..recipe import Recipe

Pair = tuple[np.ndarray, np.ndarray]

_MOST_JITTER_MM = 3.0  # how far phases of one breath-hold each lie apart after registration
_PHASE_DROPPED = 0.2


@dataclass(frozen=True)
class View:
    """What an augmentation must know of a patch.

    Attributes:
        whole_body: the stage looks at the whole scan.
        spacing_mm: of its voxels along (i, j, k), so that a turn is a turn on anisotropic grids too.
        flat: the network sees each slice for itself: turned and scaled in the slice's plane only.
        optional: numbers of the channels that a study may lack.
    """

    whole_body: bool
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    flat: bool = False
    optional: tuple[int, ...] = ()


Augmentation = Callable[[np.ndarray, np.ndarray, np.random.Generator, View], Pair]


def _none(volume: np.ndarray, labels: np.ndarray, rng: np.random.Generator, view: View) -> Pair:
    """As it is: also S2, whose paper tells of no augmentation."""
    return volume, labels


def _s0(volume: np.ndarray, labels: np.ndarray, rng: np.random.Generator, view: View) -> Pair:
    """S0, section 2.3: mirrors along every axis, half of the time; +-20 degrees in plane; intensity x 0.9 to 1.1."""
    volume, labels = mirrored(volume, labels, rng, view, 0.5, (0, 1, 2))
    angle = rng.uniform(-math.radians(20), math.radians(20))
    volume, labels = moved(volume, labels, affine(view, turn=(0, 0, angle)), view)
    return volume * np.float32(rng.uniform(0.9, 1.1)), labels


def _s1(volume: np.ndarray, labels: np.ndarray, rng: np.random.Generator, view: View) -> Pair:
    """S1, section 3.2.1: contrast, smoothing, sharpening and affine changes up to 10 %, each a fifth of the time.

    Ten per cent of a right angle is 9 degrees. The ranges that the paper leaves open are those of MONAI, its toolkit.
    """
    from monai.transforms import AdjustContrast, GaussianSharpen, GaussianSmooth

    if rng.random() < 0.2:
        turn = rng.uniform(-math.radians(9), math.radians(9), 3) * ((0, 0, 1) if view.flat else 1)
        volume, labels = moved(volume, labels, affine(view, tuple(turn), zoom=rng.uniform(0.9, 1.1)), view)
    if rng.random() < 0.2:
        volume = _filtered(volume, AdjustContrast(float(rng.uniform(0.5, 4.5))))
    if rng.random() < 0.2:
        volume = _blurred(volume, GaussianSmooth, view, rng.uniform(0.25, 1.5))
    if rng.random() < 0.2:
        sharpen = partial(GaussianSharpen, alpha=float(rng.uniform(10, 30)))
        volume = _blurred(volume, sharpen, view, rng.uniform(0.5, 1.0), 0.5)
    return volume, labels


def _s3(volume: np.ndarray, labels: np.ndarray, rng: np.random.Generator, view: View) -> Pair:
    """nnU-Net's usual set, on which S3 builds, and phases that are missing or lie a little off.

    Turned +-30 degrees and scaled 0.7 to 1.4 (a fifth of the time each), noise, blur, brightness, contrast, coarse
    sampling, gamma, mirrors: Isensee et al., nnU-Net, Nature Methods 2021, supplementary note 2.
    """
    from monai.transforms import GaussianSmooth

    volume, labels = volume.copy(), labels.copy()
    _shift_phases(volume, rng, view)
    turns, zooms = rng.random() < 0.2, rng.random() < 0.2
    turn = rng.uniform(-math.radians(30), math.radians(30), 3) * ((0, 0, 1) if view.flat else 1) if turns else (0, 0, 0)
    zoom = rng.uniform(0.7, 1.4) if zooms else 1.0
    if turns or zooms:
        volume, labels = moved(volume, labels, affine(view, tuple(turn), zoom=zoom), view)
    for channel in _present(volume):
        grey = volume[channel]
        if rng.random() < 0.1:
            grey = grey + rng.normal(0, math.sqrt(rng.uniform(0, 0.1)), grey.shape).astype(np.float32)
        if rng.random() < 0.2:
            grey = _blurred(grey[None], GaussianSmooth, view, rng.uniform(0.5, 1))[0]
        if rng.random() < 0.15:
            grey = grey * np.float32(rng.uniform(0.75, 1.25))
        if rng.random() < 0.15:
            grey = _contrast(grey, rng.uniform(0.75, 1.25))
        if rng.random() < 0.25:
            grey = _coarse(grey, rng.uniform(0.5, 1), view)
        for chance, inverted in ((0.1, True), (0.3, False)):
            if rng.random() < chance:
                grey = _gamma(grey, rng.uniform(0.7, 1.5), inverted)
        volume[channel] = grey
    for channel in view.optional:
        if rng.random() < _PHASE_DROPPED:
            volume[channel] = 0
    return mirrored(volume, labels, rng, view, 0.5, (0, 1, 2))


def _s4(volume: np.ndarray, labels: np.ndarray, rng: np.random.Generator, view: View) -> Pair:
    """S4, section 4: in each slice's plane, rotation 0.2, shifts 0.05, shear 0.05, zoom 0.05, horizontal mirror.

    Angles are taken as radians (0.2 are 11 degrees), shifts as shares of the patch. Keras, which the authors used,
    reads the same numbers as degrees, which would leave the patch as it is.
    """
    volume, labels = mirrored(volume, labels, rng, view, 0.5, (0,))
    sides = np.array(volume.shape[:0:-1]) * view.spacing_mm
    matrix = affine(
        view,
        turn=(0, 0, rng.uniform(-0.2, 0.2)),
        zoom=(*rng.uniform(0.95, 1.05, 2), 1.0),
        shear=rng.uniform(-0.05, 0.05),
        shift_mm=(*(rng.uniform(-0.05, 0.05, 2) * sides[:2]), 0.0),
    )
    return moved(volume, labels, matrix, view)


AUGMENTATIONS: dict[str, Augmentation] = {"none": _none, "s0": _s0, "s1": _s1, "s2": _none, "s3": _s3, "s4": _s4}


def check_augmentations(recipe: Recipe) -> None:
    """Make sure that every stage's augmentation is known.

    Raises:
        RecipeError: one is not; names it.
    """
    for number, each in enumerate(recipe.training):
        if each.augmentation not in AUGMENTATIONS:
            wanted, where = ", ".join(AUGMENTATIONS), f"recipe.training[{number}].augmentation"
            raise RecipeError(f"{where}: wanted one of {wanted}, got {each.augmentation!r}")


def mirrored(
    volume: np.ndarray, labels: np.ndarray, rng: np.random.Generator, view: View, chance: float, axes: tuple[int, ...]
) -> Pair:
    """Mirror along each of the axes (0 i, 1 j, 2 k) with a chance; never left to right in a whole body."""
    for axis in axes:
        if rng.random() < chance and not (view.whole_body and axis == 0):
            volume, labels = np.flip(volume, -1 - axis), np.flip(labels, -1 - axis)
    return np.ascontiguousarray(volume), np.ascontiguousarray(labels)


def affine(
    view: View,
    turn: tuple[float, ...] = (0, 0, 0),
    zoom: float | tuple[float, ...] = 1.0,
    shear: float = 0.0,
    shift_mm: tuple[float, ...] = (0, 0, 0),
) -> np.ndarray:
    """A 3 x 4 matrix from a place in the new patch to its place in the old one, in mm from the middle, (i, j, k).

    Args:
        view: of the patch; a flat one is not zoomed along k.
        turn: angles about i, j and k in radians.
        zoom: larger than 1 enlarges; one factor, or one for each axis.
        shear: angle by which j leans towards i, in radians.
        shift_mm: along each axis.
    """
    factors = np.ones(3) * zoom
    if view.flat:
        factors[2] = 1
    matrix = np.eye(3)
    for axis, angle in enumerate(turn):
        a, b = [n for n in range(3) if n != axis]
        plane = np.eye(3)
        plane[a, a] = plane[b, b] = math.cos(angle)
        plane[a, b], plane[b, a] = -math.sin(angle), math.sin(angle)
        matrix = plane @ matrix
    lean = np.eye(3)
    lean[0, 1] = math.tan(shear)
    return np.column_stack([matrix @ lean @ np.diag(1 / factors), shift_mm])


def moved(volume: np.ndarray, labels: np.ndarray, matrix: np.ndarray, view: View) -> Pair:
    """Sample both along an affine map: grey values linearly; of the labels, the class of the largest weight."""
    if np.allclose(matrix, np.eye(3, 4)):
        return volume, labels
    half = np.array(volume.shape[:0:-1]) * view.spacing_mm / 2  # torch's places run from -1 to 1 between outer edges
    theta = torch.from_numpy(matrix * np.append(half, 1)[None] / half[:, None]).float()[None]
    values = [int(value) for value in np.unique(labels) if value]
    maps = np.stack([labels == value for value in values]) if values else np.zeros((0, *labels.shape))
    stack = torch.from_numpy(np.concatenate([volume, maps.astype(np.float32)]))[None]
    places = torch.nn.functional.affine_grid(theta, list(stack.shape), align_corners=False)
    sampled = torch.nn.functional.grid_sample(stack, places, padding_mode="border", align_corners=False)[0].numpy()
    grey, shares = sampled[: len(volume)], sampled[len(volume) :]
    if not values:
        return np.ascontiguousarray(grey), labels
    best = shares.argmax(0)
    strongest = np.take_along_axis(shares, best[None], 0)[0]
    picked = np.where(strongest > 1 - shares.sum(0), np.array(values, np.uint8)[best], 0)
    return np.ascontiguousarray(grey), picked.astype(np.uint8)


def _present(volume: np.ndarray) -> list[int]:
    return [channel for channel in range(len(volume)) if volume[channel].any()]


def _filtered(volume: np.ndarray, transform: Callable[[torch.Tensor], object]) -> np.ndarray:
    """One of MONAI's filters on the channels that are there."""
    result = volume.copy()
    for channel in _present(volume):
        result[channel] = np.asarray(transform(torch.from_numpy(volume[channel : channel + 1])), np.float32)[0]
    return result


def _blurred(volume: np.ndarray, kind: Callable[..., Any], view: View, *sigmas: float) -> np.ndarray:
    """One of MONAI's Gaussian filters, as wide in mm along each axis; not across slices that are seen alone.

    MONAI takes what lies beyond the border for 0; here the border's voxels go on.

    Args:
        volume: (channels, k, j, i).
        kind: takes widths (k, j, i) in voxels.
        view: of the patch.
        sigmas: widths in the smallest of its voxels.
    """
    fine = min(view.spacing_mm)
    widths = [[sigma * fine / view.spacing_mm[axis] for axis in (2, 1, 0)] for sigma in sigmas]
    for width in widths:
        width[0] = 1e-3 if view.flat else width[0]
    margins = [math.ceil(4 * max(along)) for along in zip(*widths, strict=True)]
    inside = tuple(slice(margin, margin + side) for margin, side in zip(margins, volume.shape[1:], strict=True))
    wide = np.pad(volume, ((0, 0), *((margin, margin) for margin in margins)), mode="edge")
    return np.ascontiguousarray(_filtered(wide, kind(*widths))[(slice(None), *inside)])


def _shift_phases(volume: np.ndarray, rng: np.random.Generator, view: View) -> None:
    """Move each further phase by up to some mm; the edge repeats where it moved away from."""
    most = [int(_MOST_JITTER_MM / step) for step in view.spacing_mm[::-1]]
    for channel in range(1, len(volume)):
        index = [
            np.clip(np.arange(side) + rng.integers(-far, far + 1), 0, side - 1)
            for side, far in zip(volume.shape[1:], most, strict=True)
        ]
        volume[channel] = volume[channel][np.ix_(*index)]


def _contrast(grey: np.ndarray, factor: float) -> np.ndarray:
    """Away from the mean, or towards it, within the range that was there."""
    mean = grey.mean()
    return np.asarray(np.clip((grey - mean) * np.float32(factor) + mean, grey.min(), grey.max()), np.float32)


def _gamma(grey: np.ndarray, gamma: float, inverted: bool) -> np.ndarray:
    """A power of the grey values in their range, with their mean and deviation kept."""
    low, high = float(grey.min()), float(grey.max())
    unit = (grey - low) / max(high - low, 1e-6)
    bent = 1 - (1 - unit) ** gamma if inverted else unit**gamma
    bent = (bent - bent.mean()) / max(float(bent.std()), 1e-6)
    return np.asarray(bent * grey.std() + grey.mean(), np.float32)


def _coarse(grey: np.ndarray, zoom: float, view: View) -> np.ndarray:
    """As if sampled on a coarser grid: down to the nearest voxel, up again linearly."""
    small = [max(1, round(side * zoom)) for side in grey.shape]
    if view.flat:
        small[0] = grey.shape[0]
    tensor = torch.from_numpy(np.ascontiguousarray(grey))[None, None]
    down = torch.nn.functional.interpolate(tensor, small, mode="nearest")
    return torch.nn.functional.interpolate(down, grey.shape, mode="trilinear").numpy()[0, 0]
