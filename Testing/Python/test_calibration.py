"""Temperature: in a recipe, in inference, fitted to voxels, and in a bundle of its own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import draw_ellipsoids
from LiverTumorSegLib import segment
from LiverTumorSegLib.bundle import Bundle, write_variant
from LiverTumorSegLib.calibration import (
    Reliability,
    Voxels,
    carried_over,
    fit_temperature,
    judged_voxels,
    matched_threshold,
    negative_log_likelihood,
    voted_lesions,
)
from LiverTumorSegLib.errors import LiverTumorSegError, RecipeError
from LiverTumorSegLib.inference import run_network
from LiverTumorSegLib.recipe import Grid, Recipe, Stage
from LiverTumorSegLib.recipe.describing import describe_stage
from LiverTumorSegLib.segmentation import Segmentation
from LiverTumorSegLib.systems.evidence import nested_evidence


class Ramp:
    """A network of two classes that says x and -x, in an array of its own."""

    name, device, precision = "numpy", "cpu", "f32"

    def __call__(self, array: np.ndarray) -> np.ndarray:
        return np.concatenate([array, -array], axis=1)

    def move_to_cpu(self) -> None:
        raise AssertionError("it has memory enough")


def four_of_five(logit: float = 4.0) -> Voxels:
    """Return five voxels that are all said to be class 1 by a logit, of which four are."""
    return Voxels(np.array([[0.0] * 5, [logit] * 5], np.float32), np.array([1, 1, 1, 1, 0]))


# In a recipe


def stage_at(temperature: float, **more: object) -> Stage:
    return Stage("whole", "unet", Grid(spacing_mm=4.0), temperature=temperature, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("temperature", [0.0, -1.0, 0.09, 10.1, float("inf")])
def test_a_temperature_beyond_all_sense_is_refused(temperature: float) -> None:
    with pytest.raises(RecipeError, match=r"^stage\.temperature: wanted 0\.1 to 10, got"):
        stage_at(temperature)


def test_a_detector_has_no_temperature() -> None:
    arguments = {"out_channels": 10}
    assert stage_at(1.0, task="detect", arguments=arguments).temperature == 1
    with pytest.raises(RecipeError, match=r"^stage\.temperature: wanted 1 for a detector, .*, got 2\.0$"):
        stage_at(2.0, task="detect", arguments=arguments)


def test_a_stage_s_temperature_is_told_where_it_has_one() -> None:
    recipe = Recipe("small", "repaired", "a test", (stage_at(1.8125),))
    assert describe_stage(recipe.stages[0], recipe.crop).endswith("tumour by softmax at temperature 1.8125")
    assert describe_stage(stage_at(1.0), recipe.crop).endswith("tumour by softmax")


# In inference


@pytest.mark.parametrize("window", [None, (8, 8, 8)])
def test_logits_are_divided_by_the_temperature_before_anything_is_made_of_them(
    window: tuple[int, int, int] | None,
) -> None:
    array = np.random.default_rng(0).normal(size=(1, 20, 12, 8)).astype(np.float32)
    before = array.copy()
    plain = run_network(Ramp(), array, window)
    np.testing.assert_allclose(run_network(Ramp(), array, window, temperature=2.0), plain / 2, rtol=1e-6)
    halved = run_network(Ramp(), array, window, reduce=lambda logits: logits[:1] > 0.25, temperature=2.0)
    np.testing.assert_array_equal(halved, plain[:1] / 2 > 0.25)
    np.testing.assert_array_equal(array, before)


def with_temperature(bundle: Path, folder: Path, temperature: float) -> Path:
    """Return a copy of a bundle whose last stage has a temperature."""
    old = Bundle.load(bundle)
    last = dataclasses.replace(old.recipe.stages[-1], temperature=temperature)
    recipe = dataclasses.replace(old.recipe, stages=(*old.recipe.stages[:-1], last))
    return write_variant(old, folder, recipe, old.metadata, "# warm\n").path


@pytest.fixture(scope="module")
def runs(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[float, Segmentation]:
    """Return one scan's segmentations at temperatures 1 and 2.5."""
    warm = with_temperature(tiny_bundle, tmp_path_factory.mktemp("bundles") / "warm", 2.5)
    scan, _ = draw_ellipsoids((64, 64, 40), (4.0, 4.0, 5.0))
    return {1.0: segment(scan, tiny_bundle, device="cpu"), 2.5: segment(scan, warm, device="cpu")}


