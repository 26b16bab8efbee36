"""The posterior of the view parameters: normal equations of the images, and a prior on how much views differ from each other.

Rotation, magnification and tilt of a view scatter about a common value by an amount that depends on the microscope: next to nothing
on a good stage, half a degree on a bad one.  It is estimated from the series (empirical Bayes, MacKay 1992,
doi:10.1162/neco.1992.4.3.415): poorly determined parameters are drawn together, well determined ones are free.  The information of
the images is divided first by the dispersion, the variance among parts of the field over its expectation: neighbouring frequencies
are not independent, and gold is not a random texture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.positive import inverse_but_for_rounding
from tiltflow.align.projection.matching import PARAMETERS, MatchStep

Floats = NDArray[np.float64]

_EM_ITERATIONS, _SETTLED = 12, 2e-3
"""Most iterations of the prior's standard deviations within a step, which end when none changes by more, as a fraction; they are carried
over to the next step."""
_LOWEST = np.array([1.0, 1.0, 2e-4, 1e-4, 2e-4, 0.1])
_HIGHEST = np.array([1e3, 1e3, 0.03, 0.03, 0.03, 1.0])
"""Bounds of the prior's standard deviations: pixels of the frame, pixels, radians, fraction, radians, radians.  Rotations and tilts of
0.01 degrees move the edge of a field of 500 pixels by 0.05; from view to view no goniometer is off by more than 1.7
degrees."""
_INITIAL = np.array([20.0, 20.0, np.deg2rad(0.2), 0.005, np.deg2rad(0.7), 0.5])
"""Their initial values, in the same units; those of displacement and slope are not estimated and are wide enough to be of no effect."""
_ESTIMATED = (2, 3, 4)
"""Kinds of parameters whose standard deviation is estimated: rotation, magnification and tilt."""
_DRIFTS = 2
"""The kind that drifts from view to view instead of scattering: the rotation."""
_RIDGE = 1e-6, 1e-9
"""Added to the diagonal of the information when the dispersion is computed, relative to each element and to the largest: views that
cannot be predicted have no information at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeParameters:
    """Which parameters a step may change beside the shifts."""

    axis: bool = False
    slope: bool = False
    rotation: bool = False
    magnification: bool = False
    tilt: bool = False

    def design(self, views: int) -> tuple[Floats, NDArray[np.intp]]:
        """Return how the parameters of all views, `(views * 6,)`, follow from the free ones, and of which kind each of those is."""
        columns, kinds = [], []
        for kind, free in enumerate((True, True, self.rotation, self.magnification, self.tilt)):
            if free:
                each = np.zeros((views, PARAMETERS, views))
                each[np.arange(views), kind, np.arange(views)] = 1.0
                columns.append(each)
                kinds += [kind] * views
        for kind, free in ((2, self.axis and not self.rotation), (5, self.slope)):
            if free:
                common = np.zeros((views, PARAMETERS, 1))
                common[:, kind] = 1.0
                columns.append(common)
                kinds.append(5)
        return np.concatenate(columns, axis=2).reshape(views * PARAMETERS, -1), np.array(kinds)


@dataclass(frozen=True, slots=True, eq=False)
class Prior:
    """Prior standard deviations by kind of parameter, `(6,)`.

    Magnifications and tilts scatter about their mean; the rotation drifts, so that its number is that of the step from one tilt
    to the next.
    """

    spread: Floats

    @classmethod
    def initial(cls) -> Prior:
        """Return the prior before any iteration."""
        return cls(_INITIAL.copy())


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """The most probable step.

    Attributes
    ----------
    change
        `(views, 6)`.
    prior
        With the standard deviations as estimated.
    covariance
        Of the free parameters, `(free, free)`.
    design
        `(views * 6, free)`: the parameters of all views by the free ones.
    dispersion
        Variance among the parts of the field over its expectation, at least 1.
    """

    change: Floats
    prior: Prior
    covariance: Floats
    design: Floats
    dispersion: float


def solve_posterior(step: MatchStep, free: FreeParameters, deviation: Floats, tilts: Floats, prior: Prior) -> Posterior:
    """Return the most probable change of the parameters.

    Parameters
    ----------
    step
        Normal equations of the images.
    free
        Which parameters may change.
    deviation
        Present parameters minus the values that the prior has them scatter about, `(views, 6)`.
    tilts
        Of the views, `(views,)`, radians.
    prior
        The present one.
    """
    views = len(deviation)
    design, kinds = free.design(views)
    information, gradients = design.T @ step.matrix @ design, step.gradient @ design
    now = design.T @ deviation.ravel()
    dispersion = _dispersion(information, gradients)
    information, gradient = information / dispersion, gradients.sum(axis=0) / dispersion
    spread = prior.spread.copy()
    ties = {kind: _ties(kind, np.flatnonzero(kinds == kind), len(kinds), tilts) for kind in range(PARAMETERS)}
    estimated = [kind for kind in _ESTIMATED if np.any(kinds == kind)]
    ranks = {kind: np.count_nonzero(kinds == kind) - 1 for kind in estimated}  # what all have in common is not tied
    held = np.sum([tie / spread[kind] ** 2 for kind, tie in ties.items() if kind not in estimated], axis=0)
    for _ in range(_EM_ITERATIONS if estimated else 1):
        precision = held + sum(ties[kind] / spread[kind] ** 2 for kind in estimated)
        covariance = inverse_but_for_rounding(information + precision)
        change = covariance @ (gradient - precision @ now)
        total, before = now + change, spread.copy()
        for kind in estimated:
            tie = ties[kind]
            determined = ranks[kind] - np.sum(tie * covariance) / spread[kind] ** 2
            square = max(float(total @ tie @ total), 0.0) / max(float(determined), 1.0)
            spread[kind] = np.clip(np.sqrt(square), _LOWEST[kind], _HIGHEST[kind])
        if np.all(np.abs(spread - before) <= _SETTLED * before):
            break
    return Posterior((design @ change).reshape(views, PARAMETERS), Prior(spread), covariance, design, dispersion)


def _ties(kind: int, members: NDArray[np.intp], size: int, tilts: Floats) -> Floats:
    """Return the matrix whose quadratic form is the scatter of one kind of parameter, for a standard deviation of 1."""
    ties = np.zeros((size, size))
    if kind == _DRIFTS and members.size:
        steps = np.diff(np.eye(len(tilts))[np.argsort(tilts, kind="stable")], axis=0)
        ties[np.ix_(members, members)] = steps.T @ steps
    elif members.size:
        ties[members, members] = 1.0
        if kind in _ESTIMATED:
            ties[np.ix_(members, members)] -= 1.0 / len(members)
    return ties


def _dispersion(information: Floats, gradients: Floats) -> float:
    """Return the variance of the parts of the gradient over its expectation from the information; at least 1."""
    parts = gradients[np.any(gradients != 0, axis=1)]
    parts = parts - parts.mean(axis=0)
    diagonal = np.diag(information)
    ridge = np.diag(_RIDGE[0] * diagonal + _RIDGE[1] * float(diagonal.max()) + 1e-30)
    expected = np.sum(parts * np.linalg.solve(information + ridge, parts.T).T)
    return float(max(expected / information.shape[0] * len(parts) / max(len(parts) - 1, 1), 1.0))
