"""What becomes of the networks' output: components, holes, lesions at the edge, the sensitivity factor."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from LiverTumorSegLib.geometry import GridGeometry
from LiverTumorSegLib.postprocessing import Evidence, _above, large_components, opening
from LiverTumorSegLib.recipe import Postprocessing

SIZE = (40, 32, 24)
IDENTITY = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
GRID = GridGeometry((0.0, 0.0, 0.0), (2.0, 2.0, 2.0), IDENTITY, SIZE)


def blank() -> np.ndarray:
    return np.full(SIZE[::-1], -6.0, np.float32)


def block(array: np.ndarray, start: tuple[int, int, int], size: tuple[int, int, int], value: float = 6.0) -> None:
    """Set a block, start and size in (i, j, k)."""
    (i, j, k), (ni, nj, nk) = start, size
    array[k : k + nk, j : j + nj, i : i + ni] = value


def labels(liver: np.ndarray, tumour: np.ndarray, rules: Postprocessing, factor: float = 1.0) -> np.ndarray:
    """Labels on a scan whose voxels are the grid's."""
    image = sitk.Image(SIZE, sitk.sitkInt16)
    image.SetSpacing((2.0, 2.0, 2.0))
    evidence = Evidence(liver.astype(np.float16), tumour.astype(np.float16), GRID, rules)
    return sitk.GetArrayFromImage(evidence.labels_like(image, factor))


def test_a_second_liver_part_of_a_tenth_is_kept_and_the_largest_only_when_printed_so():
    liver = blank()
    block(liver, (2, 2, 2), (10, 10, 10))  # 1000 voxels
    block(liver, (20, 20, 2), (5, 5, 4))  # 100 voxels
    block(liver, (30, 2, 2), (4, 4, 4))  # 64 voxels
    assert (labels(liver, blank(), Postprocessing(keep_liver_above=0.1)) == 1).sum() == 1100
    assert (labels(liver, blank(), Postprocessing(keep_liver_above=1.0)) == 1).sum() == 1000


def test_a_cavity_in_the_liver_is_filled():
    liver = blank()
    block(liver, (5, 5, 5), (12, 12, 12))
    block(liver, (9, 9, 9), (4, 4, 4), -6.0)
    assert (labels(liver, blank(), Postprocessing()) == 1).sum() == 12**3
    assert (labels(liver, blank(), Postprocessing(fill_holes=False)) == 1).sum() == 12**3 - 4**3


def test_a_tumour_at_the_capsule_is_kept_and_one_far_from_the_liver_is_not():
    liver, tumour = blank(), blank()
    block(liver, (4, 4, 4), (12, 12, 12))
    block(tumour, (17, 8, 8), (4, 4, 4))  # one voxel (2 mm) off the liver's edge
    block(tumour, (32, 24, 16), (4, 4, 4))
    found = labels(liver, tumour, Postprocessing(tumour_reach_mm=5.0))
    assert (found == 2).sum() == 64
    assert (found[8:12, 8:12, 17:21] == 2).all()
    assert (labels(liver, tumour, Postprocessing(tumour_reach_mm=0.0)) == 2).sum() == 0


def test_the_reach_and_the_volume_are_in_millimetres_on_a_grid_of_thick_slices():
    thick = GridGeometry((0.0, 0.0, 0.0), (1.0, 1.0, 5.0), IDENTITY, SIZE)
    image = sitk.Image(SIZE, sitk.sitkInt16)
    image.SetSpacing((1.0, 1.0, 5.0))

    def volumes(rules: Postprocessing) -> list[int]:
        liver, tumour = blank(), blank()
        block(liver, (4, 4, 4), (12, 12, 8))
        block(tumour, (19, 8, 8), (4, 4, 2))  # 4 mm beside the liver in plane: 32 voxels, 0.16 ml
        block(tumour, (8, 8, 14), (5, 4, 2))  # 15 mm above it, as near in voxels: 40 voxels, 0.2 ml
        evidence = Evidence(liver.astype(np.float16), tumour.astype(np.float16), thick, rules)
        found = sitk.GetArrayFromImage(evidence.labels_like(image)) == 2
        return [int(found[:12].sum()), int(found[12:].sum())]

    assert volumes(Postprocessing(tumour_reach_mm=3.9)) == [0, 0]
    assert volumes(Postprocessing(tumour_reach_mm=4.1)) == [32, 0]
    assert volumes(Postprocessing(tumour_reach_mm=15.1)) == [32, 40]
    assert volumes(Postprocessing(tumour_reach_mm=15.1, min_lesion_ml=0.18)) == [0, 40]


