"""A segmentation's findings, one by one (S3's seg2det), and a detector's boxes as the same thing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from LiverTumorSegLib.detection import box_detection, scaled_vote, seg2det, smaller_than

EDGES = (5.0, 1.0, 1.0)


def test_a_finding_has_its_box_centre_volume_length_and_highest_probability() -> None:
    mask = np.zeros((4, 6, 8), bool)
    mask[1, 2, 3:6] = True
    probability = np.where(mask, 0.6, 0.1)
    probability[1, 2, 4], probability[0, 0, 0] = 0.9, 1.0
    (found,) = seg2det(mask, probability, EDGES)
    assert found.box == (slice(1, 2), slice(2, 3), slice(3, 6))
    assert found.centre == (1.0, 2.0, 4.0)
    assert found.volume_ml == pytest.approx(3 * 5 / 1000)
    # From the lower face of the first of the three voxels to the upper face of the last.
    assert found.long_axis_mm == pytest.approx(np.hypot(5.0, 2.0))
    assert found.score == pytest.approx(0.9)


def test_slices_are_linked_through_the_voxel_straight_above_and_not_diagonally() -> None:
    straight, diagonal = np.zeros((2, 3, 3), bool), np.zeros((2, 3, 3), bool)
    straight[:, 1, 1] = True
    diagonal[0, 0, 0] = diagonal[1, 0, 1] = True
    assert len(seg2det(straight, straight.astype(float), EDGES)) == 1
    assert len(seg2det(diagonal, diagonal.astype(float), EDGES)) == 2


def linked_slice_by_slice(mask: np.ndarray) -> set[frozenset[tuple[int, ...]]]:
    """S3's own words: 2D components (4-connected), joined where those of neighbouring slices overlap."""
    groups: list[set[tuple[int, ...]]] = []
    for k, plane in enumerate(mask):
        left = {(k, int(j), int(i)) for j, i in np.argwhere(plane)}
        while left:
            part, border = set(), {left.pop()}
            while border:
                part |= border
                border = {(k, j + dj, i + di) for _, j, i in border for dj, di in ((0, 1), (0, -1), (1, 0), (-1, 0))}
                border &= left
                left -= border
            above = [g for g in groups if any((k - 1, j, i) in g for _, j, i in part)]
            groups = [g for g in groups if g not in above] + [part.union(*above)]
    return {frozenset(group) for group in groups}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=60, max_size=60))
def test_one_labelling_in_3d_is_the_same_as_linking_components_of_slices(values: list[bool]) -> None:
    mask = np.array(values).reshape(3, 4, 5)
    found = seg2det(mask, mask.astype(float), EDGES)
    groups = set()
    for each in found:
        assert each.mask is not None
        start = [s.start for s in each.box]
        groups.add(frozenset(tuple(int(v) for v in place + start) for place in np.argwhere(each.mask)))
    assert groups == linked_slice_by_slice(mask)
    assert sum(each.volume_ml for each in found) == pytest.approx(mask.sum() * 5 / 1000)


def test_a_factor_lets_a_lesion_of_a_quarter_win_and_leaves_its_score_alone() -> None:
    probability = np.array([[[0.3, 0.1]]])
    logit = np.log(probability / (1 - probability))
    assert not scaled_vote(logit, 1).any()
    vote = scaled_vote(logit, 4)
    assert vote.tolist() == [[[True, False]]]  # 4 * 0.3 > 0.7, but 4 * 0.1 < 0.9
    assert seg2det(vote, probability, EDGES)[0].score == pytest.approx(0.3)


def test_a_detectors_box_is_a_finding_of_its_ellipsoids_volume() -> None:
    found = box_detection((1, 2, 2), (3, 8, 8), 0.7, EDGES, (10, 10, 10))
    assert found is not None
    assert found.box == (slice(1, 3), slice(2, 8), slice(2, 8))
    assert found.centre == (1.5, 4.5, 4.5)
    assert found.volume_ml == pytest.approx(np.pi / 6 * 10 * 6 * 6 / 1000)
    assert found.long_axis_mm == pytest.approx(10)
    assert found.mask is None


def test_a_box_over_the_border_is_cut_one_beyond_it_is_none_and_a_thin_one_keeps_a_voxel() -> None:
    cut = box_detection((-3, 4, 4), (2, 6, 6), 0.5, EDGES, (10, 10, 10))
    thin = box_detection((2.1, 4, 4), (2.3, 6, 6), 0.5, EDGES, (10, 10, 10))
    assert cut is not None
    assert thin is not None
    assert (cut.box[0], thin.box[0]) == (slice(0, 2), slice(2, 3))
    assert box_detection((12, 4, 4), (14, 6, 6), 0.5, EDGES, (10, 10, 10)) is None


def test_only_findings_under_the_length_are_small() -> None:
    mask = np.zeros((1, 40, 4), bool)
    mask[0, :31, 0] = True
    mask[0, :5, 2] = True
    found = seg2det(mask, mask.astype(float), EDGES)
    assert [each.long_axis_mm for each in found] == pytest.approx([31.0, np.hypot(5.0, 4.0)])
    assert smaller_than(found, 30.0) == [found[1]]
