"""Distances between surfaces, against distances counted by hand and SimpleITK's own filters."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk

from LiverTumorSegLib.evaluation.surfaces import assd, border, hausdorff, hd95, nsd, rmsd, surface_distances
from shapes import volume_with


def ball(radius: float, centre: tuple[float, float, float] = (20, 20, 20), size: int = 41) -> np.ndarray:
    grid = np.indices((size, size, size)).reshape(3, -1) - np.array(centre)[:, None]
    return (np.linalg.norm(grid, axis=0) <= radius).reshape(size, size, size)


def test_two_voxels_are_as_far_apart_as_their_centres() -> None:
    a, b = volume_with(np.s_[2:3, 3:4, 4:5]), volume_with(np.s_[2:3, 6:7, 8:9])
    for measure in (assd, rmsd, hausdorff, hd95):
        assert measure(a, b, (1, 1, 1)) == pytest.approx(5)  # 3 and 4
        assert measure(a, b, (9, 2, 0.75)) == pytest.approx(math.hypot(3 * 2, 4 * 0.75))
    assert (nsd(a, b, (1, 1, 1), 4.9), nsd(a, b, (1, 1, 1), 5.0)) == (0, 1)


def test_a_row_that_is_one_voxel_longer() -> None:
    # All voxels of a row are border. Reference 4, prediction 5 voxels; one of the 9 border voxels is 2 mm off.
    reference, prediction = volume_with(np.s_[5:6, 6:7, 2:6]), volume_with(np.s_[5:6, 6:7, 2:7])
    spacing = (5, 1, 2)
    assert assd(reference, prediction, spacing) == pytest.approx(2 / 9)
    assert rmsd(reference, prediction, spacing) == pytest.approx(math.sqrt(4 / 9))
    assert hausdorff(reference, prediction, spacing) == 2
    assert hd95(reference, prediction, spacing) == pytest.approx(0.8 * 2)  # 95 % between the 4th and 5th of 0,0,0,0,2
    assert nsd(reference, prediction, spacing, 1) == pytest.approx(8 / 9)


def test_which_voxels_are_border() -> None:
    cube = volume_with(np.s_[2:7, 2:7, 2:7])  # 5 x 5 x 5
    counts = [int(border(cube, connectivity).sum()) for connectivity in (6, 18, 26)]
    assert counts == [125 - 27] * 3
    # Six neighbours: the voxels beside the missing corner of a cube see it only across an edge or a corner.
    cube[2, 2, 2] = False
    inner = (3, 3, 3)
    assert [bool(border(cube, c)[inner]) for c in (6, 18, 26)] == [False, False, True]
    cube[2, 2, 3] = False
    assert [bool(border(cube, c)[inner]) for c in (6, 18, 26)] == [False, True, True]
    assert border(np.ones((3, 3, 3), bool)).sum() == 26  # outside the volume is outside


def test_concentric_balls_are_their_radii_apart() -> None:
    small, large = ball(10), ball(14)
    distances = surface_distances(small, large, (1, 1, 1))
    assert distances.assd == pytest.approx(4, abs=0.5)  # a border of 18 neighbours is up to two voxels thick
    assert distances.hausdorff == pytest.approx(4, abs=0.9)
    assert (distances.nsd(2), distances.nsd(5)) == (0, 1)
    # A border of 6 neighbours is thinner, so the distances are larger: why the docstring says which is used.
    shifted = ball(10, (20, 20, 21))
    assert (
        surface_distances(small, shifted, (1, 1, 1), 6).assd > 1.1 * surface_distances(small, shifted, (1, 1, 1)).assd
    )


def test_swapping_the_masks_changes_nothing_and_a_mask_is_at_no_distance_from_itself() -> None:
    a, b = ball(8), ball(9, (22, 20, 18))
    for measure in (assd, rmsd, hausdorff, hd95, nsd):
        assert measure(a, b, (2, 1, 1.5)) == pytest.approx(measure(b, a, (2, 1, 1.5)))
        assert measure(a, a, (2, 1, 1.5)) == (1 if measure is nsd else 0)


def test_without_a_surface_there_is_no_distance() -> None:
    nothing, something = volume_with(), volume_with(np.s_[1:3, 1:3, 1:3])
    for pair in ((nothing, nothing), (nothing, something), (something, nothing)):
        assert all(math.isnan(measure(*pair, (1, 1, 1))) for measure in (assd, rmsd, hausdorff, hd95))
    assert (nsd(nothing, nothing, (1, 1, 1)), nsd(nothing, something, (1, 1, 1))) == (1, 0)


def test_masks_that_cannot_be_compared_are_refused() -> None:
    mask = volume_with()
    with pytest.raises(ValueError, match="prediction: wanted a bool mask, got uint8"):
        assd(mask, mask.astype(np.uint8), (1, 1, 1))
    with pytest.raises(ValueError, match="wanted the reference's shape"):
        assd(mask, mask[1:], (1, 1, 1))


def test_the_hausdorff_distance_of_separate_bodies_is_simpleitk_s() -> None:
    spacing = (2.5, 0.8, 1.2)
    for centre in ((8, 20, 30), (30, 9, 12)):
        a, b = ball(6, (20, 20, 20)), ball(5, centre)
        images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (a & ~b, b & ~a)]
        for image in images:
            image.SetSpacing(spacing[::-1])
        judge = sitk.HausdorffDistanceImageFilter()
        judge.Execute(*images)
        assert hausdorff(a & ~b, b & ~a, spacing) == pytest.approx(judge.GetHausdorffDistance(), rel=1e-5)


def test_the_average_distance_is_that_of_simpleitk_s_contours_and_distance_maps() -> None:
    spacing = (3.0, 0.9, 0.7)
    a, b = ball(9), ball(11, (22, 18, 21)) & ~ball(4, (22, 18, 10))
    pooled = []
    contours = []
    for mask in (a, b):
        image = sitk.GetImageFromArray(mask.astype(np.uint8))
        image.SetSpacing(spacing[::-1])
        contours.append(sitk.LabelContour(image, fullyConnected=True))  # 26 neighbours
    for start, goal in (contours, contours[::-1]):
        away = sitk.SignedMaurerDistanceMap(goal, squaredDistance=False, useImageSpacing=True)
        pooled.append(np.abs(sitk.GetArrayFromImage(away))[sitk.GetArrayFromImage(start) > 0])
    ours = surface_distances(a, b, spacing, 26)
    assert ours.assd == pytest.approx(np.concatenate(pooled).mean(), rel=1e-5)
    assert ours.hd95 == pytest.approx(max(np.percentile(each, 95) for each in pooled), rel=1e-5)
