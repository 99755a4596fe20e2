"""The recipes that ship: what they say, and that the paper's and the repaired variant differ where it is documented."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from LiverTumorSegLib.bundle import Bundle
from LiverTumorSegLib.calibration import carried_over
from LiverTumorSegLib.networks import DETECTORS, NETWORKS, build_network
from LiverTumorSegLib.postprocessing import scaled_odds
from LiverTumorSegLib.recipe import Recipe, load_recipe, recipe_to_json
from LiverTumorSegLib.resources import resource_path
from LiverTumorSegLib.systems import SYSTEMS

RECIPES = sorted(resource_path("Recipes").glob("*.json"))
S1_PAIRS = ["s1_highresnet", "s1_segresnet", "s1_unet3d", "s1_vnet"]


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
    for stage, training in zip(recipe.stages, recipe.training, strict=True):
        assert stage.network in (DETECTORS if stage.task == "detect" else NETWORKS)
        for size in (stage.grid.shape, stage.window, training.patch):
            assert size is None or all(n % m == 0 for n, m in zip(size, stage.grid.multiples, strict=True))


def test_every_shipped_recipe_builds_its_networks() -> None:
    built = {(stage.network, json.dumps(stage.arguments)) for path in RECIPES for stage in load_recipe(path).stages}
    for network, arguments in built:
        assert any(each.numel() for each in build_network(network, json.loads(arguments)).parameters())


def test_the_shipped_bundle_is_what_the_recipe_of_its_name_trains_and_calibrated() -> None:
    bundle, recipe = (
        Bundle.load(resource_path("Bundles", "default")),
        load_recipe(resource_path("Recipes", "default.json")),
    )
    *others, last = bundle.recipe.stages
    trained, rules, plain = (
        dataclasses.replace(last, temperature=1.0),
        bundle.recipe.postprocessing,
        recipe.postprocessing,
    )
    # The same voxels are tumour and the same lesions kept, but for rounding.
    assert last.temperature > 1
    assert rules.tumour_odds == pytest.approx(plain.tumour_odds ** (1 / last.temperature), rel=0.01)
    before, after = (scaled_odds(each.min_lesion_probability, 1 / each.tumour_odds) for each in (plain, rules))
    assert after == pytest.approx(carried_over(before, last.temperature), rel=0.01)
    asked = dataclasses.replace(
        rules, min_lesion_probability=plain.min_lesion_probability, tumour_odds=plain.tumour_odds
    )
    assert dataclasses.replace(bundle.recipe, stages=(*others, trained), postprocessing=asked) == recipe
    assert bundle.version in bundle.metadata["changelog"]


def test_there_is_a_function_for_every_system_that_a_recipe_may_name() -> None:
    assert set(SYSTEMS) == set(get_args(get_type_hints(Recipe)["system"]))


def test_every_paper_s_recipes_ship_in_both_variants() -> None:
    stems = {path.stem for path in RECIPES}
    printed = {stem for stem in stems if stem.endswith("_as_printed")}
    assert {stem.removesuffix("_as_printed") + "_repaired" for stem in printed} == {
        stem for stem in stems if stem.endswith("_repaired")
    }
    assert stems >= {f"{pair}_{variant}" for pair in S1_PAIRS for variant in ("as_printed", "repaired")} | {"default"}
    for path in RECIPES:
        named = path.stem.endswith("_as_printed")
        assert load_recipe(path).variant == ("as_printed" if named else "repaired")


@pytest.mark.parametrize("pair", S1_PAIRS)
def test_s1_as_printed_and_repaired_differ_exactly_in_the_documented_keys(pair: str) -> None:
    printed, repaired = (load_recipe(resource_path("Recipes", f"{pair}_{v}.json")) for v in ("as_printed", "repaired"))
    own = {"s1_highresnet": ("final_activation", "norm"), "s1_vnet": ("norm",)}.get(pair, ())
    assert differing_keys(printed, repaired) == {f"stages[{n}].arguments.{key}" for n in (0, 1) for key in own} | {
        "name",
        "variant",
        "crop.margin_mm",
        "crop.margin_voxels",
        "training[1].sampling.crop.margin_voxels",
        "postprocessing.keep_liver_above",
        "postprocessing.fill_holes",
        "postprocessing.tumour_reach_mm",
        "postprocessing.opening_radius_voxels",
        "postprocessing.min_lesion_ml",
    }


@pytest.mark.parametrize("pair", S1_PAIRS)
def test_the_printed_recipe_of_s1_says_what_the_paper_prints(pair: str) -> None:
    recipe = load_recipe(resource_path("Recipes", f"{pair}_as_printed.json"))
    shapes = {"s1_highresnet": (128, 128, 92), "s1_vnet": (128, 128, 128)}
    assert [stage.grid.shape for stage in recipe.stages] == [shapes.get(pair, (320, 320, 160))] * 2
    assert [(stage.region, stage.activation) for stage in recipe.stages] == [("whole", "softmax"), ("liver", "softmax")]
    assert (recipe.crop.margin_voxels, recipe.postprocessing.opening_radius_voxels) == (-20, 2)
    for training in recipe.training:
        assert (training.optimiser, training.schedule, training.learning_rate) == ("adam", "poly", 1e-5)
        assert (training.schedule_power, training.patience) == (0.9, 20)
        assert (training.loss, training.augmentation, training.hand_over) == ("dice_focal", "s1", True)
