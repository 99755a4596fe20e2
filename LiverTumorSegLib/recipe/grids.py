"""On what grid a network looks at a region, and the box around the liver that it looks at.

All triples are in (i, j, k) order, as SimpleITK gives sizes; lengths are millimetres unless the name says voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import RecipeError

Triple = tuple[int, int, int]

LARGEST = 4096
"""Voxels along an axis: more than any scanner gives, and few enough for what is computed from them."""
LARGEST_MULTIPLE = 512
LARGEST_GRID = 1 << 30
"""Voxels of a grid: twice those of a whole body in 512 x 512 x 2000; in float32 they take 4 GiB a channel."""


@dataclass(frozen=True)
class Axis:
    """One axis of an anisotropic grid. Exactly one of the first three must be given.

    Attributes:
        spacing_mm: edge of a voxel along this axis.
        times_own: the scan's own spacing along this axis times this; 1.0 keeps the scan's slices, 2.0 (S2's
            in-plane factor of 0.5 on the number of voxels) halves them.
        voxels: the whole scan's extent in so many voxels (S0: 512 x 512 in plane), also when a crop of it is
            looked at, so that a crop has the spacing that the whole scan would have.
        multiple_of: what the network's downsampling divides along this axis.
    """

    spacing_mm: float | None = None
    times_own: float | None = None
    voxels: int | None = None
    multiple_of: int = 1

    def __post_init__(self) -> None:
        given = [name for name in ("spacing_mm", "times_own", "voxels") if getattr(self, name) is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none"
            raise RecipeError(f"axis: wanted exactly one of spacing_mm, times_own and voxels, got {got}")
        _check_spacing("axis.spacing_mm", self.spacing_mm)
        if self.times_own is not None and not 0.1 <= self.times_own <= 10:
            raise RecipeError(f"axis.times_own: wanted 0.1 to 10, got {self.times_own}")
        if self.voxels is not None and self.voxels < 8:
            raise RecipeError(f"axis.voxels: wanted at least 8, got {self.voxels}")
        if self.voxels is not None and self.voxels > LARGEST:
            raise RecipeError(f"axis.voxels: wanted at most {LARGEST}, got {self.voxels}")
        _check_multiple("axis.multiple_of", self.multiple_of)


@dataclass(frozen=True)
class Grid:
    """The grid on which one network looks at one region of the scan.

    Exactly one of the first three must be given:

    Attributes:
        spacing_mm: edge of an isotropic voxel; the region gets as many voxels as it needs, rounded up to
            `multiple_of` in each direction.
        shape: the fixed (i, j, k) size of the network's input; the spacing is the smallest
            isotropic one at which the whole region fits, and the rest is padding (S1, section
            3.2.1: isotropic resampling into an input of 128 x 128 x 92 voxels).
        axes: each axis for itself, for the axes i, j, k of the grid, which point to the patient's left, back and head.
        multiple_of: what the network's downsampling divides; with `axes`, each axis says its own instead.
    """

    spacing_mm: float | None = None
    shape: Triple | None = None
    axes: tuple[Axis, Axis, Axis] | None = None
    multiple_of: int = 16

    def __post_init__(self) -> None:
        given = [name for name in ("spacing_mm", "shape", "axes") if getattr(self, name) is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none"
            raise RecipeError(f"grid: wanted exactly one of spacing_mm, shape and axes, got {got}")
        _check_spacing("grid.spacing_mm", self.spacing_mm)
        if self.shape is not None and min(self.shape) < 8:
            raise RecipeError(f"grid.shape: wanted at least 8 voxels a side, got {self.shape}")
        if self.shape is not None and max(self.shape) > LARGEST:
            raise RecipeError(f"grid.shape: wanted at most {LARGEST} voxels a side, got {self.shape}")
        _check_multiple("grid.multiple_of", self.multiple_of)

    @property
    def multiples(self) -> Triple:
        """What the number of voxels along i, j and k is a multiple of."""
        if self.axes is None:
            return (self.multiple_of, self.multiple_of, self.multiple_of)
        i, j, k = self.axes
        return (i.multiple_of, j.multiple_of, k.multiple_of)


@dataclass(frozen=True)
class Crop:
    """The box around the liver of the first stage that later stages see; the margin may be negative.

    Exactly one of the two must be given. `margin_voxels` counts voxels of the scan's own grid
    (S1, section 3.2.1: +10 in training, -20 at inference as printed).
    """

    margin_mm: float | None = None
    margin_voxels: int | None = None

    def __post_init__(self) -> None:
        if (self.margin_mm is None) == (self.margin_voxels is None):
            got = "none" if self.margin_mm is None else "both"
            raise RecipeError(f"crop: wanted exactly one of margin_mm and margin_voxels, got {got}")
        for name in ("margin_mm", "margin_voxels"):
            margin = getattr(self, name)
            if margin is not None and not -10_000 <= margin <= 10_000:
                raise RecipeError(f"crop.{name}: wanted -10000 up to 10000, got {margin}")


def _check_spacing(name: str, spacing_mm: float | None) -> None:
    if spacing_mm is not None and not 0.2 <= spacing_mm <= 20:
        raise RecipeError(f"{name}: wanted 0.2 to 20 mm, got {spacing_mm}")


def _check_multiple(name: str, multiple_of: int) -> None:
    if multiple_of < 1:
        raise RecipeError(f"{name}: wanted at least 1, got {multiple_of}")
    if multiple_of > LARGEST_MULTIPLE:
        raise RecipeError(f"{name}: wanted at most {LARGEST_MULTIPLE}, got {multiple_of}")
