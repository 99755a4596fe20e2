"""Measured cases from a data set's folder to a bundle, and every recipe that ships fed from one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from LiverTumorSegLib import __main__
from LiverTumorSegLib.bundle import Bundle
from LiverTumorSegLib.datasets.layouts import find_cases
from LiverTumorSegLib.recipe import Crop, Grid, Recipe, Stage, Training, load_recipe, recipe_to_json
from LiverTumorSegLib.resources import resource_path
from LiverTumorSegLib.training.caching import Cache
from LiverTumorSegLib.training.measured import MeasuredSource
from test_datasets import LABELS, image_of, scan_of, write, write_lits, write_nifti

SMALL = {"channels": [4, 8], "strides": [2], "num_res_units": 0}
STAGES = (
    Stage("whole", "unet", Grid(spacing_mm=4.0, multiple_of=4), SMALL),
    Stage("crop", "unet", Grid(spacing_mm=2.5, multiple_of=4), SMALL, region="liver"),
)
SHORT = Training(patch=(8, 8, 8), epochs=1, iterations_per_epoch=2, augmentation="s0", bf16=False)
RECIPES = sorted(path.stem for path in resource_path("Recipes").glob("*.json"))


def test_from_a_folder_in_lits_layout_to_folds_training_and_a_bundle(tmp_path: Path, capsys) -> None:
    write_lits(tmp_path / "lits")
    recipe = Recipe("tiny", "repaired", "a test", STAGES, Crop(margin_mm=5.0), training=(SHORT, SHORT))
    (tmp_path / "recipe.json").write_text(recipe_to_json(recipe), encoding="utf-8")
    lits = [str(tmp_path / "lits"), "--layout", "lits"]
    assert __main__.main(["dataset", "check", *lits, "--folds", "3", "-o", str(tmp_path / "list"), "-q"]) == 0
    run = ["train", str(tmp_path / "recipe.json"), "-o", str(tmp_path / "run"), "--data", *lits, "--workers", "0"]
    splits = str(tmp_path / "list" / "splits.json")
    assert __main__.main([*run, "--fold", "1", "--splits", splits, "--device", "cpu"]) == 0
    bundle = Bundle.load(tmp_path / "run" / "bundle")
    assert bundle.recipe == recipe
    for stage in ("whole", "crop"):
        assert len((tmp_path / "run" / f"{stage}.csv").read_text(encoding="utf-8").splitlines()) == 2
    # Neither a patient nor a path of the data set is in what would be given away.
    for path in (tmp_path / "run" / "bundle").rglob("*.json"):
        assert str(tmp_path) not in path.read_text(encoding="utf-8")
    # One whole scan and four boxes of two training cases, one of each for validation.
    entries = [path for path in (tmp_path / "run" / "cache").iterdir() if len(path.name) == 64]
    assert len(entries) == 2 * (1 + 4) + 1 + 1


def write_typed(folder: Path, recipe: Recipe) -> None:
    """Write nnU-Net's raw data with a recipe's own phases and labels."""
    channels = ("scan", *(phase.name for phase in recipe.phases))
    for case in ("a", "b"):
        for number in range(len(channels)):
            write(scan_of(number), folder / "imagesTr" / f"{case}_{number:04d}.nii.gz")
        liver = (LABELS > 0) * np.uint8(recipe.label_names.index("liver"))
        write(image_of(liver), folder / "labelsTr" / f"{case}.nii.gz")
    names = {"channel_names": dict(enumerate(channels)), "file_ending": ".nii.gz"}
    labels = {name: value for value, name in enumerate(recipe.label_names)}
    (folder / "dataset.json").write_text(json.dumps({**names, "labels": labels}), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_every_stage_of_every_recipe_gets_patches_of_its_own_form(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(resource_path("Recipes", f"{name}.json"))
    still = tuple(dataclasses.replace(each, augmentation="none") for each in recipe.training)
    recipe = dataclasses.replace(recipe, training=still)
    if recipe.typing is None:
        write_nifti(tmp_path / "in")
        cases = find_cases(tmp_path / "in")
    else:
        # Scans of 12 x 10 x 8 voxels have too little in them to be registered.
        recipe = dataclasses.replace(recipe, typing=dataclasses.replace(recipe.typing, register="none"))
        write_typed(tmp_path / "in", recipe)
        cases = find_cases(tmp_path / "in", "nnunet")
    source = MeasuredSource(recipe, cases[:1], cases[1:2], Cache(tmp_path / "cache"))
    for number, (stage, training) in enumerate(zip(recipe.stages, recipe.training, strict=True)):
        for validation in (False, True):
            volume, labels = source.patches(number, 0, 1, validation)[0]
            assert tuple(volume.shape) == (stage.arguments.get("in_channels", 1), *training.patch[::-1])
            assert tuple(labels.shape) == (1, *training.patch[::-1])
            assert int(labels.max()) < len(recipe.label_names)
            assert float(volume.abs().max()) > 0
