"""When a prepared case is taken from the cache, and when it is prepared again."""

from __future__ import annotations

import ast
import dataclasses
from functools import partial
from pathlib import Path

import pytest

from LiverTumorSegLib.datasets.cases import read_labels, read_mapped_labels
from LiverTumorSegLib.datasets.layouts import find_cases
from LiverTumorSegLib.recipe import Crop, Grid, Intensity, Phase, Recipe, Sampling, Stage, Training
from LiverTumorSegLib.training import preparing
from LiverTumorSegLib.training.caching import Cache
from LiverTumorSegLib.training.measured import VARIANTS, MeasuredSource
from LiverTumorSegLib.training.preparing import entry_key
from test_datasets import scan_of, write, write_nifti

TRAINING = Training(patch=(8, 8, 4))
WHOLE = Stage("whole", "unet", Grid(spacing_mm=4.0, multiple_of=2), intensity=Intensity((-100.0, 200.0), scale="unit"))
LIVER = Stage("crop", "unet", Grid(spacing_mm=2.0, multiple_of=2), intensity=Intensity(scale="liver"), region="liver")
RECIPE = Recipe("tiny", "repaired", "a test", (WHOLE, LIVER), Crop(margin_mm=4.0), training=(TRAINING,) * 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_nifti(tmp_path / "in")
    return tmp_path / "in"


def test_a_case_is_prepared_again_when_its_file_or_its_preprocessing_changes_and_not_else(folder: Path) -> None:
    case = find_cases(folder)[0]
    key = entry_key(case, RECIPE, 0, 0)
    longer = dataclasses.replace(RECIPE, training=(dataclasses.replace(TRAINING, epochs=7, augmentation="s1"),) * 2)
    assert entry_key(case, longer, 0, 0) == key
    finer = dataclasses.replace(RECIPE, stages=(dataclasses.replace(WHOLE, grid=Grid(spacing_mm=3.0)), LIVER))
    assert entry_key(case, finer, 0, 0) != key
    write(scan_of(77), folder / "case_0.nii.gz")
    assert entry_key(case, RECIPE, 0, 0) != key


def test_a_case_is_prepared_again_when_its_data_set_describes_the_same_files_otherwise(folder: Path) -> None:
    one, two = folder / "images" / "one.nii", folder / "images" / "two.nii"
    case = dataclasses.replace(
        find_cases(folder)[0],
        read=partial(read_mapped_labels, values={1: 1, 2: 2}),
        value_names={1: "liver", 2: "tumour"},
        phases={"arterial": one, "venous": two},
    )
    others = (
        dataclasses.replace(case, read=partial(read_mapped_labels, values={1: 2, 2: 1})),
        dataclasses.replace(case, read=read_labels),
        dataclasses.replace(case, value_names={1: "tumour", 2: "liver"}),
        dataclasses.replace(case, phases={"venous": one, "arterial": two}),
    )
    for path in (one, two):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert len({entry_key(each, RECIPE, 0, 0) for each in (case, *others)}) == 5


def test_a_case_is_prepared_again_when_the_code_that_prepares_it_changes(folder: Path, monkeypatch) -> None:
    case = find_cases(folder)[0]
    key = entry_key(case, RECIPE, 0, 0)
    monkeypatch.setattr(preparing, "_code", lambda: "of another release")
    assert entry_key(case, RECIPE, 0, 0) != key


def test_all_code_that_prepares_a_case_is_in_its_key() -> None:
    known = {*preparing.CODE, "errors", "recipe", "training.caching", "evaluation.scores"}
    tree = ast.parse(Path(preparing.__file__).read_text(encoding="utf-8"))
    above = {1: "training.", 2: ""}
    used = {above[n.level] + str(n.module) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level}
    assert used <= known


def test_every_part_of_a_recipe_that_shapes_a_case_shapes_its_key(folder: Path) -> None:
    case = find_cases(folder)[0]

    def staged(**changes: object) -> Recipe:
        return dataclasses.replace(RECIPE, stages=(WHOLE, dataclasses.replace(LIVER, **changes)))

    def sampled(**changes: object) -> Recipe:
        training = dataclasses.replace(TRAINING, sampling=dataclasses.replace(Sampling(), **changes))
        return dataclasses.replace(RECIPE, training=(TRAINING, training))

    phased = tuple(dataclasses.replace(each, arguments={"in_channels": 2}) for each in RECIPE.stages)
    recipes = (
        RECIPE,
        staged(grid=Grid(spacing_mm=2.0, multiple_of=4)),
        staged(intensity=Intensity(scale="liver", liver_window=(50.0, 0.5))),
        staged(region="lesion"),
        sampled(jitter_mm=1.0),
        sampled(crop=Crop(margin_voxels=3)),
        dataclasses.replace(RECIPE, crop=Crop(margin_mm=5.0)),
        dataclasses.replace(RECIPE, stages=phased, phases=(Phase("arterial"),)),
        dataclasses.replace(RECIPE, label_names=("background", "tumour", "liver")),
    )
    assert len({entry_key(case, recipe, 1, 0) for recipe in recipes}) == len(recipes)
    assert entry_key(case, RECIPE, 1, 1) != entry_key(case, RECIPE, 1, 0)
    assert entry_key(case, sampled(lesion=0.25, windows_overlap=0.5), 1, 0) == entry_key(case, RECIPE, 1, 0)


def test_a_case_is_read_once_for_all_the_boxes_in_which_it_is_seen(folder: Path, tmp_path: Path, monkeypatch) -> None:
    read = []
    real = preparing._opened
    monkeypatch.setattr(preparing, "_opened", lambda case, recipe: read.append(case.name) or real(case, recipe))
    cases = find_cases(folder)
    MeasuredSource(RECIPE, cases[:2], cases[2:], Cache(tmp_path / "cache")).patches(1, 0, 1)
    assert read == ["case_0", "case_1"]
    entries = [path for path in (tmp_path / "cache").iterdir() if len(path.name) == 64]
    assert len(entries) == 2 * VARIANTS
    MeasuredSource(RECIPE, cases[:2], cases[2:], Cache(tmp_path / "cache")).patches(1, 0, 1)
    assert len(read) == 2  # nothing is opened where the cache has all
