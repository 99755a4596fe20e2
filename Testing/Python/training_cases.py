"""A tiny recipe, patches of balls that are drawn at once, and runs of them, for the tests of training."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from LiverTumorSegLib.recipe import Crop, Grid, Intensity, Recipe, Stage, Training
from LiverTumorSegLib.training.trainer import Run

UNIT = Intensity(ct_clip_hu=(-200, 300), mr_clip_percentiles=(0.5, 99.5), scale="unit")
SMALL = {"channels": [4, 8], "strides": [2], "num_res_units": 1}
RECIPE = Recipe(
    name="tiny",
    variant="repaired",
    source="test",
    stages=(
        Stage("whole", "unet", Grid(spacing_mm=12.0, multiple_of=2), SMALL, UNIT),
        Stage("crop", "unet", Grid(spacing_mm=8.0, multiple_of=2), SMALL, UNIT, region="liver"),
    ),
    crop=Crop(margin_mm=10.0),
    training=(
        Training("dice_focal_all", epochs=4, iterations_per_epoch=2, patch=(16, 16, 8), weight_average=0.9, bf16=False),
    )
    * 2,
)


def trained(**changes: Any) -> Recipe:
    """The recipe with other training of both stages."""
    return dataclasses.replace(RECIPE, training=tuple(dataclasses.replace(t, **changes) for t in RECIPE.training))


@dataclass(frozen=True)
class Balls:
    """A source of patches with a ball of liver and a smaller one of tumour in it, each grey by itself, and noise."""

    recipe: Recipe = RECIPE
    seed: int = 3

    def patches(self, stage: int, start: int, count: int, validation: bool = False) -> Dataset[Any]:
        return _BallPatches(self.recipe.training[stage].patch, (self.seed, stage, int(validation)), start, count)


@dataclass(frozen=True)
class _BallPatches(Dataset[Any]):
    patch: tuple[int, int, int]
    seed: tuple[int, ...]
    start: int
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng([*self.seed, self.start + index])
        grid = np.stack(np.meshgrid(*[np.arange(n) for n in self.patch[::-1]], indexing="ij"))
        centre = rng.uniform(0.4, 0.6, 3) * self.patch[::-1]
        distance = np.sqrt(((grid - centre[:, None, None, None]) ** 2).sum(0))
        labels = (distance < 3.5).astype(np.uint8) + (distance < 1.8)
        volume = labels * 0.4 + rng.normal(0, 0.1, labels.shape)
        return torch.from_numpy(volume[None].astype(np.float32)), torch.from_numpy(labels[None])


def ball_run(folder: Path, recipe: Recipe = RECIPE, **changes: Any) -> Run:
    """A run that takes a fraction of a second an epoch."""
    given = {"seed": 5, "workers": 0, "validation_patches": 3, **changes}
    return Run(recipe, Balls(recipe), folder, **given)
