"""From logits on a coarse grid back to labels on the scan: right place, smooth border, any orientation."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from LiverTumorSegLib.geometry import Box, GridGeometry, fit_grid, whole_box
from LiverTumorSegLib.recipe import Axis, Grid
from LiverTumorSegLib.restoring import restore_labels

DIRECTIONS = {
    "axial": (1, 0, 0, 0, 1, 0, 0, 0, 1),
    "left-handed": (1, 0, 0, 0, 1, 0, 0, 0, -1),
    "coronal": (1, 0, 0, 0, 0, 1, 0, -1, 0),
    "sagittal": (0, 0, 1, 1, 0, 0, 0, 1, 0),
    "RAS": (-1, 0, 0, 0, -1, 0, 0, 0, 1),
}


def scan(direction, size=(30, 26, 18), spacing=(1.5, 1.5, 3.0)) -> sitk.Image:
    image = sitk.Image(size, sitk.sitkUInt8)
    image.SetSpacing(spacing)
    image.SetDirection([float(d) for d in direction])
    image.SetOrigin((-20.0, 35.0, 4.0))
    return image


def points(image: sitk.Image) -> np.ndarray:
    """(k, j, i, 3) physical points of all voxels."""
    return np.stack(
        sitk.GetArrayFromImage(
            sitk.PhysicalPointSource(
                sitk.sitkVectorFloat64, image.GetSize(), image.GetOrigin(), image.GetSpacing(), image.GetDirection()
            )
        )[None]
    )[0]


def ball_logits(geometry: GridGeometry, centre: np.ndarray, radius: float) -> np.ndarray:
    """Signed distance to a ball's surface in mm: a linear field, so interpolation is nearly exact."""
    there = points(geometry.image(np.zeros(geometry.size[::-1], np.uint8)))
    return (radius - np.linalg.norm(there - centre, axis=-1)).astype(np.float32)


GRIDS = {
    "isotropic": Grid(spacing_mm=2.5),
    "of each axis": Grid(axes=(Axis(spacing_mm=1.2), Axis(voxels=20), Axis(times_own=1.0, multiple_of=8))),
    "native": Grid(axes=(Axis(times_own=1.0), Axis(times_own=1.0), Axis(times_own=1.0))),
}


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("name", [*DIRECTIONS, "oblique"])
def test_a_ball_comes_back_at_its_place_in_every_orientation(name, grid, oblique):
    image = scan(DIRECTIONS.get(name, oblique))
    geometry = fit_grid(image, whole_box(image), grid)
    centre = np.array(image.TransformContinuousIndexToPhysicalPoint((17.0, 11.0, 7.0)))
    liver, tumour = ball_logits(geometry, centre, 12.0), ball_logits(geometry, centre, 6.0)
    tumour += liver  # ahead of the liver inside its own ball
    labels = restore_labels(liver, tumour, geometry, image, whole_box(image))
    distance = np.linalg.norm(points(image) - centre, axis=-1)
    assert labels.shape == (18, 26, 30)
    assert (labels[distance < 11.5] > 0).all()
    assert (labels[distance > 12.5] == 0).all()
    assert (labels[distance < 4.5] == 2).all()
    assert (labels[distance > 7.5] != 2).all()


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(sorted(DIRECTIONS)),
    st.tuples(st.integers(0, 10), st.integers(0, 10), st.integers(0, 5)),
    st.tuples(st.integers(1, 15), st.integers(1, 15), st.integers(1, 10)),
)
def test_the_labels_of_a_part_are_the_same_part_of_the_whole_s_labels(name, start, size):
    image = scan(DIRECTIONS[name])
    geometry = fit_grid(image, whole_box(image), Grid(spacing_mm=4.0))
    rng = np.random.default_rng(1)
    liver, tumour = (rng.normal(size=geometry.size[::-1]).astype(np.float32) for _ in range(2))
    box = Box(start, size)
    part = restore_labels(liver, tumour, geometry, image, box)
    whole = restore_labels(liver, tumour, geometry, image, whole_box(image))
    assert np.array_equal(part, whole[box.slices])


def test_the_fast_way_and_resampling_in_space_agree():
    image = scan(DIRECTIONS["coronal"])
    geometry = fit_grid(image, whole_box(image), Grid(spacing_mm=2.0))
    rng = np.random.default_rng(2)
    liver, tumour = (rng.normal(size=geometry.size[::-1]).astype(np.float32) for _ in range(2))
    labels = restore_labels(liver, tumour, geometry, image, whole_box(image))
    a, b = (
        sitk.GetArrayFromImage(sitk.Resample(geometry.image(part), image, sitk.Transform(), sitk.sitkLinear))
        for part in (liver, tumour)
    )
    wanted = np.where(b > np.maximum(a, 0), 2, a > 0)
    assert (labels != wanted).mean() < 1e-3  # ties within rounding


def test_the_higher_of_two_positive_classes_wins_and_none_positive_is_background():
    image = scan(DIRECTIONS["axial"], size=(4, 4, 4), spacing=(2, 2, 2))
    geometry = GridGeometry(image.GetOrigin(), (2.0, 2.0, 2.0), image.GetDirection(), (4, 4, 4))
    liver = np.array([-1, 1, 1, -1], np.float32)[None, None].repeat(4, 0).repeat(4, 1)
    tumour = np.array([-1, 0.5, 2, 0.1], np.float32)[None, None].repeat(4, 0).repeat(4, 1)
    labels = restore_labels(liver, tumour, geometry, image, whole_box(image))
    assert labels[2, 2].tolist() == [0, 1, 2, 2]
