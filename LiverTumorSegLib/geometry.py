"""Where a region of a scan lies on a network's grid, and the way back.

Conventions: sizes, indices and boxes are in SimpleITK's (i, j, k) order, arrays in (k, j, i).
A grid's axes run to the patient's left, back and head (LPS), as the networks were trained:
either the scan's own axes, reordered and flipped, or for strongly oblique scans the patient's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
import SimpleITK as sitk

from .errors import RecipeError
from .recipe import LARGEST_GRID, Axis, Grid

# Scans turned by no more than this keep their own axes: no turn of the voxels, faster, and within
# what the networks saw in training.
OBLIQUE_DEGREES = 15.0


@dataclass(frozen=True)
class Box:
    """A box of a scan's voxels.

    Attributes:
        start: first voxel.
        size: number of voxels; never 0.
    """

    start: tuple[int, int, int]
    size: tuple[int, int, int]

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box as slices of a (k, j, i) array."""
        i, j, k = (slice(a, a + n) for a, n in zip(self.start, self.size, strict=True))
        return k, j, i


@dataclass(frozen=True)
class GridGeometry:
    """A grid in physical space (SimpleITK's LPS millimetres).

    Attributes:
        origin: centre of voxel (0, 0, 0).
        spacing_mm: edges of a voxel along (i, j, k).
        direction: SimpleITK's row-major 3 x 3 matrix.
        size: (i, j, k) voxels.
    """

    origin: tuple[float, ...]
    spacing_mm: tuple[float, float, float]
    direction: tuple[float, ...]
    size: tuple[int, int, int]

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in ml."""
        return math.prod(self.spacing_mm) / 1000

    def image(self, array: np.ndarray) -> sitk.Image:
        """A (k, j, i) array of this grid as an image."""
        image = sitk.GetImageFromArray(array)
        image.SetOrigin(self.origin)
        image.SetSpacing(self.spacing_mm)
        image.SetDirection(self.direction)
        return image


def whole_box(image: sitk.Image) -> Box:
    """The box of all voxels."""
    i, j, k = image.GetSize()
    return Box((0, 0, 0), (i, j, k))


def axes_towards_lps(image: sitk.Image) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Which of the scan's axes runs most to the patient's left, back and head, and with which sign."""
    direction = np.array(image.GetDirection()).reshape(3, 3)
    best = max(
        ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)),
        key=lambda order: sum(abs(direction[row, axis]) for row, axis in enumerate(order)),
    )
    signs = [1 if direction[row, axis] >= 0 else -1 for row, axis in enumerate(best)]
    return best, (signs[0], signs[1], signs[2])


def fit_grid(image: sitk.Image, box: Box, grid: Grid) -> GridGeometry:
    """The grid of a recipe laid over a box of a scan, the box in its middle.

    Args:
        image: the scan.
        box: the region that the network shall see.
        grid: spacing, shape or one rule an axis, see `recipe.Grid`.

    Raises:
        RecipeError: it would have more than `LARGEST_GRID` voxels.
    """
    direction = _grid_direction(image)
    corners = np.array([_corner(image, box, ends) for ends in product((0, 1), repeat=3)])
    # From the box's own middle: axes not quite at right angles would move a grid that lies far from the origin.
    middle = corners.mean(0)
    corners = (corners - middle) @ direction
    low, high = corners.min(0), corners.max(0)
    extent = high - low
    if grid.shape is not None:
        spacing = np.full(3, float((extent / np.array(grid.shape)).max()))
        size = np.array(grid.shape)
    else:
        isotropic = np.full(3, grid.spacing_mm or 1.0)
        spacing = isotropic if grid.axes is None else _spacing_of_axes(image, grid.axes)
        size = _rounded_up(extent, spacing, np.array(grid.multiples))
    _check_size(size, spacing)
    first = (low + high) / 2 - (size - 1) / 2 * spacing
    if grid.axes is not None:
        # An odd number of voxels too many goes to the far side, so that a grid of the scan's own voxels lies on them.
        first += (size - _rounded_up(extent, spacing, np.ones(3))) % 2 / 2 * spacing
    origin = middle + direction @ first
    (x, y, z), (i, j, k) = map(float, spacing), (int(n) for n in size)
    return GridGeometry(tuple(map(float, origin)), (x, y, z), tuple(map(float, direction.ravel())), (i, j, k))


def _check_size(size: np.ndarray, spacing: np.ndarray) -> None:
    voxels = math.prod(int(n) for n in size)
    if voxels > LARGEST_GRID:
        got = f"{'×'.join(str(n) for n in size)} of {'×'.join(f'{s:.3g}' for s in spacing)} mm"
        raise RecipeError(f"grid: wanted at most {LARGEST_GRID} voxels over this scan, got {voxels}: {got}")


def _spacing_of_axes(image: sitk.Image, axes: tuple[Axis, Axis, Axis]) -> np.ndarray:
    """What the axes of a grid amount to in mm; the scan's own axis is the one that runs most along the grid's."""
    order, _ = axes_towards_lps(image)
    spacing = []
    for own, axis in zip(order, axes, strict=True):
        own_mm = image.GetSpacing()[own]
        if axis.spacing_mm is not None:
            spacing.append(axis.spacing_mm)
        elif axis.times_own is not None:
            spacing.append(own_mm * axis.times_own)
        else:
            spacing.append(own_mm * image.GetSize()[own] / (axis.voxels or 1))
    return np.array(spacing)


def _rounded_up(extent: np.ndarray, spacing: np.ndarray, multiple_of: np.ndarray) -> np.ndarray:
    """Voxels that cover an extent in mm, in whole multiples."""
    steps = np.maximum(1, np.ceil(np.round(extent / spacing / multiple_of, 6)))
    return np.asarray(steps * multiple_of).astype(int)


