"""Tests of the filters and weights of the reconstruction."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiltflow.errors import ParameterError
from tiltflow.reconstruct.radial_filters import continue_lines, density_weights, low_pass, padded_length, radial_filter, sirt_window


def test_the_ramp_counts_frequencies_up_to_the_cutoff_and_falls_as_a_gaussian_beyond() -> None:
    weights = radial_filter(1000, cutoff=0.3, falloff=0.04)
    assert weights[0] == 0.2
    np.testing.assert_array_equal(weights[1:300], np.arange(1, 300))
    width = np.sqrt(-1 / np.log(weights[340] / 299)) * 41
    assert width == pytest.approx(40, abs=1.5)
    assert weights[500] < 1e-5 * 299


def test_a_true_sigma_falls_more_slowly() -> None:
    classic = radial_filter(1000, cutoff=0.3, falloff=0.04)
    true = radial_filter(1000, cutoff=0.3, falloff=0.04, true_sigma=True)
    np.testing.assert_array_equal(classic[:300], true[:300])
    assert true[339] / 299 == pytest.approx(np.exp(-0.5), rel=1e-6)
    assert classic[339] < true[339]


def test_the_hamming_like_fall_begins_where_it_is_told_and_ends_at_8_percent() -> None:
    weights = radial_filter(1000, hamming_start=0.2)
    np.testing.assert_allclose(weights[1:201], np.arange(1, 201))
    assert weights[500] / 500 == pytest.approx(0.08)
    assert np.all(np.diff(weights[1:] / np.arange(1, 501)) <= 1e-12)


def test_the_sirt_like_window_approaches_the_ramp_as_iterations_go_on() -> None:
    f = np.linspace(0.001, 0.5, 200)
    windows = [sirt_window(f, n) for n in (1, 5, 15, 16, 30, 31, 200)]
    for fewer, more in itertools.pairwise(windows):
        assert np.all(more >= fewer)
        assert more[100] > fewer[100]
    assert np.all(windows[-1] <= 1)
    np.testing.assert_array_equal(sirt_window(f, 0), 1)
    # Ten iterations see a frequency 100 times the corner as 1 - 0.99^10.3.
    assert sirt_window([0.195], 10)[0] == pytest.approx(1 - 0.99**10.3)
    assert sirt_window([0.195], 20)[0] == pytest.approx(1 - 0.99**19.3)
    assert sirt_window([0.195], 40)[0] == pytest.approx(1 - 0.99**33.3)


@pytest.mark.parametrize(
    "bad", [{"cutoff": 0.0}, {"cutoff": 1.5}, {"falloff": -0.1}, {"hamming_start": 0.6}, {"sirt_iterations": -1}]
)
def test_a_filter_that_makes_no_sense_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ParameterError):
        radial_filter(100, **bad)


@given(st.integers(1, 6000))
def test_lines_are_padded_by_a_tenth_to_a_length_that_transforms_fast(width: int) -> None:
    length = padded_length(width)
    assert 1.1 * width <= length <= 1.1 * width * 1.3 + 8
    assert length % 2 == 0
    for p in (2, 3, 5):
        while length % p == 0:
            length //= p
    assert length == 1


def test_padding_slopes_from_the_end_to_the_beginning() -> None:
    lines = np.array([[1.0, 2, 3, 5, 5, 5, 10, 11, 12]], np.float32)
    padded = np.full((len(lines), 13), np.nan, np.float32)
    padded[:, :9] = lines
    continue_lines(padded, 9)
    np.testing.assert_array_equal(padded[:, :9], lines)
    np.testing.assert_allclose(padded[0, 9:], 11 - 9 * np.arange(1, 5) / 5, rtol=1e-6)


def test_evenly_spaced_views_weigh_the_same() -> None:
    np.testing.assert_allclose(density_weights(np.linspace(-60, 60, 41)), 1)


def test_a_view_counts_for_the_gap_around_it() -> None:
    tilt = np.array([-30.0, -20, -10, 0, 2, 4, 6, 16, 26])
    weights = density_weights(tilt, 1)
    np.testing.assert_allclose(weights * 7, [10, 10, 10, 6, 2, 2, 6, 10, 10])
    # Two intervals to each side: the nearer counts 2, the farther 2 / 3.
    assert density_weights(tilt, 2)[4] * 7 == pytest.approx((2 * (2 + 2) + (10 + 2) * 2 / 3) / (4 + 4 / 3))


@given(st.lists(st.floats(-70, 70), min_size=2, max_size=40), st.integers(0, 3), st.randoms())
@settings(deadline=None)
def test_weights_do_not_depend_on_the_order_of_the_views(tilt: list[float], neighbours: int, random) -> None:
    order = list(range(len(tilt)))
    random.shuffle(order)
    weights = density_weights(np.array(tilt), neighbours)
    shuffled = density_weights(np.array(tilt)[order], neighbours)
    assert np.all(np.isfinite(weights))
    assert np.all(weights >= 0)
    np.testing.assert_allclose(np.sort(shuffled), np.sort(weights), atol=1e-9)


def test_a_single_view_or_equal_angles_weigh_1() -> None:
    np.testing.assert_array_equal(density_weights([3.0]), [1])
    np.testing.assert_array_equal(density_weights([3.0, 3.0, 3.0]), [1, 1, 1])


def test_low_pass_keeps_all_below_its_cutoff() -> None:
    weights = low_pass(100, 0.2, 0.05)
    np.testing.assert_array_equal(weights[:21], 1)
    assert weights[25] == pytest.approx(np.exp(-0.5))
