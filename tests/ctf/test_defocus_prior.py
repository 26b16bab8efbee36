"""The walk of the defocus: its width is learnt, and the errors that follow are right."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.ctf.defocus_prior import posterior, walk_precision

TILT = np.linspace(-60, 60, 41)
ORDER = np.arange(41)


def series(rng, step, error):
    truth = 4000 + 100 * np.sin(np.deg2rad(TILT)) + np.cumsum(rng.normal(0, step, 41))
    measured = truth + rng.normal(0, error, 41)
    return truth, posterior(measured, np.zeros(41), np.eye(41) / error**2, TILT, ORDER)


@pytest.mark.parametrize(("step", "error"), [(8.0, 40.0), (15.0, 40.0), (80.0, 40.0), (15.0, 10.0)])
def test_errors_are_right_whatever_the_step(step, error):
    z = []
    for seed in range(100):
        truth, found = series(np.random.default_rng(seed), step, error)
        z.append((found.defocus_nm - truth) / found.error_nm)
    assert np.sqrt(np.mean(np.square(z))) == pytest.approx(1.0, abs=0.12)


def test_the_step_is_learnt():
    learnt = [np.median([series(np.random.default_rng(seed), step, 20.0)[1].step_nm for seed in range(15)]) for step in (5, 20, 80)]
    np.testing.assert_allclose(learnt, [5, 20, 80], rtol=0.4)


def test_neighbours_help_where_the_defocus_hardly_changes_and_not_where_it_jumps():
    rng = np.random.default_rng(1)
    assert series(rng, 1.0, 40.0)[1].error_nm.mean() < 20
    assert series(rng, 300.0, 40.0)[1].error_nm.mean() > 36


def test_a_view_without_information_follows_from_its_neighbours():
    information = np.eye(41) / 20**2
    information[20, 20] = 0
    found = posterior(np.full(41, 4000.0), np.zeros(41), information, TILT, ORDER)
    assert found.defocus_nm[20] == pytest.approx(4000, abs=1)
    assert found.error_nm[20] > found.error_nm[19]


def test_level_and_the_sine_of_the_tilt_are_free():
    precision = walk_precision(TILT, ORDER, 10.0)
    for free in (np.ones(41), np.sin(np.deg2rad(TILT))):
        np.testing.assert_allclose(precision @ free, 0, atol=1e-10)
    assert (TILT**2) @ precision @ (TILT**2) > 1


def test_the_walk_follows_the_order_that_is_given():
    order = np.argsort(np.abs(TILT), kind="stable")
    walked = np.empty(41)
    walked[order] = np.cumsum(np.random.default_rng(3).normal(0, 40, 41))
    evidence = [posterior(walked, np.zeros(41), np.eye(41) / 5**2, TILT, each).evidence for each in (order, ORDER)]
    assert evidence[0] > evidence[1] + 3
