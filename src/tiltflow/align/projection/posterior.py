"""The step that a fit takes, between what the images ask for and how much views are believed to differ from each other.

Rotation, magnification and tilt of a view scatter about a common value by an amount that no one knows beforehand: next to nothing on
a good stage, half a degree on a bad one.  It is learnt from the series (MacKay, Neural Computation 4, 415, 1992): where the images
say little the parameters stay together, where they say much they are free.  The information of the images is divided by the
dispersion first, by how much more the parts of the field disagree than they should: neighbouring frequencies are not independent,
and gold is no random texture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.projection.matching import PARAMETERS, MatchStep

Floats = NDArray[np.float64]

_EM_ITERATIONS = 12
_LOWEST = np.array([1.0, 1.0, 2e-4, 1e-4, 2e-4, 0.1])
_HIGHEST = np.array([1e3, 1e3, 0.03, 0.03, 0.03, 1.0])
"""Bounds of the standard deviations: pixels of the frame, pixels, radians, fraction, radians, radians."""
_LEARNT = (2, 3, 4)
_DRIFTS = 2


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
    """How much views are believed to differ: standard deviations by kind of parameter, `(6,)`.

    Magnifications and tilts scatter about their mean; the rotation drifts, so that its number is that of the step from one tilt
    to the next.
    """

    spread: Floats

    @classmethod
    def open(cls) -> Prior:
        """Return the prior before looking."""
        return cls(np.array([20.0, 20.0, np.deg2rad(0.2), 0.005, np.deg2rad(0.7), 0.5]))


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """What a step comes to.

    Attributes
    ----------
    change
        `(views, 6)`.
    prior
        As learnt on the way.
    covariance
        Of the free parameters, and the `design` `(views * 6, free)` that they act through.
    dispersion
        By how much the parts of the field disagree more than they should.
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
    deviation
        What the parameters are now, `(views, 6)`, from where they are believed to scatter about.
    tilts
        Of the views, which orders them.
    """
    views = len(deviation)
    design, kinds = free.design(views)
    information, gradients = design.T @ step.matrix @ design, step.gradient @ design
    now = design.T @ deviation.ravel()
    dispersion = _dispersion(information, gradients)
    information, gradient = information / dispersion, gradients.sum(axis=0) / dispersion
    spread = prior.spread.copy()
    ties = {kind: _ties(kind, np.flatnonzero(kinds == kind), len(kinds), tilts) for kind in range(PARAMETERS)}
    for _ in range(_EM_ITERATIONS):
        precision = np.sum([tie / spread[kind] ** 2 for kind, tie in ties.items()], axis=0)
        covariance = np.asarray(np.linalg.inv(information + precision), np.float64)
        change = covariance @ (gradient - precision @ now)
        total = now + change
        for kind in _LEARNT:
            tie = ties[kind]
            told = np.linalg.matrix_rank(tie, hermitian=True) - np.sum(tie * covariance) / spread[kind] ** 2
            if np.any(kinds == kind):
                square = float(total @ tie @ total) / max(float(told), 1.0)
                spread[kind] = np.clip(np.sqrt(square), _LOWEST[kind], _HIGHEST[kind])
    return Posterior((design @ change).reshape(views, PARAMETERS), Prior(spread), covariance, design, dispersion)


def _ties(kind: int, members: NDArray[np.intp], size: int, tilts: Floats) -> Floats:
    """Return the matrix whose quadratic form is the scatter of one kind of parameter, for a standard deviation of 1."""
    ties = np.zeros((size, size))
    if kind == _DRIFTS and members.size:
        steps = np.diff(np.eye(len(tilts))[np.argsort(tilts, kind="stable")], axis=0)
        ties[np.ix_(members, members)] = steps.T @ steps
    elif members.size:
        ties[members, members] = 1.0
        if kind in _LEARNT:
            ties[np.ix_(members, members)] -= 1.0 / len(members)
    return ties


def _dispersion(information: Floats, gradients: Floats) -> float:
    """Return the variance of the parts of the gradient over what the information lets expect; at least 1."""
    parts = gradients[np.any(gradients != 0, axis=1)]
    parts = parts - parts.mean(axis=0)
    # Views of which nothing can be predicted hold no information at all.
    diagonal = np.diag(information)
    ridge = np.diag(1e-6 * diagonal + 1e-9 * float(diagonal.max()) + 1e-30)
    expected = np.sum(parts * np.linalg.solve(information + ridge, parts.T).T)
    return float(max(expected / information.shape[0] * len(parts) / max(len(parts) - 1, 1), 1.0))
