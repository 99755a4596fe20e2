"""Lesions: what is one, how large, and where."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import SimpleITK as sitk

from LiverTumorSegLib.errors import ImageError
from LiverTumorSegLib.lesions import Lesion, find_lesions, label_components
from shapes import IDENTITY, LEFT_HANDED, SAGITTAL, labels_of, volume_with


def only_lesion(tumour: np.ndarray, *geometry: Sequence[float]) -> Lesion:
    (lesion,) = find_lesions(labels_of(tumour, *geometry))
    return lesion


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
