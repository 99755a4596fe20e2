"""Training patches from a stream of synthetic scans, the same for the same seed and number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from ..preprocessing import liver_level, scale_intensity
from ..recipe import Recipe
from .synthesis.generator import Field, synthetic_scan
from .synthesis.library import AnatomyLibrary
from .synthesis.settings import TRAINING, Settings

Patch = tuple[torch.Tensor, torch.Tensor]

# Where a recipe gives its grid's shape, the spacing follows from the scan at hand; these are the
# spacings that a 128-voxel grid has over a liver (False) and over a body (True).
_TYPICAL_SPACING_MM = {True: 3.0, False: 2.0}


@dataclass(frozen=True)
class SyntheticPatches(Dataset[Patch]):
    """Patch number n is drawn from (seed, stage, n) alone, so that a resumed run sees what an unbroken one would.

    Attributes:
        library: bodies to draw from.
        names: which of them.
        recipe: grids, scaling and patch sizes.
        stage: index of the stage to train; stages after the first look at the liver.
        seed: of the whole stream.
        start, count: the numbers of the patches.
        settings: of the drawing.
    """

    library: AnatomyLibrary
    names: tuple[str, ...]
    recipe: Recipe
    stage: int
    seed: int
    start: int
    count: int
    settings: Settings = TRAINING

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Patch:
        """Network input (1, k, j, i) float32 and labels (1, k, j, i) uint8."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        rng = np.random.default_rng([self.seed, self.stage, self.start + index])
        anatomy = self.library.load(self.names[rng.integers(len(self.names))])
        scan = synthetic_scan(anatomy, self.field(), rng, settings=self.settings)
        level = liver_level(scan.volume, scan.labels == 1)
        if level is not None:  # as inexact as the stage before will tell it
            level = level + rng.normal(0, 8) if scan.modality == "CT" else level * float(np.exp(rng.normal(0, 0.08)))
        volume = scale_intensity(scan.volume, self.recipe.stages[self.stage].intensity, scan.modality, level)
        return torch.from_numpy(volume)[None], torch.from_numpy(scan.labels)[None]

    def field(self) -> Field:
        """The part of a body that this stage trains on."""
        shape = self.recipe.training.patch[self.stage][::-1]
        first = self.stage == 0
        spacing = self.recipe.stages[self.stage].grid.spacing_mm or _TYPICAL_SPACING_MM[first]
        return Field(shape, spacing, "body" if first else "liver", cut=0.4 if first else 0.15)
