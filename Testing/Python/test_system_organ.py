"""A stage that is shown the organ that was found, and looks for tumours in it: recipe, inference and training."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from LiverTumorSegLib.errors import RecipeError
from LiverTumorSegLib.preprocessing import confined
from LiverTumorSegLib.recipe import Axis, Crop, Grid, Intensity, Postprocessing, Recipe, Stage, Typing
from LiverTumorSegLib.recipe.describing import describe_stage
from LiverTumorSegLib.systems import system_named
from LiverTumorSegLib.systems.cascade import check
from LiverTumorSegLib.systems.stages import Networks, Study
from LiverTumorSegLib.training.organ import confine, found_organ

NATIVE = Grid(axes=(Axis(times_own=1.0), Axis(times_own=1.0), Axis(times_own=1.0)))
PLAIN = Intensity(ct_clip_hu=(0, 100), scale="unit")
RULES = Postprocessing(min_liver_contact=0.0, min_lesion_ml=0.0, min_lesion_probability=0.0)
WHOLE = Stage("whole", "unet", NATIVE, {}, PLAIN)
INSIDE = Stage(
    "lesion",
    "unet",
    NATIVE,
    {"in_channels": 3, "out_channels": 1},
    PLAIN,
    classes=("tumour",),
    activation="sigmoid",
    region="liver",
    in_organ=True,
)


class GreyLiver:
    """Liver is what is brighter than 0.3, background the rest; nothing is tumour."""

    name, device, precision = "grey", "cpu", "f32"

    def __call__(self, array: np.ndarray) -> np.ndarray:
        liver = np.where(array > 0.3, 5.0, -5.0)
        return np.concatenate([np.zeros_like(liver), liver, np.full_like(liver, -9.0)], 1).astype(np.float32)

    def move_to_cpu(self) -> None:
        """It is there."""


class DarkSpots:
    """Tumour is what is darker than 0.45, wherever it is shown; it notes its inputs."""

    name, device, precision = "spots", "cpu", "f32"

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def __call__(self, array: np.ndarray) -> np.ndarray:
        self.seen.append(array)
        return np.where(array[:, :1] < 0.45, 4.0, -4.0).astype(np.float32)

    def move_to_cpu(self) -> None:
        """It is there."""


def recipe(*stages: Stage, **fields: object) -> Recipe:
    return Recipe("organ", "repaired", "test", stages, Crop(margin_mm=2.0), RULES, **fields)  # type: ignore[arg-type]


def abdomen() -> sitk.Image:
    """A liver of 60 HU with a spot of 40 in it, and one of 0 that is a hole for the first network; all else is 0."""
    volume = np.zeros((20, 24, 28), np.int16)
    volume[4:16, 4:20, 4:24] = 60
    volume[6:9, 6:9, 6:9] = 40
    volume[10:13, 10:13, 12:15] = 0
    return sitk.GetImageFromArray(volume)


def segmented(scan: sitk.Image) -> tuple[np.ndarray, DarkSpots]:
    spots = DarkSpots()
    networks = Networks(recipe(WHOLE, INSIDE), {"whole": GreyLiver(), "lesion": spots})
    evidence = system_named("cascade")(Study(scan, {}, "CT"), networks).evidence
    return sitk.GetArrayFromImage(evidence.labels_like(scan)), spots


# Recipe


def test_a_stage_in_the_organ_has_its_channels_twice_and_one_for_the_organ():
    wanted = "in_channels: wanted 3, one for the scan and one for each phase, twice, and one for the organ, got 1"
    with pytest.raises(RecipeError, match=wanted):
        recipe(WHOLE, dataclasses.replace(INSIDE, arguments={"in_channels": 1, "out_channels": 1}))


@pytest.mark.parametrize("change", [{"region": "whole"}, {"region": "lesion"}, {"context_slices": 3}])
def test_it_labels_voxels_of_the_liver_s_box(change):
    with pytest.raises(RecipeError, match=r"stage.in_organ: wanted"):
        dataclasses.replace(INSIDE, **change)


def test_only_the_cascade_has_a_place_for_it():
    typing = Typing()
    names = ("background", "liver", *typing.lesion_types)
    with pytest.raises(RecipeError, match=r"stages\[1\].in_organ: wanted false in a system 'typing'"):
        recipe(WHOLE, INSIDE, system="typing", typing=typing, label_names=names)


def test_it_is_the_last_stage_and_says_yes_or_no_to_tumour():
    again = dataclasses.replace(WHOLE, name="again", region="liver")
    with pytest.raises(RecipeError, match=r"stages\[1\].in_organ: wanted it for the last stage alone"):
        check(recipe(WHOLE, INSIDE, again))
    other = dataclasses.replace(INSIDE, classes=("liver",))
    with pytest.raises(RecipeError, match="wanted sigmoid of tumour in the organ, got sigmoid of liver"):
        check(recipe(WHOLE, other))
    check(recipe(WHOLE, INSIDE))


def test_it_is_told_with_its_organ():
    told = "lesion: unet; own spacing x own spacing x own spacing; liver + 2 mm with the organ; tumour by sigmoid"
    assert describe_stage(INSIDE, Crop(margin_mm=2.0)) == told


# Inference


def test_the_network_is_shown_the_grey_values_those_in_the_organ_and_the_organ():
    channels = np.array([[[[1.0, 2.0, 3.0]]]], np.float32)
    shown = confined(channels, np.array([[[False, True, True]]]))
    assert shown[:, 0, 0].tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 1]]
    assert shown.dtype == np.float32


def test_tumours_are_found_in_the_organ_and_in_its_holes_and_nowhere_else():
    labels, spots = segmented(abdomen())
    assert (labels[6:9, 6:9, 6:9] == 2).all()
    assert (labels[10:13, 10:13, 12:15] == 2).all()  # the first network took it for background
    assert (labels == 2).sum() == 2 * 27  # what is dark beyond the organ is none
    assert (labels > 0).sum() == 12 * 16 * 20
    (shown,) = spots.seen
    organ = shown[0, 2] > 0
    assert organ.sum() == 12 * 16 * 20
    assert (shown[0, 1][~organ] == 0).all()
    assert (shown[0, 1][organ] == shown[0, 0][organ]).all()


def test_without_an_organ_the_network_is_not_asked():
    empty = sitk.Image((12, 12, 12), sitk.sitkInt16)
    labels, spots = segmented(empty)
    assert not labels.any()
    assert spots.seen == []


# Training


def ball(radius: float) -> np.ndarray:
    k, j, i = np.mgrid[-24:24, -24:24, -24:24]
    return k**2 + j**2 + i**2 < radius**2


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000))
def test_the_organ_of_training_is_near_the_true_one_and_the_same_for_the_same_seed(seed):
    truth = ball(18)
    one, two = (found_organ(truth, 2.0, np.random.default_rng(seed)) for _ in range(2))
    assert np.array_equal(one, two)
    # Six lumps at the edge, each of at most 24 mm, are the worst: they can take or leave a good part.
    assert 2 * (one & truth).sum() / (one.sum() + truth.sum()) > 0.5


def test_the_organ_of_training_is_wrong_in_places():
    truth = ball(18)
    found = [found_organ(truth, 2.0, np.random.default_rng(seed)) for seed in range(30)]
    assert sum((each & ~truth).sum() > 0.05 * truth.sum() for each in found) > 5  # some take in what lies beside
    assert sum((truth & ~each).sum() > 0.05 * truth.sum() for each in found) > 3  # some leave out a part


def test_nothing_is_asked_of_a_stage_beyond_the_organ_that_it_is_shown():
    labels = ball(18).astype(np.uint8)
    labels[ball(6)] = 2
    channels, told = confine(labels[None].astype(np.float32), labels, 2.0, np.random.default_rng(3))
    assert channels.shape == (3, 48, 48, 48)
    assert not told[channels[2] == 0].any()
    assert (told == 2).sum() == (labels[channels[2] == 1] == 2).sum()


def test_no_organ_in_a_patch_is_none_in_what_is_shown():
    nothing = np.zeros((16, 16, 16), np.uint8)
    channels, told = confine(np.ones((1, 16, 16, 16), np.float32), nothing, 2.0, np.random.default_rng(0))
    assert not told.any()
    assert not channels[1:].any()
