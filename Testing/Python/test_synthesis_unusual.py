"""What few synthetic scans have: rare sequences, ringing, clipped grey values, ducts, ascites, calcium, tongues."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from LiverTumorSegLib.training.synthesis import generator
from LiverTumorSegLib.training.synthesis.anatomy import LIVER_TISSUES, Anatomy, Tissue
from LiverTumorSegLib.training.synthesis.appearance import Look, draw_look, paint
from LiverTumorSegLib.training.synthesis.fields import own_chances
from LiverTumorSegLib.training.synthesis.files import stored
from LiverTumorSegLib.training.synthesis.generator import Field, sampled_tissues, synthetic_scan
from LiverTumorSegLib.training.synthesis.lesions import draw_lesions
from LiverTumorSegLib.training.synthesis.mimics import draw_mimics
from LiverTumorSegLib.training.synthesis.palettes import MR_SIGNAL, UNUSUAL_MR_SIGNAL
from LiverTumorSegLib.training.synthesis.settings import Settings
from LiverTumorSegLib.training.synthesis.shapes import draw_ball, tissue_mask
from LiverTumorSegLib.training.synthesis.unusual_lesions import Unusual

pytestmark = pytest.mark.usefixtures("one_thread")

ALWAYS, NEVER = 1e9, 0.0


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def liver_in_fat(side: int = 48, margin: int = 12) -> torch.Tensor:
    tissues = torch.full((side, side, side), int(Tissue.VISCERAL_FAT), dtype=torch.uint8)
    tissues[margin:-margin, margin:-margin, margin:-margin] = int(Tissue.LIVER)
    return tissues


def mr_look(seed: int = 0) -> Look:
    """Of even tissues, sharp and almost without noise."""
    look = draw_look(rng(seed), "MR", Settings(unusual=NEVER))
    palette = dataclasses.replace(look.palette, texture=torch.zeros(len(Tissue)))
    return dataclasses.replace(look, palette=palette, slice_mm=0.0, sharp_mm=0.01, noise=1e-3, grain=0.0)


def test_own_chances_leave_the_numbers_that_they_follow_from_as_they_are():
    one, two = rng(5), rng(5)
    own = own_chances(one, 3)
    assert one.random() == two.random()
    values = [each.random() for each in own]
    assert len(set(values)) == 3
    assert [each.random() for each in own_chances(rng(5), 4)][:3] == values  # one more leaves the others


def test_scans_in_which_nothing_unusual_happens_are_the_scans_without_it():
    body = Anatomy(liver_in_fat(60, 12).numpy(), "block")
    for seed in range(6):
        almost_never, never = (
            synthetic_scan(body, Field((20, 24, 24), 3.0, "organ"), rng(seed), settings=Settings(unusual=share))
            for share in (1e-12, NEVER)
        )
        assert np.array_equal(almost_never.volume, never.volume)
        assert np.array_equal(almost_never.labels, never.labels)


def test_diffusion_and_hepatobiliary_images_know_every_tissue_and_show_it_as_they_should():
    assert set(UNUSUAL_MR_SIGNAL) == set(MR_SIGNAL)
    low_b, high_b, hepatobiliary = range(3)
    signal = UNUSUAL_MR_SIGNAL
    for column in (low_b, high_b):  # fat is suppressed, blood flows away
        assert max(signal[Tissue.VISCERAL_FAT][column], signal[Tissue.AORTA][column]) < signal[Tissue.LIVER][column]
        assert signal[Tissue.SPLEEN][column] > signal[Tissue.LIVER][column]
    assert signal[Tissue.CYST][low_b] > signal[Tissue.LIVER][low_b] > signal[Tissue.CYST][high_b]
    others = [values[hepatobiliary] for tissue, values in signal.items() if tissue is not Tissue.LIVER]
    assert signal[Tissue.LIVER][hepatobiliary] > max(others)


def test_one_mr_scan_of_seven_is_of_an_unusual_sequence_and_one_rings_and_no_ct():
    usual, drawn = ([draw_look(rng(n), "MR", Settings(unusual=s)) for n in range(300)] for s in (NEVER, 1.0))
    other = [not torch.equal(one.palette.mean, two.palette.mean) for one, two in zip(usual, drawn, strict=True)]
    assert 0.08 < np.mean(other) < 0.22
    assert 0.08 < np.mean([look.sampled < 1 for look in drawn]) < 0.22
    relative = [
        (one.noise / one.palette.span, two.noise / two.palette.span) for one, two in zip(usual, drawn, strict=True)
    ]
    assert all(one == pytest.approx(two) for one, two in relative)
    assert all(draw_look(rng(n), "CT", Settings(unusual=ALWAYS)).sampled == 1 for n in range(5))


def test_an_edge_rings_where_the_highest_frequencies_are_missing():
    tissues, contrast = torch.zeros(4, 64, 64, dtype=torch.uint8), torch.zeros(4, 64, 64)
    tissues[:, 16:48, 16:48] = int(Tissue.MUSCLE)
    look = mr_look()
    for seed in range(6):  # of the same shading
        sharp, rung = (
            paint(tissues, contrast, 2.0, dataclasses.replace(look, sampled=s), rng(seed)) for s in (1.0, 0.5)
        )
        # Gibbs: 9 % over a step, and once more at a corner; less where the step is soft.
        assert 1.03 < float(rung.max() / sharp.max()) < 1.3
        assert float((rung - sharp)[:, 24:40, 24:40].abs().max()) < 0.08 * float(sharp.max())
        assert float(rung.mean()) == pytest.approx(float(sharp.mean()), rel=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_a_clipped_mr_keeps_what_differs_within_the_liver(seed):
    # The liver is the brightest there is: cut at its share of the voxels, all of it would have one value.
    # Nor does a lesion that is brighter still, and too small to count among the liver's voxels, become as the liver.
    tissues = torch.zeros((40, 40, 40), dtype=torch.uint8)
    tissues[10:30, 10:30, 10:30] = int(Tissue.LIVER)
    tissues[18:22, 18:22, 18:22] = int(Tissue.LESION)
    liver, lesion = tissues == Tissue.LIVER, tissues == Tissue.LESION
    volume = torch.where(liver, 500.0, 10.0) + torch.where(lesion, 800.0, 0.0) + torch.arange(40.0)
    clipped = stored(volume.clone(), tissues, "MR", rng(seed), ALWAYS, whole_body=True)
    for mask in (liver, lesion):
        assert float((clipped[mask] - volume[mask]).abs().max()) <= 4
        assert float(clipped[mask].std()) > 0.7 * float(volume[mask].std())


def test_above_a_breath_a_ct_is_of_another_moment_and_below_it_is_as_it_was(monkeypatch):
    # Values that are three times as far apart along k as along j, and nine times as along i; nothing bends or turns.
    k, j, i = np.ogrid[:60, :60, :60]
    body = Anatomy(((9 * k + 3 * j + i) % 251).astype(np.uint8), "slopes")
    field, moved = Field((24, 20, 20), 2.0, "organ"), np.zeros((24, 3), np.float32)
    monkeypatch.setattr(generator, "_turn_and_stretch", lambda rng: np.eye(3))
    still = sampled_tissues(body, field, rng(1), 0.0)
    assert torch.equal(sampled_tissues(body, field, rng(1), 0.0, moved_mm=moved), still)
    for axis, apart in enumerate((9, 3, 1)):
        moved[:] = 0
        moved[9:, axis] = 4.0  # two voxels of the body
        breathed = sampled_tissues(body, field, rng(1), 0.0, moved_mm=moved)
        assert torch.equal(breathed[:9], still[:9])
        assert set(((breathed[9:].int() - still[9:].int()) % 251).unique().tolist()) == {2 * apart}


def test_ct_has_breaths_in_a_few_scans_and_mr_in_none(monkeypatch):
    seen = []
    real = generator.sampled_tissues

    def watched(anatomy, field, chance, bend, device, moved_mm):
        seen.append(moved_mm)
        return real(anatomy, field, chance, bend, device, moved_mm)

    monkeypatch.setattr(generator, "sampled_tissues", watched)
    body = Anatomy(np.full((20, 20, 20), int(Tissue.LIVER), np.uint8), "liver")
    for modality, share in (("CT", ALWAYS), ("CT", NEVER), ("MR", ALWAYS)):
        synthetic_scan(body, Field((12, 8, 8), 4.0, "organ"), rng(0), modality, Settings(unusual=share), "none")
    assert seen[1] is seen[2] is None
    steps = np.abs(np.diff(seen[0], axis=0)).sum(1)
    assert 1 <= (steps > 0).sum() <= 3
    assert (seen[0][0] == 0).all()


def test_a_stored_ct_is_round_clipped_and_stepped():
    tissues = torch.full((4, 60, 60), int(Tissue.MUSCLE), dtype=torch.uint8)
    volume = torch.linspace(-1000, 1000, 4 * 60 * 60).reshape(4, 60, 60)
    for seed in range(4):
        marked = tissues.clone()
        result = stored(volume, marked, "CT", rng(seed), ALWAYS, whole_body=True)
        assert float(result.max() - result.min()) <= 701
        assert -251 <= float(result.min()) <= -99
        assert len(result.unique()) <= 4096
        cut = marked == Tissue.AIR
        corner, centre = bool(cut[:, 0, 0].all()), bool(cut[:, 30, 30].any())
        assert corner  # 42 voxels from the middle; the circle's radius is 33 at most
        assert not centre
        assert bool((result[cut] == result.min()).all())


def test_a_stored_mr_loses_its_brightest_voxels_and_has_no_padding():
    tissues = torch.full((8, 40, 40), int(Tissue.MUSCLE), dtype=torch.uint8)
    volume = torch.arange(8 * 40 * 40, dtype=torch.float32).reshape(8, 40, 40)
    for seed in range(4):
        result = stored(volume, tissues, "MR", rng(seed), ALWAYS, whole_body=True)
        assert 0.8 * 12800 < float(result.max()) < 0.95 * 12800  # every second voxel along each axis is looked at
        assert float((result - volume.clamp(max=float(result.max()))).abs().max()) < 12800 / 255
    assert bool((tissues == Tissue.MUSCLE).all())


def test_a_gallbladder_s_neck_wide_ducts_and_ascites_take_their_place_and_leave_the_liver_s_name():
    for seed in range(6):
        tissues = liver_in_fat()
        tissues[8:16, 20:28, 20:28] = int(Tissue.GALLBLADDER)
        before = tissues.clone()
        contrast = draw_mimics(tissues, 2.0, rng(seed), chance=1e-9, unusual=1e12)
        assert not bool(contrast.any())
        changed = tissues != before
        assert set(before[changed].unique().tolist()) <= {Tissue.LIVER, Tissue.VISCERAL_FAT}
        assert set(tissues[changed].unique().tolist()) == {Tissue.GALLBLADDER, Tissue.DUCT, Tissue.FLUID}
        ducts = changed & (tissues == Tissue.DUCT)
        assert bool((before[ducts] == Tissue.LIVER).all())
        assert 5 < int(ducts.sum()) < 4000
        fluid = changed & (tissues == Tissue.FLUID)
        assert bool((before[fluid] == Tissue.VISCERAL_FAT).all())
        assert bool(fluid[11, 24, 36])  # beside the liver
        assert not bool(fluid[0, 0, 0])  # 21 voxels of 2 mm away; it reaches 20 mm
        assert not bool((tissue_mask(tissues, LIVER_TISSUES) & (before == Tissue.VISCERAL_FAT)).any())


def test_an_unusual_place_is_one_next_to_which_the_liver_ends_or_a_vessel_runs():
    tissues = liver_in_fat()
    tissues[:, 22:27, 22:27] = int(Tissue.PORTAL_VEIN)
    places, kinds = torch.nonzero(tissues == Tissue.LIVER), set()
    for seed in range(30):
        centre = Unusual.of(rng(seed), ALWAYS, "CT").centre(tissues, places, radius=5.0)
        assert centre is not None
        to_vessel = np.hypot(*np.maximum(np.abs(centre[1:] - 24) - 2.5, 0))
        to_border = min(*(centre - 11.5), *(35.5 - centre))
        assert min(to_vessel, to_border) < 5.0 + 1.5  # a voxel's half each for the place and its end
        kinds.add("vessel" if to_vessel < to_border else "capsule")
    assert kinds == {"vessel", "capsule"}
    assert Unusual.of(rng(0), NEVER, "CT").centre(tissues, places, 5.0) is None


def test_a_frayed_outline_has_more_surface_for_its_volume():
    ball = draw_ball((60, 60, 60), np.array([30.0, 30.0, 30.0]), 12.0, 0.0, rng(1))
    assert ball is not None

    def roughness(inside: torch.Tensor) -> float:
        steps = sum(float((inside.diff(dim=axis) != 0).sum()) for axis in range(3))
        return steps / float(inside.sum()) ** (2 / 3)

    besides = Unusual.of(rng(2), ALWAYS, "MR")
    frayed = besides.outlined(ball, 12.0)
    assert roughness(frayed.level.lt(1).int()) > 1.15 * roughness(ball.level.lt(1).int())
    assert 0.4 < float((frayed.level < 1).sum() / (ball.level < 1).sum()) < 2.5
    assert besides.outlined(ball, 2.0) is ball  # too small to show it


@pytest.mark.parametrize(("modality", "lowest", "highest"), [("CT", 2.0, 7.0), ("MR", -1.5, -0.5)])
def test_calcium_is_bright_in_ct_and_dark_in_mr_and_only_in_a_part_of_the_lesion(modality, lowest, highest):
    ball = draw_ball((40, 40, 40), np.array([20.0, 20.0, 20.0]), 8.0, 0.0, rng(1))
    assert ball is not None
    plain = torch.full(ball.level.shape, -0.4)
    for seed in range(6):
        values = Unusual.of(rng(seed), ALWAYS, modality).calcified(plain, ball.level, 8.0)
        specks = values != plain
        assert 0 < float(specks[ball.level < 0.85].float().mean()) < 0.4
        assert not bool(specks[ball.level >= 0.85].any())
        assert bool(((values[specks] >= lowest) & (values[specks] <= highest)).all())
    assert bool((plain == -0.4).all())


def test_unusual_lesions_are_as_many_and_lie_in_the_liver_too():
    look = dataclasses.replace(draw_look(rng(0), "CT"), slice_mm=0.0, noise=1.0)
    for seed in range(8):
        tissues, counts = liver_in_fat(60, 10), []
        for share in (NEVER, ALWAYS):
            work = tissues.clone()
            drawn = draw_lesions(work, 2.0, rng(seed), look, unusual=share)
            counts.append(len(drawn.diameters_mm))
            outside = (work == Tissue.LESION) & (tissues == Tissue.VISCERAL_FAT)
            assert float(outside.sum()) <= 0.6 * float((work == Tissue.LESION).sum())  # some grow over the edge
        assert counts[1] >= counts[0] - 3  # where the liver ends there may be no room for one


def test_a_lesion_in_mr_is_no_hole_of_air():
    tissues = torch.full((12, 24, 24), int(Tissue.LIVER), dtype=torch.uint8)
    tissues[2:10, 8:16, 8:16] = int(Tissue.LESION)
    inner = (slice(4, 8), slice(10, 14), slice(10, 14))
    contrast = torch.where(tissues == Tissue.LESION, -9.0, 0.0)
    for least, expected in ((0.2, 0.2), (0.0, 0.0)):
        look = dataclasses.replace(mr_look(), darkest_mr_lesion=least)
        shares = []
        for seed in range(5):
            volume = paint(tissues, contrast, 2.0, look, rng(seed))
            shares.append(float(volume[inner].median() / volume[tissues == Tissue.LIVER].median()))
        assert np.median(shares) == pytest.approx(expected, abs=0.03)  # some are shaded or have ghosts
