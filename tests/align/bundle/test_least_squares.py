"""The adjustment against scipy's least squares on a statement of the same problem that shares no code with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import least_squares

from tiltflow.align.bundle.normal_equations import Geometry, adjust
from tiltflow.align.bundle.observations import Observations
from tiltflow.align.bundle.params import SolveParams
from tiltflow.align.bundle.variables import MAGNIFICATION, ROTATION, SKEW, STRETCH, TILT, Spread, choose_variables

Floats = NDArray[np.float64]

TRACKS, VIEWS, NOISE_PX = 8, 11, 0.1

_CYCLES = 4
"""Two are enough for the cost, as Gauss-Newton converges quadratically; a step that is wrong in a part may creep there in more."""

KINDS = ("rotation", "tilt", "magnification", "stretch", "skew")
PARAMETERS = dict(zip(KINDS, (ROTATION, TILT, MAGNIFICATION, STRETCH, SKEW), strict=True))


@dataclass(frozen=True)
class Problem:
    """Positions `(tracks, views, 2)` with weights `(tracks, views, 2, 2)`, nominal geometry, start of the points `(tracks, 3)`."""

    xy: Floats
    weight: Floats
    axis: float
    tilt: Floats
    points: Floats

    def residuals(self, unknowns: Floats, free: tuple[str, ...], priors: Mapping[str, Floats]) -> Floats:
        """Return what least squares makes small: weighted residuals, and deviations from the nominal in units of the priors.

        A point is seen at shift + m R(axis) (x cos t + z sin t, y); a specimen that stretches and skews has (1 + stretch) x cos t
        there, and y + skew x.
        """
        shift, values, points = self.unpack(unknowns, free)
        t, a = self.tilt + values["tilt"], self.axis + values["rotation"]
        x, y, z = points.T[:, :, None]
        u = (1 + values["stretch"]) * x * np.cos(t) + z * np.sin(t)
        v = y + values["skew"] * x
        seen = np.stack([u * np.cos(a) - v * np.sin(a), u * np.sin(a) + v * np.cos(a)], axis=-1)
        seen = shift + np.exp(values["magnification"])[:, None] * seen
        off = np.einsum("jvba,jvb->jva", np.linalg.cholesky(self.weight), self.xy - seen)
        strays = [np.linalg.solve(np.linalg.cholesky(covariance), values[kind]) for kind, covariance in priors.items()]
        return np.concatenate([off.ravel(), *(NOISE_PX * stray for stray in strays)])

    def unpack(self, unknowns: Floats, free: tuple[str, ...]) -> tuple[Floats, dict[str, Floats], Floats]:
        """Return shifts `(views, 2)`, what each kind of parameter adds to the nominal `(views,)`, and points `(tracks, 3)`."""
        shift, *values, points = np.split(unknowns, np.cumsum([2 * VIEWS, *(VIEWS for _ in free)]))
        nothing = dict.fromkeys(KINDS, np.zeros(VIEWS))
        return shift.reshape(VIEWS, 2), nothing | dict(zip(free, values, strict=True)), points.reshape(TRACKS, 3)

    def by_scipy(self, free: tuple[str, ...], priors: Mapping[str, Floats]) -> tuple[float, dict[str, Floats], Floats]:
        """Return the least cost, and the values and points of it."""
        start = np.concatenate([np.zeros((2 + len(free)) * VIEWS), self.points.ravel()])
        tolerances = dict.fromkeys(("ftol", "xtol", "gtol"), 1e-13)
        found = least_squares(self.residuals, start, jac="3-point", x_scale="jac", args=(free, priors), **tolerances)
        assert found.success
        return 2 * found.cost, *self.unpack(found.x, free)[1:]

    def by_adjustment(self, free: tuple[str, ...], spreads: Mapping[str, Spread]) -> tuple[float, dict[str, Floats], Floats]:
        """Return the same of the bundle adjustment."""
        each = {kind: "each" if kind in free else "fixed" for kind in ("rotation", "tilt", "magnification")}
        params = SolveParams(**each, stretch="stretch" in free, skew="skew" in free, stretch_group=1, skew_group=1)
        variables = choose_variables(params, self.tilt).with_spreads(spreads)
        nominal = np.zeros((VIEWS, 7))
        nominal[:, ROTATION], nominal[:, TILT] = self.axis, self.tilt
        information = np.stack([self.weight[..., 0, 0], self.weight[..., 0, 1], self.weight[..., 1, 1]], axis=-1)
        observations = Observations(self.xy, information)
        geometry, values = adjust(Geometry(nominal, self.points), observations, variables, NOISE_PX, cycles=_CYCLES)
        cost = float(observations.squared(geometry.residual(observations)).sum())
        cost += NOISE_PX**2 * float(values @ variables.precision() @ values)
        change = geometry.views - nominal
        return cost, {kind: change[:, PARAMETERS[kind]] for kind in KINDS}, geometry.points


@pytest.fixture
def problem(point_case, rng) -> Problem:
    """A few points of a stretched and skewed specimen, weighted each in its own way, from a start that is pixels off."""
    case = point_case(tracks=TRACKS, views=VIEWS, noise=NOISE_PX, missing=0.0, stretch=0.004, skew_deg=0.2)
    root = np.eye(2) + 0.3 * rng.normal(size=(TRACKS, VIEWS, 2, 2))
    weight = root @ np.swapaxes(root, -1, -2) + 0.1 * np.eye(2)
    start = case.points + rng.normal(0, 3, case.points.shape)
    return Problem(case.tracks.xy - 256, weight, np.deg2rad(-8.0), np.deg2rad(case.truth.nominal_deg), start)


def assert_the_same_views(ours: Mapping[str, Floats], theirs: Mapping[str, Floats]) -> None:
    """Far more closely than tracks can tell: to some millionths of a degree."""
    for kind in KINDS:
        np.testing.assert_allclose(ours[kind], theirs[kind], atol=5e-8, err_msg=kind)


@pytest.mark.parametrize(
    "free",
    [(), ("rotation",), ("magnification",), ("tilt",), ("rotation", "tilt", "magnification")],
    ids=lambda free: "-".join(free) or "shifts",
)
def test_without_priors_it_reaches_the_least_squares(problem, free):
    cost, values, _ = problem.by_adjustment(free, dict.fromkeys(free, Spread(1e4)))
    least, their_values, _ = problem.by_scipy(free, {})
    assert cost == pytest.approx(least, rel=1e-9)
    # Nothing decides a common tilt or magnification: a turned specimen, or a larger one, is seen just so.
    for each in (values, their_values):
        each["tilt"] = each["tilt"] - each["tilt"].mean()
        each["magnification"] = each["magnification"] - each["magnification"].mean()
    assert_the_same_views(values, their_values)


def test_with_priors_it_reaches_the_least_squares(problem):
    """Priors that are about as strong as the tracks: values that stray and drift, about a mean that may be off."""
    spreads = {
        "rotation": Spread(np.deg2rad(0.02), drift_sd=np.deg2rad(0.03), mean_sd=np.deg2rad(0.5)),
        "tilt": Spread(np.deg2rad(0.1)),
        "magnification": Spread(5e-4, drift_sd=2e-4),
        "stretch": Spread(2e-3),
        "skew": Spread(np.deg2rad(0.1)),
    }
    order = np.arange(VIEWS)
    walk = 0.5 * (VIEWS - 1 - np.abs(order[:, None] - order))
    priors = {
        kind: spread.independent_sd**2 * np.eye(VIEWS) + spread.drift_sd**2 * walk + spread.mean_sd**2
        for kind, spread in spreads.items()
    }
    cost, values, points = problem.by_adjustment(KINDS, spreads)
    least, their_values, their_points = problem.by_scipy(KINDS, priors)
    assert cost == pytest.approx(least, rel=1e-9)
    assert_the_same_views(values, their_values)
    # Only where the specimen is as a whole is left open.
    np.testing.assert_allclose(points - points.mean(axis=0), their_points - their_points.mean(axis=0), atol=1e-4)
    free = problem.by_adjustment(KINDS, dict.fromkeys(KINDS, Spread(1.0)))[1]
    assert all(np.abs(free[kind] - values[kind]).max() > 1e-4 for kind in KINDS), "the priors decide nothing"
