"""Where training patches are cut: the recipe's shares, lesions by their size, windows that slide, tiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from LiverTumorSegLib.errors import RecipeError
from LiverTumorSegLib.recipe import Sampling
from LiverTumorSegLib.training.sampling import Places, draw_aim, draw_window, find_places, lesion_chances
from LiverTumorSegLib.windows import Window

LIVER, LESIONS = 1, (2, 3)
ANYWHERE = Sampling(lesion=0, liver_without_lesion=0)


def two_lesions() -> np.ndarray:
    """Return a liver of 20 x 20 x 40 voxels, a lesion of 1 voxel near one end and one of 2 x 2 x 2 near the other."""
    labels = np.zeros((24, 24, 48), np.uint8)
    labels[2:22, 2:22, 4:44] = LIVER
    labels[12, 12, 8] = 2
    labels[11:13, 11:13, 38:40] = 3
    return labels


def windows(
    labels: np.ndarray, aim: str, sampling: Sampling, patch: tuple[int, int, int], count: int = 200
) -> list[Window]:
    places = find_places(labels, LIVER, LESIONS)
    rng = np.random.default_rng(1)
    return [draw_window(rng, aim, places, labels, LESIONS, sampling, patch) for _ in range(count)]  # type: ignore[arg-type]


def test_places_hold_every_lesion_s_voxels_and_the_liver_s_without_them() -> None:
    labels = two_lesions()
    places = find_places(labels, LIVER, LESIONS)
    assert places.lesion_sizes.tolist() == [8, 1] or places.lesion_sizes.tolist() == [1, 8]
    assert set(places.lesion_voxels) == set(np.flatnonzero(labels >= 2))
    assert set(places.liver_voxels) == set(np.flatnonzero(labels == 1))
    again = Places.of(places.arrays())
    assert np.array_equal(again.lesion_ends, places.lesion_ends)


def test_lesions_weigh_by_the_inverse_of_their_diameter_or_by_their_volume() -> None:
    # Volumes 1 and 8 are diameters 1 and 2: 2 to 1 for the small one, or 1 to 8.
    assert lesion_chances([1, 8], inverse_size=True) == pytest.approx([2 / 3, 1 / 3])
    assert lesion_chances([1, 8], inverse_size=False) == pytest.approx([1 / 9, 8 / 9])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=30), st.booleans())
def test_chances_add_up_to_one_and_follow_the_sizes(sizes: list[int], inverse_size: bool) -> None:
    chances = lesion_chances(sizes, inverse_size)
    assert chances.sum() == pytest.approx(1)
    order = np.argsort(sizes)
    steps = np.diff(chances[order])
    assert (steps <= 1e-12).all() if inverse_size else (steps >= -1e-12).all()


@pytest.mark.parametrize(("inverse_size", "share"), [(True, 2 / 3), (False, 1 / 9)])
def test_the_small_lesion_is_centred_as_often_as_its_chance_says(inverse_size: bool, share: float) -> None:
    drawn = windows(two_lesions(), "lesion", Sampling(inverse_size=inverse_size), (5, 5, 5), 2000)
    small = sum(window.start == (10, 10, 6) for window in drawn)  # its middle is (12, 12, 8)
    assert small / 2000 == pytest.approx(share, abs=3 * np.sqrt(share * (1 - share) / 2000))


def test_aims_have_the_recipe_s_shares() -> None:
    rng = np.random.default_rng(0)
    aims = [draw_aim(rng, Sampling(lesion=0.5, liver_without_lesion=0.2)) for _ in range(4000)]
    for aim, share in (("lesion", 0.5), ("liver", 0.2), ("anywhere", 0.3)):
        assert aims.count(aim) / 4000 == pytest.approx(share, abs=3 * np.sqrt(share * (1 - share) / 4000))
    assert {draw_aim(rng, Sampling(lesion=1.0, liver_without_lesion=0.0)) for _ in range(50)} == {"lesion"}


def test_liver_without_lesion_shows_none_where_there_is_room() -> None:
    labels = two_lesions()
    for window in windows(labels, "liver", Sampling(), (8, 8, 8)):
        seen = labels[window.inside(labels.shape)]
        assert not (seen >= 2).any()
        assert (seen == LIVER).any()


def test_where_every_patch_of_liver_has_a_lesion_the_one_with_the_least_is_taken() -> None:
    labels = np.full((4, 4, 12), 1, np.uint8)
    labels[:, :, 1:6:2] = 2
    labels[0, 0, 11] = 2
    # Patches of 4 x 4 x 6: those that begin at 6 hold one lesion voxel, all others at least sixteen.
    assert {window.start[2] for window in windows(labels, "liver", Sampling(), (4, 4, 6), 20)} == {6}


def test_a_case_without_lesions_or_liver_is_shown_anywhere() -> None:
    labels = np.zeros((6, 6, 6), np.uint8)
    for aim in ("lesion", "liver", "anywhere"):
        starts = {window.start for window in windows(labels, aim, Sampling(), (6, 6, 5))}
        assert starts == {(0, 0, 0), (0, 0, 1)}


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(*[st.integers(1, 14)] * 3),
    st.tuples(*[st.integers(1, 16)] * 3),
    st.sampled_from(["lesion", "liver", "anywhere"]),
    st.sampled_from([None, 0.0, 0.25, 0.5]),
    st.integers(0, 2**31),
)
def test_a_window_has_the_patch_s_size_and_lies_on_the_map_where_it_fits(shape, patch, aim, overlap, seed) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, shape, p=[0.5, 0.4, 0.05, 0.05]).astype(np.uint8)
    places = find_places(labels, LIVER, LESIONS)
    window = draw_window(rng, aim, places, labels, LESIONS, Sampling(windows_overlap=overlap), patch)
    assert window.size == patch
    for start, side, size in zip(window.start, patch, shape, strict=True):
        assert 0 <= start <= size - side if side <= size else start == (size - side) // 2
    if aim == "lesion" and places.lesion_sizes.size:
        assert (labels[window.inside(shape)] >= 2).any()
    if aim == "liver" and places.liver_voxels.size:
        assert (labels[window.inside(shape)] == 1).any()


def test_sliding_windows_begin_where_they_do_in_inference_and_hold_the_lesion() -> None:
    labels = two_lesions()
    half = Sampling(windows_overlap=0.5)
    # Sides of 8, 24 and 16 on 24, 24 and 48 voxels: steps of 4 and 8.
    drawn = windows(labels, "lesion", half, (8, 24, 16))
    assert {window.start[1] for window in drawn} == {0}
    assert {window.start[0] for window in drawn} <= {0, 4, 8, 12, 16}
    assert {window.start[2] for window in drawn} == {0, 8, 24, 32}  # of the six, those that hold voxel 8, 38 or 39
    assert all((labels[window.inside(labels.shape)] >= 2).any() for window in drawn)


def test_tiles_of_a_slice_do_not_overlap_and_cover_it() -> None:
    labels = np.ones((3, 8, 8), np.uint8)
    tiles = Sampling(lesion=0, liver_without_lesion=0, windows_overlap=0.0)
    starts = {window.start for window in windows(labels, "anywhere", tiles, (1, 4, 4), 400)}
    assert starts == {(k, j, i) for k in range(3) for j in (0, 4) for i in (0, 4)}


def test_an_overlap_of_all_and_a_negative_jitter_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"sampling\.windows_overlap: wanted 0 to below 1, got 1"):
        Sampling(windows_overlap=1.0)
    with pytest.raises(RecipeError, match=r"sampling\.jitter_mm: wanted 0 up to 1000, got -1"):
        Sampling(jitter_mm=-1.0)