def test_a_tumour_beside_the_liver_is_background_and_one_at_its_edge_is_kept():
    liver, tumour = blank(), blank()
    block(liver, (4, 4, 4), (12, 12, 12))
    block(tumour, (16, 8, 8), (4, 4, 4))  # outside, one of its six faces on the liver
    block(tumour, (4, 6, 6), (3, 4, 4), 9.0)  # inside, one of its faces at the edge
    strict = labels(liver, tumour, Postprocessing(min_liver_contact=0.5))
    assert (strict[:, :, 16:] == 0).all()
    assert (strict[6:10, 6:10, 4:7] == 2).all()
    assert (strict > 0).sum() == 12**3
    assert (labels(liver, tumour, Postprocessing()) == 2).sum() == 64 + 48


def test_a_liver_that_is_mostly_tumour_is_one_organ():
    liver, tumour = blank(), blank()
    block(liver, (4, 4, 4), (3, 10, 10))
    block(tumour, (7, 4, 4), (12, 10, 10), 8.0)
    found = labels(liver, tumour, Postprocessing())
    assert ((found == 1).sum(), (found == 2).sum()) == (300, 1200)


def test_small_and_improbable_lesions_become_liver():
    liver, tumour = blank(), blank()
    block(liver, (4, 4, 4), (20, 20, 16))
    block(tumour, (6, 6, 6), (2, 2, 2), 9.0)  # 8 voxels of 8 mm3: 0.064 ml
    block(tumour, (14, 6, 6), (4, 4, 4), 6.2)  # only just ahead of the liver's 6: probability .55
    block(tumour, (6, 14, 6), (4, 4, 4), 9.0)  # probability .95
    strict = labels(liver, tumour, Postprocessing(min_lesion_ml=0.1, min_lesion_probability=0.8))
    assert (strict == 2).sum() == 64
    assert (strict[6:10, 14:18, 6:10] == 2).all()
    assert (strict > 0).sum() == 20 * 20 * 16
    assert (labels(liver, tumour, Postprocessing()) == 2).sum() == 8 + 64 + 64


def test_a_factor_above_one_brings_back_a_lesion_that_the_vote_lost():
    liver, tumour = blank(), blank()
    block(liver, (4, 4, 4), (20, 20, 16))
    block(tumour, (8, 8, 8), (5, 5, 5), 5.0)  # behind the liver's 6 by 1: needs a factor above e = 2.718
    assert (labels(liver, tumour, Postprocessing(), 2.6) == 2).sum() == 0
    assert (labels(liver, tumour, Postprocessing(), 2.8) == 2).sum() == 125


def test_the_factor_moves_the_odds_at_which_a_whole_lesion_is_called():
    liver, tumour = blank(), blank()
    block(liver, (4, 4, 4), (20, 20, 16))
    block(tumour, (8, 8, 8), (5, 5, 5), 6.5)  # ahead by 0.5: probability .62, odds 1.65
    rules = Postprocessing(min_lesion_probability=0.8)  # odds 4: needs a factor above 4 / 1.65 = 2.43
    assert (labels(liver, tumour, rules, 2.3) == 2).sum() == 0
    assert (labels(liver, tumour, rules, 2.6) == 2).sum() == 125


@settings(max_examples=20, deadline=None)
@given(st.floats(0.05, 20.0), st.floats(0.05, 20.0), st.integers(0, 1000))
def test_more_sensitivity_never_takes_a_tumour_voxel_away(one, other, seed):
    rng = np.random.default_rng(seed)
    liver = blank()
    block(liver, (4, 4, 4), (24, 20, 16))
    tumour = (liver + rng.normal(0, 2, liver.shape)).astype(np.float32)
    low, high = sorted((one, other))
    fewer, more = (labels(liver, tumour, Postprocessing(), f) == 2 for f in (low, high))
    assert not (fewer & ~more).any()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_every_voxel_is_background_liver_or_tumour_and_every_lesion_touches_liver(seed):
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 3, (2, 6, 8, 10)).repeat(4, 1).repeat(4, 2).repeat(4, 3)
    found = labels(noise[0], noise[1], Postprocessing())
    assert set(np.unique(found)) <= {0, 1, 2}
    if (found == 2).any():
        assert (found == 1).any() or (found == 2).all() or (found > 0).any()


