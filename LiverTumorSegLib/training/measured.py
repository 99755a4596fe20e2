"""Training patches from measured cases, in any of the data sets' layouts; the same for the same seed and number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from ..datasets.cases import DatasetCase, DatasetError
from ..datasets.check import CheckedCase
from ..datasets.layouts import find_cases
from ..datasets.listing import SPLIT
from ..datasets.splits import Split, load_split, make_split
from ..errors import ImageError, warn
from ..preprocessing import scale_intensity, with_context
from ..recipe import Recipe, Stage
from ..windows import Window, cut
from .augmentation import AUGMENTATIONS, View, check_augmentations
from .caching import Cache, Entry, cache_key
from .hard_cases import FirstLook, FirstNetwork
from .organ import confine
from .patches import Patch
from .preparing import Opened, entry_key, label_values, prepare
from .sampling import Places, draw_aim, draw_window
from .shuffling import SCHEMES, Scene, scene_of, shuffled_patch
from .typed import SHUFFLED_PER_STUDY

Progress = Callable[[str, float], None]

VARIANTS = 4  # boxes around a case's liver: that of the labels, and some that are off as stage 1's would be
FOLDS = 5
_ANY_CASE = 0.5  # of the turns of S3's second network, also cases without lesions: only false ones are found there
_VALIDATION_SEED = 10_000_019  # far from the seeds that people choose


@dataclass(frozen=True)
class _Ready:
    """A case that is prepared for a stage: under which keys, one a variant, and whether it has lesions there."""

    case: DatasetCase
    keys: tuple[str, ...]
    has_lesions: bool


class MeasuredSource:
    """Measured cases as a source of patches (`sources.PatchSource`).

    Cases are prepared for a stage when its patches are first asked for, and kept in the cache.
    """

    def __init__(
        self,
        recipe: Recipe,
        training: Sequence[DatasetCase],
        validation: Sequence[DatasetCase],
        cache: Cache,
        seed: int = 0,
        progress: Progress | None = None,
        first_weights: Path | None = None,
        device: str = "cpu",
    ):
        """Cases to train and validate on.

        Args:
            recipe: how they are shown.
            training, validation: of no common patient.
            cache: for prepared cases.
            seed: of all chance.
            progress: told of the preparation.
            first_weights: where the first of S3's networks has its weights, or will have them before the second one is
                trained, which is shown its mistakes; None for no such hard cases.
            device: where that network is asked.

        Raises:
            DatasetError: a patient is in both.
            RecipeError: the recipe has no liver, or an unknown augmentation.
        """
        shared = {case.patient for case in training} & {case.patient for case in validation}
        if shared:
            raise DatasetError(f"wanted no patient in training and validation, got {', '.join(sorted(shared))}")
        label_values(recipe)
        check_augmentations(recipe)
        self.recipe, self.cache, self.seed, self.progress = recipe, cache, seed, progress
        self._first_weights, self._device = first_weights, device
        self._cases = {False: tuple(training), True: tuple(validation)}
        self._ready: dict[tuple[int, bool], tuple[_Ready, ...]] = {}
        self._first: dict[tuple[int, bool], FirstLook | None] = {}

    @property
    def digest(self) -> str:
        """Changes with who is trained and validated on, and names nobody."""
        return cache_key(*([[case.name, case.patient] for case in self._cases[use]] for use in (False, True)))

    def patches(self, stage: int, start: int, count: int, validation: bool = False) -> Dataset[Patch]:
        """Patches `start` to `start + count` of a stage; those for validation are not augmented.

        A case that cannot be used is left out, with a warning.

        Raises:
            DatasetError: no case can be used.
        """
        if (stage, validation) not in self._ready:
            self._ready[stage, validation] = self._prepared(stage, validation)
            self._first[stage, validation] = self._looked_at(stage, validation)
        ready, first = self._ready[stage, validation], self._first[stage, validation]
        seed = self.seed + _VALIDATION_SEED * validation
        return MeasuredPatches(ready, self.recipe, stage, self.cache, seed, start, count, validation, first)

    def _prepared(self, stage: int, validation: bool) -> tuple[_Ready, ...]:
        name, cases = self.recipe.stages[stage].name, self._cases[validation]
        exact = self.recipe.stages[stage].region == "whole" or self.recipe.training[stage].sampling.jitter_mm == 0
        variants = 1 if validation or exact else VARIANTS
        ready: list[_Ready] = []
        for number, case in enumerate(cases, 1):
            opened = Opened(case, self.recipe)
            try:
                keys = tuple(entry_key(case, self.recipe, stage, variant) for variant in range(variants))
                found = [
                    self.cache.get(key, partial(prepare, case, self.recipe, stage, variant, opened))
                    for variant, key in enumerate(keys)
                ]
            except ImageError as error:
                warn(f"{case.name} is left out: {str(error).removeprefix(f'{case.name}: ')}")
                continue
            ready.append(_Ready(case, keys, all(entry.facts["lesions"] for entry in found)))
            if self.progress is not None:
                self.progress(f"{name}: preparing cases", number / len(cases))
        if not ready:
            what = "validation" if validation else "training"
            raise DatasetError(f"{what}: wanted cases with a scan and labels, got none of {len(cases)}")
        return tuple(ready)

    def _looked_at(self, stage: int, validation: bool) -> FirstLook | None:
        """What the first network sees in the cases of a stage that is shown its mistakes; None for another stage."""
        weights = self._first_weights
        if not shows_lesions(self.recipe, stage) or weights is None or not weights.exists():
            return None
        look = FirstLook.with_weights(self.recipe, weights, self.cache)
        network = FirstNetwork(self.recipe, weights, self._device)
        cases = self._ready[stage, validation]
        for number, ready in enumerate(cases, 1):
            look.at(ready.case, network)
            if self.progress is not None:
                self.progress(f"{self.recipe.stages[stage].name}: looking for hard cases", number / len(cases))
        return look


@dataclass(frozen=True)
class MeasuredPatches(Dataset[Patch]):
    """Patch number n follows from (seed, stage, n) and the cases alone, whatever process cuts it.

    Attributes:
        cases: prepared.
        recipe: grids, patch sizes, sampling and augmentation.
        stage: its number.
        cache: where the prepared cases are; one that is gone is prepared again.
        seed: of the whole stream.
        start, count: the numbers of the patches.
        validation: cases take turns, are shown in the labels' own box, and are not augmented.
        first: what S3's first network takes for lesions, for the second one; None for no hard cases.
    """

    cases: tuple[_Ready, ...]
    recipe: Recipe
    stage: int
    cache: Cache
    seed: int
    start: int
    count: int
    validation: bool = False
    first: FirstLook | None = None
    _last: dict[int, tuple[Scene, Entry]] = field(default_factory=dict, compare=False, repr=False)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Patch:
        """Network input (channels, k, j, i) float32 and labels (1, k, j, i) uint8."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        number, spec = self.start + index, self.recipe.stages[self.stage]
        shuffles = shows_lesions(self.recipe, self.stage)
        volume, labels, entry, rng = self._shuffled(number) if shuffles else self._cut(number)
        if not self.validation:
            volume, labels = self._augmented(volume, labels, entry, rng)
        if spec.in_organ:
            volume, labels = confine(volume, labels, min(entry.facts["spacing_mm"]), rng)
        reach = spec.context_slices // 2
        middle = slice(reach, labels.shape[0] - reach)
        volume = with_context(volume, spec.context_slices)[:, middle]
        volume, labels = (np.require(array, requirements=("C", "W")) for array in (volume, labels[None, middle]))
        return torch.from_numpy(volume), torch.from_numpy(labels)

    def _cut(self, number: int) -> tuple[np.ndarray, np.ndarray, Entry, np.random.Generator]:
        """A patch where the recipe's sampling wants one, with its neighbouring slices; and the chance that is left."""
        rng = np.random.default_rng([self.seed, self.stage, number])
        spec, training = self.recipe.stages[self.stage], self.recipe.training[self.stage]
        aim = draw_aim(rng, training.sampling)
        _, entry = self._case(rng, number, aim == "lesion")
        _, lesions = label_values(self.recipe)
        places, patch = Places.of(entry.arrays), training.patch[::-1]
        window = draw_window(rng, aim, places, entry.arrays["labels"], lesions, training.sampling, patch)
        volume, labels = cut_with_context(entry, window, spec.context_slices)
        return _scaled(volume, entry, spec, rng), labels, entry, rng

    def _shuffled(self, number: int) -> tuple[np.ndarray, np.ndarray, Entry, np.random.Generator]:
        """S3's second network: its four shuffling schemes in turn, with what the first one misses or invents.

        A case serves some patches in a row; in validation it is seen once by each scheme. Cases without lesions are
        among them where what the first network takes for one is known.
        """
        turn = number // (len(SCHEMES) if self.validation else SHUFFLED_PER_STUDY)
        if turn not in self._last:
            rng = np.random.default_rng([self.seed, self.stage, turn])
            without = self.first is not None and (self.validation or rng.random() < _ANY_CASE)
            case, entry = self._case(rng, turn, wants_lesions=not without)
            volume = _scaled(np.array(entry.arrays["volume"]), entry, self.recipe.stages[self.stage], rng)
            seen = None if self.first is None else self.first.on(case, entry)
            self._last.clear()
            self._last[turn] = scene_of(volume, np.array(entry.arrays["labels"]), self.recipe, seen), entry
        scene, entry = self._last[turn]
        rng = np.random.default_rng([self.seed, self.stage, turn, 1 + number])
        patch = self.recipe.training[self.stage].patch[::-1]
        return (*shuffled_patch(scene, number, patch, rng), entry, rng)

    def _case(self, rng: np.random.Generator, turn: int, wants_lesions: bool) -> tuple[DatasetCase, Entry]:
        """A case by chance and one of its variants; in validation the one whose turn it is, as the labels have it."""
        with_lesions = [each for each in self.cases if each.has_lesions]
        among = with_lesions if wants_lesions and with_lesions else self.cases
        ready = among[(turn if self.validation else int(rng.integers(len(among)))) % len(among)]
        variant = 0 if self.validation else int(rng.integers(len(ready.keys)))
        make = partial(prepare, ready.case, self.recipe, self.stage, variant)
        return ready.case, self.cache.get(ready.keys[variant], make)

    def _augmented(
        self, volume: np.ndarray, labels: np.ndarray, entry: Entry, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        spec, training = self.recipe.stages[self.stage], self.recipe.training[self.stage]
        i, j, k = entry.facts["spacing_mm"]
        optional = tuple(n for n, phase in enumerate(self.recipe.phases, 1) if not phase.required)
        flat = spec.context_slices > 1 or training.patch[2] == 1
        view = View(spec.region == "whole", (i, j, k), flat, optional)
        return AUGMENTATIONS[training.augmentation](volume, labels, rng, view)


def shows_lesions(recipe: Recipe, stage: int) -> bool:
    """Whether a stage is S3's second network, which is shown single lesions and what was taken for such."""
    return recipe.typing is not None and recipe.stages[stage].region == "lesion"


def cut_with_context(entry: Entry, window: Window, context_slices: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut a patch out of a prepared case, with the slices above and below that its outer ones have for neighbours.

    Beyond the case there is padding; but the neighbours of its own last slice are that slice again, as in inference.

    Returns:
        float32 (channels, k + context_slices - 1, j, i) and uint8 (k + context_slices - 1, j, i).
    """
    volume, labels = entry.arrays["volume"], entry.arrays["labels"]
    reach, depth = context_slices // 2, labels.shape[0]
    first, size = window.start[0], window.size[0]
    low, high = min(first, 0), max(first + size, depth)  # what is padding, not a neighbour, may be beyond the case
    places = np.clip(np.arange(first - reach, first + size + reach), low, high - 1)
    lowest, highest = int(places.min()), int(places.max())
    slab = Window((lowest, *window.start[1:]), (highest - lowest + 1, *window.size[1:]))
    channels = [cut(each, slab, fill) for each, fill in zip(volume, entry.facts["padding"], strict=True)]
    return np.stack(channels)[:, places - lowest], cut(labels, slab)[places - lowest]


def inexact_level(level: float, modality: str, rng: np.random.Generator) -> float:
    """A liver's grey value as inexactly as the stage before tells it: an SD of 8 HU in CT, of 8 % in MR."""
    return level + rng.normal(0, 8) if modality == "CT" else level * float(np.exp(rng.normal(0, 0.08)))


def _scaled(volume: np.ndarray, entry: Entry, spec: Stage, rng: np.random.Generator) -> np.ndarray:
    """The grey values that could not be scaled before the patch is known: those by the liver's level."""
    if entry.facts["scaled"]:
        return volume
    modality = entry.facts["modality"]
    for channel, level in zip(volume, entry.facts["levels"], strict=True):
        if level is not None:
            channel[:] = scale_intensity(channel, spec.intensity, modality, inexact_level(level, modality, rng))
    return volume


def open_measured(
    recipe: Recipe,
    folder: Path,
    layout: str,
    fold: int,
    cache: Cache,
    seed: int = 0,
    splits: Path | None = None,
    progress: Progress | None = None,
    first_weights: Path | None = None,
    device: str = "cpu",
) -> MeasuredSource:
    """A data set's cases, one fold of them for validation.

    Args:
        recipe: how they are shown.
        folder: of the data set.
        layout: a key of `datasets.layouts.LAYOUTS`.
        fold: counted from 0.
        cache: for prepared cases.
        seed: of all chance.
        splits: what `livertumorseg dataset check --folds` wrote; by default `splits.json` in the data set's folder, and
            where there is none the patients are dealt into five folds without a look at their scans.
        progress: told of the preparation.
        first_weights, device: see `MeasuredSource`.

    Raises:
        DatasetError: the folder, the split or the fold is not there, or they do not fit.
    """
    training, validation = fold_cases(folder, layout, fold, splits)
    return MeasuredSource(recipe, training, validation, cache, seed, progress, first_weights, device)


def fold_cases(
    folder: Path, layout: str, fold: int, splits: Path | None = None
) -> tuple[list[DatasetCase], list[DatasetCase]]:
    """The cases that a fold trains on, and those that it validates on; see `open_measured`."""
    cases, split = find_folds(folder, layout, splits)
    if not 0 <= fold < len(split.folds):
        raise DatasetError(f"fold: wanted 0 to {len(split.folds) - 1}, got {fold}")
    missing = [name for names in split.folds for name in names if name not in cases]
    if missing:
        raise DatasetError(f"{folder}: wanted the cases of the split, got no {', '.join(missing[:3])}")
    return [cases[name] for name in split.training(fold)], [cases[name] for name in split.folds[fold]]


def find_folds(folder: Path, layout: str, splits: Path | None = None) -> tuple[dict[str, DatasetCase], Split]:
    """A data set's cases that have a scan and labels, by name, and its folds; see `open_measured`.

    Raises:
        DatasetError: the folder or the split is not there, or cannot be read.
    """
    found = {case.name: case for case in find_cases(folder, layout)}
    cases = {name: case for name, case in found.items() if case.scan is not None and case.labels is not None}
    if len(cases) < len(found):
        warn(f"{len(found) - len(cases)} of {len(found)} cases have no scan or no labels and are left out")
    return cases, _split(cases, splits or folder / SPLIT, wanted=splits is not None)


def _split(cases: dict[str, DatasetCase], path: Path, wanted: bool) -> Split:
    if wanted or path.exists():
        return load_split(path)
    patients = len({case.patient for case in cases.values()})
    known = [CheckedCase(case.name, case.patient, case.scanner) for case in cases.values()]
    folds = min(FOLDS, max(patients, 2))
    warn(f"no {SPLIT}: {folds} folds by chance; livertumorseg dataset check --folds also spreads lesion loads evenly")
    return make_split(known, folds)
