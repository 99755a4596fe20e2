"""Synthetic scans: reproducible, anatomically in place, with the lesions that they say they have."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from LiverTumorSegLib.errors import ImageError, LiverTumorSegError
from LiverTumorSegLib.training.synthesis.anatomy import (
    BTCV,
    SPACING_MM,
    Anatomy,
    Tissue,
    labelmap_files,
    organs_from_labelmap,
)
from LiverTumorSegLib.training.synthesis.appearance import CT_HU, MR_SIGNAL, ct_palette, mr_palette, paint
from LiverTumorSegLib.training.synthesis.body import complete_body
from LiverTumorSegLib.training.synthesis.cases import draw_case, write_case
from LiverTumorSegLib.training.synthesis.fields import gaussian_blur, smooth_noise, thick_slices
from LiverTumorSegLib.training.synthesis.generator import Field, synthetic_scan
from LiverTumorSegLib.training.synthesis.lesions import draw_lesions
from LiverTumorSegLib.training.synthesis.procedural import procedural_organs


@pytest.fixture(scope="module")
def body() -> Anatomy:
    rng = np.random.default_rng(3)
    return complete_body(procedural_organs(rng), rng)


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

    liver = np.isin(body.tissues, (Tissue.LIVER, Tissue.HEPATIC_VESSEL))
    millilitres = liver.sum() * SPACING_MM**3 / 1000
    assert 800 < millilitres < 2800
    assert cc3d.connected_components(liver, connectivity=6).max() == 1


def test_the_body_is_drawn_around_the_organs_and_not_over_them():
    rng = np.random.default_rng(5)
    organs = procedural_organs(rng)
    body = complete_body(organs, rng)
    margin = (body.tissues.shape[1] - organs.tissues.shape[1]) // 2
    inner = body.tissues[:, margin:-margin, margin:-margin]
    for tissue in (Tissue.SPLEEN, Tissue.KIDNEY, Tissue.GALLBLADDER, Tissue.PANCREAS, Tissue.AORTA):
        assert (inner[organs.tissues == tissue] == tissue).all()
    assert np.isin(inner[organs.tissues == Tissue.LIVER], (Tissue.LIVER, Tissue.HEPATIC_VESSEL)).all()
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
    scan = synthetic_scan(body, Field((40, 60, 72), 4.0, "organ", cut=0.0), np.random.default_rng(11), "CT")
    assert set(np.unique(scan.labels)) <= {0, 1, 2}
    assert scan.volume.dtype == np.float32
    liver = scan.volume[scan.labels == 1]
    assert 0 < np.median(liver) < 180
    assert scan.volume.min() < -700  # lung and air are there


def test_lesions_lie_in_the_liver_and_have_about_the_diameter_they_were_drawn_with():
    tissues = torch.full((60, 60, 60), int(Tissue.LIVER), dtype=torch.uint8)
    sizes = []
    for seed in range(40):
        work = tissues.clone()
        drawn = draw_lesions(work, 1.0, np.random.default_rng(seed))
        if len(drawn.diameters_mm) == 1:
            volume = float((work == Tissue.LESION).sum())
            sizes.append((2 * (volume * 3 / (4 * np.pi)) ** (1 / 3), drawn.diameters_mm[0]))
    small = [(got, wanted) for got, wanted in sizes if 8 < wanted < 30]
    assert small
    for got, wanted in small:  # lesions may be cut by the volume's border, never much larger than drawn
        assert got < 1.4 * wanted + 1
    assert np.median([got / wanted for got, wanted in small]) > 0.6


def test_half_of_the_lesions_are_smaller_than_two_centimetres_and_some_livers_have_none():
    tissues = torch.full((30, 30, 30), int(Tissue.LIVER), dtype=torch.uint8)
    drawn = [draw_lesions(tissues.clone(), 4.0, np.random.default_rng(n)).diameters_mm for n in range(150)]
    sizes = np.concatenate([d for d in drawn if d])
    assert 0.4 < (sizes < 20).mean() < 0.7
    assert sizes.min() > 4
    assert 0.1 < np.mean([len(d) == 0 for d in drawn]) < 0.35


def test_no_liver_means_no_lesions():
    tissues = torch.full((20, 20, 20), int(Tissue.MUSCLE), dtype=torch.uint8)
    drawn = draw_lesions(tissues, 2.0, np.random.default_rng(0))
    assert drawn.diameters_mm == ()
    assert not bool((tissues == Tissue.LESION).any())


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
    volume, _ = paint(tissues, torch.zeros(20, 20, 20), 2.0, np.random.default_rng(0), "MR")
    assert float(volume.min()) >= 0


def test_thick_slices_average_neighbours_and_keep_the_mean():
    volume = torch.zeros(8, 4, 4)
    volume[2:4] = 10.0
    thick = thick_slices(volume, 0, 2.0)
    assert float(thick.mean()) == pytest.approx(2.5, rel=0.05)
    assert float(thick.max()) <= 10.0
    assert float(thick[4, 0, 0]) > 0  # the slice's edge has become soft


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


def test_a_case_is_written_as_two_nifti_files_on_one_grid(tmp_path):
    scan, labels = write_case(tmp_path, "case", 4, "CT", spacing_mm=4.0)
    image, truth = sitk.ReadImage(str(scan)), sitk.ReadImage(str(labels))
    assert image.GetSize() == truth.GetSize() == (100, 75, 65)
    assert image.GetSpacing() == (4.0, 4.0, 4.0)
    assert image.GetPixelID() == sitk.sitkInt16
    assert set(np.unique(sitk.GetArrayFromImage(truth))) <= {0, 1, 2}
    assert (sitk.GetArrayFromImage(truth) > 0).sum() * 64 / 1000 > 500  # ml: the whole liver is in the field


def test_a_spacing_that_makes_no_sense_is_refused(tmp_path):
    with pytest.raises(LiverTumorSegError, match=r"spacing: wanted 0.5 to 5 mm, got 0.01"):
        write_case(tmp_path, "case", 4, spacing_mm=0.01)


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


def test_a_drawn_case_has_the_lesions_that_it_names():
    scan = draw_case(12, "CT", 3.0)
    assert bool(scan.lesion_diameters_mm) == bool((scan.labels == 2).any())
