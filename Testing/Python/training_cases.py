"""A tiny recipe, patches of balls that are drawn at once, and runs of them, for the tests of training."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
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


# Dropout has chance in the steps themselves.
DROPPING = dataclasses.replace(
    trained(epochs=4, deep_supervision=0.4),
    stages=tuple(dataclasses.replace(s, arguments={**s.arguments, "dropout": 0.2}) for s in RECIPE.stages),
)


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


@dataclass(frozen=True)
class _Ending(Dataset[Any]):
    """Patches of which the one with a number, and all after it, interrupt the process that asks for them."""

    patches: Dataset[Any]
    left: int

    def __len__(self) -> int:
        return len(self.patches)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        if index >= self.left:
            raise KeyboardInterrupt
        return self.patches[index]


@dataclass(frozen=True)
class _EndingBalls(Balls):
    last: int = 0

    def patches(self, stage: int, start: int, count: int, validation: bool = False) -> Dataset[Any]:
        patches = super().patches(stage, start, count, validation)
        return patches if validation else _Ending(patches, self.last - start)


def ending_before(run: Run, patch: int) -> Run:
    """The run, but interrupted when it asks for the training patch of that number."""
    return dataclasses.replace(run, source=_EndingBalls(run.recipe, last=patch))


def lines_without_seconds(folder: Path) -> list[str]:
    """The first stage's log."""
    return [line.rsplit(",", 1)[0] for line in (folder / "whole.csv").read_text(encoding="utf-8").splitlines()]


def check_same(one: Path, two: Path) -> None:
    """Make sure that both runs ended with the same weights, optimiser state and log, to the last bit."""
    for name in ("whole.best.safetensors", "whole.checkpoint.safetensors"):
        first, second = load_file(one / name), load_file(two / name)
        assert set(first) == set(second)
        assert all(torch.equal(first[key], second[key]) for key in first)
    assert progress_of(one) == progress_of(two)
    assert lines_without_seconds(one) == lines_without_seconds(two)


def progress_of(folder: Path) -> dict[str, Any]:
    """What the first stage's checkpoint says of how far it is."""
    with safe_open(folder / "whole.checkpoint.safetensors", framework="pt") as file:
        return dict(json.loads(file.metadata()["progress"]))


def ball_run(folder: Path, recipe: Recipe = RECIPE, **changes: Any) -> Run:
    """A run that takes a fraction of a second an epoch."""
    given = {"seed": 5, "workers": 0, "validation_patches": 3, **changes}
    return Run(recipe, Balls(recipe), folder, **given)
