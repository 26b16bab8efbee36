"""The kernels of montages against NumPy and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tiltflow.kernels.montage import FAINT, OUTSIDE, lay_piece, match_moments, median_3x3, shift_spline


def test_the_median_of_three_by_three_is_that_of_scipy(rng):
    image = rng.normal(size=(19, 23)).astype(np.float32)
    out = np.empty_like(image)
    median_3x3(image, out)
    assert np.array_equal(out, ndimage.median_filter(image, 3, mode="nearest"))


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.3, -0.8), (-2.25, 1.5)])
def test_a_shifted_spline_is_that_of_scipy_inside(rng, shift):
    image = ndimage.gaussian_filter(rng.normal(size=(40, 36)), 1).astype(np.float32)
    coefficients = ndimage.spline_filter(image, 3, output=np.float32)
    out, scratch = np.empty_like(image), np.empty_like(image)
    shift_spline(coefficients, *shift, scratch, out)
    expected = ndimage.shift(coefficients, (-shift[1], -shift[0]), order=3, mode="nearest", prefilter=False)
    assert np.abs(out - expected)[6:-6, 6:-6].max() < 1e-5


@pytest.mark.parametrize("limit", [1e30, 0.5])
def test_moments_are_those_of_weighted_columns(rng, limit):
    a, b = ndimage.gaussian_filter(rng.normal(size=(2, 17, 15)), (0, 1, 1)).astype(np.float32) * 3
    taper_y, taper_x = (np.hanning(n).astype(np.float32) for n in a.shape)
    gain, offset = 0.9, 0.1
    out = np.empty((9, 9))
    match_moments(a, b, taper_y, taper_x, gain, offset, limit, out)
    (ay, ax), (by, bx) = np.gradient(a), np.gradient(b)
    y, x = np.mgrid[:17, :15] - np.array([8, 7])[:, None, None]
    gx, gy = (ax + bx) / 2, (ay + by) / 2
    columns = np.array([gx, gy, gx * x + gy * y, gy * x - gx * y, b, np.ones_like(a), a])[:, 1:-1, 1:-1].reshape(7, -1)
    r = np.abs(a - gain * b - offset)
    w = (np.outer(taper_y, taper_x) * np.minimum(1, limit / np.maximum(r, 1e-9)))[1:-1, 1:-1].ravel()
    assert np.allclose(out[:7, :7], (columns * w) @ columns.T, rtol=1e-4, atol=1e-4)
    common = (w * (ax * bx)[1:-1, 1:-1].ravel()).sum(), (w * (ay * by)[1:-1, 1:-1].ravel()).sum()
    assert np.allclose([out[7, 7], out[8, 8]], common, rtol=1e-4)
    if limit > 1:
        return
    assert out[5, 5] < 0.9 * np.outer(taper_y, taper_x).sum()


def laid(piece, origin, matrix=((1.0, 0.0), (0.0, 1.0)), shape=(30, 40), ramp=6.0):
    total, weight, covered = np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, bool)
    padded = ndimage.spline_filter(np.pad(piece, 3, mode="edge").astype(np.float32), 3, np.float32)
    place = np.array(origin, float) + 3
    lay_piece(padded, 3, place, np.array(matrix), 2.0, ramp, ramp, 5.0, total, weight, covered)
    return total, weight, covered


def test_a_piece_at_a_whole_pixel_is_laid_as_it_is_with_weights_that_grow_from_its_edge(rng):
    piece = rng.normal(size=(20, 24)).astype(np.float32)
    total, weight, covered = laid(piece, (-6.0, -5.0))
    assert np.array_equal(covered, np.pad(np.ones((20, 24), bool), ((5, 5), (6, 10))))
    assert np.allclose((total / np.maximum(weight, 1e-12))[covered], piece.ravel(), atol=1e-5)
    ramps = [np.clip((np.minimum(np.arange(n) + 0.5, n - np.arange(n) - 0.5) - 2) / 6, 0, 1) for n in piece.shape]
    assert np.allclose(weight[5:25, 6:30], np.outer(*ramps) + FAINT, atol=1e-6)
    # Outside it is the nearest pixel that fades.
    assert np.isclose(weight[15, 5], OUTSIDE * (1 - 0.5 / 5), rtol=1e-4, atol=0)
    assert np.isclose(total[15, 5] / weight[15, 5], piece[10, 0])
    assert weight[15, 0] == 0


def test_the_weights_of_neighbours_add_up_to_one_over_their_overlap():
    piece = np.ones((24, 24), np.float32)
    ramp = 8.0  # an overlap of 12, less the 2 pixels that are not used on either side
    left, right = (laid(piece, (-x, -2.0), shape=(28, 40), ramp=ramp)[1] for x in (2.0, 14.0))
    inside = slice(2 + 10, 28 - 16)
    assert np.allclose((left + right)[inside, 12:28], 1 + 2 * FAINT, atol=2 * FAINT)


def test_a_turned_piece_is_laid_where_the_map_says(rng):
    piece = ndimage.gaussian_filter(rng.normal(size=(30, 30)), 2).astype(np.float32)
    turn = np.array([[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]])
    total, weight, covered = laid(piece, (-3.0, 1.0), turn)
    j, i = np.nonzero(covered)
    x, y = np.array([-3.0, 1.0])[:, None] + turn @ np.array([i, j])
    expected = ndimage.map_coordinates(piece, [y, x], order=3, mode="nearest")
    deep = (np.minimum(x, 29 - x) > 3) & (np.minimum(y, 29 - y) > 3)
    assert deep.sum() > 200
    assert np.abs((total / np.maximum(weight, 1e-12))[covered] - expected)[deep].max() < 0.02
