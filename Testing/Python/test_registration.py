"""Bringing one phase onto another: what moved is found, what cannot be helped is left and told."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk

from LiverTumorSegLib.registration import normalised_mutual_information, register

SIZE, SPACING = (60, 50, 40), (5.0, 5.0, 5.0)
# Centre and semi-axes in mm, and what it measures before contrast medium and in the portal-venous phase, HU.
ORGANS = (
    ((150, 125, 100), (135, 110, 400), 40, 60),  # the trunk
    ((95, 110, 110), (60, 65, 70), 70, 110),  # the liver
    ((220, 150, 120), (30, 40, 45), 45, 120),  # the spleen
    ((110, 170, 60), (25, 22, 40), 32, 180),  # the kidneys
    ((190, 170, 60), (25, 22, 40), 32, 180),
    ((150, 195, 100), (20, 20, 400), 200, 210),  # the spine
    ((80, 90, 120), (10, 10, 10), 900, 900),  # clips, by which one can see where things went
    ((115, 130, 85), (10, 10, 10), 900, 900),
    ((220, 150, 120), (10, 10, 10), 900, 900),
)


def abdomen(column: int, displaced=lambda p: p) -> sitk.Image:
    """Draw the organs so that what lies at `displaced(p)` of the drawing shows at p; int16 HU with noise of 4 HU."""
    k, j, i = np.meshgrid(*(np.arange(n) * s for n, s in zip(SIZE[::-1], SPACING[::-1], strict=True)), indexing="ij")
    x, y, z = displaced(np.stack([i, j, k]).astype(float))
    volume = np.full(x.shape, -1000.0)
    for (cx, cy, cz), (rx, ry, rz), *levels in ORGANS:
        volume[((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + ((z - cz) / rz) ** 2 < 1] = levels[column]
    volume += np.random.default_rng(column).normal(0, 4, volume.shape)
    image = sitk.GetImageFromArray(volume.round().astype(np.int16))
    image.SetSpacing(SPACING)
    return image


def breathed(p: np.ndarray) -> np.ndarray:
    """Everything 6 mm to the right, and the belly's middle up to 10 mm towards the head."""
    around = np.exp(-(((p[0] - 120) / 80) ** 2 + ((p[1] - 120) / 80) ** 2 + ((p[2] - 100) / 80) ** 2))
    return p + np.stack([np.full(p[0].shape, 6.0), 0 * p[0], -10 * around])


def liver() -> np.ndarray:
    """Where the liver is drawn, (k, j, i)."""
    k, j, i = np.meshgrid(*(np.arange(n) * s for n, s in zip(SIZE[::-1], SPACING[::-1], strict=True)), indexing="ij")
    (cx, cy, cz), (rx, ry, rz), *_ = ORGANS[1]
    return ((i - cx) / rx) ** 2 + ((j - cy) / ry) ** 2 + ((k - cz) / rz) ** 2 < 1


def clips_off_mm(image: sitk.Image) -> list[float]:
    """How far each clip is from where it was drawn."""
    k, j, i = np.nonzero(sitk.GetArrayViewFromImage(image) > 500)
    places = np.stack([i, j, k], axis=1) * SPACING
    off = []
    for centre, *_ in ORGANS[-3:]:
        near = places[np.linalg.norm(places - centre, axis=1) < 25]
        off.append(float(np.linalg.norm(near.mean(axis=0) - centre)))
    return off


def test_a_known_deformation_is_recovered_to_less_than_a_voxel_of_5_mm() -> None:
    fixed, moving = abdomen(1), abdomen(0, breathed)
    moved, quality = register(moving, fixed, "CT", "arterial")
    assert quality.used
    assert quality.after > quality.before + 0.02
    assert quality.folded == 0
    # Drawn 6 mm off to the side, and in the liver some mm along the body as well.
    assert min(clips_off_mm(moving)) > 5
    assert max(clips_off_mm(moving)) > 9
    assert np.mean(clips_off_mm(moved)) < 3.5
    assert max(clips_off_mm(moved)) < 6
    median, high, most = quality.displacement_mm
    assert 4 < median <= high <= most < 25


