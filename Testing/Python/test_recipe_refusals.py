"""What a recipe file may not say: every refusal is one line with the file, the key, what was wanted and what came."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from LiverTumorSegLib.errors import RecipeError
from LiverTumorSegLib.recipe import load_recipe

STAGE: dict[str, Any] = {"name": "whole", "network": "unet", "grid": {"spacing_mm": 4}}
MINIMAL: dict[str, Any] = {"name": "small", "variant": "repaired", "source": "a test", "stages": [STAGE]}
OWN_SLICES = {"times_own": 1.0}


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    text = json.dumps(MINIMAL).replace('"network": "unet"', '"network": "unet", "network": "vnet"')
    (tmp_path / "small.json").write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=r"wanted a recipe in JSON, got the key 'network' twice$"):
        load_recipe(tmp_path / "small.json")


def refusal(folder: Path, change: dict[str, Any]) -> str:
    """Return what is said of the minimal recipe with a change, without the file's name."""
    path = folder / "small.json"
    path.write_text(json.dumps(MINIMAL | change), encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "unknown key 'colour'; allowed there: name, variant, source, stages, crop, postprocessing"),
        ({"crop": {"margin": 1}}, "unknown key 'crop.margin'; allowed there: margin_mm, margin_voxels"),
        ({"name": None}, "name: wanted str, got None"),
        ({"variant": "better"}, "variant: wanted one of 'as_printed', 'repaired', got 'better'"),
        ({"crop": {"margin_voxels": 1.5}}, "crop.margin_voxels: wanted int, got 1.5"),
        ({"crop": {"margin_voxels": True}}, "crop.margin_voxels: wanted int, got True"),
        ({"crop": {"margin_mm": float("nan")}}, "crop.margin_mm: wanted a finite number, got nan"),
        ({"stages": 1}, "stages: wanted a list, got 1"),
        ({"stages": [1]}, "stages[0]: wanted an object, got 1"),
        ({"postprocessing": {"fill_holes": 1}}, "postprocessing.fill_holes: wanted bool, got 1"),
        ({"training": {}}, "training: wanted a list, got {}"),
        ({"training": [{"patch": [8, 8]}]}, "training[0].patch: wanted 3 values, got [8, 8]"),
        ({"training": [{"loss": 1}]}, "training[0].loss: wanted str, got 1"),
        ({"training": [{"sampling": []}]}, "training[0].sampling: wanted an object, got []"),
        ({"training": [{"optimiser": "lion"}]}, "training[0].optimiser: wanted one of 'adam', 'adamw', 'sgd', got"),
        ({"phases": "arterial"}, "phases: wanted a list, got 'arterial'"),
        ({"phases": [{"names": "a"}]}, "unknown key 'phases[0].names'; allowed there: name, match, required"),
        ({"phases": [{"match": ["art"]}]}, "missing key 'phases[0].name'"),
        ({"phases": [{"name": "a", "required": 1}]}, "phases[0].required: wanted bool, got 1"),
    ],
)
def test_a_value_of_another_kind_or_an_unknown_key_is_named(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    assert refusal(tmp_path, change).startswith(message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop": {}}, "crop: wanted exactly one of margin_mm and margin_voxels, got none"),
        ({"crop": {"margin_mm": 1, "margin_voxels": 1}}, "crop: wanted exactly one of margin_mm and margin_voxels"),
        ({"postprocessing": {"keep_liver_above": 0}}, "postprocessing.keep_liver_above: wanted above 0 up to 1, got 0"),
        ({"training": [{"weight_average": 1}]}, "training[0].weight_average: wanted 0 to below 1, got 1.0"),
        ({"training": [{"epochs": 0}]}, "training[0].epochs: wanted at least 1, got 0"),
        ({"training": [{"batch_size": 0}]}, "training[0].batch_size: wanted at least 1, got 0"),
        ({"training": [{"learning_rate": -1}]}, "training[0].learning_rate: wanted 0 or more, got -1.0"),
        ({"training": [{"schedule_factor": 2}]}, "training[0].schedule_factor: wanted above 0 up to 1, got 2.0"),
        ({"training": [{"deep_supervision": -1}]}, "training[0].deep_supervision: wanted 0 or more, got -1.0"),
        ({"training": [{"clip_gradient": 0}]}, "training[0].clip_gradient: wanted above 0, got 0.0"),
        ({"training": [{"patch": [8, 8, 0]}]}, "training[0].patch: wanted at least 1 voxel a side, got (8, 8, 0)"),
        ({"training": [{"sampling": {"lesion": 0.8}}]}, "training[0].sampling: wanted shares of 0 or more with a sum"),
        ({"training": [{"epochs": 10**9}]}, "training[0].epochs: wanted at most 1000000, got 1000000000"),
        ({"training": [{"patch": [8, 8, 10**6]}]}, "training[0].patch: wanted at most 2048 voxels a side, got"),
        ({"training": [{"learning_rate": 1e9}]}, "training[0].learning_rate: wanted at most 1000, got 1000000000.0"),
        ({"postprocessing": {"min_lesion_probability": 2}}, "postprocessing.min_lesion_probability: wanted 0 up to 1,"),
        ({"postprocessing": {"min_liver_contact": -1}}, "postprocessing.min_liver_contact: wanted 0 up to 1, got -1.0"),
        ({"postprocessing": {"opening_radius_voxels": 99}}, "postprocessing.opening_radius_voxels: wanted 0 up to 50,"),
        ({"postprocessing": {"tumour_reach_mm": -1}}, "postprocessing.tumour_reach_mm: wanted 0 up to 1000, got -1.0"),
        ({"postprocessing": {"tumour_odds": 0}}, "postprocessing.tumour_odds: wanted 0.000001 to 1000000, got 0.0"),
        ({"postprocessing": {"min_lesion_ml": -1}}, "postprocessing.min_lesion_ml: wanted 0 up to 1000000, got -1.0"),
        ({"crop": {"margin_mm": 1e300}}, "crop.margin_mm: wanted -10000 up to 10000, got 1e+300"),
        ({"crop": {"margin_mm": 10**400}}, "crop.margin_mm: wanted a finite number, got a whole one of 401 digits"),
        ({"crop": {"margin_voxels": -(10**12)}}, "crop.margin_voxels: wanted -10000 up to 10000, got -1000000000000"),
        ({"name": "a\nb"}, "name: wanted text in one line, got 'a\\nb'"),
        ({"source": "\ud800"}, "source: wanted text in one line, got '\\ud800'"),
        ({"phases": [{"name": "a=b"}]}, "phases[0].name: wanted a plain word, got 'a=b'"),
        ({"phases": [{"name": "a", "match": [" -"]}]}, "phases[0].match: wanted words with letters or digits, got"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_place_in_the_file(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    assert refusal(tmp_path, change).startswith(message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": {}}, "grid: wanted exactly one of spacing_mm, shape and axes, got none"),
        ({"grid": {"spacing_mm": 2, "shape": [64] * 3}}, "grid: wanted exactly one of spacing_mm, shape and axes, got"),
        ({"grid": {"spacing_mm": 40}}, "grid.spacing_mm: wanted 0.2 to 20 mm, got 40.0"),
        ({"grid": {"shape": [4, 64, 64]}}, "grid.shape: wanted at least 8 voxels a side, got (4, 64, 64)"),
        ({"grid": {"spacing_mm": 4, "multiple_of": 0}}, "grid.multiple_of: wanted at least 1, got 0"),
        ({"grid": {"axes": [OWN_SLICES] * 2}}, "grid.axes: wanted 3 values, got"),
        ({"grid": {"axes": [{}] * 3}}, "grid.axes[0]: wanted exactly one of spacing_mm, times_own and voxels, got"),
        (
            {"grid": {"axes": [OWN_SLICES, OWN_SLICES, {"voxels": 512, "spacing_mm": 1}]}},
            "grid.axes[2]: wanted exactly one of spacing_mm, times_own and voxels, got spacing_mm and voxels",
        ),
        ({"grid": {"axes": [{"voxels": 4}] * 3}}, "grid.axes[0].voxels: wanted at least 8, got 4"),
        ({"grid": {"axes": [{"times_own": 0}] * 3}}, "grid.axes[0].times_own: wanted 0.1 to 10, got 0.0"),
        ({"name": "../whole"}, "name: wanted a plain word, got '../whole'"),
        ({"overlap": 1.0}, "overlap: wanted 0 up to 1, got 1.0"),
        ({"window": [64, 64]}, "window: wanted 3 values, got [64, 64]"),
        ({"window": [64, 64, 0]}, "window: wanted at least 1 voxel a side, got (64, 64, 0)"),
        ({"intensity": {"ct_clip_hu": [5, 5]}}, "intensity.ct_clip_hu: wanted low < high, got (5.0, 5.0)"),
        ({"intensity": {"liver_window": [0, 1]}}, "intensity.liver_window: wanted widths above 0, got (0.0, 1.0)"),
        (
            {"intensity": {"mr_clip_percentiles": [-5, 99]}},
            "intensity.mr_clip_percentiles: wanted 0 to 100, got (-5.0, 99.0)",
        ),
        ({"intensity": {"ct_clip_hu": [0, 1e300]}}, "intensity.ct_clip_hu: wanted -100000 to 100000, got (0.0"),
        ({"grid": {"spacing_mm": 4, "multiple_of": 10**9}}, "grid.multiple_of: wanted at most 512, got 1000000000"),
        ({"grid": {"axes": [{"voxels": 10**6}] * 3}}, "grid.axes[0].voxels: wanted at most 4096, got 1000000"),
        ({"grid": {"shape": [8, 8, 10**6]}}, "grid.shape: wanted at most 4096 voxels a side, got (8, 8, 1000000)"),
        ({"grid": {"spacing_mm": 4, "multiple_of": 16}, "window": [64, 64, 8]}, "window: wanted multiples of (1"),
        ({"window": [8, 8, 10**12]}, "window: wanted at most 4096 voxels a side, got (8, 8, 1000000000000)"),
        ({"context_slices": 10**9 + 1}, "context_slices: wanted at most 99, got 1000000001"),
        ({"context_slices": 4}, "context_slices: wanted an odd number above 0, got 4"),
        ({"classes": ["background", "liver", "liver"]}, "classes: wanted names that differ, got background, liver,"),
        ({"classes": ["liver", "tumour"]}, "classes: wanted background and others after it for softmax, got liver, t"),
        ({"classes": ["background"]}, "classes: wanted background and others after it for softmax, got background"),
        ({"activation": "sigmoid"}, "classes: wanted names other than background for sigmoid, got background, liver"),
        ({"activation": "sigmoid", "classes": []}, "classes: wanted names other than background for sigmoid, got none"),
        (
            {"activation": "sigmoid", "classes": ["liver"]},
            "arguments.out_channels: wanted 1, one for each of liver, got 3",
        ),
    ],
)
def test_a_stage_that_cannot_be_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    assert refusal(tmp_path, {"stages": [STAGE | change]}).startswith(f"stages[0].{message}")


@pytest.mark.parametrize("key", ["name", "variant", "source", "stages"])
def test_a_missing_key_is_named_with_the_file(key: str, tmp_path: Path) -> None:
    path = tmp_path / "small.json"
    path.write_text(json.dumps({name: value for name, value in MINIMAL.items() if name != key}), encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert str(caught.value) == f"{path}: missing key {key!r}"


@pytest.mark.parametrize(
    ("system", "options", "message"),
    [
        ("coarse_to_fine", {"box": [8, 8, 10**9]}, "box: wanted at most 2048 voxels a side, got (8, 8, 1000000000)"),
        ("coarse_to_fine", {"slices_beyond": 10**9}, "slices_beyond: wanted at most 1000, got 1000000000"),
        ("coarse_to_fine", {"detector_factor": 1e300}, "detector_factor: wanted at most 1000000, got 1e+300"),
        ("body_cascade", {"closing_mm": 1e300}, "closing_mm: wanted at most 100, got 1e+300"),
        ("typing", {"patches": 10**9}, "patches: wanted at most 1000, got 1000000000"),
        ("typing", {"factor_high": 1e300}, "factor_high: wanted at most 1000000, got 1e+300"),
        ("slices", {"tile": 10**9}, "tile: wanted at most 4096, got 1000000000"),
    ],
)
def test_a_system_s_option_beyond_all_measure_is_refused(
    system: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    assert refusal(tmp_path, {"system": system, system: options}).startswith(f"{system}.{message}")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", "[" * 100_000])
def test_a_file_that_is_no_recipe_is_refused_with_its_name(text: str, tmp_path: Path) -> None:
    path = tmp_path / "small.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match="wanted") as caught:
        load_recipe(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_that_is_not_there_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nothing\.json: cannot read the recipe"):
        load_recipe(tmp_path / "nothing.json")
