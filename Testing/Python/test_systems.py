"""What systems are made of: a study under way, its stages, and evidence from logits, with numbers by hand."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from LiverTumorSegLib.errors import RecipeError
from LiverTumorSegLib.geometry import Box, GridGeometry, fit_grid, whole_box
from LiverTumorSegLib.recipe import Axis, Crop, Grid, Intensity, Phase, Postprocessing, Recipe, Stage
from LiverTumorSegLib.systems import SYSTEMS, Outcome, system_named
from LiverTumorSegLib.systems.evidence import evidence_of, nested_evidence, softmax_evidence
from LiverTumorSegLib.systems.stages import Networks, Study

RULES = Postprocessing()
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
UNIT = Intensity(ct_clip_hu=(0, 100), scale="unit")
NATIVE = Grid(axes=(Axis(times_own=1.0), Axis(times_own=1.0), Axis(times_own=1.0)))


def grid(shape: tuple[int, ...], spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> GridGeometry:
    k, j, i = shape
    return GridGeometry((0.0, 0.0, 0.0), spacing_mm, IDENTITY, (i, j, k))


def row(*values: float) -> np.ndarray:
    """A (1, 1, n) array."""
    return np.array(values, np.float32)[None, None]


def scan_of(value: int = 50, size: tuple[int, int, int] = (8, 6, 4)) -> sitk.Image:
    image = sitk.Image(size, sitk.sitkInt16) + value
    image.SetSpacing((1.0, 1.0, 2.0))
    return image


class Sums:
    """Two classes: the sum of all channels, and 1; it notes its inputs."""

    name, device, precision = "sums", "cpu", "f32"

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def __call__(self, array: np.ndarray) -> np.ndarray:
        self.seen.append(array)
        total = array.sum(1, keepdims=True)
        return np.concatenate([total, np.ones_like(total)], 1)

    def move_to_cpu(self) -> None:
        """It is there."""


def networks(*stages: Stage, phases: tuple[Phase, ...] = ()) -> tuple[Networks, list[Sums]]:
    engines = [Sums() for _ in stages]
    recipe = Recipe("sums", "repaired", "test", stages, phases=phases)
    return Networks(recipe, {stage.name: engine for stage, engine in zip(stages, engines, strict=True)}), engines


def stage(name: str = "whole", channels: int = 1, **fields: object) -> Stage:
    arguments = {"in_channels": channels, "out_channels": 2}
    plain = Stage(name, "unet", NATIVE, arguments, UNIT, classes=("background", "liver"))
    return dataclasses.replace(plain, **fields)  # type: ignore[arg-type]


# Evidence


def test_the_differences_to_the_background_are_held_in_half_precision_and_never_infinite():
    evidence = evidence_of(row(1e9, -3.0), row(-1e9, 0.5), grid((1, 1, 2)), RULES)
    assert evidence.liver.dtype == np.float16
    assert evidence.liver.ravel().tolist() == [100, -3]
    assert evidence.tumour.ravel().tolist() == [-100, 0.5]


def test_a_softmax_network_s_classes_are_found_by_their_names():
    logits = np.array([7.0, 1.0, 4.0, 2.0]).reshape(4, 1, 1, 1)
    classes = ("background", "spleen", "tumour", "liver")
    evidence = softmax_evidence(logits, classes, grid((1, 1, 1)), RULES)
    assert (evidence.liver.item(), evidence.tumour.item()) == (-5.0, -3.0)
    with pytest.raises(RecipeError, match="wanted tumour among them, got background, liver"):
        softmax_evidence(logits, ("background", "liver"), grid((1, 1, 1)), RULES)


def test_two_networks_of_yes_and_no_give_three_classes():
    # L = 0.9, T = 0.2: background 0.1, liver 0.9 * 0.8 = 0.72, tumour 0.9 * 0.2 = 0.18.
    evidence = nested_evidence(row(math.log(0.9 / 0.1)), row(math.log(0.2 / 0.8)), grid((1, 1, 1)), RULES)
    assert evidence.liver.item() == pytest.approx(math.log(7.2), abs=2e-3)
    assert evidence.tumour.item() == pytest.approx(math.log(1.8), abs=2e-3)
    assert evidence.tumour_probability().GetPixel(0, 0, 0) == pytest.approx(0.18, abs=1e-3)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_the_three_classes_probabilities_are_the_products_of_the_two_networks(liver, tumour):
    logits = (row(math.log(each / (1 - each))) for each in (liver, tumour))
    evidence = nested_evidence(*logits, grid((1, 1, 1)), RULES, reach_mm=0)
    background = 1 / (1 + math.exp(evidence.liver.item()) + math.exp(evidence.tumour.item()))
    assert background == pytest.approx(1 - liver, abs=5e-3)
    assert background * math.exp(evidence.tumour.item()) == pytest.approx(liver * tumour, abs=5e-3)


def test_a_sure_tumour_near_the_liver_survives_where_the_liver_s_network_left_it_out():
    # Voxels of 2 mm: liver in the first, tumour 4 mm from it and again 8 mm from it, both surely not liver.
    liver, tumour = row(8, -12, -12, -12, -12), row(-8, -8, 8, -8, 8)
    evidence = nested_evidence(liver, tumour, grid((1, 1, 5), (2.0, 1.0, 1.0)), RULES, reach_mm=5.0)
    assert (evidence.tumour.ravel() > 0).tolist() == [False, False, True, False, False]
    # There L is T: tumour - background = 8 + log(T), T as good as 1.
    assert evidence.tumour[0, 0, 2] == pytest.approx(8.0, abs=0.01)
    assert (evidence.liver.ravel() > 0).tolist() == [True, False, False, False, False]


def test_the_reach_is_in_millimetres_along_each_axis():
    liver, tumour = np.full((2, 5, 5, 5), -12.0, np.float32)
    liver[2, 2, 2] = 12.0
    tumour[2, 2, 4] = tumour[4, 2, 2] = 12.0  # two voxels along i, two along k
    evidence = nested_evidence(liver, tumour, grid((5, 5, 5), (1.0, 1.0, 4.0)), RULES)  # 5 mm of reach
    assert evidence.tumour[2, 2, 4] > 0 > evidence.tumour[4, 2, 2]


def test_no_liver_at_all_leaves_no_tumour():
    evidence = nested_evidence(row(-9, -9), row(9, 9), grid((1, 1, 2)), RULES)
    assert (evidence.tumour < 0).all()


# Stages


def test_a_stage_shows_a_box_of_the_scan_to_its_network_on_its_grid():
    run, (engine,) = networks(stage())
    study = Study(scan_of(50), {}, "CT")
    output = run.run(study, "whole", Box((2, 1, 0), (4, 3, 2)))
    assert engine.seen[0].shape == (1, 1, 2, 3, 4)
    assert output.logits.shape == (2, 2, 3, 4)
    assert output.logits[0] == pytest.approx(0.5)  # 50 of 100 HU
    assert output.volumes[0] == pytest.approx(50)
    assert output.geometry == fit_grid(study.scan, Box((2, 1, 0), (4, 3, 2)), NATIVE)
    assert study.stages == {"whole": {"spacing_mm": (1.0, 1.0, 2.0), "size_voxels": (4, 3, 2)}}
    assert list(study.seconds) == ["whole: prepare", "whole: network"]


def test_phases_are_channels_of_their_own_and_a_missing_one_is_zero():
    names = Phase("arterial"), Phase("late")
    run, (engine,) = networks(stage(channels=3), phases=names)
    run.run(Study(scan_of(20), {"arterial": None, "late": scan_of(70)}, "CT"), 0, whole_box(scan_of()))
    assert [float(each.mean()) for each in engine.seen[0][0]] == pytest.approx([0.2, 0.0, 0.7])


def test_a_stage_with_context_sees_neighbouring_slices_as_channels():
    array = np.repeat(np.arange(0, 80, 20, dtype=np.int16), 48).reshape(4, 6, 8)
    image = sitk.GetImageFromArray(array)
    run, (engine,) = networks(stage(channels=3, context_slices=3))
    run.run(Study(image, {}, "CT"), 0, whole_box(image))
    channels = engine.seen[0][0, :, :, 0, 0]
    assert [channels[:, k].tolist() for k in (0, 1, 3)] == [
        pytest.approx([0, 0, 0.2]),
        pytest.approx([0, 0.2, 0.4]),
        pytest.approx([0.4, 0.6, 0.6]),
    ]


def test_a_stage_goes_by_its_number_or_its_name():
    run, engines = networks(stage(), stage("crop"))
    assert run.engine(1) is run.engine("crop") is engines[1]
    assert run.stage("crop") is run.recipe.stages[1]
    with pytest.raises(RecipeError, match="wanted one of whole, crop, got 'fine'"):
        run.stage("fine")


def test_an_array_of_a_system_s_own_runs_in_the_stage_s_windows_and_is_reduced_slab_by_slab():
    run, (engine,) = networks(stage(window=(4, 4, 2), overlap=0.0))
    shares: list[float] = []
    array = np.random.default_rng(0).normal(size=(1, 6, 4, 8)).astype(np.float32)
    found = run.run_array(0, array, lambda slab: slab[:1].astype(np.float16), shares.append)
    assert {each.shape for each in engine.seen} == {(1, 1, 2, 4, 4)}
    assert np.array_equal(found, array.astype(np.float16))
    assert shares == pytest.approx([n / 6 for n in range(1, 7)])


SIZES = st.tuples(*[st.integers(1, 12)] * 3)


@settings(max_examples=30, deadline=None)
@given(SIZES, SIZES, st.sampled_from([0.0, 0.25, 0.5, 0.9]))
def test_reducing_slabs_as_they_are_finished_gives_what_reducing_the_whole_gives(size, window, overlap):
    run, _ = networks(stage(window=window, overlap=overlap))
    array = np.random.default_rng(0).normal(size=(1, *size)).astype(np.float32)
    slabs: list[int] = []

    def larger(logits: np.ndarray) -> np.ndarray:
        slabs.append(logits.shape[1])
        return logits.max(axis=0, keepdims=True).astype(np.float16)

    assert np.array_equal(run.run_array(0, array, larger), larger(run.run_array(0, array)))
    assert sum(slabs[:-1]) == size[0]  # each slice once
    assert max(slabs[:-1]) <= window[2]


def test_the_liver_s_grey_values_are_known_once_they_are_learnt():
    study = Study(scan_of(), {"arterial": None}, "CT")
    assert study.liver_levels == [None, None]
    liver = np.zeros((4, 6, 8), bool)
    liver[:2] = True
    study.learn_liver_levels([np.where(liver, 90.0, 10.0), None], liver)
    assert study.liver_levels == [90.0, None]


def test_a_box_around_a_mask_has_the_recipe_s_margin():
    scan = scan_of(size=(30, 30, 30))
    geometry = fit_grid(scan, whole_box(scan), NATIVE)
    mask = np.zeros(geometry.size[::-1], bool)
    mask[10:20, 12:22, 8:20] = True
    around = Study(scan, {}, "CT").box_around(mask, geometry, Crop(margin_mm=4.0))
    assert around == Box((4, 8, 8), (20, 18, 14))  # 4 mm are 4 voxels, and 2 slices of 2 mm


def test_every_system_that_a_recipe_can_name_is_there_and_returns_an_outcome():
    hints = {name: system_named(name) for name in SYSTEMS if name == "cascade"}
    assert all(callable(run) for run in hints.values())
    outcome = Outcome(evidence_of(row(0), row(0), grid((1, 1, 1)), RULES), details={"boxes": 3})
    assert (outcome.kinds, outcome.patient_class, json.dumps(outcome.details)) == ((), "", '{"boxes": 3}')
