"""How well the rings of each view fit: a profile to look at, a score, and the spacing to which they are seen.

The columns of a view have different defocus.  Their spectra are stretched to that of the tilt axis, `s sqrt(D_column / D)`, where the
defocus term of the phase is the same, and averaged.  Rings are what a spectrum has beyond the smooth part of the model, in parts of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow.ctf.model import Microscope
from tiltflow.ctf.ring_model import Expectation, RingData, RingModel

Floats = NDArray[np.float64]

_LEAST_CORRELATION = 0.5
"""Local correlation of rings and fit below which they are not seen any more; the limit of many programs lies between 0.3 and 0.75."""
_LEAST_SHELLS = 7
"""Shells over which a local correlation is taken, at least: noise correlates by 0.5 in one of ten such windows."""


@dataclass(frozen=True, slots=True, eq=False)
class Rings:
    """Rings of the views and their fit.

    Attributes
    ----------
    frequency
        1/nm, `(shells,)`.
    measured, fitted
        Power over its smooth part, less 1, `(views, shells)`.
    score
        Correlation of both, `(views,)`.
    spacing_angstrom
        Finest spacing to which they agree, `(views,)`; infinite where no rings are seen.
    """

    frequency: Floats
    measured: Floats
    fitted: Floats
    score: Floats
    spacing_angstrom: Floats


def rings_of(data: RingData, model: RingModel, at: Expectation, scope: Microscope) -> Rings:
    """Return the rings of a fit to isotropic spectra."""
    s = data.s
    smooth = at.smooth[:, :, 0]
    measured, fitted, weight = data.power[:, :, 0] / smooth - 1, at.power[:, :, 0] / smooth - 1, data.weight[:, :, 0]
    defocus = model.defocus_nm[:, None] + model.gradient * data.per_hand
    views, columns, shells = weight.shape
    sums = np.zeros((3, views, shells))
    for view in range(views):
        for column in range(columns):
            ratio = defocus[view, column] / model.defocus_nm[view]
            if weight[view, column].max() <= 0 or ratio <= 0:
                continue
            place = s * np.sqrt(ratio)  # what the column shows at s, the axis shows at this frequency
            inside = (s >= place[0]) & (s <= place[-1])
            of = np.where(inside, np.interp(s, place, weight[view, column]), 0)
            sums[0, view] += of
            sums[1, view] += of * np.interp(s, place, measured[view, column])
            sums[2, view] += of * np.interp(s, place, fitted[view, column])
    total = np.maximum(sums[0], 1e-9)
    measured, fitted = sums[1] / total, sums[2] / total
    score = np.array([_correlation(sums[0, v], measured[v], fitted[v]) for v in range(views)])
    turns_per_nm = 2 * scope.per_defocus * 2 * s * (s[1] - s[0]) / (2 * np.pi)  # of the rings within a shell, by the defocus
    spacing = np.full(views, np.inf)
    for view in range(views):
        half = np.maximum(0.5 / np.maximum(turns_per_nm * abs(model.defocus_nm[view]), 1e-9), _LEAST_SHELLS / 2)
        seen = _last_seen(sums[0, view], measured[view], fitted[view], half)
        if seen >= 0:
            spacing[view] = 10 / s[seen]
    return Rings(s, measured, fitted, score, spacing)


def _last_seen(weight: Floats, measured: Floats, fitted: Floats, half: Floats) -> int:
    """Return the last shell, going outwards, up to which all local correlations reach the limit; -1 if not even the first does."""
    last = -1
    shells = len(weight)
    for shell in range(shells):
        reach = int(np.ceil(half[shell]))
        low = max(min(shell - reach, shells - 2 * reach - 1), 0)
        part = slice(low, min(low + 2 * reach + 1, shells))
        if _correlation(weight[part], measured[part], fitted[part]) < _LEAST_CORRELATION:
            break
        last = shell
    return last


def _correlation(weight: Floats, measured: Floats, fitted: Floats) -> float:
    a = measured - np.average(measured, weights=np.maximum(weight, 1e-12))
    b = fitted - np.average(fitted, weights=np.maximum(weight, 1e-12))
    norm = np.sqrt((weight * a**2).sum() * (weight * b**2).sum())
    return float((weight * a * b).sum() / norm) if norm > 0 else 0.0
