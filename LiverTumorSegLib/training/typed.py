"""Training patches of several phases with lesions of several types (S3): for the whole scan, and lesion by lesion.

A study is drawn, laid on the grid and looked at several times. The second stage's patches are S3's four
shuffling schemes in turn: a lesion where it is, liver without one, a lesion elsewhere, a lesion healed (figure 4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from ..preprocessing import liver_level, scale_intensity
from ..recipe import LIVER, Recipe, Typing
from ..windows import cut
from .augmentation import AUGMENTATIONS, View, check_augmentations
from .hard_cases import FIRST, FirstNetwork
from .patches import Patch, TypicalScan, resized
from .preparing import label_values
from .sampling import Places, draw_aim, draw_window, find_places
from .shuffling import Scene, scene_of, shuffled_patch
from .synthesis.generator import Field
from .synthesis.library import AnatomyLibrary
from .synthesis.settings import SHIFTED, TRAINING, Settings
from .synthesis.typed import typed_study

PATCHES_PER_STUDY = 8
"""In training for whole scans. In validation two, so that there are more studies."""

SHUFFLED_PER_STUDY = 24
"""The same of lesions; S3 makes about 20 of each lesion and scheme (section IV.B.1)."""

_FINEST_MM = {True: 2.0, False: 1.0}  # of whole scans, and of livers; bodies have voxels of 2 mm
_FIELD_MM = (260.0, 300.0, 400.0)  # (k, j, i) of a whole scan
_AROUND_MM = 80.0  # what is drawn of a liver beyond a patch, so that patches of one study differ
_AIR_HU = -1024.0


@dataclass(frozen=True)
class TypedSource:
    """Synthetic studies with phases and typed lesions; a `PatchSource`.

    Attributes:
        library: bodies to draw from.
        recipe: grids, scaling, patch sizes, phases and label names.
        seed: of the whole stream.
        first_weights: where the first stage's weights are, or will be before the second one is trained; what that
            network gets wrong is then shown to the second one more often. None for no such hard cases.
        typical: stands for the scan that a grid follows.
        settings: of the drawing in training.
        validation_settings: and in validation, by default harder than anything trained on.
    """

    library: AnatomyLibrary
    recipe: Recipe
    seed: int = 0
    first_weights: Path | None = None
    typical: TypicalScan = field(default_factory=TypicalScan)
    settings: Settings = TRAINING
    validation_settings: Settings = SHIFTED

    def __post_init__(self) -> None:
        check_augmentations(self.recipe)

    def patches(self, stage: int, start: int, count: int, validation: bool = False) -> TypedPatches:
        """See `sources.PatchSource`."""
        names = self.library.tuning if validation else self.library.training
        seed = self.seed + 10_000_019 if validation else self.seed
        settings = self.validation_settings if validation else self.settings
        return TypedPatches(self, names, stage, seed, start, count, settings, augmented=not validation)


@dataclass(frozen=True)
class TypedPatches(Dataset[Patch]):
    """Patches number `start` to `start + count` of a stage; some in a row are of one study.

    Attributes:
        source: what they are drawn from.
        names: bodies.
        stage: number of the stage to train.
        seed: of the stream.
        settings: of the drawing.
        augmented: whether the stage's augmentation is applied.
    """

    source: TypedSource
    names: tuple[str, ...]
    stage: int
    seed: int
    start: int
    count: int
    settings: Settings = TRAINING
    augmented: bool = True
    _last: dict[int, tuple[np.ndarray, np.ndarray, Scene | Places]] = field(default_factory=dict, compare=False)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Patch:
        """Network input (channels, k, j, i) float32 and label values (1, k, j, i) uint8."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        number = self.start + index
        whole = self.source.recipe.stages[self.stage].region == "whole"
        study = number // (2 if not self.augmented else PATCHES_PER_STUDY if whole else SHUFFLED_PER_STUDY)
        volume, labels, found = self._study(study)
        rng = np.random.default_rng([self.seed, self.stage, study, 1 + number])
        recipe, stage = self.source.recipe, self.source.recipe.stages[self.stage]
        training = recipe.training[self.stage]
        if isinstance(found, Scene):
            channels, values = shuffled_patch(found, number, training.patch[::-1], rng)
        else:
            aim, (_, lesions) = draw_aim(rng, training.sampling), label_values(recipe)
            window = draw_window(rng, aim, found, labels, lesions, training.sampling, training.patch[::-1])
            channels, values = cut(volume, window), cut(labels, window)
        if self.augmented:
            optional = tuple(n for n, phase in enumerate(recipe.phases, 1) if not phase.required)
            view = View(stage.region == "whole", self.spacing_mm, optional=optional)
            channels, values = AUGMENTATIONS[training.augmentation](channels, values, rng, view)
        return torch.from_numpy(np.ascontiguousarray(channels, np.float32)), torch.from_numpy(values.copy())[None]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Of the stage's voxels along (i, j, k)."""
        grid = self.source.recipe.stages[self.stage].grid
        if grid.axes is not None:
            return self.source.typical.spacing(grid.axes)
        return (grid.spacing_mm or 2.0,) * 3

    def _study(self, number: int) -> tuple[np.ndarray, np.ndarray, Scene | Places]:
        """Scaled volume, label values, and where patches are cut, or for the patch stage what they are made of."""
        if number not in self._last:
            self._last.clear()
            self._last[number] = self._drawn_study(np.random.default_rng([self.seed, self.stage, number]))
        return self._last[number]

    def _drawn_study(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Scene | Places]:
        recipe, stage = self.source.recipe, self.source.recipe.stages[self.stage]
        options = recipe.typing or Typing()
        anatomy = self.source.library.load(self.names[rng.integers(len(self.names))])
        phases = (options.scan, *(phase.name for phase in recipe.phases))
        study = typed_study(anatomy, self._field(), phases, recipe.label_names, rng, self.settings)
        shape = [
            max(1, round(n * study.spacing_mm / mm))
            for n, mm in zip(study.labels.shape, self.spacing_mm[::-1], strict=True)
        ]
        grey = resized(study.volumes, (shape[0], shape[1], shape[2]))
        labels = _labels_on(study.labels, len(recipe.label_names), (shape[0], shape[1], shape[2]))
        liver = labels == recipe.label_names.index(LIVER)
        levels = [liver_level(each, liver) for each in grey]
        levels = [None if level is None else level + rng.normal(0, 4) for level in levels]
        pairs = list(zip(grey, levels, strict=True))
        volume = np.stack([scale_intensity(each, stage.intensity, "CT", level) for each, level in pairs])
        if stage.region == "whole":
            return volume, labels, find_places(labels, *label_values(recipe))
        seen = None if self._first is None else self._first.lesions(self._first_input(grey))
        return volume, labels, scene_of(volume, labels, recipe, seen)

    def _first_input(self, grey: np.ndarray) -> np.ndarray:
        intensity = self.source.recipe.stages[FIRST].intensity
        return np.stack([scale_intensity(each, intensity, "CT") for each in grey])

    @cached_property
    def _first(self) -> FirstNetwork | None:
        weights = self.source.first_weights
        return FirstNetwork(self.source.recipe, weights) if weights is not None and weights.exists() else None

    def _field(self) -> Field:
        whole, spacing = self.source.recipe.stages[self.stage].region == "whole", self.spacing_mm
        edge = max(min(spacing), _FINEST_MM[whole])
        patch = self.source.recipe.training[self.stage].patch
        around = [n * mm + _AROUND_MM for n, mm in zip(patch, spacing, strict=True)][::-1]
        k, j, i = (math.ceil((a if whole else min(a, b)) / edge) for a, b in zip(_FIELD_MM, around, strict=True))
        return Field((k, j, i), edge, "organ" if whole else "liver", cut=0.2 if whole else 0.0)


def _labels_on(labels: np.ndarray, count: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Label values on as many voxels as `shape` has: of each voxel, the value with the largest share."""
    best, share = np.zeros(shape, np.uint8), np.zeros(shape, np.float32)
    for value in range(count):
        own = labels == value
        if own.any():
            mine = resized(own[None], shape)[0]
            best[mine > share] = value
            np.maximum(share, mine, out=share)
    return best