def test_two_runs_give_the_same_voxels() -> None:
    fixed, moving = abdomen(1), abdomen(0, breathed)
    first, second = (register(moving, fixed, "CT", method="affine")[0] for _ in range(2))
    assert np.array_equal(sitk.GetArrayFromImage(first), sitk.GetArrayFromImage(second))


def test_phases_on_other_and_oblique_grids_come_out_on_the_scans_own() -> None:
    fixed = abdomen(1)
    angle = math.radians(20)
    turn = (math.cos(angle), -math.sin(angle), 0, math.sin(angle), math.cos(angle), 0, 0, 0, 1)
    grid = sitk.Image(80, 80, 50, sitk.sitkInt16)
    grid.SetSpacing((4.5, 4.5, 4.5))
    grid.SetDirection(turn)
    grid.SetOrigin((40, -70, -10))
    oblique = sitk.Resample(abdomen(0, breathed), grid, sitk.Transform(), sitk.sitkLinear, -1000)
    moved, quality = register(oblique, fixed, "CT", method="affine")
    assert quality.used
    assert moved.GetSize() == fixed.GetSize()
    assert moved.GetDirection() == fixed.GetDirection()
    assert moved.GetPixelID() == sitk.sitkInt16
    straight, _ = register(abdomen(0, breathed), fixed, "CT", method="affine")
    a, b = (sitk.GetArrayFromImage(each).astype(float)[liver()] for each in (moved, straight))
    assert np.abs(a - b).mean() < 12  # noise alone differs by some HU between two interpolations


def test_what_does_not_get_better_is_left_as_it_was_with_a_warning() -> None:
    noise = sitk.GetImageFromArray(np.random.default_rng(0).normal(40, 30, SIZE[::-1]).astype(np.int16))
    noise.SetSpacing(SPACING)
    with pytest.warns(UserWarning, match="arterial: not registered"):
        same, quality = register(noise, abdomen(1), "CT", "arterial", "affine")
    assert same is noise
    assert not quality.used
    assert quality.reason


def test_a_scan_without_a_body_is_not_registered_and_says_why() -> None:
    air = sitk.Image(*SIZE, sitk.sitkInt16) - 1000
    air.SetSpacing(SPACING)
    with pytest.warns(UserWarning, match="wanted a body of 2000 coarse voxels, got 0"):
        same, quality = register(air, air, "CT")
    assert (same is air, quality.used) == (True, False)


def test_a_slab_too_thin_to_be_registered_says_so_in_whole_words() -> None:
    slab, other = (abdomen(column)[:, :, 18:21] for column in (0, 1))
    with pytest.warns(UserWarning, match="^phase arterial: not registered, wanted at least 4 .*; it is used as it is$"):
        same, quality = register(slab, other, "CT", "phase arterial")
    assert (same is slab, quality.used) == (True, False)
    assert quality.reason == "wanted at least 4 coarse voxels along each axis, got 60×50×3"


def test_a_search_that_fails_tells_the_end_of_the_reason_in_whole_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("sitk::ERROR:\n " + "ever so many words " * 20 + "and why.")

    monkeypatch.setattr("LiverTumorSegLib.registration._affine", fail)
    with pytest.warns(UserWarning, match="not registered"):
        _, quality = register(abdomen(0), abdomen(1), "CT")
    head, _, tail = quality.reason.partition("…")
    assert head == "the search failed: "
    assert tail.startswith("so many words ever so")
    assert tail.endswith("many words and why.")
    assert len(tail) <= 120


def test_not_asked_for_nothing_moves_and_nothing_is_said() -> None:
    moving = abdomen(0, breathed)
    same, quality = register(moving, abdomen(1), "CT", method="none")
    assert (same is moving, quality.used, quality.reason) == (True, False, "not asked for")
    assert 1 < quality.before == quality.after < 2


def test_mutual_information_is_two_for_the_same_halves_and_one_for_a_constant() -> None:
    halves = np.array([0.0, 0, 1, 1])
    assert normalised_mutual_information(halves, 1 - halves) == pytest.approx(2)
    assert normalised_mutual_information(halves, np.zeros(4)) == pytest.approx(1)
    assert normalised_mutual_information(halves, np.array([0.0, 1, 0, 1])) == pytest.approx(1)
