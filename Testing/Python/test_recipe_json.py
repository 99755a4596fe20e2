"""Any recipe comes back from its JSON text as it was, whatever it says."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from LiverTumorSegLib.errors import RecipeError
from LiverTumorSegLib.recipe import (
    FINDING_CHANNELS,
    Axis,
    BodyCrop,
    CoarseToFine,
    Crop,
    Grid,
    Intensity,
    Phase,
    Postprocessing,
    Recipe,
    Sampling,
    Slices,
    Stage,
    Training,
    Typing,
    load_recipe,
    recipe_to_json,
)
from LiverTumorSegLib.recipe.reading import build

LESIONS = ("hcc", "cyst")
CLASSES = {"softmax": ("background", "liver", "tumour"), "sigmoid": ("liver", "tumour")}

words = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
shares = st.floats(0, 0.5)
positive = st.floats(0.001, 1e3)
counts = st.integers(1, 500)
triples = st.tuples(counts, counts, counts)
axes = st.one_of(
    st.builds(Axis, spacing_mm=st.floats(0.2, 20), multiple_of=counts),
    st.builds(Axis, times_own=st.floats(0.1, 10)),
    st.builds(Axis, voxels=st.integers(8, 1024)),
)
grids = st.one_of(
    st.builds(Grid, spacing_mm=st.floats(0.2, 20), multiple_of=counts),
    st.builds(Grid, shape=st.tuples(*[st.integers(8, 512)] * 3)),
    st.builds(Grid, axes=st.tuples(axes, axes, axes)),
)
limits = st.none() | st.tuples(st.floats(-1000, 0), st.floats(1, 1000))
percentiles = st.none() | st.tuples(st.floats(0, 40), st.floats(60, 100))
texts = st.text(st.characters(exclude_categories=("Cc", "Cs")))
samplings = st.builds(Sampling, lesion=shares, liver_without_lesion=shares, inverse_size=st.booleans())
trainings = st.builds(
    Training,
    loss=words,
    deep_supervision=shares,
    deep_supervision_decay=st.floats(0.1, 1),
    optimiser=st.sampled_from(["adam", "adamw", "sgd"]),
    learning_rate=shares,
    schedule=st.sampled_from(["poly", "cosine", "step", "constant"]),
    epochs=counts,
    patch=triples,
    hand_over=st.booleans(),
    weight_average=shares,
    clip_gradient=positive,
    augmentation=words,
    sampling=samplings,
)
options = {
    "coarse_to_fine": st.builds(CoarseToFine, detector=st.sampled_from(["seg2det", "retina"]), box=triples),
    "body_cascade": st.builds(BodyCrop, threshold_hu=st.floats(-900, 0), margin_mm=positive),
    "typing": st.builds(Typing, patches=counts, lesion_types=st.just(LESIONS), malignant=st.just(LESIONS[:1])),
    "slices": st.builds(Slices, tile=counts, centre=st.sampled_from(["volume", "slice"])),
}


@st.composite
def stages(draw: st.DrawFn, number: int, phases: int) -> Stage:
    activation = draw(st.sampled_from(["softmax", "sigmoid"]))
    slices = draw(st.sampled_from([1, 3, 5]))
    first = number == 0
    task = draw(st.sampled_from(["segment", "detect"]))
    arguments = {
        "in_channels": (1 + phases) * slices,
        "out_channels": len(CLASSES[activation]) + (FINDING_CHANNELS if task == "detect" else 0),
        "channels": draw(st.lists(counts)),
        "norm": draw(words),
    }
    scale = draw(st.sampled_from(["unit", "symmetric", "zscore"] if first else ["liver", "zscore"]))
    grid = draw(grids)
    tiles = draw(st.tuples(*[st.integers(1, 8)] * 3))
    window = tuple(count * multiple for count, multiple in zip(tiles, grid.multiples, strict=True))
    return Stage(
        name=f"stage{number}",
        network=draw(words),
        grid=grid,
        arguments=arguments,
        intensity=Intensity(draw(limits), draw(percentiles), scale),
        window=draw(st.none() | st.just(window)),
        overlap=draw(shares),
        classes=CLASSES[activation],
        activation=activation,
        region="whole" if first else draw(st.sampled_from(["whole", "liver", "lesion"])),
        context_slices=slices,
        task=task,
        temperature=draw(st.floats(0.1, 10)) if task == "segment" else 1.0,
    )


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    system = draw(st.sampled_from(["cascade", *options]))
    names = draw(st.lists(words, max_size=3, unique=True))
    count = draw(st.integers(1, 4))
    return Recipe(
        name=draw(texts),
        variant=draw(st.sampled_from(["as_printed", "repaired"])),
        source=draw(texts),
        stages=tuple(draw(stages(number, len(names))) for number in range(count)),
        crop=draw(st.builds(Crop, margin_mm=positive) | st.builds(Crop, margin_voxels=st.integers(-50, 50))),
        postprocessing=draw(st.builds(Postprocessing, keep_liver_above=st.floats(0.1, 1), min_lesion_ml=positive)),
        training=tuple(draw(trainings) for _ in range(count)) if draw(st.booleans()) else (),
        phases=tuple(Phase(name, tuple(draw(st.lists(words, max_size=2))), draw(st.booleans())) for name in names),
        system=system,
        label_names=("background", "liver", "tumour", *LESIONS),
        **({system: draw(options[system])} if system in options else {}),
    )


@settings(max_examples=150, deadline=None)
@given(recipes())
def test_any_recipe_comes_back_from_its_json(recipe: Recipe) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.json"
        path.write_text(recipe_to_json(recipe), encoding="utf-8")
        again = load_recipe(path)
    assert again == recipe
    assert recipe_to_json(again) == recipe_to_json(recipe)


@settings(max_examples=100, deadline=None)
@given(recipes(), st.data())
def test_a_wrong_value_anywhere_in_a_stage_or_its_training_is_refused_by_its_place(
    recipe: Recipe, data: st.DataObject
) -> None:
    document = json.loads(recipe_to_json(recipe))
    part = data.draw(st.sampled_from(["stages", "training"]))
    number = data.draw(st.integers(0, len(document[part]) - 1))
    key = data.draw(st.sampled_from(sorted(document[part][number])))
    document[part][number][key] = {"wrong": 1} if key != "arguments" else 1
    with pytest.raises(RecipeError) as caught:
        build(Recipe, document)
    assert f"{part}[{number}].{key}" in str(caught.value)
    assert "\n" not in str(caught.value)


@dataclass(frozen=True)
class Either:
    """A field that may be of several kinds."""

    size: tuple[int, int] | int | Literal["own"] | None = None


@pytest.mark.parametrize(("value", "wanted"), [(3, 3), ([1, 2], (1, 2)), ("own", "own"), (None, None)])
def test_of_several_kinds_the_one_that_fits_is_taken(value: Any, wanted: Any) -> None:
    assert build(Either, {"size": value}) == Either(wanted)


def test_a_value_that_fits_none_of_several_kinds_is_refused_by_all_of_them() -> None:
    with pytest.raises(RecipeError) as caught:
        build(Either, {"size": 1.5})
    assert str(caught.value) == (
        "size: wanted a list, got 1.5, or size: wanted int, got 1.5, or size: wanted one of 'own', got 1.5"
    )


def test_whole_numbers_are_taken_for_lengths() -> None:
    spacing = build(Grid, {"spacing_mm": 4}).spacing_mm
    assert (spacing, type(spacing)) == (4.0, float)


def test_a_recipe_has_no_further_phases_options_or_training_unless_it_says_so() -> None:
    stage = {"name": "whole", "network": "unet", "grid": {"spacing_mm": 4}}
    recipe = build(Recipe, {"name": "small", "variant": "repaired", "source": "a test", "stages": [stage]})
    assert (recipe.phases, recipe.training, recipe.system) == ((), (Training(),), "cascade")
    assert [getattr(recipe, name) for name in options] == [None] * 4
