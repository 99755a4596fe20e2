"""Outlines of masks whose area and borders one can count."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays

from LiverTumorSegLib.outlines import outlines


def test_the_outline_of_a_rectangle_encloses_its_area_less_the_corners() -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:30, 20:50] = True
    (curve,) = outlines(mask)
    x, y = curve.T
    area = abs(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2
    assert 595 < area < 600
    np.testing.assert_allclose((curve.min(0), curve.max(0)), ((20, 10), (50, 30)), atol=0.01)


def test_a_hole_and_each_island_have_their_own_outline() -> None:
    mask = np.zeros((12, 12), bool)
    mask[1:8, 1:8] = True
    mask[4, 4] = False
    mask[10, 10] = True
    assert len(outlines(mask)) == 3


@settings(max_examples=30, deadline=None)
@given(arrays.arrays(bool, (6, 7)))
def test_every_outline_is_closed_and_every_border_is_on_one(mask: np.ndarray) -> None:
    curves = outlines(mask)
    padded = np.pad(mask, 1)
    borders = (padded[1:] != padded[:-1]).sum() + (padded[:, 1:] != padded[:, :-1]).sum()
    assert sum(map(len, curves)) == borders
