"""Slices of a scan lie as on a reading screen, whatever the scan's own axes."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from LiverTumorSegLib.segmentation import Segmentation
from LiverTumorSegLib.views import PatientView, position
from shapes import segmentation_of

AXIAL = (1, 0, 0, 0, 1, 0, 0, 0, 1)
RAS = (-1, 0, 0, 0, -1, 0, 0, 0, 1)
LEFT_HANDED = (-1, 0, 0, 0, 1, 0, 0, 0, 1)
FEET_FIRST = (1, 0, 0, 0, -1, 0, 0, 0, -1)
CORONAL = (1, 0, 0, 0, 0, 1, 0, -1, 0)
SAGITTAL = (0, 0, 1, 1, 0, 0, 0, -1, 0)
DIRECTIONS = (AXIAL, RAS, LEFT_HANDED, FEET_FIRST, CORONAL, SAGITTAL)


def marked(direction: tuple[float, ...], place_lps: tuple[float, float, float]) -> Segmentation:
    """A liver that fills the scan around the point 0, with one bright voxel at a place."""
    image = sitk.Image([15, 15, 15], sitk.sitkInt16)
    image.SetSpacing((2.0, 3.0, 4.0))
    image.SetDirection(direction)
    middle = image.TransformIndexToPhysicalPoint((7, 7, 7))
    image.SetOrigin([-m for m in middle])
    labels = sitk.Image([15, 15, 15], sitk.sitkUInt8) + 1
    labels.CopyInformation(image)
    image[image.TransformPhysicalPointToIndex(place_lps)] = 200
    return segmentation_of(image, labels)


def brightest(grey: np.ndarray) -> tuple[float, float]:
    """Shares of the width and the height."""
    row, column = np.unravel_index(grey.argmax(), grey.shape)
    return (float(column) + 0.5) / grey.shape[1], (float(row) + 0.5) / grey.shape[0]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_patients_right_is_on_the_left_and_the_front_at_the_top_of_an_axial_slice(
    direction: tuple[float, ...],
) -> None:
    view = PatientView(marked(direction, (-8.0, -9.0, 0.0)))
    shown = view.cut("axial", view.middle()[2])
    across, down = brightest(shown.grey)
    assert (across < 0.4, down < 0.4, shown.letters) == (True, True, "RLAP")


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_head_is_at_the_top_of_coronal_and_sagittal_slices(direction: tuple[float, ...]) -> None:
    view = PatientView(marked(direction, (-8.0, 0.0, 12.0)))
    across, down = brightest(view.cut("coronal", view.middle()[1]).grey)
    assert (across < 0.4, down < 0.4) == (True, True)
    view = PatientView(marked(direction, (0.0, -12.0, 12.0)))
    shown = view.cut("sagittal", view.middle()[0])
    across, down = brightest(shown.grey)
    assert (across < 0.4, down < 0.4, shown.letters) == (True, True, "APSI")


def test_an_oblique_scan_keeps_right_on_the_left(oblique: tuple[float, ...]) -> None:
    view = PatientView(marked(oblique, (-10.0, 0.0, 0.0)))
    assert brightest(view.image.max(axis=0))[0] < 0.4


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_index_and_point_are_each_others_inverse_and_agree_with_simpleitk(direction: tuple[float, ...]) -> None:
    segmentation = marked(direction, (-8.0, 6.0, 4.0))
    view = PatientView(segmentation)
    head, back, left = np.unravel_index(view.image.argmax(), view.image.shape)
    point = view.axes.point((left, back, head))
    place = segmentation.image.TransformPhysicalPointToIndex(point.tolist())
    assert segmentation.image[place] == 200
    np.testing.assert_allclose(view.axes.index(point), (left, back, head), atol=1e-9)


def test_positions_are_named_with_the_letter_of_their_side() -> None:
    point = np.array([12.0, 7.5, -30.0])
    assert [position(point, axis) for axis in range(3)] == ["L 12.0 mm", "P 7.5 mm", "I 30.0 mm"]


def test_a_slice_has_its_true_proportions_whatever_the_spacing() -> None:
    view = PatientView(marked(AXIAL, (0, 0, 0)))
    assert view.cut("axial", 7).size_mm == (30.0, 45.0)
    assert view.cut("coronal", 7).size_mm == (30.0, 60.0)
    assert view.cut("sagittal", 7).size_mm == (45.0, 60.0)
