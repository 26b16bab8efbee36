"""How far the variables of this series stray, learnt from the tracks: empirical Bayes.

Around the solution the tracks say of the variables a: a' S a / 2 - b' a.  Under a prior of covariance C the probability of the
tracks is, up to a constant, exp(b' (S + C^-1)^-1 b / 2) / sqrt(det(1 + C S)) (MacKay 1992, doi:10.1162/neco.1992.4.3.415).  The
standard deviations that make it largest are those that the tracks speak for: a steady stage and a sharp camera are recognised,
and few or noisy tracks then cannot invent rotations and magnifications.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from tiltflow.stages.solve.variables import Spread, Variables

Floats = NDArray[np.float64]

_FLOOR = 1e-5
"""Radians, or a fraction: far below what matters."""


def learn_spreads(matrix: Floats, right: Floats, variables: Variables) -> dict[str, Spread]:
    """Return the most probable spread of every kind that can be learnt, never wider than it is now.

    Parameters
    ----------
    matrix, right
        S and b above over all variables, shifts included, in units of the noise.
    variables
        The variables and their present spreads.
    """
    shifts = 2 * variables.views
    # The shifts are free: what the other variables feel is the Schur complement.
    through = linalg.solve(matrix[:shifts, :shifts], matrix[:shifts, shifts:], assume_a="pos")
    s = matrix[shifts:, shifts:] - matrix[shifts:, :shifts] @ through
    b = right[shifts:] - right[:shifts] @ through
    spreads = {kind.name: kind.spread for kind in variables.kinds}
    limits = dict(spreads)
    learnable = [kind.name for kind in variables.kinds if kind.learnable]
    best = _log_evidence(s, b, variables, spreads)
    for factor in (4.0, 2.0, 1.4):
        for _ in range(6):
            before = best
            for name in learnable:
                for trial in _neighbours(spreads[name], limits[name], factor):
                    candidate = {**spreads, name: trial}
                    evidence = _log_evidence(s, b, variables, candidate)
                    if evidence > best:
                        best, spreads = evidence, candidate
            if best - before < 0.05:
                break
    return {name: spreads[name] for name in learnable}


def _neighbours(now: Spread, limit: Spread, factor: float) -> list[Spread]:
    """Return spreads a step away: more or less scatter, more or less drift, or one traded for the other."""
    most = limit.independent_sd

    def clip(value: float) -> float:
        return float(np.clip(value, _FLOOR, most))

    scatter, drift = now.independent_sd, max(now.drift_sd, _FLOOR)
    return [
        replace(now, independent_sd=clip(scatter * factor)),
        replace(now, independent_sd=clip(scatter / factor)),
        replace(now, drift_sd=clip(drift * factor)),
        replace(now, drift_sd=clip(drift / factor)),
        replace(now, independent_sd=clip(scatter / factor), drift_sd=clip(max(drift * factor, 0.1 * scatter))),
        replace(now, independent_sd=clip(scatter * factor), drift_sd=clip(drift / factor)),
    ]


def _log_evidence(s: Floats, b: Floats, variables: Variables, spreads: dict[str, Spread]) -> float:
    posterior = s.copy()
    log_determinant = 0.0
    start = 0
    for kind in variables.kinds:
        covariance = kind.covariance(spreads[kind.name])
        block = slice(start, start + len(covariance))
        start = block.stop
        factor = linalg.cholesky(covariance, lower=True)
        log_determinant += 2 * float(np.log(np.diag(factor)).sum())
        posterior[block, block] += linalg.cho_solve((factor, True), np.eye(len(covariance)))
    factor = linalg.cholesky(posterior, lower=True)
    log_determinant += 2 * float(np.log(np.diag(factor)).sum())
    half = linalg.solve_triangular(factor, b, lower=True)
    return 0.5 * (float(half @ half) - log_determinant)
