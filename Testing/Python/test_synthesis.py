"""Synthetic scans: reproducible, anatomically in place, with the lesions that they say they have."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from LiverTumorSegLib.errors import ImageError
from LiverTumorSegLib.training.synthesis.anatomy import (
    BTCV,
    LIVER_TISSUES,
    SPACING_MM,
    VESSELS_OF_LIVER,
    Anatomy,
    Tissue,
    labelmap_files,
    organs_from_labelmap,
)
from LiverTumorSegLib.training.synthesis.appearance import Look, draw_look, paint
from LiverTumorSegLib.training.synthesis.body import complete_body
from LiverTumorSegLib.training.synthesis.fields import gaussian_blur, smooth_noise
from LiverTumorSegLib.training.synthesis.generator import Field, synthetic_scan
from LiverTumorSegLib.training.synthesis.lesions import draw_lesions
from LiverTumorSegLib.training.synthesis.mimics import draw_mimics
from LiverTumorSegLib.training.synthesis.palettes import CT_HU, MR_SIGNAL, ct_palette, mr_palette
from LiverTumorSegLib.training.synthesis.pelvis import draw_arms
from LiverTumorSegLib.training.synthesis.procedural import procedural_organs
from LiverTumorSegLib.training.synthesis.settings import SHIFTED, Settings
from LiverTumorSegLib.training.synthesis.shapes import draw_ball, tissue_mask
from LiverTumorSegLib.training.synthesis.vessels import draw_hepatic_vessels

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def body() -> Anatomy:
    rng = np.random.default_rng(3)
    return complete_body(procedural_organs(rng), rng, tall=False)


@pytest.fixture(scope="module")
def ct_look() -> Look:
    """Thin slices and hardly any noise."""
    return dataclasses.replace(draw_look(np.random.default_rng(0), "CT"), slice_mm=0.0, noise=1.0)


def liver_block(side: int) -> torch.Tensor:
    return torch.full((side, side, side), int(Tissue.LIVER), dtype=torch.uint8)


def liver_in_fat(side: int = 60, margin: int = 18) -> torch.Tensor:
    tissues = torch.full((side, side, side), int(Tissue.VISCERAL_FAT), dtype=torch.uint8)
    tissues[margin:-margin, margin:-margin, margin:-margin] = int(Tissue.LIVER)
    return tissues


def middle(tissues: np.ndarray, tissue: Tissue) -> np.ndarray:
    """Mean (k, j, i) of a tissue."""
    return np.argwhere(tissues == tissue).mean(0)


def test_the_organs_of_a_drawn_body_lie_where_they_lie_in_people(body):
    t = body.tissues
    liver, spleen, stomach = (middle(t, x) for x in (Tissue.LIVER, Tissue.SPLEEN, Tissue.STOMACH))
    assert liver[2] < spleen[2]  # i runs to the patient's left: the liver is on the right
    assert liver[2] < stomach[2]
    assert middle(t, Tissue.SPINAL_CANAL)[1] > middle(t, Tissue.AORTA)[1] > liver[1]  # j runs to the back
    assert middle(t, Tissue.LUNG)[0] > liver[0] > middle(t, Tissue.KIDNEY)[0]  # k runs to the head
    assert middle(t, Tissue.HEART)[0] > liver[0]


def test_a_drawn_liver_has_the_volume_of_a_liver_and_is_in_one_piece(body):
    import cc3d

    liver = np.isin(body.tissues, (Tissue.LIVER, *VESSELS_OF_LIVER))
    millilitres = liver.sum() * SPACING_MM**3 / 1000
    assert 800 < millilitres < 2800
    assert cc3d.connected_components(liver, connectivity=6).max() == 1


def test_portal_branches_come_from_the_portal_vein_and_hepatic_veins_from_the_vena_cava():
    tissues = np.full((60, 60, 60), int(Tissue.AIR), np.uint8)
    tissues[5:55, 10:50, 10:50] = int(Tissue.LIVER)
    tissues[5:12, 28:33, 5:10] = int(Tissue.PORTAL_VEIN)  # at the right, below
    tissues[45:60, 28:33, 50:55] = int(Tissue.VENA_CAVA)  # at the left, above
    draw_hepatic_vessels(tissues, np.random.default_rng(0))

    def nearest(vessel: Tissue, root: tuple[int, int, int]) -> float:
        return float(np.linalg.norm(np.argwhere(tissues == vessel) - root, axis=1).min())

    hilum, outlet = (11, 30, 10), (54, 30, 49)
    assert nearest(Tissue.PORTAL_BRANCH, hilum) < 4 < 10 < nearest(Tissue.HEPATIC_VEIN, hilum)
    assert nearest(Tissue.HEPATIC_VEIN, outlet) < 4


def test_the_body_is_drawn_around_the_organs_and_not_over_them():
    rng = np.random.default_rng(5)
    organs = procedural_organs(rng)
    body = complete_body(organs, rng, tall=False)
    margin = (body.tissues.shape[1] - organs.tissues.shape[1]) // 2
    inner = body.tissues[:, margin:-margin, margin:-margin]
    for tissue in (Tissue.SPLEEN, Tissue.KIDNEY, Tissue.GALLBLADDER, Tissue.PANCREAS, Tissue.AORTA):
        assert (inner[organs.tissues == tissue] == tissue).all()
    assert np.isin(inner[organs.tissues == Tissue.LIVER], (Tissue.LIVER, *VESSELS_OF_LIVER)).all()
    assert {Tissue.MUSCLE, Tissue.SUBCUTANEOUS_FAT, Tissue.LUNG, Tissue.CORTICAL_BONE} <= set(np.unique(body.tissues))


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([None, "CT", "MR"]))
def test_the_same_seed_draws_the_same_scan(body, seed, modality):
    field = Field((24, 32, 32), 4.0)
    one, two = (synthetic_scan(body, field, np.random.default_rng(seed), modality) for _ in range(2))
    assert np.array_equal(one.volume, two.volume)
    assert np.array_equal(one.labels, two.labels)
    assert one.modality == two.modality == (modality or one.modality)


def test_labels_are_liver_and_tumour_and_the_liver_is_brighter_than_fat_in_ct(body):
    scan = synthetic_scan(
        body, Field((40, 60, 72), 4.0, "organ", cut=0.0), np.random.default_rng(11), "CT", Settings(unusual=0)
    )
    assert set(np.unique(scan.labels)) <= {0, 1, 2}
    assert scan.volume.dtype == np.float32
    liver = scan.volume[scan.labels == 1]
    assert 0 < np.median(liver) < 180
    assert scan.volume.min() < -700  # lung and air are there


def test_lesions_lie_in_the_liver_and_have_about_the_diameter_they_were_drawn_with(ct_look):
    sizes = []
    for seed in range(40):
        work = liver_block(60)
        drawn = draw_lesions(work, 1.0, np.random.default_rng(seed), ct_look)
        if len(drawn.diameters_mm) == 1:
            volume = float((work == Tissue.LESION).sum())
            sizes.append((2 * (volume * 3 / (4 * np.pi)) ** (1 / 3), drawn.diameters_mm[0]))
    small = [(got, wanted) for got, wanted in sizes if 8 < wanted < 30]
    assert small
    for got, wanted in small:  # lesions may be cut by the volume's border, never much larger than drawn
        assert got < 1.4 * wanted + 1
    assert np.median([got / wanted for got, wanted in small]) > 0.6


def test_half_of_the_lesions_are_smaller_than_two_centimetres_and_some_livers_have_none(ct_look):
    drawn = [draw_lesions(liver_block(60), 2.0, np.random.default_rng(n), ct_look).diameters_mm for n in range(150)]
    sizes = np.concatenate([d for d in drawn if d])
    assert 0.45 < (sizes < 20).mean() < 0.7
    assert 4 <= sizes.min() < 6
    assert 0.1 < np.mean([len(d) == 0 for d in drawn]) < 0.35


def test_a_lesion_is_never_as_dark_as_water_in_ct_and_a_cyst_is(ct_look):
    tissues = liver_block(24)
    tissues[4:20, 4:20, 4:12] = int(Tissue.LESION)
    tissues[4:20, 4:20, 14:20] = int(Tissue.CYST)
    contrast = torch.where(tissues == Tissue.LESION, -5.0, 0.0)
    palette = dataclasses.replace(ct_look.palette, texture=torch.zeros(len(Tissue)))
    look = dataclasses.replace(ct_look, palette=palette, noise=0.01, sharp_mm=0.01)
    lesion, cyst = (slice(6, 18), slice(6, 18), slice(6, 10)), (slice(6, 18), slice(6, 18), slice(16, 18))  # inside
    for seed in range(20):  # streaks are in one scan of seven
        volume = paint(tissues, contrast, 2.0, look, np.random.default_rng(seed))
        assert float(volume[lesion].median()) == pytest.approx(14, abs=1)
        assert float(volume[cyst].median()) == pytest.approx(float(palette.mean[Tissue.CYST]), abs=1)


def test_no_liver_means_no_lesions_and_nothing_that_looks_like_one(ct_look):
    tissues = torch.full((20, 20, 20), int(Tissue.MUSCLE), dtype=torch.uint8)
    drawn = draw_lesions(tissues, 2.0, np.random.default_rng(0), ct_look)
    assert drawn.diameters_mm == ()
    assert not bool(draw_mimics(tissues, 2.0, np.random.default_rng(0), chance=10.0).any())
    assert bool((tissues == Tissue.MUSCLE).all())


def test_every_kind_of_mimic_is_drawn_and_none_is_a_lesion():
    kinds = set()
    for seed in range(6):
        tissues = liver_in_fat()
        contrast = draw_mimics(tissues, 2.0, np.random.default_rng(seed), chance=10.0)  # every kind in every scan
        kinds |= {Tissue(value) for value in tissues.unique().tolist()}
        assert bool((contrast != 0).any())  # perfusion patches are shades, no tissue
        shaded = contrast[tissues == Tissue.LIVER].abs().max()
        assert 0 < float(shaded) < 1.0
    assert {Tissue.CYST, *VESSELS_OF_LIVER, Tissue.MASS, Tissue.LIVER, Tissue.VISCERAL_FAT} <= kinds
    assert Tissue.LESION not in kinds


def test_mimics_take_some_of_the_liver_and_never_add_to_it():
    for seed in range(6):
        before, after = liver_in_fat(), liver_in_fat()
        draw_mimics(after, 2.0, np.random.default_rng(seed), chance=10.0)
        liver = before == Tissue.LIVER
        assert not bool(tissue_mask(after, LIVER_TISSUES)[~liver].any())
        lost = float((~tissue_mask(after, LIVER_TISSUES))[liver].float().mean())
        assert 0 < lost < 0.9


def test_without_chance_there_are_no_mimics():
    tissues = liver_in_fat()
    assert not bool(draw_mimics(tissues, 2.0, np.random.default_rng(1), chance=0.0).any())
    assert torch.equal(tissues, liver_in_fat())


def test_a_ball_has_about_the_volume_of_its_radius():
    ball = draw_ball((40, 40, 40), np.array([20.0, 20.0, 20.0]), 8.0, 0.0, np.random.default_rng(2))
    assert ball is not None
    # The three axes are stretched by 0.75 to 1.3 each, so the volume by 0.42 to 2.2.
    assert 0.42 * 4 / 3 * np.pi * 8**3 < float((ball.level < 1).sum()) < 2.2 * 4 / 3 * np.pi * 8**3
    assert draw_ball((40, 40, 40), np.array([-30.0, 20.0, 20.0]), 8.0, 0.0, np.random.default_rng(2)) is None


def test_a_body_has_hips_and_a_bladder_below_the_kidneys_and_lungs_above():
    rng = np.random.default_rng(1)
    organs = procedural_organs(rng)
    t = complete_body(organs, rng).tissues
    assert len(t) > len(organs.tissues)
    crest = np.flatnonzero((t == Tissue.KIDNEY).any((1, 2)))[0]
    pelvis = t[: crest - round(120 / SPACING_MM)]
    assert (pelvis == Tissue.URINE).any()
    bone = np.isin(pelvis, (Tissue.CORTICAL_BONE, Tissue.MARROW))
    half = t.shape[2] // 2
    for side in (bone[..., :half], bone[..., half:]):
        assert side.sum() * SPACING_MM**3 / 1000 > 50  # ml: a hip on each side
    assert not (pelvis == Tissue.LIVER).any()


def test_arms_are_drawn_on_both_sides_and_only_where_air_was():
    tissues = np.zeros((6, 100, 220), np.uint8)
    tissues[:, 30:70, 80:140] = Tissue.MUSCLE
    before = tissues.copy()
    draw_arms(tissues, np.random.default_rng(0))
    assert (tissues[before == Tissue.MUSCLE] == Tissue.MUSCLE).all()
    for side in (tissues[..., :80], tissues[..., 140:]):
        assert {Tissue.SKIN, Tissue.MUSCLE, Tissue.MARROW} <= set(np.unique(side))


def test_half_of_the_whole_fields_of_a_tall_body_lie_anywhere_and_some_hold_no_liver():
    slab = np.full((300, 40, 40), int(Tissue.MUSCLE), np.uint8)
    slab[200:240, 10:30, 10:30] = Tissue.LIVER  # 80 of 600 mm
    field = Field((16, 8, 8), 4.0, "body", cut=0.0)
    empty = [
        not synthetic_scan(Anatomy(slab, "slab"), field, np.random.default_rng(n), "CT").labels.any() for n in range(60)
    ]
    # A field of 64 mm at a random height misses the liver in about (600 - 80 - 64) / 600 of the cases; half are random.
    assert 0.2 < np.mean(empty) < 0.55


def test_shifted_settings_draw_another_scan_of_the_same_seed_and_a_noisier_one(body):
    field = Field((16, 24, 24), 4.0, "organ", cut=0.0)
    plain, shifted = (
        synthetic_scan(body, field, np.random.default_rng(3), "CT", *settings) for settings in ((), (SHIFTED,))
    )
    assert not np.array_equal(plain.volume, shifted.volume)
    looks = draw_look(np.random.default_rng(3), "CT"), draw_look(np.random.default_rng(3), "CT", SHIFTED)
    assert looks[1].noise == pytest.approx(1.25 * looks[0].noise)


def test_every_tissue_has_a_value_in_ct_and_in_mr():
    drawn_otherwise = {Tissue.LESION}
    dark_in_mr = {Tissue.AIR, Tissue.GAS, Tissue.TABLE}
    assert set(CT_HU) == set(Tissue) - drawn_otherwise
    assert set(MR_SIGNAL) == set(Tissue) - drawn_otherwise - dark_in_mr


def test_palettes_keep_air_black_and_lesions_start_from_the_liver():
    for seed in range(20):
        ct, mr = ct_palette(np.random.default_rng(seed)), mr_palette(np.random.default_rng(seed))
        assert ct.mean[Tissue.AIR] < -900
        assert mr.mean[Tissue.AIR] == 0
        for palette in (ct, mr):
            assert palette.mean[Tissue.LESION] == palette.mean[Tissue.LIVER]


def test_mr_is_never_negative():
    tissues = torch.randint(0, len(Tissue), (20, 20, 20), dtype=torch.uint8)
    for seed in range(12):  # with and without ghosts
        rng = np.random.default_rng(seed)
        assert float(paint(tissues, torch.zeros(20, 20, 20), 2.0, draw_look(rng, "MR"), rng).min()) >= 0


def test_streaks_are_lines_across_a_slice():
    tissues = torch.full((6, 40, 40), int(Tissue.MUSCLE), dtype=torch.uint8)
    palette = dataclasses.replace(ct_palette(np.random.default_rng(0)), texture=torch.zeros(len(Tissue)))
    quiet = dataclasses.replace(draw_look(np.random.default_rng(0), "CT"), palette=palette, noise=0.01, slice_mm=0.0)
    spreads = []
    for seed in range(60):
        volume = paint(tissues, torch.zeros(6, 40, 40), 2.0, quiet, np.random.default_rng(seed))
        spreads.append(float(volume.std()))
    streaked = np.array(spreads) > 0.5  # Hounsfield units; noise alone is 0.01
    assert 0.02 < streaked.mean() < 0.35  # 0.15 are drawn


def test_a_blur_spreads_a_point_by_its_sigma():
    volume = torch.zeros(21, 21, 21)
    volume[10, 10, 10] = 1.0
    blurred = gaussian_blur(volume, (2.0, 0.0, 0.0))
    offsets = torch.arange(21) - 10
    assert float(blurred.sum()) == pytest.approx(1.0, abs=1e-5)
    assert float((blurred.sum((1, 2)) * offsets**2).sum()) == pytest.approx(4.0, rel=0.1)
    assert float(blurred[10, 9, 10]) == 0.0


def test_noise_fields_have_zero_mean_and_unit_deviation():
    field = smooth_noise((20, 24, 28), 6.0, torch.Generator().manual_seed(0))
    assert float(field.mean()) == pytest.approx(0, abs=1e-5)
    assert float(field.std()) == pytest.approx(1, abs=1e-5)
    assert float((field[1:] - field[:-1]).abs().mean()) < 0.4  # smooth


def test_a_folder_without_label_maps_is_refused(tmp_path):
    with pytest.raises(ImageError, match="got none"):
        labelmap_files(tmp_path)


def test_a_label_map_is_turned_to_the_working_grid_and_its_unknown_values_become_nothing(tmp_path):
    values = np.zeros((10, 20, 30), np.uint8)
    values[2:6, 5:10, 3:12] = 6  # the liver in BTCV
    values[0, 0, 0] = 99
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((4.0, 4.0, 6.0))
    image.SetDirection((-1, 0, 0, 0, 1, 0, 0, 0, 1))  # i runs to the right
    sitk.WriteImage(image, str(tmp_path / "label.nii.gz"))
    organs = organs_from_labelmap(tmp_path / "label.nii.gz", BTCV)
    assert organs.tissues.shape == (30, 40, 60)
    assert set(np.unique(organs.tissues)) == {Tissue.AIR, Tissue.LIVER}
    assert (organs.tissues > 0).sum() == pytest.approx(4 * 5 * 9 * 4 * 4 * 6 / 8, rel=0.15)
    assert middle(organs.tissues, Tissue.LIVER)[2] > 30  # turned: i now runs to the left
