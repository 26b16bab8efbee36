"""Radial filters of views: IMOD's output, and what follows from the formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiltflow.errors import ParameterError
from tiltflow.filters.radial import FilterParams, filter_gain, filter_stack, filter_view
from tiltflow.formats.mtf import Mtf

NONE = FilterParams(low_pass=None)
BAND = FilterParams(low_pass=(0.25, 0.05), high_pass_sigma=0.02)
MTF = Mtf(np.linspace(0, 0.5, 11), np.linspace(1, 0.1, 11))


@pytest.fixture(scope="module")
def golden(data):
    with np.load(data / "filters" / "mtffilter.npz") as file:
        return file["raw"], file["low"] / 8, file["band"] / 8


@pytest.mark.parametrize(("made", "params"), [(1, FilterParams()), (2, BAND)], ids=["low pass", "band"])
@pytest.mark.parametrize("view", [0, 1])
def test_views_are_those_of_mtffilter_to_a_quarter_of_a_per_cent(golden, made, params, view):
    imod = golden[made][view]
    error = filter_view(golden[0][view], params) - imod
    assert np.sqrt(np.mean(error**2)) < 0.0020 * imod.std()
    assert np.abs(error).max() < 0.01 * imod.std()


def test_the_filter_that_mtffilter_lists():
    """What its log gives of the band above."""
    radius = [0.0, 0.0250, 0.0499, 0.2496, 0.2746, 0.2995, 0.3495, 0.3994]
    assert filter_gain(radius, BAND) == pytest.approx([0, 0.5410, 0.9555, 1, 0.8862, 0.6122, 0.1383, 0.0115], abs=2e-3)


@given(st.floats(0, 0.5), st.floats(0, 0.3))
def test_a_low_pass_passes_the_mean_and_a_high_pass_takes_it(radius, sigma):
    low = FilterParams(low_pass=(radius, sigma))
    gain = filter_gain(np.linspace(0, 0.7, 50), low)
    assert gain[0] == 1
    assert np.all(np.diff(gain) <= 0)
    assert filter_gain(0.0, FilterParams(low_pass=(radius, sigma), high_pass_sigma=0.02)) == 0


def test_the_mean_of_a_view_stays_under_a_low_pass_and_goes_with_a_high_pass(rng):
    view = rng.normal(1000, 10, (120, 90))
    assert filter_view(view, FilterParams()).mean() == pytest.approx(view.mean(), abs=0.05)
    assert filter_view(view, BAND).mean() == pytest.approx(0, abs=0.5)
    flat = np.full((40, 50), 7, np.int16)
    np.testing.assert_allclose(filter_view(flat, FilterParams()), 7, rtol=1e-6)
    np.testing.assert_allclose(filter_view(flat, BAND), 0, atol=1e-5)


def test_a_wave_is_multiplied_with_its_gain():
    wave = np.tile(np.cos(2 * np.pi * 0.4 * np.arange(500)), (60, 1))
    found = filter_view(wave, FilterParams())[20:-20, 60:-60]
    assert found.std() / wave[20:-20, 60:-60].std() == pytest.approx(np.exp(-0.5), rel=0.01)


@pytest.mark.parametrize(
    ("f", "rolloff", "most", "gain"),
    [
        (0.1, (0.5, 0.05), 20.0, 1 / 0.82),  # the inverse itself
        (0.45, (0.5, 0.05), 4.0, 4.0),  # at most
        (0.45, (0.2, 0.125), 4.0, 1 + 3 * np.exp(-2)),  # on its way back
        (0.45, (0.1, 0.01), 4.0, 1.0),  # back
        (0.0, (0.1, 0.01), 4.0, 1.0),
    ],
)
def test_the_inverse_of_the_mtf_is_limited_and_goes_back_to_1(f, rolloff, most, gain):
    params = FilterParams(low_pass=None, mtf=MTF, inverse_rolloff=rolloff, maximum_inverse=most)
    assert filter_gain(f, params) == pytest.approx(gain, rel=1e-6)


def test_an_mtf_of_0_is_raised_by_the_largest_inverse_and_no_more():
    dead = Mtf(np.array([0.0, 0.5]), np.array([1.0, 0.0]))
    assert filter_gain(0.5, FilterParams(low_pass=None, mtf=dead, inverse_rolloff=(0.7, 0.1))) == 4


def test_without_an_mtf_the_inverse_does_nothing(rng):
    f = np.linspace(0, 0.7, 20)
    odd = FilterParams(inverse_rolloff=(0.01, 0.3), maximum_inverse=9)
    np.testing.assert_array_equal(filter_gain(f, odd), filter_gain(f, FilterParams()))
    assert NONE.does_nothing
    for some in (FilterParams(), FilterParams(low_pass=None, high_pass_sigma=0.1), FilterParams(low_pass=None, mtf=MTF)):
        assert not some.does_nothing
    view = rng.normal(0, 1, (30, 41)).astype(np.float32)
    np.testing.assert_allclose(filter_view(view, NONE), view, atol=1e-5)


def test_a_sigma_of_0_cuts_at_the_radius():
    np.testing.assert_array_equal(filter_gain([0.2, 0.3, 0.31], FilterParams(low_pass=(0.3, 0.0))), [1, 1, 0])


def test_threads_change_nothing_and_the_order_is_that_of_the_stack(rng):
    stack, told = rng.normal(0, 1, (5, 33, 60)), []
    one = list(filter_stack(stack, BAND))
    for image, other, view in zip(filter_stack(stack, BAND, threads=2, progress=told.append), one, stack, strict=True):
        np.testing.assert_array_equal(image, other)
        np.testing.assert_array_equal(image, filter_view(view, BAND))
        assert image.dtype == np.float32
        assert image.shape == (33, 60)
    assert told == [0.2, 0.4, 0.6, 0.8, 1.0]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"low_pass": (-0.1, 0.05)}, "LowPassRadiusSigma"),
        ({"low_pass": (0.3, np.nan)}, "LowPassRadiusSigma"),
        ({"inverse_rolloff": (0.1, -1)}, "InverseRolloffRadiusSigma"),
        ({"high_pass_sigma": -0.1}, "HighPassSigma"),
        ({"maximum_inverse": 0.5}, "MaximumInverse"),
    ],
)
def test_what_is_out_of_range_is_refused(parts, message):
    with pytest.raises(ParameterError, match=message):
        FilterParams(**parts)
