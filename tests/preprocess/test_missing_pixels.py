"""Pixels that are not numbers are replaced from those beside them, and counted."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.preprocess.bad_views import ViewParams
from tiltflow.preprocess.missing_pixels import fill_marked, not_numbers
from tiltflow.preprocess.preparation import RepairingStack, prepare_views, repair_views
from tiltflow.preprocess.xrays import XrayParams, find_xrays
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import simulate


@pytest.fixture(scope="module")
def series():
    return simulate(SimulationParams(size=128, views=11, hot_pixels=0, beads=10, seed=3))


BAD = {
    "one": (10, slice(40, 41), slice(40, 41)),
    "a column": (slice(None), slice(None), slice(70, 71)),
    "a border": (slice(None), slice(0, 3), slice(None)),
    "a third of a view": (4, slice(0, 42), slice(None)),
}


LARGE = (1e38, -1e38, float(np.finfo(np.float32).max), float(np.finfo(np.float32).min))


@pytest.mark.parametrize("place", BAD)
@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        *((value, dtype) for value in (np.nan, np.inf, -np.inf) for dtype in (np.float32, np.float64, np.float16)),
        *((value, dtype) for value in LARGE for dtype in (np.float32, np.float64)),
    ],
)
def test_they_are_replaced_and_counted_and_all_views_are_kept(series, value, place, dtype):
    images = (series.images / 100).astype(dtype)
    before = images.copy()
    images[BAD[place]] = value
    bad = np.zeros(images.shape, bool)
    bad[BAD[place]] = True
    repaired, excluded = prepare_views(images, series.nominal_deg, XrayParams(), ViewParams(), left_out={}, name="s")
    assert not excluded
    assert find_xrays(images).not_numbers_per_view.tolist() == bad.sum(axis=(1, 2)).tolist()
    for view in range(11):
        assert np.isfinite(repaired[view]).all()
        assert repaired[view].dtype == dtype
        assert np.array_equal(repaired[view][~bad[view]], before[view][~bad[view]])
        assert np.array_equal(repaired[view], RepairingStack(images)[view])
        if bad[view].any():
            assert abs(repaired[view][bad[view]].mean() / before[view].mean() - 1) < 0.3


def test_they_are_replaced_even_where_no_repair_of_hits_is_asked_for(series):
    images = series.images.astype(np.float32)
    images[3, 5, 5], images[3, 20, 20] = np.nan, 30_000
    repaired = repair_views(images, XrayParams(enabled=False))
    assert np.isfinite(repaired[3]).all()
    assert repaired[3][20, 20] == 30_000


def test_a_view_of_nothing_else_is_left_out(series):
    images = series.images.astype(np.float32)
    images[4] = np.nan
    stack, excluded = prepare_views(images, series.nominal_deg, XrayParams(), ViewParams(), left_out={}, name="s")
    assert set(excluded) == {4}
    assert np.isfinite(stack[4]).all()


def test_a_line_is_interpolated_a_border_continued_and_the_inside_of_a_large_hole_gets_the_median():
    image = np.tile(np.arange(400, dtype=np.float32), (400, 1))
    marked = np.zeros((400, 400), bool)
    marked[:, 50], marked[:, :2], marked[100:300, 100:300] = True, True, True
    filled = fill_marked(np.where(marked, np.nan, image), marked)
    assert filled[30, 50] == pytest.approx(50)
    assert filled[30, 0] == 2
    assert filled[200, 200] == np.median(image[~marked])
    assert np.array_equal(filled[~marked], image[~marked])


def test_the_largest_counts_are_numbers_and_integers_always_are():
    assert not_numbers(np.full((4, 4), 1e19, np.float32)) is None
    assert not_numbers(np.zeros((4, 4), np.int16)) is None
    assert not_numbers(np.array([[1, np.inf]], np.float32)).tolist() == [[False, True]]


@pytest.mark.parametrize(("value", "bad"), [(1e19, False), (-1e19, False), (1.9e19, True), (-1.9e19, True)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_number_is_too_large_where_its_square_is_no_32_bit_real(value, bad, dtype):
    image = np.ones((8, 8), dtype)
    image[2, 3] = value
    found = not_numbers(image)
    assert (found is not None and found.sum() == 1 and found[2, 3]) == bad