def test_openvino_s_logits_are_by_the_temperature_and_votes_stay(runs: dict[float, Segmentation]) -> None:
    plain, warm = runs[1.0].evidence, runs[2.5].evidence
    assert plain is not None
    assert warm is not None
    assert np.abs(plain.liver).max() > 0.1
    for a, b in ((plain.liver, warm.liver), (plain.tumour, warm.tumour)):
        np.testing.assert_allclose(b.astype(float), a.astype(float) / 2.5, rtol=2e-3, atol=1e-6)


def test_torch_divides_by_the_temperature_as_openvino_does(
    runs: dict[float, Segmentation], tiny_bundle: Path, tmp_path: Path, one_thread: None
) -> None:
    from LiverTumorSegLib.inference import open_engine
    from LiverTumorSegLib.systems.stages import Networks

    bundle = Bundle.load(with_temperature(tiny_bundle, tmp_path / "warm", 2.5))
    array = np.random.default_rng(0).normal(size=(1, 16, 16, 16)).astype(np.float32)
    engines = {name: open_engine(bundle, "crop", "cpu", engine=name) for name in ("openvino", "torch")}
    plain, (first, second) = (
        engines["torch"](array[None])[0],
        (Networks(bundle.recipe, {"crop": engine}).run_array("crop", array) for engine in engines.values()),
    )
    np.testing.assert_allclose(second, plain / 2.5, rtol=1e-6)
    np.testing.assert_allclose(first, second, atol=5e-3)


def test_what_is_told_of_lesions_is_the_calibrated_probability(runs: dict[float, Segmentation]) -> None:
    said = {}
    for temperature, result in runs.items():
        assert result.evidence is not None
        said[temperature] = sitk.GetArrayFromImage(result.evidence.tumour_probability()).astype(float)
    evidence = runs[1.0].evidence
    assert evidence is not None
    logits = np.stack([np.zeros(evidence.liver.shape), evidence.liver, evidence.tumour]).astype(float) / 2.5
    expected = np.exp(logits[2]) / np.exp(logits).sum(0)
    np.testing.assert_allclose(said[2.5], expected, atol=2e-3)
    assert not np.allclose(said[1.0], expected, atol=2e-3)


def test_a_sensitivity_factor_on_calibrated_odds_is_one_to_the_power_of_the_temperature_before() -> None:
    from LiverTumorSegLib.geometry import GridGeometry
    from LiverTumorSegLib.postprocessing import Evidence
    from LiverTumorSegLib.recipe import Postprocessing

    rng, size = np.random.default_rng(0), (12, 12, 12)
    liver = np.full(size, 3.0, np.float16)
    tumour = rng.uniform(-3, 5, size).astype(np.float16)
    geometry = GridGeometry((0.0,) * 3, (1.0,) * 3, (1.0, 0, 0, 0, 1, 0, 0, 0, 1), size)  # type: ignore[arg-type]
    image, rules = geometry.image(np.zeros(size, np.int16)), Postprocessing(fill_holes=False)
    cool = Evidence(liver / np.float16(2), tumour / np.float16(2), geometry, rules).labels_like(image, 3.0)
    plain = Evidence(liver, tumour, geometry, rules).labels_like(image, 9.0)
    labels = sitk.GetArrayFromImage(plain)
    assert 0 < (labels == 2).mean() < 1
    assert (sitk.GetArrayFromImage(cool) != labels).mean() < 0.002  # float16 rounds a voxel at the limit


# Fitting


def test_where_four_of_five_voxels_of_one_logit_are_right_they_say_four_fifths_at_the_best_temperature() -> None:
    # 1 / (1 + exp(-4 / T)) = 0.8 where exp(4 / T) = 4.
    best = fit_temperature(four_of_five(4.0))
    assert best == pytest.approx(4 / np.log(4), rel=2e-4)
    np.testing.assert_allclose(four_of_five(4.0).probability(1, best), 0.8, rtol=1e-4)
    # A network that says too little is made surer: logit 0.5, T below 1.
    assert fit_temperature(four_of_five(0.5)) == pytest.approx(0.5 / np.log(4), rel=2e-4)


