"""Exposure weights against published numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiltflow.ctf.exposure import (
    ExposureParams,
    critical_exposure,
    exposure_weights,
    exposures_at_views,
    weight_stack,
    weight_view,
)
from tiltflow.errors import ParameterError

PARAMS = ExposureParams()


@pytest.mark.parametrize(("spacing", "critical"), [(20, 38.73), (10, 14.14), (5, 6.386), (3, 4.340)])
def test_critical_exposures_at_300_kv(spacing, critical):
    assert critical_exposure(1 / spacing) == pytest.approx(critical, rel=4e-4)


@pytest.mark.parametrize(
    ("spacing", "exposure", "weight"),
    [(20, 3, 0.9620), (20, 30, 0.6789), (20, 60, 0.4609), (20, 120, 0.2124), (10, 60, 0.1198), (5, 30, 0.0955)],
)
def test_weights_at_300_kv(spacing, exposure, weight):
    assert exposure_weights(1 / spacing, exposure, PARAMS) == pytest.approx(weight, abs=1e-4)


def test_other_voltages():
    assert critical_exposure(1 / 20, 200.0) == pytest.approx(30.98, abs=0.01)
    assert critical_exposure(1 / 20, 120.0) == critical_exposure(1 / 20, 200.0)
    assert critical_exposure(1 / 20, 250.0) == pytest.approx(0.9 * critical_exposure(1 / 20))


def test_a_sensitive_specimen_is_one_that_was_exposed_longer():
    assert exposure_weights(0.1, 20, ExposureParams(sensitivity=2)) == exposure_weights(0.1, 40, PARAMS)


def test_a_dose_symmetric_series():
    """The prior exposures of EMPIAR-10499's series 00254 in its metadata: three electrons a view, from the middle outwards in pairs."""
    falling = [117, 114, 105, 102, 93, 90, 81, 78, 69, 66, 57, 54, 45, 42, 33, 30, 21, 18, 9, 6]
    rising = [0, 3, 12, 15, 24, 27, 36, 39, 48, 51, 60, 63, 72, 75, 84, 87, 96, 99, 108, 111, 120]
    before = np.array([*falling, *rising], float)
    np.testing.assert_allclose(exposures_at_views(np.full(41, 3.0), np.argsort(before)), before + 1.5)


@given(st.permutations(range(7)), st.lists(st.floats(0, 10), min_size=7, max_size=7))
def test_later_views_were_exposed_longer(order, exposure):
    found = exposures_at_views(exposure, order)[list(order)]
    assert np.all(np.diff(found) >= -1e-12)
    assert found[-1] == pytest.approx(sum(exposure) - exposure[order[-1]] / 2)


def test_a_view_is_multiplied_with_the_weights_and_keeps_its_mean(rng):
    wave = np.tile(np.cos(2 * np.pi * np.arange(512) / 8.0), (512, 1))
    found = weight_view(1000 + wave, 60.0, 2.5, PARAMS)
    inner = found[50:-50, 48:-48] - 1000
    assert inner.std() / wave[50:-50, 48:-48].std() == pytest.approx(float(exposure_weights(1 / 20, 60, PARAMS)), rel=2e-3)
    noise = rng.normal(1000, 10, (300, 200))
    assert weight_view(noise, 100.0, 5.0, PARAMS).mean() == pytest.approx(noise.mean(), abs=0.5)
    np.testing.assert_allclose(weight_view(noise, 0.0, 5.0, PARAMS), noise, rtol=1e-5)


def test_a_stack_is_weighted_view_by_view(rng):
    stack, exposures = rng.normal(0, 1, (3, 64, 64)), [1.5, 4.5, 7.5]
    for image, view, exposure in zip(weight_stack(stack, exposures, 5.0, PARAMS, threads=2), stack, exposures, strict=True):
        np.testing.assert_array_equal(image, weight_view(view, exposure, 5.0, PARAMS))
    with pytest.raises(ParameterError, match="2 exposures for 3 views"):
        list(weight_stack(stack, [1, 2], 5.0, PARAMS))


@pytest.mark.parametrize(
    ("exposure", "order", "message"),
    [([3, -1], [0, 1], "at least 0"), ([3, np.nan], [0, 1], "at least 0"), ([3, 3], [0, 0], "once"), ([3, 3], [0], "once")],
)
def test_what_is_no_history_is_refused(exposure, order, message):
    with pytest.raises(ParameterError, match=message):
        exposures_at_views(exposure, order)
    with pytest.raises(ParameterError, match="above 0"):
        ExposureParams(voltage_kv=0)
