"""S0's "adaptive network parameters" (section 2.2.3): patch, batch and learning rate from what a data set is like.

The paper names the module and gives no formula; this one follows nnU-Net's rules of thumb (Isensee et al., Nature
Methods 2021), with the recipe itself as the measure of what fits into memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..datasets.check import Fingerprint
from ..evaluation.tables import Table
from ..recipe import Grid, Recipe, Triple

LARGEST_SHARE = 0.05  # of all voxels of a data set that one batch may have, as in nnU-Net


@dataclass(frozen=True)
class Proposal:
    """How a stage could be trained on a data set.

    Attributes:
        stage: its name.
        spacing_mm: of its grid on the median case, along (i, j, k).
        size_voxels: of the region that it looks at in the median case, in the grid's multiples.
        patch: (i, j, k) voxels.
        batch_size: patches a step.
        learning_rate: the initial one.
    """

    stage: str
    spacing_mm: tuple[float, float, float]
    size_voxels: Triple
    patch: Triple
    batch_size: int
    learning_rate: float


def propose(recipe: Recipe, stage: int, found: Fingerprint, memory: float = 1.0) -> Proposal:
    """Patch, batch and learning rate of a stage for a data set.

    With the median case's region of n voxels (rounded up to the grid's multiples m) and spacing s along each axis, and
    the recipe's patch p0, batch b0 and rate r0, which fit the machine that the recipe was written for:

    - budget V = memory * prod(p0) * b0 voxels;
    - patch: p = n; while prod(p) > V, the axis with the largest extent p * s that is longer than m gets m voxels less.
      Where the network sees single slices (p0 of 1, or context slices), p along k is p0's;
    - batch: b = floor(V / prod(p)), at least 1, and at most 5 % of all cases' voxels: prod(n) * cases * 0.05 / prod(p);
    - rate: r0 * (b / b0) for SGD (Goyal et al., 2017), r0 * sqrt(b / b0) for Adam and AdamW (Malladi et al., 2022).

    The region of a lesion is three times as long as the median lesion along each axis, and at least half as long again
    as the longest that the stage is asked about (S0: its small lesions; S3: a ball of what is scored at most).

    Args:
        recipe: grids, crop and how it is trained as written.
        stage: its number.
        found: of the data set; its axes are taken for the grid's.
        memory: of the machine, in those of the machine that the recipe's own patch and batch fit.
    """
    spec, training = recipe.stages[stage], recipe.training[stage]
    spacing, size = _median_region(recipe, stage, found)
    multiples = spec.grid.multiples
    flat = training.patch[2] == 1 or spec.context_slices > 1
    patch = [size[0], size[1], training.patch[2] if flat else size[2]]
    budget = memory * math.prod(training.patch) * training.batch_size
    while math.prod(patch) > budget:
        axes = [axis for axis in range(2 if flat else 3) if patch[axis] > multiples[axis]]
        if not axes:
            break
        longest = max(axes, key=lambda axis: patch[axis] * spacing[axis])
        patch[longest] -= multiples[longest]
    most = math.prod(size) * found.cases * LARGEST_SHARE / math.prod(patch)
    batch = max(1, int(min(budget / math.prod(patch), most)))
    growth = batch / training.batch_size
    rate = training.learning_rate * (growth if training.optimiser == "sgd" else math.sqrt(growth))
    i, j, k = patch
    return Proposal(spec.name, spacing, size, (i, j, k), batch, rate)


def proposal_table(recipe: Recipe, found: Fingerprint, memory: float = 1.0) -> Table:
    """What `propose` says of each stage, beside the recipe."""
    rows = []
    for number, training in enumerate(recipe.training):
        each = propose(recipe, number, found, memory)
        rows.append(
            (
                each.stage,
                _times(each.spacing_mm),
                _times(each.size_voxels),
                f"{_times(training.patch)} → {_times(each.patch)}",
                f"{training.batch_size} → {each.batch_size}",
                f"{training.learning_rate:.3g} → {each.learning_rate:.3g}",
            )
        )
    heads = ("stage", "mm", "median voxels", "patch", "batch", "learning rate")
    note = f"Recipe → proposal, for {memory:g} times the memory that the recipe's own patch and batch take."
    return Table(f"Proposal for {recipe.name}", heads, tuple(rows), (note,))


def _median_region(recipe: Recipe, stage: int, found: Fingerprint) -> tuple[tuple[float, float, float], Triple]:
    """Spacing in mm and size in voxels of what a stage sees of the median case."""
    spec, crop = recipe.stages[stage], recipe.training[stage].sampling.crop or recipe.crop
    own = [each[1] for each in found.spacing_mm]
    whole = [size[1] * step for size, step in zip(found.size_voxels, own, strict=True)]
    if spec.region == "whole":
        extent = whole
    elif spec.region == "liver":
        margins = [crop.margin_mm if crop.margin_mm is not None else (crop.margin_voxels or 0) * step for step in own]
        extent = [liver[1] + 2 * margin for liver, margin in zip(found.liver_extent_mm, margins, strict=True)]
    else:
        median = found.lesion_diameter_mm[1] if found.lesion_diameter_mm else 10.0
        extent = [max(3 * median, 1.5 * _longest_asked_mm(recipe))] * 3
    extent = [max(length, step) for length, step in zip(extent, own, strict=True)]
    if spec.grid.shape is not None:
        edge = max(length / side for length, side in zip(extent, spec.grid.shape, strict=True))
        return (edge, edge, edge), spec.grid.shape
    x, y, z = _spacing(spec.grid, own, whole)
    i, j, k = (
        max(1, math.ceil(round(length / step / multiple, 6))) * multiple
        for length, step, multiple in zip(extent, (x, y, z), spec.grid.multiples, strict=True)
    )
    return (x, y, z), (i, j, k)


def _longest_asked_mm(recipe: Recipe) -> float:
    """The diameter of the largest lesion that a system shows its network for single lesions; 0 where it sets none."""
    if recipe.typing is not None:
        return float((6000 * recipe.typing.largest_ml / math.pi) ** (1 / 3))
    return recipe.coarse_to_fine.small_lesion_mm if recipe.coarse_to_fine is not None else 0.0


def _spacing(grid: Grid, own: Sequence[float], whole: Sequence[float]) -> list[float]:
    if grid.axes is None:
        return [grid.spacing_mm or 1.0] * 3
    return [
        axis.spacing_mm or (step * axis.times_own if axis.times_own is not None else length / (axis.voxels or 1))
        for axis, step, length in zip(grid.axes, own, whole, strict=True)
    ]


def _times(numbers: Sequence[float]) -> str:
    return "×".join(f"{number:.3g}" if isinstance(number, float) else str(number) for number in numbers)
