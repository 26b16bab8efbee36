from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tiltflow.products.histogram import Histogram, VoxelStatistics

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9))


def of(*blocks: np.ndarray) -> VoxelStatistics:
    histogram = Histogram(blocks[0].dtype)
    for block in blocks:
        histogram.add(block)
    return histogram.statistics(blocks)


def reference(voxels: np.ndarray) -> tuple[float, float]:
    median = float(np.median(voxels.astype(float)))
    return median, float(np.median(np.abs(voxels.astype(float) - median)))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([np.int8, np.uint8, np.int16, np.uint16]), st.data())
def test_integers_have_the_exact_statistics_of_numpy(dtype: type, data: st.DataObject) -> None:
    blocks = [data.draw(arrays(dtype, data.draw(SHAPES))) for _ in range(2)]
    voxels = np.concatenate([block.ravel() for block in blocks])
    result = of(*blocks)
    assert (result.median, result.mad) == reference(voxels)
    assert (result.minimum, result.maximum) == (voxels.min(), voxels.max())
    assert result.mean == pytest.approx(voxels.mean(dtype=float))


@pytest.mark.parametrize(
    ("scale", "offset"),
    [(1.0, 0.0), (1e-4, 0.0), (50.0, 10000.0), (1.0, -1e5), (1e20, 0.0)],
    ids=["unit", "small", "far from 0", "below 0", "large"],
)
def test_floats_come_close_wherever_they_lie(rng: np.random.Generator, scale: float, offset: float) -> None:
    voxels = (offset + scale * np.exp(rng.normal(0, 0.7, (6, 50, 60)))).astype(np.float32)
    result = of(voxels[:2], voxels[2:])
    median, mad = reference(voxels)
    step = max(1e-3 * mad, float(np.spacing(np.float32(abs(median)))))
    assert result.median == pytest.approx(median, abs=step)
    assert result.mad == pytest.approx(mad, abs=2 * step)
    assert result.minimum == voxels.min()
    assert result.maximum == voxels.max()
    assert result.mean == pytest.approx(float(voxels.mean(dtype=float)), rel=1e-6)


def test_outliers_do_not_spoil_the_median_of_floats(rng: np.random.Generator) -> None:
    voxels = rng.normal(5, 1, (1, 100, 101)).astype(np.float32)
    voxels[0, 0, :5] = 1e29, -1e29, np.nan, np.inf, 3e38
    result = of(voxels)
    median, mad = reference(voxels[np.isfinite(voxels)])
    assert result.unusable == 3
    assert result.median == pytest.approx(median, abs=1e-2)
    assert result.mad == pytest.approx(mad, abs=1e-2)
    assert result.maximum == pytest.approx(1e29)


def test_two_peaks_far_apart_are_bracketed() -> None:
    voxels = np.array([[[-3.0] * 10 + [8.0] * 10]], np.float32)
    result = of(voxels)
    assert result.median == pytest.approx(2.5, abs=1e-3)
    assert result.mad == pytest.approx(5.5, abs=1e-3)


def test_constant_floats_have_no_spread() -> None:
    assert of(np.full((2, 3, 4), 1.25, np.float32)) == VoxelStatistics(1.25, 1.25, 1.25, 1.25, 0.0, whole=False)


def test_voxels_without_a_number_are_counted() -> None:
    assert of(np.full((1, 2, 2), np.nan, np.float32)).unusable == 4
