"""The most probable parameters of the ring model, by Fisher scoring with steps that are halved until they lead downhill.

Parameters of columns are eliminated from the normal equations first, then those of views, so that what is solved at last are the
defocus of each view and the few numbers that all views share.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tiltflow.ctf.model import Microscope
from tiltflow.ctf.ring_model import (
    COLUMN_PRECISION,
    OF_COLUMN,
    OWN,
    OWN_PRECISION,
    Expectation,
    RingData,
    RingModel,
    deviance,
    expect,
    prior_cost,
    shared_prior,
)

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

NOTHING: Flags = np.zeros(4, bool)
"""Neither gradient, nor astigmatism, nor phase shift is fitted."""
_MOST_STEPS = 30
"""Steps of a fit; from a rough start 6 to 12 are taken."""
_CONVERGED = 0.02
"""Fall of the cost in a step below which a fit has converged; a parameter off by its standard error costs 1."""
_LONGEST_NM = 200.0
"""Change of a defocus in one step, at most: the phase at 0.5/nm then turns by a tenth of a cycle."""
_HALVINGS = 10
"""Times a step is halved before the fit ends where it is."""
_RIDGE = 1e-8
"""Added to the information, and to it relative to its diagonal: what the data leave open stays where it is."""


@dataclass(frozen=True, slots=True, eq=False)
class Eliminated:
    """Normal equations after their first parameters are eliminated, and what gives those back.

    Attributes
    ----------
    information, score
        Of the rest, `(..., rest, rest)`, `(..., rest)`.
    own
        Step of the eliminated ones if the rest stays, `(..., first)`.
    response
        How much they change back with the rest, `(..., first, rest)`.
    """

    information: Floats
    score: Floats
    own: Floats
    response: Floats

    def back(self, rest: Floats) -> Floats:
        """Return the step of the eliminated parameters, `(..., first)`, for a step of the rest, `(..., rest)`."""
        return np.asarray(self.own - (self.response @ rest[..., None])[..., 0])


def eliminate(information: Floats, score: Floats, first: int) -> Eliminated:
    """Return normal equations without their first parameters."""
    cross = information[..., :first, first:]
    right = np.concatenate([cross, score[..., :first, None]], axis=-1)
    solved = np.linalg.solve(information[..., :first, :first], right)
    response, own = solved[..., :-1], solved[..., -1]
    back = np.swapaxes(cross, -1, -2)
    rest = information[..., first:, first:] - back @ response
    return Eliminated(rest, score[..., first:] - (back @ own[..., None])[..., 0], own, response)


@dataclass(frozen=True, slots=True, eq=False)
class NormalEquations:
    """Information and score of the defocus of each view, without its prior, and of what all views share, all else eliminated.

    The order is: defocus `(views,)`, the polynomials, and what is free of gradient, astigmatism (2) and phase shift.
    """

    information: Floats
    score: Floats
    of_views: Eliminated
    of_columns: Eliminated


def normal_equations(data: RingData, model: RingModel, at: Expectation, scale: float, free: Flags) -> NormalEquations:
    """Return the normal equations at a model.

    Parameters
    ----------
    scale
        Variance of the noise over that of independent cells.
    free
        Which of gradient, astigmatism (2) and phase shift are fitted, `(4,)`.
    """
    views, columns = data.power.shape[:2]
    shape = at.power.shape
    special = (
        at.to_defocus * data.per_hand[:, :, None, None],
        *(0.5 * at.to_defocus * part[:, None] for part in data.double),
        np.deg2rad(1) * at.to_phase,
    )
    parts = [
        np.ones(shape),
        at.to_strength,
        at.to_strength,
        at.to_strength * data.x,
        data.x,
        data.noise[1],
        at.to_defocus,
        *data.noise,
        *(at.to_strength * row for row in data.strength),
        *(part for part, used in zip(special, free, strict=True) if used),
    ]
    rows = np.empty((views, columns, len(parts), shape[2] * shape[3]))
    for place, part in enumerate(parts):
        rows[:, :, place] = np.broadcast_to(part, shape).reshape(views, columns, -1)
    weight = (data.weight / scale).reshape(views, columns, 1, -1)
    residual = (data.power / at.power - 1).reshape(views, columns, -1, 1)
    weighted = rows * weight
    information, score = weighted @ np.swapaxes(rows, -1, -2), (weighted @ residual)[..., 0]
    information[..., range(OF_COLUMN), range(OF_COLUMN)] += COLUMN_PRECISION
    score[..., :OF_COLUMN] -= COLUMN_PRECISION * model.of_column
    of_columns = eliminate(information, score, OF_COLUMN)
    information, score = of_columns.information.sum(axis=1), of_columns.score.sum(axis=1)
    information[..., range(OWN), range(OWN)] += OWN_PRECISION
    score[..., :OWN] -= OWN_PRECISION * model.own
    of_views = eliminate(information, score, OWN)
    reduced, told = of_views.information, of_views.score
    size = views + reduced.shape[-1] - 1
    whole, total = np.zeros((size, size)), np.zeros(size)
    whole[range(views), range(views)] = reduced[:, 0, 0]
    whole[:views, views:] = reduced[:, 0, 1:]
    whole[views:, :views] = reduced[:, 0, 1:].T
    whole[views:, views:] = reduced[:, 1:, 1:].sum(axis=0)
    total[:views], total[views:] = told[:, 0], told[:, 1:].sum(axis=0)
    mean, precision = shared_prior(data)
    shapes = slice(views, views + len(mean))
    whole[range(*shapes.indices(size)), range(*shapes.indices(size))] += precision
    total[shapes] -= precision * (model.shared - mean)
    return NormalEquations(whole, total, of_views, of_columns)


def stepped(model: RingModel, equations: NormalEquations, step: Floats, free: Flags, length: float) -> RingModel:
    """Return the model after a part of a step of defocus and shared parameters, and of the steps of all others that go with it."""
    views, shapes = len(model.defocus_nm), len(model.shared)
    common = np.concatenate([step[:views, None], np.broadcast_to(step[views:], (views, len(step) - views))], axis=1)
    own = equations.of_views.back(common)
    rest = np.concatenate([own, common], axis=1)
    of_column = equations.of_columns.back(np.broadcast_to(rest[:, None], (*model.of_column.shape[:2], rest.shape[1])))
    special = model.special
    special[free] += length * step[views + shapes :]
    return replace(
        model,
        defocus_nm=model.defocus_nm + length * step[:views],
        own=model.own + length * own,
        of_column=model.of_column + length * of_column,
        shared=model.shared + length * step[views : views + shapes],
        gradient=float(special[0]),
        astigmatism=special[1:3],
        phase_deg=float(special[3]),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A fitted model.

    Attributes
    ----------
    model
        Its parameters.
    at
        What it expects.
    equations
        Normal equations there.
    cost
        Twice the logarithm of the probability below that of a perfect fit, in units of the noise: the deviance, and the priors.
    """

    model: RingModel
    at: Expectation
    equations: NormalEquations
    cost: float

    def covariance(self, precision: Floats) -> Floats:
        """Return the covariance of all that is fitted, in the order of the equations, with a prior precision of the defocus."""
        views, information = len(precision), self.equations.information.copy()
        information[:views, :views] += precision
        return np.asarray(np.linalg.pinv(information))


