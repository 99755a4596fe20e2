"""The body in a scan: what belongs to it and what lies beside it, in every orientation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import OBLIQUE
from LiverTumorSegLib.body import body_box, body_mask
from LiverTumorSegLib.geometry import Box, whole_box
from LiverTumorSegLib.recipe import BodyCrop
from shapes import IDENTITY, LEFT_HANDED, SAGITTAL

RULES = BodyCrop(threshold_hu=-400, opening_mm=6, closing_mm=6, margin_mm=0)
AIR, FAT, LUNG, BOARD = -1000.0, -100.0, -850.0, 100.0
COARSE_MM = 3.0 * math.sqrt(3)  # a voxel of the mask's grid, along any direction


def slab(size: Sequence[int], spacing_mm: Sequence[float]) -> tuple[np.ndarray, ...]:
    """Return z, y, x in mm from the middle of a (k, j, i) array."""
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(size, spacing_mm, strict=True)]
    return np.meshgrid(*axes[::-1], indexing="ij")


def image_of(volume: np.ndarray, spacing_mm: Sequence[float], direction: Sequence[float] = IDENTITY) -> sitk.Image:
    image = sitk.GetImageFromArray(volume.astype(np.float32))
    image.SetSpacing([float(s) for s in spacing_mm])
    image.SetDirection([float(d) for d in direction])
    image.SetOrigin((31.0, -47.0, 5.0))
    return image


def trunk(z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return an oval cylinder of 160 x 100 mm along k."""
    return (x / 80) ** 2 + (y / 50) ** 2 <= 1


@settings(max_examples=12, deadline=None)
@given(
    direction=st.sampled_from([IDENTITY, OBLIQUE, LEFT_HANDED, SAGITTAL]),
    spacing=st.tuples(*[st.floats(1.5, 5.0)] * 2, st.floats(2.0, 8.0)),
    centre=st.tuples(*[st.floats(-15, 15)] * 3),
    margin=st.sampled_from([0.0, 10.0]),
)
def test_the_box_holds_an_egg_of_fat_and_little_more_however_the_scan_lies(direction, spacing, centre, margin) -> None:
    size = [int(160 / s) for s in spacing]
    z, y, x = slab(size, spacing)
    egg = ((x - centre[0]) / 55) ** 2 + ((y - centre[1]) / 45) ** 2 + ((z - centre[2]) / 40) ** 2 <= 1
    scan = image_of(np.where(egg, FAT, AIR), spacing, direction)
    box = body_box(scan, "CT", BodyCrop(margin_mm=margin))
    assert box is not None
    for axis in range(3):
        places = np.flatnonzero(egg.any(axis=tuple(n for n in range(3) if n != 2 - axis)))
        start, end = box.start[axis], box.start[axis] + box.size[axis]
        # In an oblique scan it is the box of a box that lies as the patient does.
        slack = math.inf if direction is OBLIQUE else (margin + 2 * COARSE_MM) / spacing[axis] + 2
        # The opening may take as much off the egg's tip as its own curvature hides: under a voxel of the mask.
        lost = max(0.0, 2 * COARSE_MM - margin) / spacing[axis]
        assert places[0] - slack <= start <= places[0] + lost or start == 0
        assert places[-1] + 1 - lost <= end <= places[-1] + 1 + slack or end == size[axis]


def test_a_table_that_touches_the_back_is_no_body() -> None:
    spacing = (2.0, 2.0, 4.0)
    z, y, x = slab((120, 110, 12), spacing)
    board = (np.abs(y - 53) <= 3) & (np.abs(x) <= 110)  # 6 mm thick, at the lowest point of the trunk
    scan = image_of(np.where(trunk(z, y, x), FAT, np.where(board, BOARD, AIR)), spacing)
    box = body_box(scan, "CT", RULES)
    assert box is not None
    # 160 mm and 100 mm of trunk, 220 mm of board.
    assert box.size[0] * 2.0 == pytest.approx(160, abs=2 * COARSE_MM)
    assert box.size[1] * 2.0 == pytest.approx(100, abs=2 * COARSE_MM)