def test_the_likelihood_is_that_of_the_true_classes() -> None:
    # Two voxels say 3/4 and 1/4 for class 1 with logits of ln 3 and -ln 3; both are class 1.
    voxels = Voxels(np.array([[0, 0], [np.log(3), -np.log(3)]], np.float32), np.array([1, 1]))
    assert negative_log_likelihood(voxels) == pytest.approx((np.log(4 / 3) + np.log(4)) / 2, rel=1e-6)
    assert negative_log_likelihood(voxels, 1e9) == pytest.approx(np.log(2), rel=1e-6)
    # Of three classes with odds 1, 2 and 5, class 2 against the others: 5/8 if it is, 3/8 if it is not.
    three = Voxels(np.log([[1, 1], [2, 2], [5, 5]]).astype(np.float32), np.array([2, 0]))
    assert negative_log_likelihood(three, 1.0, label=2) == pytest.approx(-np.log(5 / 8 * 3 / 8) / 2, rel=1e-6)
    assert negative_log_likelihood(three) == pytest.approx(-np.log(5 / 8 * 1 / 8) / 2, rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(temperature=st.floats(0.3, 5), classes=st.integers(2, 4), seed=st.integers(0, 99))
def test_data_made_at_a_temperature_are_fitted_with_it(temperature: float, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2 * temperature, (classes, 20_000)).astype(np.float32)
    odds = np.exp(logits / temperature)
    labels = (rng.random(20_000) > np.cumsum(odds / odds.sum(0), axis=0)[:-1]).sum(0)
    voxels = Voxels(logits, labels)
    found = fit_temperature(voxels)
    assert found == pytest.approx(temperature, rel=0.08)
    assert fit_temperature(voxels, label=1) == pytest.approx(temperature, rel=0.12)
    best = negative_log_likelihood(voxels, found)
    assert all(best <= negative_log_likelihood(voxels, found * times) for times in (0.5, 0.97, 1.03, 2.0))


def test_without_a_best_temperature_the_nearest_limit_is_given() -> None:
    right, wrong = (Voxels(np.array([[0.0], [1.0], [2.0]], np.float32), np.array([label])) for label in (2, 0))
    assert fit_temperature(right) == fit_temperature(right, label=2) == 0.1
    assert fit_temperature(wrong) == fit_temperature(wrong, label=2) == 10
    with pytest.raises(LiverTumorSegError, match="wanted voxels found as liver or tumour, got none"):
        fit_temperature(Voxels(np.zeros((3, 0), np.float32), np.zeros(0, int)))


def test_blocks_of_voxels_are_fitted_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    many = four_of_five().joined([four_of_five(1.0), four_of_five(2.0)])
    whole = fit_temperature(many), negative_log_likelihood(many, 2.0), many.probability(1).tolist()
    monkeypatch.setattr("LiverTumorSegLib.calibration._BLOCK", 4)
    assert whole[0] == pytest.approx(fit_temperature(many), rel=1e-5)
    assert whole[1] == pytest.approx(negative_log_likelihood(many, 2.0), rel=1e-6)
    assert whole[2] == many.probability(1).tolist()


@given(probability=st.floats(0, 1), ratio=st.floats(0.2, 5))
def test_a_threshold_goes_with_the_temperature_as_the_probability_of_a_voxel_does(
    probability: float, ratio: float
) -> None:
    moved = carried_over(probability, ratio)
    assert 0 <= moved <= 1
    if 1e-6 < probability < 1 - 1e-6:
        logit = np.log(probability / (1 - probability))
        assert moved == pytest.approx(1 / (1 + np.exp(-logit / ratio)), rel=1e-6)
    # By hand: 0.9 are odds of 9; at twice the temperature 3, which is 0.75.
    assert carried_over(0.9, 2.0) == pytest.approx(0.75)


def test_a_matched_threshold_keeps_as_many_lesions_as_before() -> None:
    # One voxel each; tumour and liver by odds of 9, 3 and 2: 0.9, 0.75, 0.667. At twice the temperature 3, 1.73, 1.41.
    odds = (9.0, 3.0, 2.0)
    lesions = [Voxels(np.array([[-1000], [0], [np.log(each)]], np.float32), np.array([2])) for each in odds]
    middle = (3**0.5 / (1 + 3**0.5) + 2**0.5 / (1 + 2**0.5)) / 2
    assert matched_threshold(0.7, lesions, 2.0) == pytest.approx(middle, abs=1e-6)
    # All or none are kept: as a single voxel's probability goes.
    assert matched_threshold(0.5, lesions, 2.0) == 0.5
    assert matched_threshold(0.95, lesions, 2.0) == carried_over(0.95, 2.0)
    assert matched_threshold(0.0, lesions, 2.0) == 0
    assert matched_threshold(0.9, [], 2.0) == pytest.approx(0.75)


def test_lesions_that_were_voted_for_are_those_of_the_last_stage_s_grid(runs: dict[float, Segmentation]) -> None:
    result = runs[1.0]
    evidence = result.evidence
    assert evidence is not None
    liver, tumour = np.full(evidence.liver.shape, 3.0, np.float16), np.full(evidence.liver.shape, -3.0, np.float16)
    tumour[2:4, 2:4, 2:4] = 5
    tumour[6, 6, 6] = 4  # a voxel of 6 mm has 0.216 ml
    rules = dataclasses.replace(evidence.rules, min_lesion_ml=0.5)
    drawn = dataclasses.replace(result, evidence=dataclasses.replace(evidence, liver=liver, tumour=tumour, rules=rules))
    (lesion,) = voted_lesions(drawn)
    assert lesion.labels.tolist() == [2] * 8
    np.testing.assert_array_equal(lesion.logits[:, 0], [0, 3, 5])


def test_reliability_compares_what_was_said_with_what_was_true_in_each_tenth() -> None:
    # Ten voxels: six say 1/4 (one is tumour), four say 3/4 (two are).
    logit = np.log(3.0)
    logits = np.zeros((3, 10), np.float32)
    logits[1] = -50
    logits[2] = [-logit] * 6 + [logit] * 4
    voxels = Voxels(logits, np.array([2, 0, 0, 0, 0, 0, 2, 2, 0, 0]))
    curve = Reliability()
    curve.add(voxels)
    assert [count for *_, count in curve.points()] == [6, 4]
    np.testing.assert_allclose([row[:2] for row in curve.points()], [(0.25, 1 / 6), (0.75, 0.5)], atol=1e-6)
    assert curve.expected_error() == pytest.approx((6 * (1 / 4 - 1 / 6) + 4 * (3 / 4 - 1 / 2)) / 10, rel=1e-5)
    assert curve.lines()[1] == "said 0.75  true 0.50  voxels 4"
    assert np.isnan(Reliability().expected_error())


def test_the_voxels_that_are_judged_are_those_found(runs: dict[float, Segmentation]) -> None:
    result = runs[1.0]
    evidence = result.evidence
    assert evidence is not None
    truth = sitk.Cast(result.labels * 0 + 2, sitk.sitkUInt8)
    voxels = judged_voxels(result, truth)
    found = sitk.Resample(
        result.labels,
        evidence.geometry.image(np.zeros(evidence.liver.shape, np.uint8)),
        sitk.Transform(),
        sitk.sitkNearestNeighbor,
    )
    assert voxels.labels.size == np.count_nonzero(sitk.GetArrayViewFromImage(found)) > 0
    assert set(voxels.labels) <= {0, 2}  # 0 where the network's grid reaches beyond the scan
    np.testing.assert_array_equal(voxels.logits[0], 0)
    with pytest.raises(LiverTumorSegError, match="got one without network output"):
        judged_voxels(dataclasses.replace(result, evidence=None), truth)


def test_of_a_network_that_sees_the_organ_alone_its_own_logit_is_judged(runs: dict[float, Segmentation]) -> None:
    result = runs[1.0]
    assert result.evidence is not None
    size = result.evidence.liver.shape
    logit = np.random.default_rng(0).uniform(-4, 4, size).astype(np.float32)
    evidence = nested_evidence(np.full(size, 5.0), logit, result.evidence.geometry, result.evidence.rules, reach_mm=0)
    nested = dataclasses.replace(result, evidence=evidence)
    voxels = judged_voxels(nested, result.labels, in_organ=True)
    chosen = voxels.labels > 0
    assert chosen.any()
    said = voxels.probability(2, 2.0)
    image = sitk.Resample(
        result.labels, evidence.geometry.image(np.zeros(size)), sitk.Transform(), sitk.sitkNearestNeighbor
    )
    own = logit[sitk.GetArrayFromImage(image) > 0]
    np.testing.assert_allclose(said, 1 / (1 + np.exp(-own / 2)), atol=2e-3)
