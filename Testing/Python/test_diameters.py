"""Diameters of shapes that one can measure by hand, and of others by trying every pair of points."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from LiverTumorSegLib.diameters import axial_diameters_mm, longest_diameter_mm
from LiverTumorSegLib.lesions import label_components
from shapes import volume_with


def ball(radius_mm: float, spacing_kji: Sequence[float], shift: float = 0.0) -> np.ndarray:
    reach = [math.ceil(radius_mm / s) + 2 for s in spacing_kji]
    axes = [np.arange(-n, n + 1) * s + shift for n, s in zip(reach, spacing_kji, strict=True)]
    k, j, i = np.meshgrid(*axes, indexing="ij")
    return k * k + j * j + i * i <= radius_mm**2


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


def longest_in_plane(mask: np.ndarray, spacing: np.ndarray) -> float:
    return max(longest_between_exposed_faces(level, spacing[1:]) for level in mask if level.any())


def test_a_single_voxel_is_as_long_as_its_longest_edge() -> None:
    voxel = volume_with(np.s_[5:6, 6:7, 7:8])
    assert longest_diameter_mm(voxel, (5.0, 0.8, 0.7)) == pytest.approx(5.0)
    assert axial_diameters_mm(voxel, (5.0, 0.8, 0.7), axial_axis=0) == pytest.approx((0.8, 0.7, 5))
    assert axial_diameters_mm(voxel, (5.0, 0.8, 0.7), axial_axis=2) == pytest.approx((5.0, 0.8, 7))


def test_a_row_of_voxels_is_as_long_as_its_edges_together() -> None:
    row = volume_with(np.s_[5:6, 6:7, 3:10])
    assert longest_diameter_mm(row, (1, 1, 1.5)) == pytest.approx(7 * 1.5)
    assert axial_diameters_mm(row, (1, 1, 1.5), axial_axis=0) == pytest.approx((7 * 1.5, 1, 5))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 0.5, 0.5), (2.0, 0.8, 0.8)])
@pytest.mark.parametrize("shift", [0.0, 0.21])
def test_a_digital_ball_reads_its_diameter_within_one_voxel(spacing: tuple[float, ...], shift: float) -> None:
    mask = ball(9.0, spacing, shift)
    assert longest_diameter_mm(mask, spacing) == pytest.approx(18, abs=max(spacing))
    along, across, _ = axial_diameters_mm(mask, spacing, axial_axis=0)
    assert (along, across) == pytest.approx((18, 18), abs=spacing[2])


@pytest.mark.parametrize("radii", [(14, 14, 14), (18, 11, 15), (6, 19, 19)])
def test_a_large_shape_is_measured_as_exactly_as_by_trying_every_pair(radii: tuple[int, int, int]) -> None:
    k, j, i = np.indices((41, 41, 41)) - 20.3
    lumpy = (k / radii[0]) ** 2 + (j / radii[1]) ** 2 + (i / radii[2]) ** 2 + 0.2 * np.sin(k * j / 20) <= 1
    components, _ = label_components(lumpy)
    largest = components == np.bincount(components[lumpy]).argmax()
    spacing = np.array((2.0, 1.0, 1.0))
    assert longest_diameter_mm(largest, spacing) == pytest.approx(longest_between_exposed_faces(largest, spacing))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 2**18 - 1), st.tuples(*[st.sampled_from([0.6, 1.0, 3.0])] * 3))
def test_diameters_are_the_longest_of_all_pairs(bits: int, edges: tuple[float, float, float]) -> None:
    tumour = np.zeros((4, 5, 5), bool)
    tumour[1:3, 1:4, 1:4] = np.array([bits >> n & 1 for n in range(18)], bool).reshape(2, 3, 3)
    components, count = label_components(tumour)
    spacing = np.array(edges)
    for mask in (components == number for number in range(1, count + 1)):
        along, across, _ = axial_diameters_mm(mask, spacing, axial_axis=0)
        assert longest_diameter_mm(mask, spacing) == pytest.approx(longest_between_exposed_faces(mask, spacing))
        assert along == pytest.approx(longest_in_plane(mask, spacing))
        assert across <= along + 1e-9


def test_the_axial_diameters_come_from_the_slice_where_the_shape_is_longest() -> None:
    shape = volume_with(np.s_[4:7, 5:8, 5:8], np.s_[7:8, 5:7, 4:12])
    along, across, level = axial_diameters_mm(shape, (1, 1, 1), axial_axis=0)
    assert level == 7
    # The outline of 8 x 2 pixels: from (3.5, 5) to (11.5, 6) between the ends of its rows.
    assert along == pytest.approx(math.hypot(8, 1))
    # Across that line, of direction (8, 1): the pixels' outer faces from (4, 6.5) to (11, 4.5).
    assert across == pytest.approx((8 * 2 + 7) / math.hypot(8, 1))
