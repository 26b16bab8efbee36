"""Each kernel against NumPy."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tiltflow.kernels import products as kernels

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 17))


def binned(block: np.ndarray, bins: tuple[int, int, int], shape: tuple[int, int, int]) -> np.ndarray:
    """Means of groups of voxels, of those that there are."""
    out = np.empty(shape)
    for k, j, i in np.ndindex(shape):
        out[k, j, i] = block[
            bins[0] * k : bins[0] * (k + 1), bins[1] * j : bins[1] * (j + 1), bins[2] * i : bins[2] * (i + 1)
        ].mean()
    return out


@settings(max_examples=60, deadline=None)
@given(SIZES, st.data())
def test_binning_gives_the_mean_of_the_voxels_there_are(shape: tuple[int, int, int], data: st.DataObject) -> None:
    block = data.draw(arrays(np.int16, shape, elements=st.integers(-32768, 32767)))
    bins = tuple(2 if n > 1 else 1 for n in shape)
    up = data.draw(st.booleans())
    size = tuple(-(-n // by) if up else n // by for n, by in zip(shape, bins, strict=True))
    whole, real = np.empty(size, np.int16), np.empty(size, np.float32)
    kernels.bin_whole(block, *bins, np.empty(shape[2], np.int32), whole)
    kernels.bin_real(block.astype(np.float32), *bins, np.empty(shape[2], np.float32), real)
    reference = binned(block.astype(float), bins, size)
    np.testing.assert_array_equal(whole, np.floor(reference + 0.5))
    np.testing.assert_array_equal(real, reference)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16])
def test_binning_of_the_extremes_of_a_type_does_not_overflow(dtype: type) -> None:
    for value in (np.iinfo(dtype).min, np.iinfo(dtype).max):
        out = np.empty((1, 1, 1), dtype)
        kernels.bin_whole(np.full((2, 2, 2), value, dtype), 2, 2, 2, np.empty(2, np.int32), out)
        assert out[0, 0, 0] == value


@pytest.mark.parametrize("whole", [True, False])
def test_a_running_mean_is_the_mean_of_each_window(rng: np.random.Generator, whole: bool) -> None:
    block = rng.integers(-300, 300, (9, 5, 7)).astype(np.float32)
    out = np.empty((5, 5, 7), np.float32)
    kernels.running_mean(block, 5, whole, out)
    reference = np.lib.stride_tricks.sliding_window_view(block, 5, axis=0).mean(axis=-1, dtype=np.float64)
    np.testing.assert_array_equal(out, np.trunc(reference) if whole else reference.astype(np.float32))


def test_moments_of_sections_are_those_of_numpy(rng: np.random.Generator) -> None:
    block = rng.integers(-3000, 3000, (3, 20, 30)).astype(np.float32)
    low, high, total = np.empty(3, np.float32), np.empty(3, np.float32), np.empty(3)
    kernels.section_moments(block, low, high, total)
    np.testing.assert_array_equal(low, block.min((1, 2)))
    np.testing.assert_array_equal(high, block.max((1, 2)))
    np.testing.assert_array_equal(total, block.sum((1, 2), dtype=np.float64))


def test_changed_levels_are_rounded_half_up(rng: np.random.Generator) -> None:
    block = rng.integers(-300, 300, (2, 4, 5)).astype(np.float32)
    scale, offset = np.ones(2, np.float32), np.array([0.5, 1.25], np.float32)
    out = np.empty(block.shape, np.int16)
    kernels.change_levels(block, scale, offset, True, out)
    np.testing.assert_array_equal(out, np.floor(block + offset[:, None, None] + 0.5))


def test_a_picture_is_cut_truncated_and_turned_upside_down() -> None:
    image = np.array([[-10, 0, 0.5], [1.49, 254.99, 300]], np.float32)
    out = np.empty((2, 3), np.uint8)
    kernels.grey_picture(image, 1.0, 0.0, False, 1.0, 0.0, out)
    assert out.tolist() == [[1, 254, 255], [0, 0, 0]]
    kernels.grey_picture(image, 1.0, 0.0, True, 1.0, 0.0, out)
    assert out.tolist() == [[1, 255, 255], [0, 0, 1]]


@settings(max_examples=50, deadline=None)
@given(arrays(np.float32, st.tuples(st.just(1), st.just(2), st.integers(1, 40)), elements=st.floats(width=32)))
def test_the_bins_of_floats_are_in_ascending_order(block: np.ndarray) -> None:
    usable = np.sort(block[np.abs(block.astype(float)) <= 1e30])
    places = []
    for value in usable:
        one = np.full((1, 1, 1), value, np.float32)
        counts = np.zeros(1 << 16, np.int64)
        assert kernels.count_real(one, one.view(np.uint32), 1e30, counts)[:2] == (value, value)
        places.append(int(np.flatnonzero(counts)[0]))
    # -0.0 sorts as 0.0 but has a bin of its own.
    assert all(a <= b or x == y == 0 for (a, b), (x, y) in zip(pairwise(places), pairwise(usable), strict=True))
    counts = np.zeros(1 << 16, np.int64)
    kernels.count_real(block, block.view(np.uint32), 1e30, counts)
    assert counts.sum() == usable.size


def test_equal_bins_take_what_lies_beyond_into_the_outer_ones() -> None:
    block = np.array([[[-9, 0, 0.99, 5, 9.99, 10, 400, np.nan]]], np.float32)
    counts = np.zeros(12, np.int64)
    kernels.count_between(block, 0.0, 10.0, 1e30, counts)
    assert counts.tolist() == [1, 2, 0, 0, 0, 0, 1, 0, 0, 0, 1, 2]


def test_unusable_voxels_are_filled_and_counted() -> None:
    block = np.array([[[1, np.nan, -np.inf, 2e30, -9e29]]], np.float32)
    assert kernels.fill_unusable(block, 1e30, 7.0) == 3
    np.testing.assert_array_equal(block, np.array([[[1, 7, 7, 7, -9e29]]], np.float32))
