"""What the parts of a recipe ask of each other: stages, training, channels, labels, the system and its options."""

from __future__ import annotations

from typing import Any

import pytest

from LiverTumorSegLib.errors import RecipeError
from LiverTumorSegLib.recipe import (
    Axis,
    BodyCrop,
    CoarseToFine,
    Crop,
    Grid,
    Intensity,
    Phase,
    Recipe,
    Slices,
    Stage,
    Training,
    Typing,
)
from LiverTumorSegLib.recipe.describing import describe_stage, describe_system

GRID = Grid(spacing_mm=4.0)
WHOLE = Stage("whole", "unet", GRID)
CROP = Stage("crop", "unet", GRID, region="liver")
TYPES = ("hcc", "icc", "metastasis", "haemangioma", "other", "cyst")


def recipe(*stages: Stage, **changes: Any) -> Recipe:
    return Recipe("small", "repaired", "a test", stages or (WHOLE, CROP), **changes)


def refusal(*stages: Stage, **changes: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        recipe(*stages, **changes)
    return str(caught.value)


def test_a_recipe_that_says_nothing_of_training_trains_every_stage_by_the_defaults() -> None:
    assert recipe().training == (Training(), Training())
    assert recipe().training[0].loss == "dice_focal"


def test_training_has_one_entry_for_each_stage() -> None:
    assert refusal(training=(Training(),)) == "recipe.training: wanted one entry for each of 2 stages, got 1"


def test_a_recipe_has_one_to_four_stages_with_names_that_differ() -> None:
    with pytest.raises(RecipeError, match=r"recipe\.stages: wanted 1 to 4 stages, got 0"):
        Recipe("small", "repaired", "a test", ())
    four = [Stage(name, "unet", GRID) for name in ("a", "b", "c", "d")]
    assert len(recipe(*four).stages) == 4
    assert refusal(*four, Stage("e", "unet", GRID)) == "recipe.stages: wanted 1 to 4 stages, got 5"
    assert refusal(WHOLE, WHOLE) == "recipe.stages: wanted names that differ, got whole, whole"


def test_nothing_scales_by_a_liver_that_no_stage_before_it_found() -> None:
    wanted = "intensity.scale: wanted unit, symmetric or zscore, got 'liver': no stage found it yet"
    by_liver = Stage("by_liver", "unet", GRID, intensity=Intensity(scale="liver"))
    assert refusal(by_liver) == f"recipe.stages[0].{wanted}"
    only_tumour = Stage("spots", "unet", GRID, {"out_channels": 1}, classes=("tumour",), activation="sigmoid")
    assert refusal(only_tumour, by_liver) == f"recipe.stages[1].{wanted}"
    assert recipe(WHOLE, by_liver).stages[1].intensity.scale == "liver"


@pytest.mark.parametrize("region", ["liver", "lesion"])
def test_the_first_stage_looks_at_the_whole_scan(region: Any) -> None:
    with pytest.raises(
        RecipeError, match=rf"stages\[0\].region: wanted whole, got '{region}': no stage found the liver"
    ):
        recipe(Stage("first", "unet", GRID, region=region))
    assert recipe(WHOLE, Stage("later", "unet", GRID, region=region)).stages[1].region == region


@pytest.mark.parametrize(("phases", "slices", "channels"), [(0, 1, 1), (0, 5, 5), (3, 1, 4), (1, 3, 6)])
def test_a_network_has_a_channel_for_each_slice_of_the_scan_and_of_each_phase(
    phases: int, slices: int, channels: int
) -> None:
    others = tuple(Phase(f"phase{n}") for n in range(phases))
    stage = Stage("whole", "unet", GRID, {"in_channels": channels}, context_slices=slices)
    assert recipe(stage, phases=others).stages[0].arguments["in_channels"] == channels
    wrong = Stage("whole", "unet", GRID, {"in_channels": channels + 1}, context_slices=slices)
    message = refusal(wrong, phases=others)
    assert message.startswith(
        f"recipe.stages[0].arguments.in_channels: wanted {channels}, one for the scan and one for"
    )
    assert message.endswith(f", got {channels + 1}")


def test_phases_have_names_that_differ_whatever_the_case() -> None:
    both = Stage("whole", "unet", GRID, {"in_channels": 3})
    assert refusal(both, phases=(Phase("a"), Phase("A"))) == "recipe.phases: wanted names that differ, got a, a"


OPTIONS = {"coarse_to_fine": CoarseToFine(), "body_cascade": BodyCrop(), "typing": Typing(), "slices": Slices()}


@pytest.mark.parametrize("system", OPTIONS)
def test_a_system_s_options_are_there_when_the_system_needs_them_and_only_then(system: Any) -> None:
    names = {"label_names": ("background", "liver", *TYPES)} if system == "typing" else {}
    assert recipe(system=system, **{system: OPTIONS[system]}, **names).system == system
    assert refusal(system=system) == f"recipe.{system}: wanted the options of the system '{system}', got none"
    elsewhere = refusal(**{system: OPTIONS[system]}, **names)
    assert elsewhere == f"recipe.{system}: wanted it only in a system '{system}', got a system 'cascade'"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("liver", "tumour"), "background and others that differ, got liver, tumour"),
        (
            ("background", "liver", "tumour", "liver"),
            "background and others that differ, got background, liver, tumour, l",
        ),
        ((), "background and others that differ, got none"),
        (("background", "liver"), "tumour among them, got background, liver"),
    ],
)
def test_the_label_names_begin_with_the_background_and_hold_every_lesion(names: tuple[str, ...], message: str) -> None:
    assert refusal(label_names=names).startswith(f"recipe.label_names: wanted {message}")


