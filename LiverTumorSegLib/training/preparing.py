"""One measured case, prepared for one stage: exactly what inference would show the network, and the labels beside it.

Scan and phases go through `systems.stages.Study`, as in inference; labels through `resampling`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk

from ..body import body_box
from ..datasets.cases import DatasetCase, LabelReader
from ..errors import ImageError, RecipeError
from ..evaluation.scores import grid_difference
from ..geometry import Box, clipped_box, fit_grid, whole_box, widened
from ..images import calibrate_ct, check_image, modality_of, read_image
from ..lesions import bounding_slices
from ..phases import Candidate, match_phases, prepared_phases
from ..preprocessing import liver_level, padding_value, scale_intensity
from ..recipe import LIVER, Recipe
from ..registration import register
from ..systems.stages import Study
from .caching import Entry, cache_key, file_identity
from .resampling import resample_labels
from .sampling import find_places

CODE = (
    *("body", "dicom", "dicom_stack", "filters", "geometry", "images", "itk_reader", "lesions", "nifti", "phases"),
    *("postprocessing", "preprocessing", "registration", "datasets.cases", "datasets.dicom_masks", "systems.stages"),
    *("training.preparing", "training.resampling", "training.sampling"),
)
"""Modules of the library that decide what a prepared case is: where one changes, cases are prepared again."""


def label_values(recipe: Recipe) -> tuple[int, tuple[int, ...]]:
    """The value of the liver and those of lesions in label maps that follow `Recipe.label_names`.

    Raises:
        RecipeError: the recipe knows no liver.
    """
    names = recipe.label_names
    if LIVER not in names:
        raise RecipeError(f"recipe.label_names: wanted liver among them, got {', '.join(names)}")
    return names.index(LIVER), tuple(names.index(name) for name in recipe.lesion_names)


def entry_key(case: DatasetCase, recipe: Recipe, stage: int, variant: int) -> str:
    """What a prepared case is kept under: it changes with all that has a say in it.

    That is the case's files and what its data set tells of them, the recipe as far as it matters, and our own code.

    Raises:
        ImageError: a file of the case is not there.
    """
    try:
        files = [file_identity(path) for path in (case.scan, case.labels, *case.phases.values()) if path is not None]
    except OSError as error:
        raise ImageError(f"{case.name}: wanted to look at its files, got: {error.strerror}") from None
    spec, sampling = recipe.stages[stage], recipe.training[stage].sampling
    options = recipe.body_cascade
    return cache_key(
        _code(),
        case.name,
        files,
        list(case.phases),
        _reader(case.read),
        sorted(case.value_names.items()),
        dataclasses.asdict(spec.grid),
        dataclasses.asdict(spec.intensity),
        spec.region,
        dataclasses.asdict(sampling.crop or recipe.crop),
        sampling.jitter_mm,
        dataclasses.asdict(options) if options is not None else None,
        [dataclasses.asdict(phase) for phase in recipe.phases],
        _registration(recipe),
        recipe.label_names,
        recipe.lesion_names,
        variant,
    )


@cache
def _code() -> str:
    """The SHA-256 of the modules in `CODE`."""
    library = Path(__file__).parents[1]
    parts = (library.joinpath(*name.split(".")).with_suffix(".py").read_bytes() for name in CODE)
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _reader(read: LabelReader) -> list[str]:
    """What reads the labels, with what a layout settled beforehand, such as which values are the liver."""
    if isinstance(read, partial):
        return [read.func.__qualname__, repr(read.args), repr(sorted(read.keywords.items()))]
    return [read.__qualname__]


@dataclass(frozen=True)
class Opened:
    """A case whose scan, phases and labels are read once, when they are first wanted, for all of its variants."""

    case: DatasetCase
    recipe: Recipe

    @cached_property
    def study_and_labels(self) -> tuple[Study, sitk.Image]:
        """The study as inference would have it, phases registered, and its labels by the recipe's names."""
        return _opened(self.case, self.recipe)


