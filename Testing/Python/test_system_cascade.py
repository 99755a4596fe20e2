"""S1's cascade where the first network leaves tumours to the second one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk

from LiverTumorSegLib.errors import RecipeError
from LiverTumorSegLib.recipe import Axis, Crop, Grid, Intensity, Postprocessing, Recipe, Slices, Stage
from LiverTumorSegLib.systems import system_named
from LiverTumorSegLib.systems.cascade import check
from LiverTumorSegLib.systems.stages import Networks, Study

NATIVE = Grid(axes=(Axis(times_own=1.0), Axis(times_own=1.0), Axis(times_own=1.0)))
PLAIN = Intensity(ct_clip_hu=(0, 100), scale="unit")
RULES = Postprocessing(min_liver_contact=0.0, min_lesion_ml=0.0, min_lesion_probability=0.0)
ORGAN = Stage("whole", "unet", NATIVE, {"out_channels": 2}, PLAIN, classes=("background", "liver"))
BOTH = Stage("crop", "unet", NATIVE, {}, PLAIN, region="liver")


class Grey:
    """Says 5 for the one class whose grey values a voxel has, and 0 for the others; notes what it was shown."""

    name, device, precision = "grey", "cpu", "f32"

    def __init__(self, *ranges: tuple[float, float]) -> None:
        self.ranges = ranges
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, array: np.ndarray) -> np.ndarray:
        self.seen.append(array.shape[2:])
        return np.concatenate([5.0 * ((low <= array) & (array < high)) for low, high in self.ranges], 1).astype(
            np.float32
        )

    def move_to_cpu(self) -> None:
        """It is there."""


def recipe(*stages: Stage, margin: int = 1, rules: Postprocessing = RULES) -> Recipe:
    return Recipe("cascade", "repaired", "test", stages, Crop(margin_voxels=margin), rules)


def test_a_tumour_that_the_first_stage_calls_liver_is_in_the_second_one_s_box_and_gets_its_name_there():
    volume = np.zeros((20, 24, 28), np.int16)
    volume[4:16, 4:20, 4:20] = 60
    volume[4:16, 4:20, 20:24] = 40  # a tumour that is the liver's whole right end
    first, second = Grey((-1, 0.3), (0.3, 2)), Grey((-1, 0.3), (0.5, 2), (0.3, 0.5))
    networks = Networks(recipe(ORGAN, BOTH), {"whole": first, "crop": second})
    scan = sitk.GetImageFromArray(volume)
    evidence = system_named("cascade")(Study(scan, {}, "CT"), networks).evidence
    labels = sitk.GetArrayFromImage(evidence.labels_like(scan))
    np.testing.assert_array_equal(labels, np.select([volume == 60, volume == 40], [1, 2]))
    assert (first.seen, second.seen) == ([(20, 24, 28)], [(14, 18, 22)])


def liver_and_spleen(min_seen_before: float, spleen_hu: int = 60) -> np.ndarray:
    """Labels of a liver of 80 HU and a spleen of 60 beside it, which only the second network takes for liver."""
    volume = np.zeros((12, 16, 40), np.int16)
    volume[3:9, 3:13, 3:18] = 80
    volume[3:9, 3:13, 22:32] = spleen_hu
    first, second = Grey((-1, 0.7), (0.7, 2)), Grey((-1, 0.3), (0.3, 2), (5, 6))
    rules = dataclasses.replace(RULES, min_seen_before=min_seen_before)
    networks = Networks(recipe(ORGAN, BOTH, margin=20, rules=rules), {"whole": first, "crop": second})
    scan = sitk.GetImageFromArray(volume)
    return sitk.GetArrayFromImage(system_named("cascade")(Study(scan, {}, "CT"), networks).evidence.labels_like(scan))


def test_a_part_that_only_the_closer_look_takes_for_liver_is_dropped_where_the_rules_say_so():
    liver, spleen = (slice(3, 9), slice(3, 13), slice(3, 18)), (slice(3, 9), slice(3, 13), slice(22, 32))
    labels = liver_and_spleen(0.1)
    assert (labels[liver] == 1).all()
    assert (labels > 0).sum() == 6 * 10 * 15
    assert (liver_and_spleen(0.0)[spleen] == 1).all()
    assert (liver_and_spleen(0.1, spleen_hu=75)[spleen] == 1).all()  # the first network had seen it, too


def test_the_largest_part_stays_though_the_first_stage_saw_nothing_of_it():
    volume = np.zeros((12, 16, 40), np.int16)
    volume[3:9, 3:13, 3:8] = 80
    volume[3:9, 3:13, 12:30] = 60
    first, second = Grey((-1, 0.7), (0.7, 2)), Grey((-1, 0.3), (0.3, 2), (5, 6))
    rules = dataclasses.replace(RULES, min_seen_before=0.1)
    networks = Networks(recipe(ORGAN, BOTH, margin=30, rules=rules), {"whole": first, "crop": second})
    scan = sitk.GetImageFromArray(volume)
    evidence = system_named("cascade")(Study(scan, {}, "CT"), networks).evidence
    np.testing.assert_array_equal(sitk.GetArrayFromImage(evidence.labels_like(scan)), volume > 0)


def test_only_a_cascade_has_a_stage_before():
    with pytest.raises(RecipeError, match=r"min_seen_before: wanted it only in a system 'cascade', got 0.2 in a syste"):
        Recipe(
            "x",
            "repaired",
            "x",
            (ORGAN,),
            postprocessing=Postprocessing(min_seen_before=0.2),
            system="slices",
            slices=Slices(),
        )
    with pytest.raises(RecipeError, match=r"min_seen_before: wanted 0 up to 1, got 1.5"):
        Postprocessing(min_seen_before=1.5)


def test_the_last_stage_tells_tumours_and_every_stage_the_liver():
    check(recipe(ORGAN, BOTH))
    last = dataclasses.replace(ORGAN, name="last", region="liver")
    with pytest.raises(RecipeError, match=r"stages\[1\]: wanted softmax of background, liver, tumour, got softmax of"):
        check(recipe(dataclasses.replace(BOTH, name="whole", region="whole"), last))
    yes_or_no = dataclasses.replace(ORGAN, arguments={"out_channels": 1}, classes=("liver",), activation="sigmoid")
    with pytest.raises(RecipeError, match=r"stages\[0\]: wanted softmax of background, liver, got sigmoid of liver"):
        check(recipe(yes_or_no, BOTH))
