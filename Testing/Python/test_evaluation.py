"""One case and many: scores, statistics and tables, on label maps whose numbers can be computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from LiverTumorSegLib.evaluation.comparison import compare_cases
from LiverTumorSegLib.evaluation.froc import FrocPoint, froc_point, froc_score
from LiverTumorSegLib.evaluation.scores import MEASURES, CaseScore, score_case, score_masks
from LiverTumorSegLib.evaluation.sizes import DIAMETERS, MERGED_DIAMETERS, VOLUMES
from LiverTumorSegLib.evaluation.statistics import compare, holm, mean, root_mean_square, share
from LiverTumorSegLib.evaluation.summary import STRUCTURES, summarise
from LiverTumorSegLib.evaluation.tables import NAMES, number, voxel_table
from LiverTumorSegLib.matching import RULES, Matching, match_lesions
from shapes import labels_of, volume_with

ROW = np.s_[5:6, 6:7, 2:10]  # a lesion of 8 voxels
SHORT = np.s_[5:6, 6:7, 2:7]  # its first 5
FAR = np.s_[1:2, 1:2, 1:3]  # 2 voxels elsewhere


def case(reference: tuple, prediction: tuple, name: str = "a", spacing=(1, 1, 1)) -> CaseScore:
    """Score tumours (boxes) in livers that fill the volume."""
    images = (labels_of(volume_with(*boxes), spacing) for boxes in (reference, prediction))
    return score_case(*images, name=name)


# --- one case


def test_every_measure_of_a_row_of_eight_voxels_of_which_five_are_found() -> None:
    values = case((ROW,), (SHORT,), spacing=(2, 1, 1)).tumour.values
    assert set(values) == set(MEASURES) == set(NAMES)
    # Every voxel is border; the last three of the reference are 2, 4 and 6 mm from the fifth.
    expected = {
        "dice": 10 / 13,
        "jaccard": 5 / 8,
        "volumetric_overlap_error": 3 / 8,
        "sensitivity": 5 / 8,
        "precision": 1,
        "relative_volume_difference": -3 / 8,
        "volume_similarity": 1 - 3 / 13,
        "assd_mm": 12 / 13,
        "rmsd_mm": math.sqrt((4 + 16 + 36) / 13),
        "hausdorff_mm": 6,
        "hd95_mm": 4 + 0.65 * 2,  # place 0.95 * 7 = 6.65 of 0, 0, 0, 0, 0, 2, 4, 6
        "nsd_1mm": 10 / 13,
        "nsd_2mm": 11 / 13,
    }
    assert values == pytest.approx(expected)


def test_the_liver_is_every_label_above_zero_and_the_burden_is_its_share_of_tumour() -> None:
    score = case((ROW,), (SHORT, FAR))
    voxels = 12 * 14 * 16
    assert (score.liver.reference_voxels, score.liver.values["dice"]) == (voxels, 1)
    assert (score.burden, score.predicted_burden) == (8 / voxels, 7 / voxels)


def test_lesions_are_measured_matched_and_given_their_partner() -> None:
    score = case((ROW, FAR), (SHORT,))
    large, small = score.lesions
    assert (large.found, small.found) == (RULES, ())
    assert (large.dice, large.jaccard, small.dice) == pytest.approx((10 / 13, 5 / 8, 0))
    assert large.partner is not None
    assert large.partner.values["hausdorff_mm"] == 3
    assert small.partner is None
    assert [each.right for each in score.predicted] == [RULES]
    assert large.lesion.axial_long_axis_mm == 8


@pytest.mark.parametrize(("direction", "number"), [((1, 0, 0, 0, 1, 0, 0, 0, 1), 5), ((1, 0, 0, 0, 0, 1, 0, 1, 0), 6)])
def test_a_lesion_s_slice_is_the_scan_s(direction: tuple[int, ...], number: int) -> None:
    """Also where most of the scan is empty, and where its second axis runs to the head."""
    labels = np.zeros((12, 14, 16), np.uint8)
    labels[4:7, 5:8, 1:12] = 1
    labels[ROW] = 2
    image = sitk.GetImageFromArray(labels)
    image.SetDirection(direction)
    score = score_case(image, image)
    assert [each.lesion.axial_slice for each in (*score.lesions, *score.predicted)] == [number, number]


def test_a_lesion_found_in_two_pieces_has_the_dice_of_both_together_and_no_partner() -> None:
    pieces = (np.s_[5:6, 6:7, 2:5], np.s_[5:6, 6:7, 7:10])
    score = case((ROW,), pieces)
    assert score.lesions[0].dice == pytest.approx(12 / 14)
    assert score.lesions[0].partner is None
    assert [score.false_positives(rule) for rule in RULES] == [0, 0, 2]


def test_empty_label_maps_have_scores_that_say_so() -> None:
    empty = sitk.Image(8, 8, 8, sitk.sitkUInt8)
    score = score_case(empty, empty)
    assert (score.tumour.values["dice"], score.lesions, score.predicted) == (1, (), ())
    assert math.isnan(score.liver.values["assd_mm"])
    assert math.isnan(score.burden)
    one_sided = score_case(empty, empty + 1)
    assert (one_sided.liver.values["dice"], one_sided.liver.values["nsd_1mm"]) == (0, 0)


def test_a_single_voxel_is_a_lesion_like_any_other() -> None:
    dot = (np.s_[4:5, 4:5, 4:5],)
    score = case(dot, dot, spacing=(2, 1, 3))
    assert score.lesions[0].found == RULES
    assert score.lesions[0].lesion.axial_long_axis_mm == 2
    assert score.tumour.values["hausdorff_mm"] == 0


def test_predictions_on_another_grid_are_refused_and_both_grids_named() -> None:
    reference = labels_of(volume_with(ROW))
    with pytest.raises(ValueError, match=r"got spacing \(1, 1, 2\) for the reference's \(1, 1, 1\)"):
        score_case(reference, labels_of(volume_with(ROW), (1, 1, 2)))
    with pytest.raises(ValueError, match=r"got size \(15, 14, 12\) for the reference's \(16, 14, 12\)"):
        score_case(reference, reference[:15])


bits = st.integers(0, 2**27 - 1).map(lambda n: np.array([n >> k & 1 for k in range(27)], bool).reshape(3, 3, 3))


@settings(max_examples=25, deadline=None)
@given(bits, bits)
def test_lesions_agree_with_the_matching_rules_and_partners_with_iou(a: np.ndarray, b: np.ndarray) -> None:
    score = score_case(labels_of(a), labels_of(b))
    for rule in RULES:
        matching = match_lesions(a, b, rule)
        assert tuple(s.lesion.id for s in score.lesions if rule in s.found) == matching.found
        assert score.false_positives(rule) == len(matching.false_positives)
    for lesion in score.lesions:
        assert (lesion.partner is not None) == ("iou" in lesion.found)
        if lesion.partner:
            assert lesion.partner.values["jaccard"] > 0.5
            assert lesion.dice <= 1


@settings(max_examples=25, deadline=None)
@given(bits, bits)
def test_swapping_the_masks_leaves_every_symmetric_measure_alone(a: np.ndarray, b: np.ndarray) -> None:
    there, back = (score_masks(*pair, (2.0, 1.0, 0.5)).values for pair in ((a, b), (b, a)))
    for name in MEASURES:
        if name not in ("sensitivity", "precision", "relative_volume_difference"):
            assert there[name] == pytest.approx(back[name], nan_ok=True), name


# --- statistics


def test_a_mean_leaves_out_what_has_no_value_and_says_how_many_it_is_of() -> None:
    estimate = mean([1.0, math.nan, 3.0], ["a", "b", "c"])
    assert (estimate.value, estimate.count, estimate.sd) == (2, 2, pytest.approx(math.sqrt(2)))
    assert estimate.low <= 2 <= estimate.high


def test_an_interval_needs_two_patients_and_draws_the_same_for_the_same_seed() -> None:
    values = [(n * n % 31) / 31 for n in range(20)]
    patients = [str(n) for n in range(20)]
    assert mean(values, patients, 3) == mean(values, patients, 3)
    assert mean(values, patients, 3) != mean(values, patients, 4)
    alone = mean([0.2, 0.8], ["a", "a"])
    assert alone.value == 0.5
    assert math.isnan(alone.low)


def test_a_share_pools_cases_so_that_one_with_many_lesions_counts_more() -> None:
    assert share([1, 0], [1, 9], ["a", "b"]).value == 0.1
    assert math.isnan(share([0], [0], ["a"]).value)


def test_the_bootstrap_interval_of_a_mean_is_near_the_one_of_the_normal_distribution() -> None:
    values = np.random.default_rng(1).normal(0.7, 0.1, 400)
    estimate = mean(values.tolist(), [str(n) for n in range(400)])
    half = 1.96 * values.std(ddof=1) / 20
    assert (estimate.low, estimate.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.002)


def test_the_root_mean_square_of_three_and_four_is_the_root_of_twelve_and_a_half() -> None:
    assert root_mean_square([3, -4], ["a", "b"]).value == pytest.approx(math.sqrt(12.5))


def test_wilcoxons_test_of_six_gains_in_one_direction_gives_two_in_sixty_four() -> None:
    pytest.importorskip("scipy")
    gains = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    result = compare([0.0] * 6, gains, list("abcdef"))
    assert result.p == pytest.approx(2 / 64)  # of the 2**6 signs, all plus or all minus
    assert (result.first, result.second, result.difference.value) == pytest.approx((0, 0.35, 0.35))
    assert compare(gains, gains, list("abcdef")).p == 1
    assert math.isnan(compare([math.nan], [1.0], ["a"]).p)


def test_holm_multiplies_the_smallest_p_value_by_their_number_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03, math.nan]) == pytest.approx([0.03, 0.06, 0.06, math.nan], nan_ok=True)
    assert holm([0.6, 0.7]) == [1, 1]


# --- all cases

CASES = (
    case((ROW, FAR), (SHORT,), "one"),
    case((), (FAR,), "two"),
    case((), (), "three"),
    case((ROW,), (ROW,), "four"),
)


def test_pooled_lesions_patients_and_burden_of_four_cases() -> None:
    summary = summarise(CASES)
    found = summary.detection("half")
    assert (found.found, found.missed, found.right, found.false) == (2, 1, 2, 1)
    assert (found.recall.value, found.precision.value, found.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert found.false_per_case.value == 1 / 4
    assert (summary.patient_sensitivity.value, summary.patient_specificity.value) == (1, 1 / 2)
    voxels = 12 * 14 * 16
    errors = np.array([-5, 2, 0, 0]) / voxels
    assert summary.burden_rmse.value == pytest.approx(np.sqrt(np.mean(errors**2)))
    assert summary.burden_worst == pytest.approx(5 / voxels)


def test_tumours_are_averaged_where_there_are_any_and_lits_dice_counts_agreement_on_none() -> None:
    summary = summarise(CASES)
    dices = 10 / 15, 0, 1  # the first: 5 of 10 and 5 voxels
    assert summary.mask("tumour", "dice").value == pytest.approx(sum(dices) / 3)
    assert summary.mask("tumour", "dice").count == 3
    assert summary.case_dice["tumour"].value == pytest.approx((sum(dices) + 1) / 4)
    assert summary.global_dice["tumour"].value == pytest.approx(2 * (5 + 8) / (10 + 5 + 2 + 8 + 8))


def test_groups_of_well_and_badly_segmented_lesions_have_their_own_long_axis() -> None:
    groups = summarise(CASES).axis_groups
    # A row of n voxels is n long, and sqrt(n**2 + 1) between the outer edges of its ends' faces at most.
    assert (groups.high.value, groups.low.value) == pytest.approx((8, 2), abs=0.5)
    assert (groups.high.count, groups.low.count) == (2, 1)


@pytest.mark.parametrize("classes", [DIAMETERS, MERGED_DIAMETERS, VOLUMES])
def test_size_classes_hold_every_lesion_once(classes) -> None:
    summary = summarise(CASES)
    for rule in RULES:
        total = summary.detection(rule)
        each = [summary.detection(rule, size.name) for size in classes]
        assert sum(d.found + d.missed for d in each) == total.found + total.missed == 3
        assert sum(d.right + d.false for d in each) == total.right + total.false == 3
    ten = case((np.s_[5:6, 6:7, 2:12],), ()).lesions[0].lesion
    assert [size.name for size in DIAMETERS if size.holds(ten)] == ["5–10 mm"]


def test_cases_of_one_patient_count_as_one_patient() -> None:
    twice = [score_case(labels_of(volume_with(ROW)), labels_of(volume_with(ROW)), name, "p") for name in "ab"]
    summary = summarise(twice)
    assert (summary.cases, summary.patients, summary.patient_sensitivity.count) == (2, 1, 1)
    assert math.isnan(summary.mask("liver", "dice").low)


def test_two_results_are_compared_over_the_cases_that_both_have() -> None:
    pytest.importorskip("scipy")
    better = (case((ROW, FAR), (ROW, FAR), "one"), case((), (), "two"), case((ROW,), (), "five"))
    compared = compare_cases(CASES, better)
    dice = compared["tumour", "dice"]
    assert (dice.difference.count, dice.first, dice.second) == (1, pytest.approx(10 / 15), 1)
    false = compared["lesions", "false a case, any overlap"]
    assert (false.first, false.second, false.difference.value) == (0.5, 0, -0.5)


# --- FROC


def point(false: int, found: int) -> FrocPoint:
    return FrocPoint(1.0, "half", found, 10, false, 1, 0.5)


def test_the_froc_score_is_the_mean_sensitivity_at_seven_counts_of_false_lesions() -> None:
    # At 1/8 to 1/2 and at 1: below the first point 0, from there on 0.5, and at 2, 4 and 8 the last one's 0.8.
    curve = [point(1, 5), point(2, 8)]
    assert froc_score(curve) == pytest.approx((0 + 0 + 0 + 0.5 + 0.8 + 0.8 + 0.8) / 7)
    assert froc_score([point(0, 10)]) == 1


def test_a_froc_point_pools_the_cases() -> None:
    matchings = [Matching("half", (1,), (2,), (1,), (2, 3)), Matching("half", (), (), (), (1,))]
    pooled = froc_point(2.0, "half", matchings, [0.5, math.nan])
    assert (pooled.sensitivity, pooled.false_per_case, pooled.tumour_dice) == (0.5, 1.5, 0.5)


# --- tables


def test_figures_are_written_with_a_real_minus_and_a_dash_for_nothing() -> None:
    assert (number(-0.12345), number(math.nan), number(2, 1)) == ("−0.123", "–", "2.0")


def test_the_voxel_table_has_a_row_a_measure_and_says_how_many_cases() -> None:
    table = voxel_table(summarise(CASES))
    assert [row[0] for row in table.rows] == list(NAMES.values())
    assert "tumour over the 3 with one" in table.notes[0]
    assert {len(row) for row in table.rows} == {len(table.columns)}


def test_structures_have_the_names_that_scores_have() -> None:
    assert all(hasattr(CASES[0], structure) for structure in STRUCTURES)
