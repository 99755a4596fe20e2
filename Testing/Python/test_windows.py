"""Windows of a fixed size: cut out, filled at the border, and pasted back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from LiverTumorSegLib.windows import Window, cut, paste, shifted_inside, sliding_starts, window_around

SHAPES = st.tuples(*(st.integers(1, 9) for _ in range(3)))
STARTS = st.tuples(*(st.integers(-12, 12) for _ in range(3)))


def numbered(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(1, 1 + np.prod(shape)).reshape(shape)


def test_a_window_over_the_corner_is_filled_where_the_array_ends() -> None:
    array = np.array([[1, 2], [3, 4]])
    assert cut(array, Window((-1, 1), (2, 2)), fill=9).tolist() == [[9, 9], [2, 9]]


def test_a_window_far_away_is_all_fill_and_pastes_nothing() -> None:
    array = numbered((2, 3))
    away = Window((10, -20), (2, 2))
    assert (cut(array, away, fill=7) == 7).all()
    paste(array, away, np.zeros((2, 2)))
    assert (array == numbered((2, 3))).all()


@given(SHAPES, STARTS, SHAPES)
def test_what_is_cut_pastes_back_to_the_same_array(
    shape: tuple[int, ...], start: tuple[int, ...], size: tuple[int, ...]
) -> None:
    array, window = numbered(shape), Window(start, size)
    copy = array.copy()
    paste(copy, window, cut(array, window))
    assert (copy == array).all()


@given(SHAPES, STARTS, SHAPES)
def test_every_voxel_of_a_part_is_the_arrays_own_or_fill(
    shape: tuple[int, ...], start: tuple[int, ...], size: tuple[int, ...]
) -> None:
    part = cut(numbered(shape), Window(start, size), fill=0)
    for place in np.ndindex(size):
        voxel = tuple(a + n for a, n in zip(start, place, strict=True))
        on_it = all(0 <= v < n for v, n in zip(voxel, shape, strict=True))
        assert part[place] == (numbered(shape)[voxel] if on_it else 0)


@given(SHAPES, STARTS, SHAPES)
def test_a_window_moved_inside_keeps_its_size_and_shows_all_it_can(
    shape: tuple[int, ...], start: tuple[int, ...], size: tuple[int, ...]
) -> None:
    moved = shifted_inside(Window(start, size), shape)
    assert moved.size == size
    shown = [s.stop - s.start for s in moved.inside(shape)]
    assert shown == [min(n, length) for n, length in zip(shape, size, strict=True)]


def test_channels_before_the_windows_axes_are_kept_whole() -> None:
    volume = numbered((2, 3, 4, 5))
    part = cut(volume, Window((1, 1, 1), (2, 2, 2)))
    assert part.shape == (2, 2, 2, 2)
    assert (part == volume[:, 1:3, 1:3, 1:3]).all()


def test_pasting_with_maximum_keeps_the_larger_of_both() -> None:
    array = np.array([1.0, 5.0, 1.0])
    paste(array, Window((1,), (3,)), np.array([2.0, 2.0, 99.0]), np.maximum)
    assert array.tolist() == [1.0, 5.0, 2.0]


@pytest.mark.parametrize(("centre", "size", "start"), [(10, 5, 8), (10.4, 5, 8), (10.5, 4, 9), (0, 64, -31)])
def test_a_window_stands_around_its_centre(centre: float, size: int, start: int) -> None:
    assert window_around([centre], [size]) == Window((start,), (size,))


def test_a_window_needs_a_size_on_every_axis() -> None:
    with pytest.raises(ValueError, match="wanted a start and a size"):
        Window((0, 0), (4,))


def test_windows_slide_evenly_along_an_axis_and_the_last_one_ends_where_it_ends() -> None:
    assert sliding_starts(10, 4, 0.5) == [0, 2, 4, 6]
    assert sliding_starts(10, 4, 0.0) == [0, 3, 6]  # three tiles at least; they share what is too much
    assert sliding_starts(4, 4, 0.5) == sliding_starts(3, 4, 0.5) == [0]


@given(st.integers(1, 200), st.integers(1, 60), st.floats(0, 0.99))
def test_sliding_windows_cover_the_axis_and_share_what_was_asked(length: int, side: int, overlap: float) -> None:
    starts = sliding_starts(length, side, overlap)
    assert starts[0] == 0
    assert max(starts) + side >= length
    steps = np.diff(starts)
    assert (steps <= max(1, side * (1 - overlap))).all()
    assert (steps >= 1).all()
