"""Which of a reference's lesions a prediction finds, and which of its own are false."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from LiverTumorSegLib.lesions import label_components
from LiverTumorSegLib.matching import RULES, match_by_every_rule, match_lesions
from shapes import labels_of, volume_with

# One reference lesion of 8 voxels in a row, and predictions of part of it.
ROW = volume_with(np.s_[5:6, 6:7, 2:10])


@pytest.mark.parametrize(
    ("predicted", "found"),
    [
        (np.s_[5:6, 6:7, 9:10], {"overlap"}),  # 1 of 8
        (np.s_[5:6, 6:7, 6:10], {"overlap", "half"}),  # 4 of 8: half is enough for S1, IoU 0.5 is not above 0.5
        (np.s_[5:6, 6:7, 5:10], {"overlap", "half", "iou"}),  # 5 of 8: IoU 0.625
        (np.s_[5:6, 6:8, 2:10], {"overlap", "half"}),  # all of it and as much beside: IoU 0.5
        (np.s_[5:6, 8:9, 2:10], set()),  # beside it
    ],
)
def test_each_rule_finds_a_lesion_at_its_own_threshold(predicted: tuple[slice, ...], found: set[str]) -> None:
    prediction = volume_with(predicted)  # type: ignore[arg-type]
    for rule in ("overlap", "iou", "half"):
        matching = match_lesions(ROW, prediction, rule)  # type: ignore[arg-type]
        assert (matching.found, matching.missed) == (((1,), ()) if rule in found else ((), (1,)))


def test_a_lesion_predicted_in_two_pieces_is_found_once_and_no_piece_is_false() -> None:
    pieces = volume_with(np.s_[5:6, 6:7, 2:5], np.s_[5:6, 6:7, 7:10])
    for rule in ("overlap", "half"):
        matching = match_lesions(ROW, pieces, rule)  # type: ignore[arg-type]
        assert (matching.found, matching.true_positives, matching.false_positives) == ((1,), (1, 2), ())
    matching = match_lesions(ROW, pieces, "iou")
    assert (matching.missed, matching.false_positives) == ((1,), (1, 2))


def test_a_prediction_that_merges_lesions_is_one_hit_at_most_under_iou() -> None:
    reference = volume_with(np.s_[5:6, 6:7, 2:8], np.s_[5:6, 6:7, 9:11])
    merged = volume_with(np.s_[5:6, 6:7, 2:11])
    assert match_lesions(reference, merged, "overlap").found == (1, 2)
    assert match_lesions(reference, merged, "half").found == (1, 2)
    matching = match_lesions(reference, merged, "iou")
    assert (matching.found, matching.missed, matching.false_positives) == ((1,), (2,), ())


def test_a_prediction_that_touches_no_lesion_is_false_under_every_rule() -> None:
    prediction = ROW | volume_with(np.s_[1:2, 1:2, 1:2])
    for rule in ("overlap", "iou", "half"):
        matching = match_lesions(ROW, prediction, rule)  # type: ignore[arg-type]
        assert (matching.found, matching.false_positives) == ((1,), (2,))
        assert (matching.recall, matching.precision) == (1.0, 0.5)


def test_where_nothing_is_and_nothing_is_predicted_there_is_nothing_to_share() -> None:
    matching = match_lesions(volume_with(), volume_with(), "iou")
    assert (matching.found, matching.missed, matching.false_positives) == ((), (), ())
    assert math.isnan(matching.recall)
    assert math.isnan(matching.precision)
    assert match_lesions(ROW, volume_with(), "half").missed == (1,)
    assert match_lesions(volume_with(), ROW, "half").false_positives == (1,)


def test_label_images_are_matched_by_their_tumours_not_their_livers() -> None:
    matching = match_lesions(labels_of(ROW), labels_of(volume_with()), "overlap")
    assert matching.missed == (1,)


def test_segmentations_on_different_grids_are_refused() -> None:
    with pytest.raises(ValueError, match="wanted the reference's spacing"):
        match_lesions(labels_of(ROW), labels_of(ROW, (1, 1, 2)), "iou")
    with pytest.raises(ValueError, match=r"wanted the reference's shape \(12, 14, 16\), got \(1, 14, 16\)"):
        match_lesions(ROW, ROW[:1], "iou")
    with pytest.raises(ValueError, match="rule: wanted one of overlap, half, iou, got 'dice'"):
        match_lesions(ROW, ROW, "dice")  # type: ignore[arg-type]


def test_matching_by_every_rule_is_each_rule_by_itself() -> None:
    prediction = np.roll(ROW, 1, axis=2)
    assert match_by_every_rule(ROW, prediction) == {rule: match_lesions(ROW, prediction, rule) for rule in RULES}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**24 - 1), st.integers(0, 2**24 - 1))
def test_every_lesion_is_either_found_or_missed_and_iou_pairs_are_one_to_one(a: int, b: int) -> None:
    reference, prediction = (np.array([bits >> n & 1 for n in range(24)], bool).reshape(2, 3, 4) for bits in (a, b))
    counts = [label_components(mask)[1] for mask in (reference, prediction)]
    matchings = {rule: match_lesions(reference, prediction, rule) for rule in ("overlap", "iou", "half")}  # type: ignore[arg-type]
    for matching in matchings.values():
        assert sorted(matching.found + matching.missed) == list(range(1, counts[0] + 1))
        assert sorted(matching.true_positives + matching.false_positives) == list(range(1, counts[1] + 1))
    assert len(matchings["iou"].found) == len(matchings["iou"].true_positives)
    assert set(matchings["iou"].found) <= set(matchings["half"].found) <= set(matchings["overlap"].found)
