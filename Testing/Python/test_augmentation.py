"""The papers' augmentations: what may move and what may not, by hand on small patches."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from LiverTumorSegLib.training.augmentation import AUGMENTATIONS, View, affine, mirrored, moved

WHOLE, CROP = View(whole_body=True), View(whole_body=False)
MOVING = sorted(set(AUGMENTATIONS) - {"none", "s2"})


def patch(seed: int = 0, channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return noise with a bright block that is labelled 2 inside a block labelled 1."""
    labels = np.zeros((10, 12, 14), np.uint8)
    labels[2:8, 2:10, 2:12] = 1
    labels[4:6, 4:8, 5:9] = 2
    noise = np.random.default_rng(seed).normal(0, 0.1, (channels, *labels.shape))
    return (noise + labels).astype(np.float32), labels


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("view", [WHOLE, CROP, View(False, (0.8, 0.8, 5.0), flat=True)], ids=["whole", "crop", "flat"])
def test_the_same_chance_gives_the_same_patch_of_the_same_form(name: str, view: View) -> None:
    for seed in range(6):
        volume, labels = patch(seed, channels=2)
        kept = volume.copy(), labels.copy()
        one, two = (AUGMENTATIONS[name](volume, labels, np.random.default_rng(seed), view) for _ in range(2))
        assert np.array_equal(one[0], two[0])
        assert np.array_equal(one[1], two[1])
        assert (one[0].shape, one[0].dtype, one[1].shape, one[1].dtype) == (
            volume.shape, np.float32, labels.shape, np.uint8,
        )  # fmt: skip
        assert np.isfinite(one[0]).all()
        assert np.array_equal(volume, kept[0])  # a cache's arrays may be handed in
        assert np.array_equal(labels, kept[1])


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(MOVING), st.integers(0, 2**31))
def test_no_label_appears_that_was_not_there(name: str, seed: int) -> None:
    volume, labels = patch()
    labels[labels == 2] = 7  # between 0 and 7 a blurred label would give 1 to 6
    labels[labels == 1] = 0
    _, after = AUGMENTATIONS[name](volume, labels, np.random.default_rng(seed), CROP)
    assert set(np.unique(after)) <= {0, 7}


@pytest.mark.parametrize("name", MOVING)
def test_grey_values_and_labels_move_together(name: str) -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        volume, labels = patch()
        after, moved_labels = AUGMENTATIONS[name](volume, labels, rng, CROP)
        lesion, outside = after[0][moved_labels == 2], after[0][moved_labels == 0]
        if lesion.size:
            assert lesion.mean() > outside.mean()


@pytest.mark.parametrize("name", ["s0", "s3", "s4"])  # S1 mirrors nothing
def test_a_whole_body_is_never_mirrored_left_to_right_and_a_crop_is(name: str) -> None:
    slope = np.broadcast_to(np.arange(24, dtype=np.float32), (1, 12, 12, 24)).copy()  # brighter to the patient's left
    labels = np.zeros((12, 12, 24), np.uint8)
    for view, wanted in ((WHOLE, {False}), (CROP, {False, True})):
        rng = np.random.default_rng(0)
        found = set()
        for _ in range(40):
            after = AUGMENTATIONS[name](slope, labels, rng, view)[0][0]
            found.add(bool(after[:, :, :12].mean() > after[:, :, 12:].mean()))
        assert found == wanted


def test_mirrors_come_as_often_as_their_chance_along_the_axes_asked_for() -> None:
    volume = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    labels = np.zeros((2, 2, 2), np.uint8)
    rng = np.random.default_rng(0)
    seen = [mirrored(volume, labels, rng, CROP, 0.5, (0, 2))[0][0, 0, 0, 0] for _ in range(2000)]
    # Voxel (0, 0, 0) then shows 0, 1 (i mirrored), 4 (k) or 5 (both), a quarter each; j, which would show 2, never.
    for value in (0, 1, 4, 5):
        assert seen.count(value) / 2000 == pytest.approx(0.25, abs=0.03)


def test_a_quarter_turn_takes_the_left_voxel_to_the_back_one() -> None:
    volume = np.zeros((1, 1, 5, 5), np.float32)
    volume[0, 0, 2, 4] = 1  # (j, i): towards +i
    labels = (volume[0] * 2).astype(np.uint8)
    after, turned = moved(volume, labels, affine(CROP, turn=(0, 0, math.pi / 2)), CROP)
    # New (j, i) = (0, 2) looks at the old place turned by 90 degrees: from -j to +i.
    assert after[0, 0, 0, 2] == pytest.approx(1, abs=1e-5)
    assert np.argwhere(turned == 2).tolist() == [[0, 0, 2]]


