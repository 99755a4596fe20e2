"""What a recipe is, told in one line for the system and one for each stage, from its fields alone."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from .grids import Axis, Crop, Grid
from .stages import Stage

if TYPE_CHECKING:
    from . import Recipe


def describe_system(recipe: Recipe) -> str:
    """The system and the options that it was given: "slices: tile 256, centre volume"."""
    options = getattr(recipe, recipe.system, None)
    if options is None:
        return recipe.system
    told = (f"{each.name} {_value(getattr(options, each.name))}" for each in dataclasses.fields(options))
    return f"{recipe.system}: {', '.join(told)}"


def describe_stage(stage: Stage, crop: Crop) -> str:
    """Network, grid, region and classes: "crop: unet; 2 mm; liver + 15 mm; background, liver, tumour by softmax"."""
    network = stage.network
    if stage.context_slices > 1:
        network += f" of {stage.context_slices} slices"
    if stage.task != "segment":
        network += f" to {stage.task}"
    region = f"liver {_margin(crop)}" if stage.region == "liver" else stage.region
    if stage.in_organ:
        region += " with the organ"
    classes = f"{', '.join(stage.classes)} by {stage.activation}"
    if stage.temperature != 1:
        classes += f" at temperature {stage.temperature:g}"
    return f"{stage.name}: {network}; {describe_grid(stage.grid)}; {region}; {classes}"


def describe_grid(grid: Grid) -> str:
    """The grid's voxels: "4 mm", "128 x 128 x 92 voxels", or each axis for itself."""
    if grid.spacing_mm is not None:
        return f"{grid.spacing_mm:g} mm"
    if grid.shape is not None:
        return f"{_value(grid.shape)} voxels"
    return " x ".join(_axis(axis) for axis in grid.axes or ())


def _axis(axis: Axis) -> str:
    if axis.spacing_mm is not None:
        return f"{axis.spacing_mm:g} mm"
    if axis.voxels is not None:
        return f"{axis.voxels} voxels"
    return "own spacing" if axis.times_own == 1 else f"own spacing times {axis.times_own:g}"


def _margin(crop: Crop) -> str:
    margin, unit = (crop.margin_mm, "mm") if crop.margin_mm is not None else (crop.margin_voxels or 0, "voxels")
    return f"{'-' if margin < 0 else '+'} {abs(margin):g} {unit}"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return (" x " if all(isinstance(each, int) for each in value) else " ").join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