def test_the_label_names_of_a_typing_system_hold_every_type() -> None:
    message = refusal(system="typing", typing=Typing(), label_names=("background", "liver", *TYPES[:4]))
    assert message.startswith("recipe.label_names: wanted other, cyst among them, got background, liver, hcc, icc, ")


def test_the_lesions_are_the_tumour_or_the_types_of_a_typing_system() -> None:
    assert recipe().lesion_names == ("tumour",)
    typed = recipe(system="typing", typing=Typing(), label_names=("background", "liver", *TYPES))
    assert typed.lesion_names == TYPES


def test_a_class_is_a_label_s_name_or_liver_or_tumour() -> None:
    stage = Stage("whole", "unet", GRID, {"out_channels": 2}, classes=("background", "kidney"))
    assert refusal(stage) == "recipe.stages[0].classes: wanted liver, tumour or names of label_names, got kidney"
    named = recipe(stage, label_names=("background", "liver", "tumour", "kidney"))
    assert named.stages[0].classes == ("background", "kidney")


def test_a_grid_s_multiples_are_one_for_all_axes_or_each_axis_its_own() -> None:
    assert Grid(spacing_mm=2.0, multiple_of=8).multiples == (8, 8, 8)
    plane = Axis(voxels=512, multiple_of=16)
    assert Grid(axes=(plane, plane, Axis(times_own=1.0))).multiples == (16, 16, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CoarseToFine(detector_factor=0), "coarse_to_fine.detector_factor: wanted above 0, got 0"),
        (lambda: CoarseToFine(liver_reach_mm=-1), "coarse_to_fine.liver_reach_mm: wanted 0 or more, got -1"),
        (lambda: CoarseToFine(box=(64, 64, 0)), "coarse_to_fine.box: wanted at least 1 voxel a side, got (64, 64, 0)"),
        (lambda: BodyCrop(margin_mm=-1), "body_cascade.margin_mm: wanted 0 or more, got -1"),
        (lambda: Typing(patches=0), "typing.patches: wanted above 0, got 0"),
        (lambda: Typing(smallest_share=2), "typing.smallest_share: wanted 0 up to 1, got 2"),
        (lambda: Typing(lesion_types=(), malignant=()), "typing.lesion_types: wanted names that differ, got none"),
        (lambda: Typing(lesion_types=("a",), malignant=("b",)), "typing.malignant: wanted names among a, got b"),
        (lambda: Slices(tile=0), "slices.tile: wanted above 0, got 0"),
    ],
)
def test_options_out_of_range_are_refused(make: Any, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        make()
    assert str(caught.value) == message


# What is told of a recipe


PLANE = Axis(voxels=512, multiple_of=16)


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        (WHOLE, "whole: unet; 4 mm; whole; background, liver, tumour by softmax"),
        (CROP, "crop: unet; 4 mm; liver + 12.5 mm; background, liver, tumour by softmax"),
        (
            Stage("a", "vnet", Grid(shape=(128, 128, 92))),
            "a: vnet; 128 x 128 x 92 voxels; whole; background, liver, tum",
        ),
        (
            Stage(
                "b",
                "csr_unet",
                Grid(axes=(PLANE, PLANE, Axis(times_own=1.0))),
                {"in_channels": 5, "out_channels": 1},
                classes=("liver",),
                activation="sigmoid",
                context_slices=5,
            ),
            "b: csr_unet of 5 slices; 512 voxels x 512 voxels x own spacing; whole; liver by sigmoid",
        ),
        (
            Stage(
                "c",
                "retina_unet",
                Grid(axes=(Axis(times_own=2.0),) * 2 + (Axis(spacing_mm=1.0),)),
                {"out_channels": 10},
                task="detect",
            ),
            "c: retina_unet to detect; own spacing times 2 x own spacing times 2 x 1 mm; whole; background, liver",
        ),
    ],
)
def test_a_stage_is_told_in_one_line(stage: Stage, told: str) -> None:
    assert describe_stage(stage, Crop(margin_mm=12.5)).startswith(told)


def test_a_margin_that_takes_from_the_box_is_told_as_such() -> None:
    assert "; liver - 20 voxels; " in describe_stage(CROP, Crop(margin_voxels=-20))


def test_a_system_is_told_with_its_options() -> None:
    assert describe_system(recipe()) == "cascade"
    assert describe_system(recipe(system="slices", slices=Slices())).startswith("slices: tile 256, centre volume")
    told = describe_system(recipe(system="coarse_to_fine", coarse_to_fine=CoarseToFine()))
    assert told.startswith("coarse_to_fine: detector seg2det, detector_factor 4, ")
    assert ", box 64 x 64 x 5, " in told
    typed = recipe(system="typing", typing=Typing(), label_names=("background", "liver", *TYPES))
    assert "malignant hcc icc metastasis, " in describe_system(typed)
