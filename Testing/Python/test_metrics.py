"""Voxel measures, by hand and by what must hold for any two masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from LiverTumorSegLib.evaluation import metrics
from LiverTumorSegLib.evaluation.metrics import METRICS, dice, jaccard

# TP 2, FN 4, FP 1: reference 6 voxels, prediction 3.
REFERENCE = np.array([[1, 1, 1, 1, 1, 1, 0, 0, 0, 0]], bool)
PREDICTION = np.array([[0, 0, 0, 0, 1, 1, 1, 0, 0, 0]], bool)
EMPTY = np.zeros_like(REFERENCE)

masks = st.integers(0, 2**12 - 1).map(lambda bits: np.array([bits >> n & 1 for n in range(12)], bool).reshape(2, 2, 3))
properties = settings(max_examples=30, deadline=None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dice", 4 / 9),
        ("jaccard", 2 / 7),
        ("sensitivity", 2 / 6),
        ("precision", 2 / 3),
        ("relative_volume_difference", -0.5),
        ("volume_similarity", 1 - 3 / 9),
    ],
)
def test_six_voxels_of_which_two_are_hit_and_one_false_score_as_computed_by_hand(name: str, expected: float) -> None:
    assert METRICS[name](REFERENCE, PREDICTION) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "both_empty", "reference_empty", "prediction_empty"),
    [
        ("dice", 1, 0, 0),
        ("jaccard", 1, 0, 0),
        ("sensitivity", math.nan, math.nan, 0),
        ("precision", math.nan, 0, math.nan),
        ("relative_volume_difference", 0, math.nan, -1),
        ("volume_similarity", 1, 0, 0),
    ],
)
def test_empty_masks_score_as_each_measure_promises(
    name: str, both_empty: float, reference_empty: float, prediction_empty: float
) -> None:
    measure = METRICS[name]
    assert measure(EMPTY, EMPTY) == pytest.approx(both_empty, nan_ok=True)
    assert measure(EMPTY, PREDICTION) == pytest.approx(reference_empty, nan_ok=True)
    assert measure(REFERENCE, EMPTY) == pytest.approx(prediction_empty, nan_ok=True)


def test_a_ball_one_millimetre_too_small_loses_more_dice_the_smaller_it_is() -> None:
    k, j, i = np.indices((41, 41, 41)) - 20
    distance = np.sqrt(k * k + j * j + i * i)
    small, large = (dice(distance <= r, distance <= r - 1) for r in (3, 15))
    assert small < 0.5 < 0.85 < large


@pytest.mark.parametrize("measure", METRICS.values())
def test_a_label_map_in_place_of_a_mask_is_refused(measure: metrics.Metric) -> None:
    with pytest.raises(ValueError, match="prediction: wanted a bool mask, got uint8"):
        measure(REFERENCE, PREDICTION.astype(np.uint8))
    with pytest.raises(ValueError, match="wanted the reference's shape"):
        measure(REFERENCE, PREDICTION[:, :5])


@properties
@given(masks, masks)
def test_dice_and_jaccard_are_symmetric_and_tell_the_same(a: np.ndarray, b: np.ndarray) -> None:
    assert dice(a, b) == dice(b, a)
    assert jaccard(a, b) == pytest.approx(dice(a, b) / (2 - dice(a, b)))


@properties
@given(masks, masks)
def test_shares_stay_between_none_and_all(a: np.ndarray, b: np.ndarray) -> None:
    for name in METRICS.keys() - {"relative_volume_difference"}:
        value = METRICS[name](a, b)
        assert math.isnan(value) or 0 <= value <= 1


@properties
@given(masks, masks)
def test_swapping_the_masks_swaps_sensitivity_and_precision(a: np.ndarray, b: np.ndarray) -> None:
    assert metrics.sensitivity(a, b) == pytest.approx(metrics.precision(b, a), nan_ok=True)


@properties
@given(masks)
def test_a_mask_agrees_with_itself(mask: np.ndarray) -> None:
    assert (dice(mask, mask), jaccard(mask, mask)) == (1, 1)
    assert metrics.relative_volume_difference(mask, mask) == 0
