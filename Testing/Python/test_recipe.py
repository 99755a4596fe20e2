"""The recipes that ship, and what a recipe file may say."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from LiverTumorSegLib.errors import RecipeError
from LiverTumorSegLib.networks import NETWORKS, build_network
from LiverTumorSegLib.recipe import Phase, Recipe, load_recipe, recipe_to_json
from LiverTumorSegLib.resources import resource_path

RECIPES = sorted(resource_path("Recipes").glob("*.json"))
PAIRS = sorted(path.stem.removesuffix("_as_printed") for path in RECIPES if path.stem.endswith("_as_printed"))
MINIMAL: dict[str, Any] = {
    "name": "small",
    "variant": "repaired",
    "source": "a test",
    "stages": [{"name": "whole", "network": "unet", "grid": {"spacing_mm": 4}}],
}


def written(folder: Path, document: object) -> Path:
    path = folder / "small.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def flattened(value: object, where: str = "") -> dict[str, object]:
    """Return dotted key -> value for everything in a recipe."""
    if isinstance(value, dict):
        items = [(f"{where}.{key}" if where else key, each) for key, each in value.items()]
    elif isinstance(value, tuple | list) and value and isinstance(value[0], dict):
        items = [(f"{where}[{number}]", each) for number, each in enumerate(value)]
    else:
        return {where: value}
    return {key: leaf for name, each in items for key, leaf in flattened(each, name).items()}


def differing_keys(first: Recipe, second: Recipe) -> set[str]:
    one, other = flattened(dataclasses.asdict(first)), flattened(dataclasses.asdict(second))
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_called_as_its_file_and_comes_back_from_json(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    copy = tmp_path / path.name
    copy.write_text(recipe_to_json(recipe), encoding="utf-8")
    assert load_recipe(copy) == recipe


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_names_a_known_network_that_divides_its_grids(path: Path) -> None:
    recipe = load_recipe(path)
    for stage, patch in zip(recipe.stages, recipe.training.patch, strict=True):
        assert stage.network in NETWORKS
        for size in (stage.grid.shape, stage.window, patch):
            assert size is None or all(side % stage.grid.multiple_of == 0 for side in size)


def test_every_shipped_recipe_builds_its_networks() -> None:
    built = {(stage.network, json.dumps(stage.arguments)) for path in RECIPES for stage in load_recipe(path).stages}
    for network, arguments in built:
        assert any(each.numel() for each in build_network(network, json.loads(arguments)).parameters())


def test_the_four_networks_of_the_paper_ship_in_both_variants_beside_the_default() -> None:
    assert PAIRS == ["s1_highresnet", "s1_segresnet", "s1_unet3d", "s1_vnet"]
    pairs = {f"{pair}_{variant}" for pair in PAIRS for variant in ("as_printed", "repaired")}
    assert {path.stem for path in RECIPES} >= pairs | {"default"}


@pytest.mark.parametrize("pair", PAIRS)
def test_as_printed_and_repaired_differ_exactly_in_the_documented_keys(pair: str) -> None:
    printed, repaired = (load_recipe(resource_path("Recipes", f"{pair}_{v}.json")) for v in ("as_printed", "repaired"))
    assert (printed.variant, repaired.variant) == ("as_printed", "repaired")
    head = {f"stages[{n}].arguments.final_activation" for n in (0, 1)} if pair == "s1_highresnet" else set()
    assert differing_keys(printed, repaired) == head | {
        "name",
        "variant",
        "crop.margin_mm",
        "crop.margin_voxels",
        "postprocessing.keep_liver_above",
        "postprocessing.fill_holes",
        "postprocessing.tumour_reach_mm",
        "postprocessing.opening_radius_voxels",
        "postprocessing.min_lesion_ml",
    }


@pytest.mark.parametrize("pair", PAIRS)
def test_the_printed_recipe_says_what_the_paper_prints(pair: str) -> None:
    recipe = load_recipe(resource_path("Recipes", f"{pair}_as_printed.json"))
    shapes = {"s1_highresnet": (128, 128, 92), "s1_vnet": (128, 128, 128)}
    assert [stage.grid.shape for stage in recipe.stages] == [shapes.get(pair, (320, 320, 160))] * 2
    assert (recipe.crop.margin_voxels, recipe.postprocessing.opening_radius_voxels) == (-20, 2)
    training = recipe.training
    assert (training.learning_rate, training.schedule_power, training.patience) == (1e-5, 0.9, 20)
    assert (training.loss, training.hand_over) == (("dice_focal",), True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "unknown key 'colour'; allowed there: name, variant, source, stages, crop, postprocessing"),
        ({"crop": {"margin": 1}}, "unknown key 'crop.margin'; allowed there: margin_mm, margin_voxels"),
        ({"name": None}, "name: wanted str, got None"),
        ({"variant": "better"}, "variant: wanted one of 'as_printed', 'repaired', got 'better'"),
        ({"crop": {}}, "crop: wanted exactly one of margin_mm and margin_voxels"),
        ({"crop": {"margin_mm": 1, "margin_voxels": 1}}, "crop: wanted exactly one of margin_mm and margin_voxels"),
        ({"crop": {"margin_voxels": 1.5}}, "crop.margin_voxels: wanted int, got 1.5"),
        ({"crop": {"margin_voxels": True}}, "crop.margin_voxels: wanted int, got True"),
        ({"stages": []}, "recipe.stages: wanted 1 or 2 stages, got 0"),
        ({"stages": 1}, "stages: wanted a list, got 1"),
        ({"postprocessing": {"fill_holes": 1}}, "postprocessing.fill_holes: wanted bool, got 1"),
        ({"postprocessing": {"keep_liver_above": 0}}, "keep_liver_above: wanted above 0 up to 1, got 0.0"),
        ({"training": {"patch": []}}, "recipe.training.patch: wanted one for each of 1 stages, got 0"),
        ({"training": {"patch": [[8, 8]]}}, "training.patch[0]: wanted 3 values, got [8, 8]"),
        ({"training": {"weight_average": 1}}, "training.weight_average: wanted 0 to below 1, got 1.0"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_the_file_and_what_is_allowed(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = written(tmp_path, MINIMAL | change)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": {}}, "grid: wanted exactly one of spacing_mm and shape"),
        ({"grid": {"spacing_mm": 40}}, "grid.spacing_mm: wanted 0.2 to 20 mm, got 40.0"),
        ({"grid": {"shape": [4, 64, 64]}}, "grid.shape: wanted at least 8 voxels a side, got (4, 64, 64)"),
        ({"name": "../whole"}, "stage.name: wanted a plain word, got '../whole'"),
        ({"overlap": 1.0}, "stage.overlap: wanted 0 up to 1, got 1.0"),
        ({"intensity": {"ct_clip_hu": [5, 5]}}, "intensity.ct_clip_hu: wanted low < high, got (5.0, 5.0)"),
        ({"window": [64, 64]}, "stages[0].window: wanted 3 values, got [64, 64]"),
    ],
)
def test_a_wrong_stage_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = written(tmp_path, MINIMAL | {"stages": [MINIMAL["stages"][0] | change]})
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert message in str(caught.value)


@pytest.mark.parametrize("key", ["name", "variant", "source", "stages"])
def test_a_missing_key_is_named_with_the_file(key: str, tmp_path: Path) -> None:
    path = written(tmp_path, {name: value for name, value in MINIMAL.items() if name != key})
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(f"{path}: missing key {key!r}")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3"])
def test_a_file_that_is_no_recipe_is_refused_with_its_name(text: str, tmp_path: Path) -> None:
    path = tmp_path / "small.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match="wanted") as caught:
        load_recipe(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_that_is_not_there_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nothing\.json: cannot read the recipe"):
        load_recipe(tmp_path / "nothing.json")


TWO_CHANNELS = {"stages": [MINIMAL["stages"][0] | {"arguments": {"in_channels": 2}}]}


def test_a_recipe_has_no_further_phases_unless_it_says_so(tmp_path: Path) -> None:
    assert load_recipe(written(tmp_path, MINIMAL)).phases == ()
    declared = {"phases": [{"name": "arterial", "match": ["art", "late arterial"], "required": True}]}
    recipe = load_recipe(written(tmp_path, MINIMAL | TWO_CHANNELS | declared))
    assert recipe.phases == (Phase("arterial", ("art", "late arterial"), True),)
    copy = tmp_path / "copy.json"
    copy.write_text(recipe_to_json(recipe), encoding="utf-8")
    assert load_recipe(copy) == recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"phases": "arterial"}, "phases: wanted a list, got 'arterial'"),
        ({"phases": [{"names": "a"}]}, "unknown key 'phases[0].names'; allowed there: name, match, required"),
        ({"phases": [{"match": ["art"]}]}, "missing key 'phases[0].name'"),
        ({"phases": [{"name": ""}]}, "phase.name: wanted a plain word, got ''"),
        ({"phases": [{"name": "a=b"}]}, "phase.name: wanted a plain word, got 'a=b'"),
        ({"phases": [{"name": "a", "match": ["art", " -"]}]}, "phase.match: wanted words with letters or digits"),
        ({"phases": [{"name": "a", "required": 1}]}, "phases[0].required: wanted bool, got 1"),
        ({"phases": [{"name": "a"}, {"name": "A"}]}, "recipe.phases: wanted names that differ, got a, a"),
        ({"phases": [{"name": "a"}]}, "recipe.stages[0].arguments.in_channels: wanted 2, one for the scan and one for"),
        (
            TWO_CHANNELS,
            "recipe.stages[0].arguments.in_channels: wanted 1, one for the scan and one for each phase, got 2",
        ),
    ],
)
def test_phases_that_cannot_be_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(written(tmp_path, MINIMAL | change))
    assert message in str(caught.value)


def test_whole_numbers_are_taken_for_lengths(tmp_path: Path) -> None:
    assert load_recipe(written(tmp_path, MINIMAL)).stages[0].grid.spacing_mm == 4.0


def test_the_first_stage_cannot_scale_by_a_liver_that_nobody_has_found(tmp_path):
    recipe = json.loads(resource_path("Recipes", "default.json").read_text(encoding="utf-8"))
    recipe["stages"][0]["intensity"]["scale"] = "liver"
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(RecipeError, match="no stage found it yet"):
        load_recipe(tmp_path / "recipe.json")
