"""Scaling of grey values: numbers that one can compute by hand."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from LiverTumorSegLib.preprocessing import liver_level, padding_value, scale_intensity, with_context
from LiverTumorSegLib.recipe import Intensity

UNIT = Intensity(ct_clip_hu=(-200, 300), mr_clip_percentiles=(0, 100), scale="unit")


def test_ct_is_clipped_to_the_recipe_s_hounsfield_units_and_mapped_to_zero_and_one():
    volume = np.array([-1000, -200, 50, 300, 2000], np.int16).reshape(1, 1, 5)
    assert scale_intensity(volume, UNIT, "CT").ravel() == pytest.approx([0, 0, 0.5, 1, 1])


def test_ct_scaling_does_not_depend_on_what_else_is_in_the_field():
    patch = np.full((4, 4, 4), 60, np.int16)
    with_metal = patch.copy()
    with_metal[0, 0, 0] = 3000
    assert scale_intensity(with_metal, UNIT, "CT")[1, 1, 1] == scale_intensity(patch, UNIT, "CT")[1, 1, 1]


def test_mr_percentiles_are_taken_over_the_body_and_not_over_the_air():
    volume = np.zeros((10, 10, 10), np.float32)
    volume[:2] = np.linspace(100, 300, 200).reshape(2, 10, 10)  # the body; four fifths are air
    scaled = scale_intensity(volume, UNIT, "MR")
    assert scaled[0, 0, 0] == pytest.approx(0.0, abs=1e-6)
    assert scaled[1, 9, 9] == pytest.approx(1.0)
    assert scaled[5, 5, 5] == 0.0  # air is clipped to the body's darkest


@pytest.mark.parametrize("factor", [0.01, 1.0, 3000.0])
def test_mr_units_do_not_matter(factor):
    volume = np.random.default_rng(0).gamma(2.0, 50.0, (12, 12, 12)).astype(np.float32)
    recipe = Intensity(mr_clip_percentiles=(0.5, 99.5), scale="unit")
    assert np.allclose(scale_intensity(volume * factor, recipe, "MR"), scale_intensity(volume, recipe, "MR"), atol=1e-4)


def test_zscore_gives_zero_mean_and_unit_deviation_without_clipping():
    scaled = scale_intensity(np.array([2.0, 4.0, 6.0, 8.0]).reshape(1, 2, 2), Intensity(), "MR")
    # Mean 5, deviation sqrt(5).
    assert scaled.ravel() == pytest.approx(np.array([-3, -1, 1, 3]) / np.sqrt(5))


def test_liver_scaling_puts_the_liver_at_zero_in_hounsfield_units_for_ct_and_in_shares_for_mr():
    recipe = Intensity(scale="liver", liver_window=(75.0, 0.5))
    volume = np.array([-1000.0, 30.0, 105.0, 180.0, 900.0]).reshape(1, 1, 5)
    assert scale_intensity(volume, recipe, "CT", 105.0).ravel() == pytest.approx([-2, -1, 0, 1, 2])
    signal = np.array([0.0, 200.0, 400.0, 500.0, 5000.0]).reshape(1, 1, 5)
    assert scale_intensity(signal, recipe, "MR", 400.0).ravel() == pytest.approx([-2, -1, 0, 0.5, 2])


def test_an_unknown_liver_level_is_a_typical_one():
    recipe = Intensity(scale="liver")
    assert scale_intensity(np.full((2, 2, 2), 90.0), recipe, "CT") == pytest.approx(0.0)
    body = np.concatenate([np.zeros(500), np.full(500, 300.0)]).reshape(10, 10, 10)
    assert scale_intensity(body, recipe, "MR").max() == pytest.approx(0.0)


def test_the_liver_s_level_is_its_median_and_unknown_where_hardly_any_was_found():
    volume = np.arange(1000.0).reshape(10, 10, 10)
    assert liver_level(volume, volume < 101) == 50.0
    assert liver_level(volume, volume < 5) is None


def test_symmetric_scaling_maps_the_limits_to_minus_one_and_one():
    recipe = Intensity(ct_clip_hu=(-200, 200), scale="symmetric")
    volume = np.array([-1000.0, -200.0, -50.0, 0.0, 100.0, 900.0]).reshape(1, 1, 6)
    assert scale_intensity(volume, recipe, "CT").ravel() == pytest.approx([-1, -1, -0.25, 0, 0.5, 1])


def test_neighbouring_slices_become_channels_and_the_last_one_stands_for_those_beyond():
    volume = np.array([10.0, 20.0, 30.0], np.float32).reshape(1, 3, 1, 1)
    channels = with_context(volume, 5)
    assert channels.shape == (5, 3, 1, 1)
    # For the first slice: itself three times, as nothing lies below it, then the two above.
    assert channels[:, 0, 0, 0].tolist() == [10, 10, 10, 20, 30]
    assert channels[:, 1, 0, 0].tolist() == [10, 10, 20, 30, 30]
    assert channels[:, 2, 0, 0].tolist() == [10, 20, 30, 30, 30]


def test_each_scan_s_slices_stay_together():
    volume = np.arange(8.0, dtype=np.float32).reshape(2, 4, 1, 1)
    assert with_context(volume, 3)[:, 2, 0, 0].tolist() == [1, 2, 3, 5, 6, 7]
    assert with_context(volume, 1) is volume


@pytest.mark.parametrize("scale", ["unit", "symmetric", "zscore", "liver"])
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_volume_of_one_value_stays_finite(scale, modality):
    recipe = Intensity(ct_clip_hu=(-200, 300), mr_clip_percentiles=(0.5, 99.5), scale=scale)
    assert np.isfinite(scale_intensity(np.full((8, 8, 8), 7.0), recipe, modality)).all()


def test_the_scan_itself_is_left_as_it_was():
    volume = np.array([-1000.0, 900.0], np.float32).reshape(1, 1, 2)
    scale_intensity(volume, UNIT, "CT")
    assert volume.ravel().tolist() == [-1000.0, 900.0]


def test_padding_is_air_for_ct_and_the_darkest_value_for_mr():
    image = sitk.GetImageFromArray(np.array([[[3, 9]]], np.int16))
    assert padding_value(image, "CT") == -1024
    assert padding_value(image, "MR") == 3