def prepare(case: DatasetCase, recipe: Recipe, stage: int, variant: int, opened: Opened | None = None) -> Entry:
    """Open a case and lay it on a stage's grid.

    Args:
        case: with labels.
        recipe: whose grids, intensities, phases, crop and label names.
        stage: its number.
        variant: 0 for the liver's box as the labels have it, others for boxes that are off by some mm.
        opened: the same case and recipe, where other variants are made of it, too.

    Returns:
        Arrays `volume` float32 (channels, k, j, i), `labels` uint8 (k, j, i) and those of `sampling.Places`; facts
        `modality`, `origin`, `direction` and `spacing_mm` (i, j, k) of the grid, `scaled`, `levels`, `padding` and
        `lesions`. A volume is not scaled yet
        where that goes by the liver's level, which training makes inexact.

    Raises:
        ImageError: it cannot be read, scan and labels do not fit, or there is no liver; names it.
        RecipeError: see `label_values`.
    """
    liver, lesions = label_values(recipe)
    study, labels = (opened or Opened(case, recipe)).study_and_labels
    spec = recipe.stages[stage]
    box = _region(case, study, labels, recipe, stage, variant, (liver, *lesions))
    geometry = fit_grid(study.scan, box, spec.grid)
    channels = study.volumes(box, geometry)
    on_grid = resample_labels(labels, box, geometry, lesions)
    levels = [None if each is None else liver_level(each, on_grid == liver) for each in channels]
    known = all(level is not None for level, each in zip(levels, channels, strict=True) if each is not None)
    scaled = not (spec.intensity.scale == "liver" and known)
    volume = np.zeros((len(channels), *geometry.size[::-1]), np.float32)
    padding = [0.0] * len(channels)
    scans = [study.scan, *study.phases.values()]
    for number, (grey, scan) in enumerate(zip(channels, scans, strict=True)):
        if grey is not None and scan is not None:
            volume[number] = scale_intensity(grey, spec.intensity, study.modality, levels[number]) if scaled else grey
            padding[number] = float(volume[number].min()) if scaled else padding_value(scan, study.modality)
    places = find_places(on_grid, liver, lesions)
    facts = {
        "modality": study.modality,
        "origin": geometry.origin,
        "direction": geometry.direction,
        "spacing_mm": geometry.spacing_mm,
        "scaled": scaled,
        "levels": levels,
        "padding": padding,
        "lesions": int(places.lesion_sizes.size),
    }
    return Entry({"volume": volume, "labels": on_grid, **places.arrays()}, facts)


def _opened(case: DatasetCase, recipe: Recipe) -> tuple[Study, sitk.Image]:
    """The study as inference would have it, and its labels by the recipe's names."""
    scan = check_image(case.read_scan())
    modality = modality_of(scan)
    scan = calibrate_ct(scan) if modality == "CT" else scan
    labels = case.read_named(recipe.label_names)
    difference = grid_difference(scan, labels)
    if difference:
        found = difference.replace("the reference", "the scan")
        raise ImageError(f"{case.name}: labels: wanted the scan's grid, got {found}")
    candidates = [Candidate(path, (name,)) for name, path in case.phases.items()]
    given = {name: read_image(path) for name, path in match_phases(recipe.phases, candidates, [case.name]).items()}
    phases = prepared_phases(recipe.phases, given, scan, modality, modality_is_sure=False)
    method = _registration(recipe)
    for name, phase in phases.items():
        if phase is not None and method != "none":
            phases[name], _ = register(phase, scan, modality, f"phase {name}", method)
    return Study(scan, phases, modality), labels


def _registration(recipe: Recipe) -> Literal["none", "affine", "deformable"]:
    """How inference brings the phases onto the scan."""
    return recipe.typing.register if recipe.typing is not None else "none"


def _region(
    case: DatasetCase,
    study: Study,
    labels: sitk.Image,
    recipe: Recipe,
    stage: int,
    variant: int,
    organ: Sequence[int],
) -> Box:
    """The part of the scan that the stage looks at; around a lesion it is cut out patch by patch, from the liver's."""
    spec, sampling = recipe.stages[stage], recipe.training[stage].sampling
    found = bounding_slices(np.isin(sitk.GetArrayViewFromImage(labels), organ))
    if found is None:
        raise ImageError(f"{case.name}: labels: wanted a liver, got an empty label map")
    if spec.region == "whole":
        body = body_box(study.scan, study.modality, recipe.body_cascade) if recipe.body_cascade is not None else None
        return body if body is not None else whole_box(study.scan)
    if spec.region == "lesion" and spec.grid.shape is not None:
        where = f"recipe.stages[{stage}].grid"
        raise RecipeError(f"{where}: wanted spacing_mm or axes for training on measured lesions, got a fixed shape")
    crop = sampling.crop or recipe.crop
    low, high = (np.array([getattr(s, end) for s in found[::-1]]) for end in ("start", "stop"))
    if variant:
        rng = np.random.default_rng([variant, *case.name.encode()])
        most = sampling.jitter_mm / np.array(labels.GetSpacing())
        low = low + np.round(rng.uniform(-most, most)).astype(int)
        high = np.maximum(high + np.round(rng.uniform(-most, most)).astype(int), low + 1)
    return widened(clipped_box(low, high, study.scan), study.scan, crop.margin_mm, crop.margin_voxels)
