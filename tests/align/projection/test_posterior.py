"""The posterior step, from normal equations whose solution is known."""

import numpy as np
import pytest

from tiltflow.align.projection.matching import PARAMETERS, MatchStep
from tiltflow.align.projection.posterior import FreeParameters, Prior, solve_posterior

VIEWS, BLOCKS = 20, 36
TILTS = np.deg2rad(np.linspace(-57, 57, VIEWS))
ALL = FreeParameters(axis=True, slope=True, rotation=True, magnification=True, tilt=True)


def step_towards(change, information, rng, noise=1.0):
    """Normal equations of views that know their own parameters, `(6,)` information each; blocks differ as they should."""
    matrix = np.diag(np.tile(information, VIEWS))
    each = np.sqrt(np.diag(matrix) / BLOCKS) * rng.normal(size=(BLOCKS, VIEWS * PARAMETERS)) * noise
    return MatchStep(matrix, each + matrix @ change.ravel() / BLOCKS, np.ones(VIEWS))


def scatter(rng, kind, sd):
    change = np.zeros((VIEWS, PARAMETERS))
    change[:, kind] = rng.normal(0, sd, VIEWS)
    return change


@pytest.fixture
def informative():
    """Variances of 1e-3 px, and of 1e-4 radians and fractions."""
    return np.array([1e6, 1e6, 1e8, 1e8, 1e8, 1e3])


def test_shifts_that_the_images_determine_are_taken_as_they_are(rng, informative):
    change = scatter(rng, 0, 2.0)
    found = solve_posterior(step_towards(change, informative, rng), ALL, np.zeros_like(change), TILTS, Prior.initial())
    np.testing.assert_allclose(found.change[:, 0], change[:, 0], atol=5e-3)
    assert found.dispersion == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize(("kind", "free"), [(3, FreeParameters(magnification=True)), (4, FreeParameters(tilt=True))])
def test_how_much_views_differ_is_estimated(rng, informative, kind, free):
    for sd in (8e-3, 1e-3):
        change = scatter(rng, kind, sd)
        found = solve_posterior(step_towards(change, informative, rng), free, np.zeros_like(change), TILTS, Prior.initial())
        assert found.prior.spread[kind] == pytest.approx(sd, rel=0.5)


def test_tilts_that_the_images_hardly_know_stay_together(rng):
    vague = np.array([1e4, 1e4, 1e4, 1e4, 1e4, 1.0])  # a standard deviation of 0.57 degrees
    step = step_towards(np.zeros((VIEWS, PARAMETERS)), vague, rng)
    free = FreeParameters(tilt=True)
    found = solve_posterior(step, free, np.zeros((VIEWS, PARAMETERS)), TILTS, Prior.initial())
    alone = step.gradient.sum(axis=0).reshape(VIEWS, PARAMETERS)[:, 4] / 1e4
    assert found.change[:, 4].std() < 0.3 * alone.std()


def test_a_drift_of_the_rotation_is_followed_but_not_its_noise(rng):
    information = np.array([1e6, 1e6, 1e6, 1e6, 1e6, 1e3])
    drift = np.zeros((VIEWS, PARAMETERS))
    drift[:, 2] = 0.02 * np.sin(TILTS)
    found = solve_posterior(
        step_towards(drift, information, rng), FreeParameters(rotation=True), np.zeros_like(drift), TILTS, Prior.initial()
    )
    alone = 1e-3  # of a view that follows its own images
    assert np.std(found.change[:, 2] - drift[:, 2]) < 1.2 * alone
    assert np.corrcoef(found.change[:, 2], drift[:, 2])[0, 1] > 0.99
    steady = solve_posterior(
        step_towards(0 * drift, information, rng), FreeParameters(rotation=True), np.zeros_like(drift), TILTS, Prior.initial()
    )
    assert np.std(steady.change[:, 2]) < 0.5 * alone


def test_what_is_not_free_does_not_move(rng, informative):
    change = rng.normal(0, 1e-3, (VIEWS, PARAMETERS))
    found = solve_posterior(step_towards(change, informative, rng), FreeParameters(), np.zeros_like(change), TILTS, Prior.initial())
    assert not found.change[:, 2:].any()


def test_one_slope_is_common_to_all_views(rng, informative):
    change = np.zeros((VIEWS, PARAMETERS))
    change[:, 5] = 0.03
    found = solve_posterior(
        step_towards(change, informative, rng), FreeParameters(slope=True), np.zeros_like(change), TILTS, Prior.initial()
    )
    assert np.ptp(found.change[:, 5]) == pytest.approx(0, abs=1e-12)
    assert found.change[0, 5] == pytest.approx(0.03, abs=0.03)


def test_disagreement_of_parts_of_the_field_reduces_the_information_of_the_images(rng, informative):
    quiet, loud = (
        solve_posterior(
            step_towards(scatter(rng, 0, 1.0), informative, rng, noise), ALL, np.zeros((VIEWS, PARAMETERS)), TILTS, Prior.initial()
        )
        for noise in (1.0, 4.0)
    )
    assert loud.dispersion == pytest.approx(16 * quiet.dispersion, rel=0.2)
    assert np.trace(loud.covariance) > 5 * np.trace(quiet.covariance)