def test_a_turn_on_an_anisotropic_grid_is_one_in_millimetres() -> None:
    # Slices of 4 mm, columns of 1 mm: a quarter turn about j takes what is 4 mm from the middle to the next slice.
    view = View(False, (1.0, 1.0, 4.0))
    volume = np.zeros((1, 9, 1, 13), np.float32)
    volume[0, 4, 0, 10] = 1
    after, _ = moved(volume, np.zeros((9, 1, 13), np.uint8), affine(view, turn=(0, math.pi / 2, 0)), view)
    k, _, i = np.unravel_index(after[0].argmax(), after[0].shape)
    assert (abs(k - 4), i) == (1, 6)
    assert after[0].max() == pytest.approx(1, abs=1e-4)


def test_zoom_shift_and_shear_by_hand() -> None:
    ramp = np.broadcast_to(np.arange(9, dtype=np.float32), (1, 3, 9, 9)).copy()  # the value is i
    labels = np.zeros((3, 9, 9), np.uint8)

    def row(**change: object) -> np.ndarray:
        return moved(ramp, labels, affine(CROP, **change), CROP)[0][0, 1]  # type: ignore[arg-type]

    assert row(zoom=2.0)[4] == pytest.approx([2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6], abs=1e-4)
    assert row(shift_mm=(1.0, 0, 0))[4] == pytest.approx([1, 2, 3, 4, 5, 6, 7, 8, 8], abs=1e-4)  # the edge repeats
    # A shear of 45 degrees: one row further back looks one column further left.
    assert row(shear=math.pi / 4)[:, 4] == pytest.approx([0, 1, 2, 3, 4, 5, 6, 7, 8], abs=1e-4)


def test_flat_patches_keep_their_slices() -> None:
    """Each slice is a constant of its own: nothing of a neighbour may come in."""
    heights = np.broadcast_to(np.arange(6, dtype=np.float32)[:, None, None], (1, 6, 16, 16)).copy()
    labels = np.zeros((6, 16, 16), np.uint8)
    view = View(False, (0.8, 0.8, 5.0), flat=True)
    for seed in range(20):
        after, _ = AUGMENTATIONS["s4"](heights, labels, np.random.default_rng(seed), view)
        assert np.allclose(after, heights, atol=1e-4)
        after, _ = AUGMENTATIONS["s1"](heights, labels, np.random.default_rng(seed), view)
        assert np.ptp(after, axis=(2, 3)).max() < 1e-2  # MONAI's filters end at four sigma


def test_s0_scales_the_intensity_by_up_to_a_tenth() -> None:
    volume, labels = np.ones((1, 4, 4, 4), np.float32), np.zeros((4, 4, 4), np.uint8)
    rng = np.random.default_rng(0)
    factors = [float(AUGMENTATIONS["s0"](volume, labels, rng, CROP)[0].mean()) for _ in range(200)]
    assert 0.9 <= min(factors) < 0.91
    assert 1.09 < max(factors) <= 1.1


def test_s1_leaves_two_patches_in_five_as_they_are() -> None:
    volume, labels = patch()
    rng = np.random.default_rng(0)
    same = sum(np.array_equal(AUGMENTATIONS["s1"](volume, labels, rng, CROP)[0], volume) for _ in range(300))
    share = 0.8**4  # none of four changes
    assert same / 300 == pytest.approx(share, abs=3 * math.sqrt(share * (1 - share) / 300))


def test_s3_drops_only_phases_that_a_study_may_lack_and_a_missing_one_stays_away() -> None:
    volume, labels = patch(channels=4)
    volume[3] = 0
    view = View(False, optional=(2, 3))
    rng = np.random.default_rng(0)
    drawn = [AUGMENTATIONS["s3"](volume, labels, rng, view)[0] for _ in range(150)]
    there = np.array([[channel.any() for channel in each] for each in drawn]).mean(axis=0)
    assert there.tolist() == pytest.approx([1, 1, 0.8, 0], abs=0.1)


def test_s3_moves_the_phases_against_each_other_and_never_the_scan() -> None:
    volume, labels = patch(channels=2)
    volume[1] = volume[0]
    rng = np.random.default_rng(0)
    view = View(False, (1.0, 1.0, 5.0))  # 3 mm are three voxels in plane and no slice
    apart = 0
    for _ in range(30):
        after, _ = AUGMENTATIONS["s3"](volume, labels, rng, view)
        apart += not np.allclose(after[0], after[1], atol=0.3)
    assert apart > 20
