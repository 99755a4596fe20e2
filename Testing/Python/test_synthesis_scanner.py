"""What a synthetic scanner makes of a drawing: slices, partial volume, noise, and lesions that can be seen in it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from LiverTumorSegLib.training.synthesis import mimics
from LiverTumorSegLib.training.synthesis.anatomy import BTCV, SPL_ATLAS, Anatomy, Tissue, organs_from_labelmap
from LiverTumorSegLib.training.synthesis.appearance import Look, draw_look, paint
from LiverTumorSegLib.training.synthesis.fields import along, gaussian_blur, slice_filters
from LiverTumorSegLib.training.synthesis.generator import Field
from LiverTumorSegLib.training.synthesis.lesions import draw_lesions
from LiverTumorSegLib.training.synthesis.palettes import ct_palette, unusual_mr_palette
from LiverTumorSegLib.training.synthesis.settings import SHIFTED, Settings
from LiverTumorSegLib.training.synthesis.shapes import draw_ball
from LiverTumorSegLib.training.synthesis.typed import typed_study

pytestmark = pytest.mark.usefixtures("one_thread")


def quiet_look(modality: str = "CT", **changes: object) -> Look:
    """Without noise, texture, blur or anything that happens to a scan by chance."""
    look = draw_look(np.random.default_rng(0), modality, Settings(unusual=0))
    palette = dataclasses.replace(look.palette, texture=torch.zeros(len(Tissue)))
    plain = {"palette": palette, "noise": 1e-4, "sharp_mm": 0.0, "slice_mm": 0.0, "slice_axis": 0}
    return dataclasses.replace(look, **{**plain, **changes})


def thin_look(**changes: object) -> Look:
    """Thin slices and hardly any noise."""
    plain = {"slice_mm": 0.0, "noise": 1.0}
    return dataclasses.replace(draw_look(np.random.default_rng(0), "CT"), **{**plain, **changes})


def liver_block(side: int) -> torch.Tensor:
    return torch.full((side, side, side), int(Tissue.LIVER), dtype=torch.uint8)


def painted(tissues: torch.Tensor, spacing_mm: float, look: Look, seed: int = 3) -> torch.Tensor:
    return paint(tissues, torch.zeros(tissues.shape), spacing_mm, look, np.random.default_rng(seed))


def half_space(count: int, spacing_mm: float, normal: np.ndarray, offset_mm: float) -> torch.Tensor:
    """Muscle on one side of a plane and fat on the other, each voxel what lies at its centre."""
    line = (np.arange(count) - (count - 1) / 2) * spacing_mm
    k, j, i = np.meshgrid(line, line, line, indexing="ij")
    inside = k * normal[0] + j * normal[1] + i * normal[2] > offset_mm
    return torch.as_tensor(np.where(inside, int(Tissue.MUSCLE), int(Tissue.VISCERAL_FAT)).astype(np.uint8))


def test_slices_of_two_and_a_half_voxels_are_means_over_two_and_a_half_voxels():
    into, back = slice_filters(10, 2.5)
    assert into.shape == (4, 10)
    assert back.shape == (10, 4)
    assert into[0].tolist() == pytest.approx([0.4, 0.4, 0.2] + 7 * [0.0])
    assert into[1].tolist() == pytest.approx([0, 0, 0.2, 0.4, 0.4, 0, 0, 0, 0, 0])
    # The slices' centres lie at 1.25, 3.75, 6.25 and 8.75 voxels; that of voxel 2 at 2.5, half way between two of them.
    assert back[2].tolist() == pytest.approx([0.5, 0.5, 0, 0])
    assert back[0].tolist() == pytest.approx([1, 0, 0, 0])


@given(count=st.integers(2, 90), thickness=st.floats(1.05, 12))
@settings(max_examples=80, deadline=None)
def test_slices_are_as_thick_as_was_asked_for_and_a_ramp_stays_a_ramp(count, thickness):
    into, back = slice_filters(count, thickness)
    assert into.sum(1).numpy() == pytest.approx(1, abs=1e-4)
    assert back.sum(1).numpy() == pytest.approx(1, abs=1e-4)
    if len(into) > 4 and thickness >= 2:
        assert float(into[2].max()) == pytest.approx(1 / thickness, rel=1e-3)  # wholly covered voxels
    ramp = torch.arange(count, dtype=torch.float32)
    inner = slice(math.ceil(1.5 * thickness), count - math.ceil(1.5 * thickness))
    # An eighth of a voxel, as the part of a voxel that a slice covers counts as the voxel's middle.
    assert (back @ into @ ramp)[inner].numpy() == pytest.approx(ramp[inner].numpy(), abs=0.13)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_matrix_goes_along_one_axis_and_leaves_the_others(axis):
    volume = torch.arange(2 * 3 * 4, dtype=torch.float32).reshape(2, 3, 4)
    size = volume.shape[axis]
    assert torch.equal(along(torch.eye(size), volume, axis), volume)
    assert torch.equal(along(torch.ones(1, size), volume, axis), volume.sum(axis, keepdim=True))


def test_a_blur_of_less_than_half_a_voxel_is_not_lost():
    volume = torch.zeros(5, 5, 5)
    volume[2, 2, 2] = 1.0
    # Beyond half a voxel lie 10.56 % of a Gaussian of 0.4 voxels, on either side.
    assert gaussian_blur(volume, (0.4, 0.0, 0.0))[:, 2, 2].tolist() == pytest.approx(
        [0, 0.1056, 0.7887, 0.1056, 0], abs=1e-3
    )


def test_edges_drawn_on_coarse_voxels_are_as_steep_as_those_of_means_over_fine_ones():
    rng, coarse, fine = np.random.default_rng(1), 0.0, 0.0
    for _ in range(20):
        normal = rng.normal(size=3)
        normal, offset = normal / np.linalg.norm(normal), rng.uniform(-6, 6)
        drawn = painted(half_space(12, 4.0, normal, offset), 4.0, quiet_look())
        means = painted(half_space(48, 1.0, normal, offset), 1.0, quiet_look(sharp_mm=0.0))
        means = torch.nn.functional.avg_pool3d(means[None, None], 4)[0, 0]
        coarse, fine = (
            total + sum(float(each.diff(dim=axis).square().mean()) for axis in range(3))
            for total, each in ((coarse, drawn), (fine, means))
        )
    assert coarse / fine == pytest.approx(1, abs=0.2)  # points without a blur: more than twice as steep


def test_noise_is_each_slice_s_own_and_goes_smoothly_from_one_to_the_next():
    tissues = torch.full((48, 24, 24), int(Tissue.MUSCLE), dtype=torch.uint8)

    def likeness(slice_mm: float) -> float:
        """Correlation of the noise in neighbouring planes."""
        volume = painted(tissues, 2.0, quiet_look(noise=20.0, grain=0.0, slice_mm=slice_mm), seed=5)
        noise = volume - volume.mean((1, 2), keepdim=True)
        return float((noise[1:] * noise[:-1]).mean() / noise.square().mean())

    assert likeness(0.0) < 0.1
    assert likeness(8.0) > 0.8


def test_ringing_stays_in_the_slices_whichever_way_they_lie():
    tissues = torch.full((8, 32, 32), int(Tissue.VISCERAL_FAT), dtype=torch.uint8)
    tissues[:, 16:] = int(Tissue.MUSCLE)

    def overshoot(slice_axis: int) -> float:
        look = quiet_look(sampled=0.5, slice_axis=slice_axis)
        even = dataclasses.replace(look, sampled=1.0)
        return float((painted(tissues, 2.0, look) - painted(tissues, 2.0, even)).abs().max())

    mean = quiet_look().palette.mean
    step = float(mean[Tissue.MUSCLE] - mean[Tissue.VISCERAL_FAT])
    assert overshoot(0) > 0.03 * step
    assert overshoot(1) < 0.005 * step  # the step lies between slices


@pytest.mark.parametrize(
    ("liver_hu", "wanted", "given"),
    [
        (110, -0.5, -0.5),
        (110, -2.0, (14 - 110) / 70),  # no darker than 14 HU
        (110, -0.05, -0.2),  # no fainter than a fifth
        (110, 0.05, 0.2),
        (25, -0.5, 0.5),  # 11 HU are too little room for a darker one
        (-5, -0.1, 0.2),  # it would be brighter than this liver
    ],
)
def test_a_lesion_s_contrast_can_be_seen_and_where_the_liver_is_too_dark_it_is_bright(liver_hu, wanted, given):
    look = quiet_look()
    mean = look.palette.mean.clone()
    mean[Tissue.LIVER] = liver_hu
    look = dataclasses.replace(look, palette=dataclasses.replace(look.palette, mean=mean))
    assert look.visible(wanted, 20.0) == pytest.approx(given)


def test_lesions_are_as_large_and_as_strong_as_thick_slices_and_noise_ask_for():
    look = thin_look()
    # Slices of 10 mm: nothing under 8 mm, and 7 mm of lesion leave 0.7 of the contrast. Noise of one lesion unit:
    # at 14 mm and above once, at 7 mm twice the noise, and 14 mm is the smallest that one unit of contrast shows.
    coarse = dataclasses.replace(look, slice_mm=10.0, sharp_mm=0.01)
    assert coarse.smallest_lesion_mm == pytest.approx(8.0)
    coarse = dataclasses.replace(coarse, noise=look.palette.lesion_unit)
    assert coarse.smallest_lesion_mm == pytest.approx(14.0)
    assert coarse.faintest_lesion(14.0) == pytest.approx(1.0)
    assert coarse.faintest_lesion(7.0) == pytest.approx(2.0 / 0.7)
    assert coarse.faintest_lesion(1.0) == pytest.approx(3.0 / 0.4)  # never more
    for seed in range(20):
        work = liver_block(48)
        drawn = draw_lesions(work, 2.0, np.random.default_rng(seed), coarse)
        assert all(size >= 14 for size in drawn.diameters_mm)
        assert bool((drawn.contrast != 0)[work == Tissue.LESION].all())


def test_a_small_lesion_is_stronger_by_what_blur_takes_from_the_middle_of_a_ball():
    sharp_mm, diameter_mm = 3.0, 8.0
    look = thin_look(sharp_mm=sharp_mm)
    line = torch.arange(41, dtype=torch.float32) - 20
    ball = (line[:, None, None] ** 2 + line[None, :, None] ** 2 + line**2 <= (diameter_mm / 2 / 0.5) ** 2).float()
    left = float(gaussian_blur(ball, (sharp_mm / 0.5,) * 3)[20, 20, 20])  # voxels of 0.5 mm
    assert 0.3 < left < 0.5
    assert look.faintest_lesion(diameter_mm) == pytest.approx(0.2 / max(left, 0.4), rel=0.05)


def test_a_lesion_has_the_contrast_that_can_be_seen_also_where_only_its_rim_or_core_has_any():
    look = thin_look()
    for seed in range(60):
        work = liver_block(40)
        drawn = draw_lesions(work, 2.0, np.random.default_rng(seed), look, unusual=0.0)
        if len(drawn.diameters_mm) == 1:
            contrast = drawn.contrast[work == Tissue.LESION]
            assert float(contrast.square().mean().sqrt()) >= 0.999 * look.faintest_lesion(drawn.diameters_mm[0])


@pytest.mark.parametrize("drawn_with", [Settings(), SHIFTED])
def test_no_lesion_of_an_mr_scan_has_less_signal_than_none(drawn_with):
    for seed in range(20):
        look = draw_look(np.random.default_rng(seed), "MR", drawn_with)
        look = dataclasses.replace(look, noise=1e-4)
        tissues = torch.full((20, 30, 30), int(Tissue.LIVER), dtype=torch.uint8)
        lesions = draw_lesions(tissues, 2.0, np.random.default_rng(seed), look, drawn_with.contrast)
        liver = float(look.palette.mean[Tissue.LIVER])
        values = (liver + lesions.contrast * look.palette.lesion_unit).clamp_min(look.darkest_lesion)
        assert look.darkest_lesion > 0
        assert float(values[tissues == Tissue.LESION].min() if lesions.diameters_mm else liver) > 0


def test_lesions_are_bright_where_water_is_and_dark_in_the_portal_phase():
    rng = np.random.default_rng(0)
    diffusion, hepatobiliary = ([], [])
    for _ in range(60):
        palette, coarse = unusual_mr_palette(rng)
        (diffusion if coarse else hepatobiliary).append(palette.bright_lesions)
    assert np.mean(diffusion) == pytest.approx(2 / 3 * 0.9 + 1 / 6)
    assert np.mean(hepatobiliary) == pytest.approx(2 / 3 * 0.05 + 1 / 6)
    assert 0.2 < np.mean([ct_palette(rng).bright_lesions for _ in range(200)]) < 0.4


def test_lumpy_balls_have_no_flat_faces():
    for seed in range(40):
        rng = np.random.default_rng(seed)
        ball = draw_ball((60, 60, 60), np.array([30.0, 30.2, 29.7]), 8.0, 0.35, rng)
        inside = ball.level < 1
        for axis in range(3):
            assert not inside.select(axis, 0).any()
            assert not inside.select(axis, -1).any()


def test_a_study_with_types_calls_a_cyst_liver_where_nobody_asks_for_cysts(monkeypatch):
    monkeypatch.setattr(mimics, "_KINDS", ((1.0, 4, mimics._cyst),))
    monkeypatch.setattr(mimics, "_UNUSUAL", ())
    block = Anatomy(np.full((60, 60, 60), int(Tissue.LIVER), np.uint8), "block")
    field = Field((16, 16, 16), 2.0, "liver", cut=0.0)
    study = typed_study(block, field, ["venous"], ["background", "liver"], np.random.default_rng(0), Settings(bend=0))
    assert (study.labels == 1).all()


@pytest.mark.parametrize(
    ("meaning", "value", "voxel_mm3"), [(SPL_ATLAS, 3, 1.40625**2 * 3.0), (BTCV, 6, 0.9375**2 * 1.5)]
)
def test_the_spl_atlas_is_as_large_as_a_man_though_its_header_says_half(tmp_path, meaning, value, voxel_mm3):
    labels = np.zeros((40, 60, 60), np.uint8)
    labels[5:35, 10:50, 10:50] = value
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing((0.9375, 0.9375, 1.5))
    sitk.WriteImage(image, str(tmp_path / "seg.nrrd"))
    liver = organs_from_labelmap(tmp_path / "seg.nrrd", meaning).tissues == Tissue.LIVER
    assert float(liver.sum()) * 8 == pytest.approx(30 * 40 * 40 * voxel_mm3, rel=0.12)