def test_nothing_found_is_an_empty_label_map_with_the_scan_s_geometry():
    image = sitk.Image((9, 8, 7), sitk.sitkInt16)
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetOrigin((4.0, 5.0, 6.0))
    evidence = Evidence(blank().astype(np.float16), blank().astype(np.float16), GRID, Postprocessing())
    empty = evidence.labels_like(image)
    assert empty.GetSize() == (9, 8, 7)
    assert empty.GetSpacing() == image.GetSpacing()
    assert empty.GetOrigin() == image.GetOrigin()
    assert sitk.GetArrayFromImage(empty).sum() == 0


def test_a_lesion_of_27_voxels_vanishes_under_the_printed_opening_and_a_larger_one_does_not():
    liver, tumour = blank(), blank()
    block(liver, (4, 4, 4), (24, 24, 18))
    block(tumour, (6, 6, 6), (3, 3, 3), 9.0)
    block(tumour, (14, 14, 8), (9, 9, 9), 9.0)
    found = labels(liver, tumour, Postprocessing(opening_radius_voxels=2))
    assert (found[6:9, 6:9, 6:9] == 1).all()
    assert (found == 2).sum() > 300
    assert (labels(liver, tumour, Postprocessing())[6:9, 6:9, 6:9] == 2).all()


def test_the_digital_ball_of_radius_2_holds_33_voxels_and_survives_its_own_opening():
    k, j, i = np.ogrid[-4:5, -4:5, -4:5]
    ball = k**2 + j**2 + i**2 <= 4
    assert ball.sum() == 33
    assert np.array_equal(opening(ball, 2), ball)
    ball[4, 4, 6] = False
    assert not opening(ball, 2).any()


def test_opening_with_a_large_ball_keeps_what_it_fits_into_and_rounds_the_corners() -> None:
    cube = np.zeros((60, 60, 60), bool)
    cube[5:55, 5:55, 5:55] = True
    opened = opening(cube, 20)
    assert opened[5, 30, 30]
    assert not opened[5, 5, 5]
    # The ball's centres are 25 to 34 along each axis: in a corner, what lies at most 20 from (25, 25, 25).
    corner = np.argwhere(np.ones((20, 20, 20))) + 5
    near = ((corner - 25) ** 2).sum(1) <= 400
    assert np.array_equal(opened[5:25, 5:25, 5:25].ravel(), near)


def test_opening_does_not_wrap_around_the_volume_s_border():
    mask = np.zeros((8, 8, 8), bool)
    mask[:, :, :2] = True
    mask[:, :, -2:] = True
    assert not opening(mask, 2).any()


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_components_of_nothing_are_nothing(share):
    assert not large_components(np.zeros((4, 4, 4), bool), share).any()


def test_the_tumour_s_probability_is_the_softmax_over_the_three_classes():
    liver, tumour = blank(), blank()
    liver[0, 0, 0], tumour[0, 0, 0] = 1.0, 2.0
    evidence = Evidence(liver.astype(np.float16), tumour.astype(np.float16), GRID, Postprocessing())
    probability = evidence.tumour_probability()
    wanted = np.exp(2) / (np.exp(2) + np.exp(1) + 1)
    assert probability.GetPixel(0, 0, 0) == pytest.approx(wanted, abs=1e-3)
    assert probability.GetSpacing() == (2.0, 2.0, 2.0)


@settings(max_examples=60, deadline=None)
@given(st.floats(-120, 120), st.lists(st.floats(-100, 100, width=16), min_size=1))
def test_integers_tell_which_float16_numbers_are_above_a_limit_and_at_most_the_nearest_one_too_many(limit, numbers):
    field = np.array([*numbers, 0.0, -0.0, limit], np.float16)
    found = _above(field, limit)
    above = field.astype(float) > limit
    assert found[above].all()
    assert len({float(each) for each in field[found & ~above]}) <= 1
