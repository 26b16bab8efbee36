"""Empirical Bayes: the priors' standard deviations, estimated from the tracks of the series itself.

About the solution minus the log-likelihood of the variables a is a' S a / 2 - b' a.  Under a prior of covariance C = sum of v_k K_k
(scatter and drift of each kind) the evidence is largest (MacKay 1992, doi:10.1162/neco.1992.4.3.415) where every variance obeys

    alpha' K_k alpha = trace(P K_k),    alpha = (1 + S C)^-1 b,    P = (1 + S C)^-1 S

which the update v_k <- v_k sqrt(left / right) reaches without ever decreasing the evidence (Zhou et al. 2019,
doi:10.1080/10618600.2018.1529601).  With a stable stage the priors become narrow, so that few or noisy tracks do not produce spurious
rotations and magnifications.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.align.bundle.variables import Kind, Spread, Variables
from tiltflow.align.positive import inverse_of_positive

Floats = NDArray[np.float64]

_CYCLES = 40
"""Most iterations of the variances."""
_SETTLED = 0.02
"""The iterations end when no standard deviation changes by more, as a fraction."""
_FLOOR = 1e-4
"""Lower bound of a standard deviation, radians or a fraction: 0.05 pixels at 500 pixels from the centre."""
_START_INDEPENDENT, _START_DRIFT = 0.1, 0.02
"""Initial standard deviations as fractions of the widest: a variance of zero would stay zero."""


def estimate_spreads(matrix: Floats, right: Floats, variables: Variables) -> dict[str, Spread]:
    """Return the most probable standard deviations of every kind that has them estimated, never wider than now.

    Parameters
    ----------
    matrix, right
        S and b above over all variables, shifts included, in units of the noise.
    variables
        The variables and their present priors.
    """
    shifts = 2 * variables.views
    # The shifts have no prior and are eliminated: the others are left with the Schur complement.
    through = scipy.linalg.solve(matrix[:shifts, :shifts], matrix[:shifts, shifts:], assume_a="pos")
    s = matrix[shifts:, shifts:] - matrix[shifts:, :shifts] @ through
    b = right[shifts:] - right[:shifts] @ through
    spreads = {kind.name: _start(kind) for kind in variables.kinds}
    blocks = {name: slice(block.start - shifts, block.stop - shifts) for name, block in variables.blocks.items()}
    for _ in range(_CYCLES):
        # With Q = C^-1, block by block: alpha = Q (S + Q)^-1 b and P = Q - Q (S + Q)^-1 Q.
        precision: dict[str, Floats] = {
            kind.name: np.asarray(np.linalg.inv(kind.covariance(spreads[kind.name])), np.float64) for kind in variables.kinds
        }
        posterior = inverse_of_positive(s + scipy.linalg.block_diag(*precision.values()))
        mean = posterior @ b
        change = 0.0
        for kind in variables.kinds:
            if not kind.learnable:
                continue
            block = blocks[kind.name]
            now, q = spreads[kind.name], precision[kind.name]
            alpha, p = q @ mean[block], q - q @ posterior[block, block] @ q
            scatter = _updated(now.independent_sd, alpha, p, np.eye(len(alpha), dtype=np.float64))
            change = max(change, abs(scatter - now.independent_sd) / scatter)
            spreads[kind.name] = replace(now, independent_sd=min(scatter, kind.spread.independent_sd))
            if kind.drifts:
                drift = _updated(now.drift_sd, alpha, p, kind.drift())
                change = max(change, abs(drift - now.drift_sd) / drift)
                spreads[kind.name] = replace(spreads[kind.name], drift_sd=drift)
        if change < _SETTLED:
            break
    return {kind.name: spreads[kind.name] for kind in variables.kinds if kind.learnable}


def _start(kind: Kind) -> Spread:
    """Return the initial standard deviations of a kind."""
    if not kind.learnable:
        return kind.spread
    widest = kind.spread.independent_sd
    drift = _START_DRIFT * widest if kind.drifts else 0.0
    return replace(kind.spread, independent_sd=_START_INDEPENDENT * widest, drift_sd=drift)


def _updated(sd: float, alpha: Floats, p: Floats, shape: Floats) -> float:
    explained, expected = float(alpha @ shape @ alpha), float(np.sum(p * shape))
    return float(max(sd * (explained / max(expected, 1e-300)) ** 0.25, _FLOOR))
