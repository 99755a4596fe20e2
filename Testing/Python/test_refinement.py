"""S0's boxes around small findings: where they stand, what fills their empty slices, and findings on another grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from LiverTumorSegLib.detection import Detection, box_detection
from LiverTumorSegLib.geometry import GridGeometry
from LiverTumorSegLib.recipe import CoarseToFine
from LiverTumorSegLib.systems.refinement import carried_over, ellipsoid, window_of, with_empty_slices_filled
from LiverTumorSegLib.windows import Window

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
WHOLE = (slice(0, 3), slice(0, 3), slice(0, 3))


def finding(low: tuple[int, int, int], high: tuple[int, int, int], score: float = 0.8) -> Detection:
    found = box_detection(low, high, score, (1.0, 1.0, 1.0), (1000, 1000, 1000))
    assert found is not None
    return found


def test_a_box_stands_around_the_finding_in_all_of_its_slices_and_one_beyond() -> None:
    window = window_of(finding((10, 50, 60), (13, 54, 68)), CoarseToFine(slices_beyond=1), (40, 200, 200))
    # The centre is (51.5, 63.5) and 64 voxels begin 31.5 before it.
    assert window == Window((9, 20, 32), (5, 64, 64))


def test_a_box_at_the_border_is_moved_onto_the_grid_and_its_slices_end_there() -> None:
    window = window_of(finding((0, 0, 190), (2, 4, 200)), CoarseToFine(slices_beyond=1), (40, 200, 200))
    assert window == Window((0, 0, 136), (3, 64, 64))


def test_a_grid_smaller_than_the_box_lies_in_its_middle() -> None:
    window = window_of(finding((0, 3, 3), (1, 5, 5)), CoarseToFine(box=(16, 16, 5), slices_beyond=0), (1, 8, 8))
    assert window == Window((0, -4, -4), (1, 16, 16))


def test_the_ellipsoid_of_a_box_of_three_lacks_its_corners() -> None:
    solid = ellipsoid((3, 3, 3))
    assert solid.sum() == 27 - 8
    assert not solid[0, 0, 0]
    assert ellipsoid((1, 1, 1)).all()


@given(st.integers(20, 40), st.integers(20, 40), st.integers(20, 40))
def test_a_large_ellipsoid_fills_pi_sixths_of_its_box_and_touches_its_sides(k: int, j: int, i: int) -> None:
    solid = ellipsoid((k, j, i))
    assert solid.mean() == pytest.approx(np.pi / 6, rel=0.02)
    assert solid[0].any()
    assert solid[:, -1].any()
    assert solid[:, :, 0].any()


def answer(*positive: int) -> np.ndarray:
    """A fine network's no everywhere, and its yes in the middle of these slices."""
    logits = np.full((3, 3, 3), -5.0, np.float32)
    logits[list(positive), 1, 1] = 5.0
    return logits


@pytest.mark.parametrize("how", ["ellipsoid", "box"])
def test_an_answer_without_empty_slices_stays(how: str) -> None:
    np.testing.assert_array_equal(with_empty_slices_filled(answer(0, 1, 2), WHOLE, how, 0.8), answer(0, 1, 2))


def test_repaired_the_ellipsoids_section_fills_an_empty_slice_as_sure_as_the_detector_was() -> None:
    filled = with_empty_slices_filled(answer(0, 1), WHOLE, "ellipsoid", 0.8)
    np.testing.assert_array_equal(filled[:2], answer(0, 1)[:2])
    # Of the last slice the middle and its neighbours, not the corners; the odds of 0.8 are 4.
    expected = np.where(ellipsoid((3, 3, 3))[2], np.log(4.0), -5.0)
    np.testing.assert_allclose(filled[2], expected, rtol=1e-5)


def test_repaired_a_detector_in_doubt_fills_nothing_that_is_voted_for() -> None:
    filled = with_empty_slices_filled(answer(), WHOLE, "ellipsoid", 0.3)
    assert filled.max() == pytest.approx(np.log(3 / 7))


def test_as_printed_one_empty_slice_fills_all_of_the_box() -> None:
    box = (slice(0, 3), slice(0, 2), slice(0, 2))
    filled = with_empty_slices_filled(answer(0, 1), box, "box", 0.3)
    assert (filled[box] > 0).all()
    assert (filled[:, 2] == -5).all()
    assert (filled[:, :, 2] == -5).all()


def test_a_finding_is_told_on_a_grid_of_other_voxels_that_begins_elsewhere() -> None:
    own = GridGeometry((0.0, 0.0, 0.0), (3.0, 3.0, 3.0), IDENTITY, (20, 20, 20))
    # Its voxels are half as wide in plane and twice as thick; the first one's corner lies at (3, 4.5, 0) mm.
    other = GridGeometry((3.75, 5.25, 3.0), (1.5, 1.5, 6.0), IDENTITY, (30, 30, 10))
    moved = carried_over(finding((2, 3, 4), (6, 5, 5)), own, other)
    assert moved is not None
    # In mm the box reaches from 4.5 to 16.5 (k), 7.5 to 13.5 (j) and 10.5 to 13.5 (i); k is rounded, from 0.75 to 2.75.
    assert moved.box == (slice(1, 3), slice(2, 6), slice(5, 7))
    assert moved.score == 0.8


@given(st.tuples(*(st.integers(0, 15) for _ in range(3))), st.tuples(*(st.integers(1, 5) for _ in range(3))))
def test_a_finding_lies_in_the_same_place_of_the_patient_on_either_grid(
    low: tuple[int, int, int], size: tuple[int, int, int]
) -> None:
    own = GridGeometry((5.0, -7.0, 11.0), (2.0, 2.0, 4.0), OBLIQUE, (24, 24, 24))
    other = GridGeometry((0.0, -20.0, 0.0), (0.8, 0.7, 5.0), OBLIQUE, (300, 300, 300))
    k, j, i = (a + n for a, n in zip(low, size, strict=True))
    here = finding(low, (k, j, i))
    there = carried_over(here, own, other)
    if there is None:
        return
    places = [
        grid.image(np.zeros((1, 1, 1), np.uint8)).TransformContinuousIndexToPhysicalPoint(each.centre[::-1])
        for grid, each in ((own, here), (other, there))
    ]
    np.testing.assert_allclose(*places, atol=1e-4)


def test_a_finding_beside_the_other_grid_is_none_there() -> None:
    own = GridGeometry((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), IDENTITY, (20, 20, 20))
    other = GridGeometry((100.0, 0.0, 0.0), (1.0, 1.0, 1.0), IDENTITY, (20, 20, 20))
    assert carried_over(finding((2, 2, 2), (4, 4, 4)), own, other) is None
