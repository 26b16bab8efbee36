"""How far the variables of this series stray, learnt from the tracks: empirical Bayes.

Around the solution the tracks say of the variables a: a' S a / 2 - b' a.  Under a prior of covariance C = sum of v_k K_k (scatter
and drift of each kind) they are most probable (MacKay 1992, doi:10.1162/neco.1992.4.3.415) where every variance obeys

    alpha' K_k alpha = trace(P K_k),    alpha = (1 + S C)^-1 b,    P = (1 + S C)^-1 S

which the update v_k <- v_k sqrt(left / right) reaches without ever losing probability (Zhou et al. 2019,
doi:10.1080/10618600.2018.1529601).  A steady stage and a sharp camera are recognised, and few or noisy tracks then cannot invent
rotations and magnifications.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from tiltflow.align.bundle.variables import Kind, Spread, Variables

Floats = NDArray[np.float64]

_CYCLES = 40
_FLOOR = 1e-4
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
    spreads = {kind.name: _start(kind) for kind in variables.kinds}
    blocks = {name: slice(block.start - shifts, block.stop - shifts) for name, block in variables.blocks.items()}
    for _ in range(_CYCLES):
        covariance = np.zeros_like(s)
        for kind in variables.kinds:
            covariance[blocks[kind.name], blocks[kind.name]] = kind.covariance(spreads[kind.name])
        answer: Floats = np.asarray(np.linalg.solve(np.eye(len(s)) + s @ covariance, np.column_stack([b, s])), np.float64)
        alpha, p = answer[:, 0], answer[:, 1:]
        change = 0.0
        for kind in variables.kinds:
            if not kind.learnable:
                continue
            block = blocks[kind.name]
            now = spreads[kind.name]
            scatter = _updated(now.independent_sd, alpha[block], p[block, block], np.eye(len(alpha[block]), dtype=np.float64))
            drift = _updated(now.drift_sd, alpha[block], p[block, block], kind.drift())
            spreads[kind.name] = replace(now, independent_sd=min(scatter, kind.spread.independent_sd), drift_sd=drift)
            change = max(change, abs(scatter - now.independent_sd) / scatter, abs(drift - now.drift_sd) / drift)
        if change < 0.02:
            break
    return {kind.name: spreads[kind.name] for kind in variables.kinds if kind.learnable}


def _start(kind: Kind) -> Spread:
    """Return a spread with some of everything: a variance of zero would stay zero."""
    if not kind.learnable:
        return kind.spread
    return replace(kind.spread, independent_sd=0.1 * kind.spread.independent_sd, drift_sd=0.02 * kind.spread.independent_sd)


def _updated(sd: float, alpha: Floats, p: Floats, shape: Floats) -> float:
    explained, expected = float(alpha @ shape @ alpha), float(np.sum(p * shape))
    return float(max(sd * (explained / max(expected, 1e-300)) ** 0.25, _FLOOR))