def test_arms_beside_the_trunk_are_left_out() -> None:
    spacing = (2.5, 2.5, 5.0)
    z, y, x = slab((120, 60, 10), spacing)
    arms = (np.abs(x) - 120) ** 2 + y**2 <= 20**2  # 20 mm of air between
    scan = image_of(np.where(trunk(z, y, x) | arms, FAT, AIR), spacing)
    box = body_box(scan, "CT", RULES)
    assert box is not None
    assert box.size[0] * 2.5 == pytest.approx(160, abs=2 * COARSE_MM)


def test_lungs_that_are_open_at_the_end_of_the_scan_belong_to_the_body() -> None:
    spacing = (2.0, 2.0, 5.0)
    z, y, x = slab((100, 70, 12), spacing)
    lungs = ((np.abs(x) - 40) ** 2 + y**2 <= 25**2) & (z > 0)
    scan = image_of(np.where(lungs, LUNG, np.where(trunk(z, y, x), FAT, AIR)), spacing)
    mask, geometry = body_mask(scan, "CT", RULES)
    # The whole cylinder, lungs and all, by its area and 60 mm of height.
    assert mask.sum() * geometry.voxel_ml == pytest.approx(math.pi * 80 * 50 * 60 / 1000, rel=0.05)


def test_the_body_goes_on_beyond_the_scan_and_loses_nothing_at_its_edges() -> None:
    scan = image_of(np.full((10, 40, 40), FAT), (4.0, 4.0, 6.0))
    assert body_box(scan, "CT", RULES) == whole_box(scan)


@pytest.mark.parametrize("unit", [0.01, 1.0, 300.0])
def test_an_mr_s_body_is_found_in_whatever_units_it_comes(unit: float) -> None:
    spacing = (3.0, 3.0, 6.0)
    z, y, x = slab((70, 50, 12), spacing)
    noise = np.abs(np.random.default_rng(0).normal(0, 1.0, z.shape))
    scan = image_of(unit * (noise + 100 * trunk(z, y, x)), spacing)
    box = body_box(scan, "MR", RULES)
    assert box is not None
    assert box.size[0] * 3.0 == pytest.approx(160, abs=2 * COARSE_MM)
    assert box.size[1] * 3.0 == pytest.approx(100, abs=2 * COARSE_MM)


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_margin_is_added_on_every_side_and_ends_at_the_scan(modality: str) -> None:
    spacing = (2.0, 2.0, 4.0)
    z, y, x = slab((100, 60, 10), spacing)
    scan = image_of(np.where(trunk(z, y, x), 0.0, AIR) + (1000 if modality == "MR" else 0), spacing)
    tight, wide = (body_box(scan, modality, BodyCrop(margin_mm=margin)) for margin in (0, 14))
    assert tight is not None
    i, j, _ = tight.start
    assert wide == Box((i - 7, max(0, j - 7), 0), (tight.size[0] + 14, min(60, tight.size[1] + 14), 10))


def test_air_with_a_thin_board_and_a_cable_holds_no_body() -> None:
    z, y, x = slab((60, 60, 20), (4, 4, 4))
    things = (np.abs(y - 60) < 3) | ((x + 40) ** 2 + (y + 40) ** 2 < 5**2)
    noise = np.random.default_rng(0).normal(0, 30, z.shape)
    assert body_box(image_of(np.where(things, BOARD, AIR) + noise, (4, 4, 4)), "CT", RULES) is None
    assert not body_mask(image_of(AIR + noise, (4, 4, 4)), "CT", RULES)[0].any()


def test_the_smallest_scan_that_is_read_has_a_body_as_large_as_itself() -> None:
    scan = image_of(np.full((3, 3, 3), FAT), (40.0, 40.0, 19.0))
    assert body_box(scan, "CT", RULES) == whole_box(scan)
