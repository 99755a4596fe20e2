"""Grids over scans of any orientation: they cover the box, point to the head, and come back to the same voxels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from LiverTumorSegLib.errors import RecipeError
from LiverTumorSegLib.geometry import (
    Box,
    axes_towards_lps,
    box_of_mask,
    box_within,
    clipped_box,
    fit_grid,
    resample_to_grid,
    whole_box,
    widened,
)
from LiverTumorSegLib.recipe import Axis, Grid

AXIAL = (1, 0, 0, 0, 1, 0, 0, 0, 1)
LEFT_HANDED = (1, 0, 0, 0, 1, 0, 0, 0, -1)
CORONAL = (1, 0, 0, 0, 0, 1, 0, -1, 0)  # columns: i to the left, j to the feet, k to the back
RAS = (-1, 0, 0, 0, -1, 0, 0, 0, 1)


def scan(size=(20, 16, 12), spacing=(2.0, 2.0, 5.0), direction=AXIAL) -> sitk.Image:
    image = sitk.Image(size, sitk.sitkInt16)
    image.SetSpacing(spacing)
    image.SetDirection([float(d) for d in direction])
    image.SetOrigin((11.0, -7.0, 30.0))
    return image


def test_the_axes_of_a_coronal_scan_are_named_by_where_they_run():
    order, signs = axes_towards_lps(scan(direction=CORONAL))
    # To the left runs i, to the back k, to the head j against its direction.
    assert order == (0, 2, 1)
    assert signs == (1, 1, -1)


def test_a_grid_of_given_spacing_is_rounded_up_and_centred_on_the_box():
    grid = fit_grid(scan(), whole_box(scan()), Grid(spacing_mm=4.0, multiple_of=8))
    # 40 x 32 x 60 mm need 10 x 8 x 15 voxels of 4 mm: rounded up 16 x 8 x 16.
    assert grid.size == (16, 8, 16)
    # The box reaches from 10 to 50 mm along x, so its middle 30 lies between the grid's voxels 7 and 8.
    assert grid.origin[0] + 7.5 * 4.0 == pytest.approx(30.0)


def test_a_grid_of_given_shape_takes_the_smallest_isotropic_spacing_at_which_the_box_fits():
    grid = fit_grid(scan(), whole_box(scan()), Grid(shape=(20, 20, 10)))
    assert grid.size == (20, 20, 10)
    assert grid.spacing_mm == pytest.approx((6.0, 6.0, 6.0))  # 60 mm over 10 voxels; the other sides have room


def test_a_grid_of_more_voxels_than_a_computer_holds_is_refused_before_they_are_made():
    field = scan((500, 500, 600), (1.0, 1.0, 1.0))
    # 0.5 mm: 1000 x 1000 x 1200 are more than 2 ** 30 = 1073741824; 0.6 mm is 1.7 times coarser.
    with pytest.raises(RecipeError) as refused:
        fit_grid(field, whole_box(field), Grid(spacing_mm=0.5, multiple_of=1))
    told = "wanted at most 1073741824 voxels over this scan, got 1200000000: 1000×1000×1200 of 0.5×0.5×0.5 mm"
    assert str(refused.value) == f"grid: {told}"
    assert fit_grid(field, whole_box(field), Grid(spacing_mm=0.6, multiple_of=1)).size == (834, 834, 1000)
    own = Axis(times_own=1.0)
    body = scan((512, 512, 2000), (0.98, 0.98, 1.0))
    assert fit_grid(body, whole_box(body), Grid(axes=(own, own, own))).size == (512, 512, 2000)


def test_each_axis_of_a_grid_can_have_a_rule_of_its_own():
    axes = (Axis(spacing_mm=1.5), Axis(times_own=0.5, multiple_of=10), Axis(voxels=24, multiple_of=16))
    grid = fit_grid(scan(), whole_box(scan()), Grid(axes=axes))
    # i: 40 mm by 1.5 are 26.7 voxels. j: half of 2 mm, 32 voxels, up to 40. k: 60 mm in 24 are 2.5 mm, up to 32.
    assert grid.spacing_mm == pytest.approx((1.5, 1.0, 2.5))
    assert grid.size == (27, 40, 32)
    assert grid.voxel_ml == pytest.approx(0.00375)


def test_the_rules_of_a_grid_s_axes_hold_for_the_scan_s_axes_that_run_along_them():
    # A coronal scan: its i runs to the left, its k to the back and its j to the feet.
    image = scan(size=(20, 16, 12), spacing=(2.0, 3.0, 5.0), direction=CORONAL)
    axes = (Axis(times_own=1.0), Axis(voxels=8), Axis(times_own=2.0))
    grid = fit_grid(image, whole_box(image), Grid(axes=axes))
    # To the left 2 mm; to the back 12 slices of 5 mm in 8 voxels; to the head twice 3 mm, for 48 mm.
    assert grid.spacing_mm == pytest.approx((2.0, 7.5, 6.0))
    assert grid.size == (20, 8, 8)


def test_a_crop_has_the_spacing_that_the_whole_scan_would_have():
    axes = (Axis(voxels=40), Axis(times_own=1.0), Axis(times_own=1.0))
    grid = fit_grid(scan(), Box((5, 0, 0), (6, 16, 12)), Grid(axes=axes))
    assert grid.spacing_mm == pytest.approx((1.0, 2.0, 5.0))  # 20 voxels of 2 mm in 40
    assert grid.size == (12, 16, 12)


def test_a_grid_lies_on_its_box_where_axes_are_half_a_degree_off_and_the_scan_is_far_from_the_origin():
    scan = sitk.Image([40, 40, 40], sitk.sitkUInt8)
    scan.SetSpacing((5.0, 5.0, 5.0))
    scan.SetDirection((1, 0, 0, 0, 1, 0.0095, 0, 0, math.sqrt(1 - 0.0095**2)))
    scan.SetOrigin((-160.0, -160.0, -1400.0))
    laid = fit_grid(scan, whole_box(scan), Grid(spacing_mm=5.0)).image(np.zeros((1, 1, 1), np.uint8))
    size = fit_grid(scan, whole_box(scan), Grid(spacing_mm=5.0)).size
    middle = laid.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in size])
    assert middle == pytest.approx(scan.TransformContinuousIndexToPhysicalPoint([19.5] * 3))


def test_half_of_what_rounding_adds_stands_on_each_side_and_an_odd_voxel_on_the_far_one():
    axes = (Axis(times_own=1.0, multiple_of=24), Axis(times_own=1.0, multiple_of=17), Axis(times_own=1.0))
    grid = fit_grid(scan(), whole_box(scan()), Grid(axes=axes))
    assert grid.size == (24, 17, 12)
    # The scan's first voxel is at 11, -7, 30 mm: two more of 2 mm before it along i, none along j for a 17th after it.
    assert grid.origin == pytest.approx((7.0, -7.0, 30.0))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([AXIAL, LEFT_HANDED, CORONAL, RAS]), st.integers(1, 8), st.data())
def test_a_grid_of_the_scan_s_own_voxels_holds_exactly_their_values(direction, multiple_of, data):
    image = scan(size=(9, 8, 7), spacing=(0.7, 0.9, 2.5), direction=direction)
    start = [data.draw(st.integers(0, n - 1)) for n in image.GetSize()]
    size = [data.draw(st.integers(1, n - a)) for n, a in zip(image.GetSize(), start, strict=True)]
    box = Box(tuple(start), tuple(size))
    array = np.arange(1, 9 * 8 * 7 + 1, dtype=np.float32).reshape(7, 8, 9)
    numbered = sitk.GetImageFromArray(array)
    numbered.CopyInformation(image)
    axis = Axis(times_own=1.0, multiple_of=multiple_of)
    grid = fit_grid(numbered, box, Grid(axes=(axis, axis, axis)))
    found = resample_to_grid(numbered, box, grid, 0.0)
    assert all(n % multiple_of == 0 for n in grid.size)
    assert np.sort(found[found > 0]) == pytest.approx(np.sort(array[box.slices].ravel()), abs=1e-3)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([AXIAL, LEFT_HANDED, CORONAL, RAS, "oblique"]),
    st.tuples(
        *[st.sampled_from([Axis(spacing_mm=1.7), Axis(times_own=1.0), Axis(times_own=2.0), Axis(voxels=19)])] * 3
    ),
    st.data(),
)
def test_a_box_that_goes_through_a_grid_comes_back_with_a_grid_s_voxel_around_it_at_most(direction, axes, data):
    turned = tuple(np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, -1.0]]).ravel())
    image = scan(size=(24, 22, 20), spacing=(1.5, 2.0, 3.0), direction=turned if direction == "oblique" else direction)
    start = [data.draw(st.integers(0, n - 6)) for n in image.GetSize()]
    size = [data.draw(st.integers(6, n - a)) for n, a in zip(image.GetSize(), start, strict=True)]
    box = Box(tuple(start), tuple(size))
    grid = fit_grid(image, box, Grid(axes=axes))
    back = box_of_mask(np.ones(grid.size[::-1], bool), grid, image)
    assert all(b <= a for a, b in zip(box.start, back.start, strict=True))
    assert all(b + m >= a + n for a, n, b, m in zip(box.start, box.size, back.start, back.size, strict=True))
    if direction != "oblique":  # there the box of the turned box is larger
        order, _ = axes_towards_lps(image)
        for coarse, axis in zip(grid.spacing_mm, order, strict=True):
            assert back.size[axis] <= box.size[axis] + 2 * (coarse / image.GetSpacing()[axis]) + 2


def test_averaging_before_a_coarse_grid_happens_along_its_coarse_axes_alone():
    rng = np.random.default_rng(0)
    image = sitk.GetImageFromArray(rng.normal(100, 20, (40, 40, 40)).astype(np.float32))
    image.SetDirection([float(d) for d in CORONAL])  # the grid's j is the scan's k
    axes = (Axis(times_own=1.0), Axis(times_own=4.0), Axis(times_own=1.0))
    volume = resample_to_grid(image, whole_box(image), fit_grid(image, whole_box(image), Grid(axes=axes)), 0.0)
    assert volume.shape == (40, 10, 40)
    wanted = sitk.GetArrayFromImage(image).reshape(10, 4, 40, 40).mean(1)  # k in fours, j, i of the scan
    # The grid's k runs to the head, against the scan's j.
    assert volume == pytest.approx(wanted.transpose(1, 0, 2)[::-1], abs=1e-3)


def test_a_strongly_oblique_scan_gets_the_patient_s_axes_and_a_slightly_turned_one_keeps_its_own(oblique):
    assert fit_grid(scan(direction=oblique), whole_box(scan()), Grid(spacing_mm=4.0)).direction == AXIAL
    c, s = np.cos(np.deg2rad(8)), np.sin(np.deg2rad(8))
    turned = (c, -s, 0, s, c, 0, 0, 0, 1)
    assert fit_grid(scan(direction=turned), whole_box(scan()), Grid(spacing_mm=4.0)).direction == pytest.approx(turned)


@pytest.mark.parametrize("direction", [AXIAL, LEFT_HANDED, CORONAL, RAS, "oblique"])
def test_a_bright_corner_stays_where_it_is_in_the_patient(direction, oblique):
    image = scan(direction=oblique if direction == "oblique" else direction)
    array = sitk.GetArrayFromImage(image)
    array[8:, 10:, 12:] = 100  # the corner of high i, j and k
    bright = sitk.GetImageFromArray(array)
    bright.CopyInformation(image)
    grid = fit_grid(bright, whole_box(bright), Grid(spacing_mm=2.0))
    volume = resample_to_grid(bright, whole_box(bright), grid, -5.0)
    k, j, i = (float(n) for n in np.argwhere(volume > 50).mean(0))
    there = grid.image(volume).TransformContinuousIndexToPhysicalPoint((i, j, k))
    wanted = bright.TransformContinuousIndexToPhysicalPoint((15.5, 12.5, 9.5))
    assert np.allclose(there, wanted, atol=1.5)


def test_averaging_before_a_coarse_grid_keeps_the_mean_of_noise_and_shrinks_its_spread():
    rng = np.random.default_rng(0)
    image = sitk.GetImageFromArray(rng.normal(100, 20, (64, 64, 64)).astype(np.float32))
    grid = fit_grid(image, whole_box(image), Grid(spacing_mm=4.0))
    volume = resample_to_grid(image, whole_box(image), grid, 0.0)
    inner = volume[2:-2, 2:-2, 2:-2]
    assert inner.mean() == pytest.approx(100, abs=1.5)
    # The mean of 64 voxels has an eighth of their deviation; plain interpolation would leave about half.
    assert inner.std() < 4.0


def test_what_lies_outside_the_box_is_padding():
    image = scan(size=(8, 8, 8), spacing=(2, 2, 2)) + 7
    volume = resample_to_grid(image, whole_box(image), fit_grid(image, whole_box(image), Grid(shape=(16, 8, 8))), -3.0)
    assert set(np.unique(volume)) == {-3.0, 7.0}
    assert (volume == 7).sum() == 8 * 8 * 8


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.integers(0, 9)] * 3), st.sampled_from([AXIAL, LEFT_HANDED, CORONAL, RAS]))
def test_the_box_of_one_grid_voxel_holds_that_voxel_s_centre(index, direction):
    image = scan(size=(24, 24, 24), spacing=(1.5, 2.0, 3.0), direction=direction)
    grid = fit_grid(image, whole_box(image), Grid(spacing_mm=7.0, multiple_of=2))
    mask = np.zeros(grid.size[::-1], bool)
    k, j, i = (min(a, n - 1) for a, n in zip(index, mask.shape, strict=True))
    mask[k, j, i] = True
    box = box_of_mask(mask, grid, image)
    centre = grid.image(mask.astype(np.uint8)).TransformIndexToPhysicalPoint((i, j, k))
    at = image.TransformPhysicalPointToContinuousIndex(centre)
    for a, start, size, whole in zip(at, box.start, box.size, image.GetSize(), strict=True):
        inside = start - 0.5 <= a <= start + size - 0.5
        assert inside or not 0 <= a <= whole - 1  # a voxel of the grid's padding is clipped to the scan


def test_an_empty_mask_has_no_box():
    image = scan()
    grid = fit_grid(image, whole_box(image), Grid(spacing_mm=4.0))
    with pytest.raises(ValueError, match="empty"):
        box_of_mask(np.zeros(grid.size[::-1], bool), grid, image)


def test_a_margin_in_millimetres_follows_the_spacing_and_stops_at_the_scan():
    box = widened(Box((5, 5, 5), (8, 8, 4)), scan(), margin_mm=10.0, margin_voxels=None)
    # 10 mm are 5 voxels of 2 mm and 2 slices of 5 mm; j has room for 3 more only.
    assert box == Box((0, 0, 3), (18, 16, 8))


def test_a_negative_margin_never_shrinks_a_box_under_eight_voxels():
    image = scan(size=(100, 100, 100), spacing=(1, 1, 1))
    box = widened(Box((40, 40, 40), (30, 60, 60)), image, None, margin_voxels=-20)
    # 30 - 40 voxels would be none at all: 8 around the middle 55; 60 - 40 = 20 stay.
    assert box == Box((51, 60, 60), (8, 20, 20))


def test_a_box_is_cut_to_the_scan_and_never_empty():
    assert clipped_box(np.array([-5, 15, 30]), np.array([3, 40, 50]), scan()) == Box((0, 15, 11), (3, 1, 1))


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([AXIAL, LEFT_HANDED, CORONAL, RAS]), st.data())
def test_a_box_is_itself_on_its_own_grid(direction, data):
    image = scan(direction=direction)
    start = [data.draw(st.integers(0, n - 1)) for n in image.GetSize()]
    size = [data.draw(st.integers(1, n - a)) for n, a in zip(image.GetSize(), start, strict=True)]
    box = Box(tuple(start), tuple(size))
    assert box_within(image, box, image) == box


def test_a_box_on_another_grid_holds_the_same_place_and_is_none_where_there_is_nothing():
    image, other = scan((20, 16, 12), (2, 2, 5)), scan((10, 8, 30), (4, 4, 2))
    # i: voxels 3 and 4 reach from 5 to 9 mm after the first one's centre; on 4 mm that is in voxels 1 (2..6) and 2.
    # k: voxel 2 reaches from 7.5 to 12.5 mm; on 2 mm that is from voxel 4 (7..9) to voxel 6 (11..13).
    assert box_within(image, Box((3, 0, 2), (2, 1, 1)), other) == Box((1, 0, 4), (2, 1, 3))
    # The scan ends 39 mm after its first centre; the other one begins 2 mm before its own.
    other.SetOrigin((11.0 + 40.9, -7.0, 30.0))
    assert box_within(image, whole_box(image), other) == Box((0, 0, 0), (1, 8, 30))
    other.SetOrigin((11.0 + 41.1, -7.0, 30.0))
    assert box_within(image, whole_box(image), other) is None
    assert box_within(image, whole_box(image), image[:, :, 11:]) == Box((0, 0, 0), (20, 16, 1))