def fit_rings(
    data: RingData, start: RingModel, scope: Microscope, precision: Floats, *, scale: float, free: Flags = NOTHING
) -> Fit:
    """Return the most probable model.

    Parameters
    ----------
    data
        What is fitted.
    start
        Where to begin.
    scope
        The microscope.
    precision
        Prior precision of the defocus, `(views, views)`, 1/nm², about whatever it leaves open.
    scale
        Variance of the noise over that of independent cells.
    free
        Which of gradient, astigmatism (2) and phase shift are fitted, `(4,)`.
    """
    views = len(start.defocus_nm)

    def cost(model: RingModel, at: Expectation) -> float:
        walk = float(model.defocus_nm @ precision @ model.defocus_nm)
        return deviance(data, at.power) / scale + prior_cost(data, model) + walk

    model, at = start, expect(data, start, scope)
    now = cost(model, at)
    equations = normal_equations(data, model, at, scale, free)
    for _ in range(_MOST_STEPS):
        information, score = equations.information.copy(), equations.score.copy()
        information[:views, :views] += precision
        score[:views] -= precision @ model.defocus_nm
        information[np.diag_indices_from(information)] += _RIDGE * (1 + np.diag(information))
        step = np.asarray(np.linalg.solve(information, score), np.float64)
        length = min(1.0, _LONGEST_NM / max(float(np.abs(step[:views]).max()), 1e-9))
        for _ in range(_HALVINGS):
            moved = stepped(model, equations, step, free, length)
            new_at = expect(data, moved, scope)
            new = cost(moved, new_at)
            if new < now:
                break
            length /= 2
        else:
            break
        fell, model, at, now = now - new, moved, new_at, new
        equations = normal_equations(data, model, at, scale, free)
        if fell < _CONVERGED:
            break
    return Fit(model, at, equations, now)
