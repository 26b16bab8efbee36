"""The error that patches tell of their own fit: what overlapping patches say twice counts once."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.align.bundle import SolveParams
from tiltflow.align.bundle.adjustment import BundleFit
from tiltflow.align.bundle.normal_equations import Geometry
from tiltflow.align.bundle.variables import PER_VIEW, TILT, choose_variables
from tiltflow.align.patches.jackknife import JackknifeError, LeftOutFits, jackknife_error

TILT_DEG = np.linspace(-60, 60, 11)
HALF_EXTENT = (200.0, 200.0)
PRECISION = 400.0
"""Of each coordinate of a patch in a view: a standard deviation of 0.05 px."""


def error_of(points: np.ndarray, pulls: np.ndarray, crowding: float = 1.0) -> JackknifeError:
    """Return the error of a fit to patches at `points` that pull at it; the field, which comes last, says next to nothing."""
    views = np.zeros((len(TILT_DEG), PER_VIEW))
    views[:, TILT] = np.deg2rad(TILT_DEG)
    geometry = Geometry(views, np.vstack([points, np.zeros(3)]))
    variables = choose_variables(SolveParams(), TILT_DEG)
    fit = BundleFit(geometry, np.zeros(variables.count), variables, np.ones((len(points) + 1, len(views))), sigma=1.0)
    both = 2 * len(views)
    said = LeftOutFits(pulls, PRECISION * np.eye(both), 1e-6 * np.eye(both), np.zeros((both, both)), crowding)
    return jackknife_error(fit, said, HALF_EXTENT)


@pytest.fixture
def patches(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Thirty-six patches over the field, and what each pulls by the noise of its own."""
    x, y = np.meshgrid(np.linspace(-150, 150, 6), np.linspace(-150, 150, 6))
    points = np.column_stack([x.ravel(), y.ravel(), rng.normal(0, 10, 36)])
    return points, rng.normal(0, np.sqrt(PRECISION), (36, 2 * len(TILT_DEG)))


def test_patches_that_say_the_same_twice_are_no_surer_for_it(patches: tuple[np.ndarray, np.ndarray]) -> None:
    points, pulls = patches
    once = error_of(points, pulls)
    twice = error_of(np.repeat(points, 2, axis=0), np.repeat(pulls, 2, axis=0), crowding=2.0)
    assert twice.error_px == pytest.approx(once.error_px, rel=0.05)
    assert twice.limit_px == pytest.approx(once.limit_px, rel=0.05)


def test_four_times_as_many_patches_halve_the_error(patches: tuple[np.ndarray, np.ndarray], rng: np.random.Generator) -> None:
    points, pulls = patches
    more = rng.normal(0, np.sqrt(PRECISION), (144, pulls.shape[1]))
    assert error_of(np.repeat(points, 4, axis=0), more).error_px == pytest.approx(0.5 * error_of(points, pulls).error_px, rel=0.15)


def test_patches_that_disagree_more_than_their_noise_tell_a_larger_error(patches: tuple[np.ndarray, np.ndarray]) -> None:
    """Whatever they say of their own precision: the jackknife is right where the model is not."""
    points, pulls = patches
    assert error_of(points, 3 * pulls).error_px > 2 * error_of(points, pulls).error_px