def _grid_direction(image: sitk.Image) -> np.ndarray:
    """Columns: the grid's axes in LPS."""
    direction = np.array(image.GetDirection()).reshape(3, 3)
    order, signs = axes_towards_lps(image)
    own = np.stack([direction[:, axis] * sign for axis, sign in zip(order, signs, strict=True)], axis=1)
    angle = np.degrees(np.arccos(np.clip(np.diag(own), -1, 1))).max()
    return own if angle <= OBLIQUE_DEGREES else np.eye(3)


def _corner(image: sitk.Image, box: Box, ends: tuple[int, ...]) -> tuple[float, ...]:
    """An outer corner of the box in millimetres (voxels reach half a voxel beyond their centres)."""
    index = [a - 0.5 + n * end for a, n, end in zip(box.start, box.size, ends, strict=True)]
    return tuple(image.TransformContinuousIndexToPhysicalPoint(index))


def resample_to_grid(image: sitk.Image, box: Box, geometry: GridGeometry, padding: float) -> np.ndarray:
    """The scan's box on the grid: float32 (k, j, i); voxels finer than the grid's are averaged first.

    Args:
        image: the scan, any scalar type.
        box: what may be seen; the rest of the grid is padding.
        geometry: from `fit_grid`.
        padding: grey value outside the box.
    """
    region = image if box == whole_box(image) else sitk.RegionOfInterest(image, box.size, box.start)
    # Plain interpolation would skip voxels and keep all of their noise.
    factors = [1, 1, 1]
    for coarse, axis in zip(geometry.spacing_mm, axes_towards_lps(image)[0], strict=True):
        factors[axis] = max(1, min(int(coarse / region.GetSpacing()[axis] + 1e-6), box.size[axis]))
    if max(factors) > 1:
        region = sitk.BinShrink(region, factors)
    # A scan of few slices would fade into the padding over half a voxel at its ends.
    nearest_edge = sitk.ResampleImageFilter()
    nearest_edge.SetSize(geometry.size)
    nearest_edge.SetOutputOrigin(geometry.origin)
    nearest_edge.SetOutputSpacing(geometry.spacing_mm)
    nearest_edge.SetOutputDirection(geometry.direction)
    nearest_edge.SetInterpolator(sitk.sitkLinear)
    nearest_edge.SetOutputPixelType(sitk.sitkFloat32)
    nearest_edge.SetDefaultPixelValue(float(padding))
    return np.asarray(sitk.GetArrayFromImage(nearest_edge.Execute(region)))


def box_of_mask(mask: np.ndarray, geometry: GridGeometry, image: sitk.Image) -> Box:
    """The smallest box of the scan's voxels that holds every True voxel of a grid's (k, j, i) mask.

    Raises:
        ValueError: the mask is empty.
    """
    found = [np.flatnonzero(mask.any(axis=tuple(b for b in range(3) if b != axis))) for axis in (2, 1, 0)]
    if found[0].size == 0:
        raise ValueError("box_of_mask: wanted a mask with something in it, got an empty one")
    frame = geometry.image(np.zeros((1, 1, 1), np.uint8))
    ends = [(float(f[0]) - 0.5, float(f[-1]) + 0.5) for f in found]
    corners = np.array(
        [
            image.TransformPhysicalPointToContinuousIndex(frame.TransformContinuousIndexToPhysicalPoint(corner))
            for corner in product(*ends)
        ]
    )
    low = np.floor(corners.min(0) + 0.5).astype(int)
    high = np.ceil(corners.max(0) + 0.5).astype(int)
    return clipped_box(low, high, image)


def box_within(image: sitk.Image, box: Box, other: sitk.Image) -> Box | None:
    """The smallest box of another scan's voxels that holds a box of this one's; None where they do not meet.

    Args:
        image: the scan.
        box: of its voxels.
        other: a scan in the same frame of reference, on any grid.
    """
    ends = product((0, 1), repeat=3)
    # Rounded, so that on one and the same grid the box stays what it is.
    corners = np.round([other.TransformPhysicalPointToContinuousIndex(_corner(image, box, each)) for each in ends], 6)
    low = np.floor(corners.min(0) + 0.5).astype(int)
    high = np.ceil(corners.max(0) + 0.5).astype(int)
    if (high <= 0).any() or (low >= other.GetSize()).any():
        return None
    return clipped_box(low, high, other)


def widened(box: Box, image: sitk.Image, margin_mm: float | None, margin_voxels: int | None) -> Box:
    """The box with a margin on every side, negative ones too; never outside the scan, never under 8 voxels."""
    if margin_voxels is not None:
        margin = np.full(3, margin_voxels)
    else:
        margin = np.round((margin_mm or 0.0) / np.array(image.GetSpacing())).astype(int)
    low = np.array(box.start) - margin
    high = np.array(box.start) + np.array(box.size) + margin
    missing = np.maximum(0, 8 - (high - low))
    return clipped_box(low - missing // 2, high + (missing - missing // 2), image)


def clipped_box(low: np.ndarray, high: np.ndarray, image: sitk.Image) -> Box:
    """Voxels low <= index < high, cut to the scan and at least one voxel in each direction."""
    size = np.array(image.GetSize())
    start = np.clip(low, 0, size - 1)
    end = np.clip(high, start + 1, size)
    (i, j, k), (ni, nj, nk) = (int(v) for v in start), (int(v) for v in end - start)
    return Box((i, j, k), (ni, nj, nk))
