"""Lesions: what is one, how large, where; and which of a reference's lesions a prediction finds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from LiverTumorSegLib.errors import ImageError
from LiverTumorSegLib.lesions import Lesion, find_lesions, label_components, match_lesions

IDENTITY = (1, 0, 0, 0, 1, 0, 0, 0, 1)
# Columns: i to the patient's right, j back, k up: left-handed.
LEFT_HANDED = (-1, 0, 0, 0, 1, 0, 0, 0, 1)
# i runs to the back, j up, k to the left: a sagittal scan.
SAGITTAL = (0, 0, 1, 1, 0, 0, 0, 1, 0)

properties = settings(max_examples=30, deadline=None)


def labels_of(
    tumour: np.ndarray, spacing_mm: Sequence[float] = (1, 1, 1), direction: Sequence[float] = IDENTITY
) -> sitk.Image:
    """Return labels with `tumour` (k, j, i) as label 2 in a liver that fills the volume; the origin is (10, 20, 30)."""
    image = sitk.GetImageFromArray(1 + tumour.astype(np.uint8))
    image.SetSpacing([float(s) for s in spacing_mm])
    image.SetDirection([float(d) for d in direction])
    image.SetOrigin((10.0, 20.0, 30.0))
    return image


def volume_with(*boxes: tuple[slice, slice, slice], shape: tuple[int, int, int] = (12, 14, 16)) -> np.ndarray:
    volume = np.zeros(shape, bool)
    for box in boxes:
        volume[box] = True
    return volume


def ball(radius_mm: float, spacing_kji: Sequence[float], shift: float = 0.0) -> np.ndarray:
    reach = [math.ceil(radius_mm / s) + 2 for s in spacing_kji]
    axes = [np.arange(-n, n + 1) * s + shift for n, s in zip(reach, spacing_kji, strict=True)]
    k, j, i = np.meshgrid(*axes, indexing="ij")
    return k * k + j * j + i * i <= radius_mm**2


def only_lesion(tumour: np.ndarray, *geometry: Sequence[float]) -> Lesion:
    (lesion,) = find_lesions(labels_of(tumour, *geometry))
    return lesion


def longest_between_exposed_faces(mask: np.ndarray, spacing: np.ndarray) -> float:
    """Return the diameter by trying every pair of exposed faces."""
    padded = np.pad(mask, 1)
    faces = []
    for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
        exposed = np.argwhere(padded & ~np.roll(padded, -step, axis)).astype(float)
        exposed[:, axis] += step / 2
        faces.append(exposed)
    points = np.concatenate(faces) * spacing
    return max(float(((points - point) ** 2).sum(axis=1).max()) for point in points) ** 0.5


def test_voxels_that_touch_at_an_edge_are_two_lesions() -> None:
    tumour = volume_with(np.s_[2:3, 2:3, 2:3], np.s_[2:3, 3:4, 3:4])
    assert label_components(tumour)[1] == 2
    assert label_components(tumour, connectivity=18)[1] == 1
    assert len(find_lesions(labels_of(tumour))) == 2


def test_an_empty_volume_has_no_lesion() -> None:
    components, count = label_components(volume_with())
    assert (count, components.shape, components.any()) == (0, (12, 14, 16), False)
    assert find_lesions(labels_of(volume_with())) == []


def test_components_keep_their_place_in_the_whole_volume() -> None:
    tumour = volume_with(np.s_[3:5, 4:6, 5:9], np.s_[11:12, 13:14, 15:16])
    components, count = label_components(tumour)
    assert count == 2
    np.testing.assert_array_equal(components > 0, tumour)
    assert components[3, 4, 5] == components[4, 5, 8] == 1
    assert components[11, 13, 15] == 2


def test_lesions_are_numbered_by_size_and_equal_ones_by_position() -> None:
    tumour = volume_with(np.s_[0:1, 0:1, 0:1], np.s_[4:6, 4:6, 4:6], np.s_[9:10, 2:3, 3:4])
    lesions = find_lesions(labels_of(tumour))
    assert [(each.id, each.voxels) for each in lesions] == [(1, 8), (2, 1), (3, 1)]
    assert [each.axial_slice for each in lesions] == [4, 0, 9]


def test_a_single_voxel_is_as_long_as_its_longest_edge() -> None:
    lesion = only_lesion(volume_with(np.s_[5:6, 6:7, 7:8]), (0.7, 0.8, 5.0))
    assert lesion.volume_ml == pytest.approx(0.7 * 0.8 * 5 / 1000)
    assert lesion.long_axis_mm == pytest.approx(5.0)
    assert lesion.axial_long_axis_mm == pytest.approx(0.8)
    assert lesion.axial_perpendicular_mm == pytest.approx(0.7)


def test_a_row_of_voxels_is_as_long_as_its_edges_together() -> None:
    lesion = only_lesion(volume_with(np.s_[5:6, 6:7, 3:10]), (1.5, 1, 1))
    assert lesion.long_axis_mm == lesion.axial_long_axis_mm == pytest.approx(7 * 1.5)
    assert lesion.axial_perpendicular_mm == pytest.approx(1)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 0.5, 0.5), (0.8, 0.8, 2.0)])
@pytest.mark.parametrize("shift", [0.0, 0.21])
def test_a_digital_ball_reads_its_diameter_within_one_voxel(spacing: tuple[float, ...], shift: float) -> None:
    lesion = only_lesion(ball(9.0, spacing[::-1], shift), spacing)
    assert lesion.long_axis_mm == pytest.approx(18, abs=max(spacing))
    assert lesion.axial_long_axis_mm == pytest.approx(18, abs=spacing[0])
    assert lesion.axial_perpendicular_mm == pytest.approx(18, abs=spacing[0])


@pytest.mark.parametrize("radii", [(14, 14, 14), (18, 11, 15), (6, 19, 19)])
def test_a_large_lesion_is_measured_as_exactly_as_by_trying_every_pair(radii: tuple[int, int, int]) -> None:
    k, j, i = np.indices((41, 41, 41)) - 20.3
    tumour = (k / radii[0]) ** 2 + (j / radii[1]) ** 2 + (i / radii[2]) ** 2 + 0.2 * np.sin(k * j / 20) <= 1
    components, _ = label_components(tumour)
    largest = components == np.bincount(components[tumour]).argmax()
    assert only_lesion(largest, (1, 1, 2)).long_axis_mm == pytest.approx(
        longest_between_exposed_faces(largest, np.array((2.0, 1.0, 1.0)))
    )


@properties
@given(st.integers(1, 2**18 - 1), st.tuples(*[st.sampled_from([0.6, 1.0, 3.0])] * 3))
def test_diameters_are_the_longest_of_all_pairs(bits: int, spacing: tuple[float, float, float]) -> None:
    tumour = np.zeros((4, 5, 5), bool)
    tumour[1:3, 1:4, 1:4] = np.array([bits >> n & 1 for n in range(18)], bool).reshape(2, 3, 3)
    components, _ = label_components(tumour)
    in_mm = np.array(spacing[::-1])
    lesions = find_lesions(labels_of(tumour, spacing))
    expected = sorted(
        (np.count_nonzero(one), longest_between_exposed_faces(one, in_mm), longest_in_plane(one, in_mm))
        for one in (components == n for n in range(1, components.max() + 1))
    )
    got = sorted((each.voxels, each.long_axis_mm, each.axial_long_axis_mm) for each in lesions)
    np.testing.assert_allclose(got, expected)
    assert all(each.axial_perpendicular_mm <= each.axial_long_axis_mm + 1e-9 for each in lesions)


def longest_in_plane(mask: np.ndarray, spacing: np.ndarray) -> float:
    return max(longest_between_exposed_faces(level, spacing[1:]) for level in mask if level.any())


def test_the_axial_diameters_come_from_the_slice_where_the_lesion_is_longest() -> None:
    tumour = volume_with(np.s_[4:7, 5:8, 5:8], np.s_[7:8, 5:7, 4:12])
    lesion = only_lesion(tumour)
    assert lesion.axial_slice == 7
    # The outline of 8 x 2 pixels: from (3.5, 5) to (11.5, 6) between the ends of its rows.
    assert lesion.axial_long_axis_mm == pytest.approx(math.hypot(8, 1))
    # Across that line, of direction (8, 1): the pixels' outer faces from (4, 6.5) to (11, 4.5).
    assert lesion.axial_perpendicular_mm == pytest.approx((8 * 2 + 7) / math.hypot(8, 1))


def test_a_sagittal_scan_is_measured_across_the_axis_that_runs_to_the_head() -> None:
    tumour = volume_with(np.s_[5:6, 2:12, 3:5])
    lesion = only_lesion(tumour, (1, 1, 4), SAGITTAL)
    # Along j, the head's direction, it is 10 mm; its axial slices are 2 (i) x 1 (k) voxels of 1 x 4 mm.
    assert lesion.long_axis_mm > 10
    assert lesion.axial_long_axis_mm == pytest.approx(math.hypot(4, 1))
    assert lesion.axial_slice == 2


def test_the_centroid_is_in_ras() -> None:
    tumour = volume_with(np.s_[5:6, 6:7, 4:8])
    # Index (5.5, 6, 5) of spacing (2, 3, 5) from the origin (10, 20, 30): LPS (21, 38, 55).
    assert only_lesion(tumour, (2, 3, 5)).centroid_ras_mm == pytest.approx((-21, -38, 55))


def test_the_centroid_is_right_when_i_runs_to_the_patients_right() -> None:
    tumour = volume_with(np.s_[5:6, 6:7, 4:8])
    assert only_lesion(tumour, (2, 3, 5), LEFT_HANDED).centroid_ras_mm == pytest.approx((1, -38, 55))


def test_the_centroid_is_right_in_an_oblique_scan(oblique: tuple[float, ...]) -> None:
    tumour = volume_with(np.s_[5:6, 6:7, 4:8])
    in_lps = np.array((10, 20, 30)) + np.array(oblique).reshape(3, 3) @ (11, 18, 25)
    expected = in_lps * (-1, -1, 1)
    assert only_lesion(tumour, (2, 3, 5), oblique).centroid_ras_mm == pytest.approx(tuple(expected))


@pytest.mark.parametrize("direction", [IDENTITY, LEFT_HANDED, SAGITTAL])
def test_size_does_not_depend_on_how_the_scan_lies(direction: Sequence[float]) -> None:
    lesion = only_lesion(volume_with(np.s_[4:7, 5:8, 5:8]), (1, 1, 1), direction)
    assert lesion.volume_ml == pytest.approx(0.027)
    assert lesion.long_axis_mm == pytest.approx(math.sqrt(9 + 4 + 4))


def test_the_mean_intensity_is_of_the_lesions_own_voxels() -> None:
    tumour = volume_with(np.s_[5:6, 6:7, 4:6], np.s_[5:6, 7:8, 4:5])
    labels = labels_of(tumour)
    grey = np.full(tumour.shape, -1000, np.int16)
    grey[5, 6, 4], grey[5, 6, 5], grey[5, 7, 4] = 30, 60, 90
    scan = sitk.GetImageFromArray(grey)
    scan.CopyInformation(labels)
    (lesion,) = find_lesions(labels, scan)
    assert lesion.mean_intensity == pytest.approx(60)
    assert lesion.mean_probability is None


def test_a_scan_of_another_size_is_refused() -> None:
    with pytest.raises(ImageError, match=r"wanted a scan of \(16, 14, 12\) voxels like the labels, got \(3, 3, 3\)"):
        find_lesions(labels_of(volume_with()), sitk.Image(3, 3, 3, sitk.sitkInt16))


def test_the_probability_is_interpolated_from_a_coarser_grid_with_other_axes(oblique: tuple[float, ...]) -> None:
    labels = labels_of(volume_with(np.s_[5:6, 6:7, 4:8]), (1, 1, 1), oblique)
    # A probability that rises along the patient's left-right axis is the same on any grid: 0.02 a millimetre.
    coarse = sitk.Image(20, 20, 20, sitk.sitkFloat32)
    coarse.SetSpacing((4.0, 4.0, 4.0))
    coarse.SetOrigin((-20.0, -20.0, -10.0))
    ramp = np.broadcast_to(0.5 + 0.02 * (np.arange(20) * 4.0 - 20), (20, 20, 20))
    probability = sitk.GetImageFromArray(ramp.astype(np.float32))
    probability.CopyInformation(coarse)
    (lesion,) = find_lesions(labels, probability=probability)
    assert lesion.mean_probability == pytest.approx(0.5 - 0.02 * lesion.centroid_ras_mm[0], abs=1e-5)


def test_voxels_beyond_the_networks_grid_do_not_lower_the_mean_probability() -> None:
    labels = labels_of(volume_with(np.s_[5:6, 6:7, 0:10]))
    seen = sitk.RegionOfInterest(labels, (5, 14, 12), (0, 0, 0))
    certain = sitk.Cast(seen, sitk.sitkFloat32) * 0 + 1
    (half_seen,) = find_lesions(labels, probability=certain)
    assert half_seen.mean_probability == pytest.approx(1)
    certain.SetOrigin((500.0, 0.0, 0.0))
    (unseen,) = find_lesions(labels, probability=certain)
    assert unseen.mean_probability is None


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
    with pytest.raises(ValueError, match="rule: wanted one of overlap, iou, half, got 'dice'"):
        match_lesions(ROW, ROW, "dice")  # type: ignore[arg-type]


@properties
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
