"""Centres of beads whose place is known to a pixel.

The centre is the top of the response R of the matched filter (:mod:`tiltflow.stages.beads.detect`), which is the most likely centre
under the noise spectrum of the view.  With F the Fisher information of a bead of amplitude 1,

    F = (2 pi)^2 / 2  sum f^2 T^2 / N,        sigma = 1 / (a sqrt(F))

is the error that no centring can beat (Cramer and Rao), and what is reported.  Neighbours, whose rings and flanks would pull a
centre, are subtracted with the amplitude found for them; where two beads overlap neither is measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from tiltflow.kernels import beads as kernel
from tiltflow.model import Image
from tiltflow.stages.beads.detect import Grid
from tiltflow.stages.beads.template import STEP

Floats = NDArray[np.float64]

_SPACING = 0.05
_REACH = 1.5
_SWEEPS = 2
_FINEST = 0.5
_MARGIN = 0.65


@dataclass(frozen=True, slots=True, eq=False)
class Eye:
    """The round filter of one view: `table` of it and its derivative, `energy` E, `information` F, `profile` of a bead."""

    table: Floats
    reach: float
    margin: float
    energy: float
    information: float
    profile: Floats


@dataclass(frozen=True, slots=True, eq=False)
class EyeMaker:
    """Makes the filter for beads of a diameter, cut off smoothly at 1.5 of it, from their profile and the noise of a view."""

    grid: Grid
    diameter: float
    waves: Floats

    @classmethod
    def of(cls, grid: Grid, diameter: float) -> EyeMaker:
        """Return the maker for a diameter, working pixels."""
        f = grid.frequency[grid.frequency <= _FINEST]
        reach = _REACH * diameter
        r = np.arange(int(reach / _SPACING) + 3) * _SPACING
        phase = 2 * np.pi * np.multiply.outer(r, f)
        taper = np.clip((reach - r) / (0.25 * diameter), 0, 1)[:, None]
        return cls(grid, diameter, np.stack([special.j0(phase), -special.j1(phase) * 2 * np.pi * f]) * taper)

    def __call__(self, profile: Floats, noise: Floats) -> Eye:
        """Return the filter."""
        f = self.grid.frequency[: self.waves.shape[2]]
        density = noise[: len(f)] / (self.grid.padded[0] * self.grid.padded[1])
        transform = self.grid.transform(profile)[: len(f)]
        gain = transform / density * (2 * np.pi * f * (f[1] - f[0]))
        return Eye(
            table=self.waves @ gain,
            reach=_REACH * self.diameter,
            margin=_MARGIN * self.diameter,
            energy=float(np.sum(gain * transform)),
            information=float(np.sum(gain * transform * (2 * np.pi * f) ** 2) / 2),
            profile=profile,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Centres:
    """What one view gave, NaN where nothing: `xy` `(n, 2)` working pixels, `amplitude`, `sigma` per axis, signal to noise `z`."""

    xy: Floats
    amplitude: Floats
    sigma: Floats
    z: Floats


def measure(image: Image, start: Floats, bystanders: Floats, eye: Eye, sign: int, limit: float) -> Centres:
    """Return the centres of beads that are expected at `start` `(n, 2)`, working pixels; they are within `limit` of it.

    `bystanders` `(m, 2)` are further beads, that may be in the way.
    """
    work = image * np.float32(sign)
    everyone = np.concatenate([start, bystanders])
    found = np.full((len(everyone), 3), np.nan)
    curvature = eye.information / eye.energy

    def paint(n: int, factor: float) -> None:
        if np.isfinite(found[n, 2]):
            kernel.add_profile(work, found[n, 0], found[n, 1], factor * found[n, 2] / eye.energy, eye.profile, STEP)

    company = _has_company(everyone, eye.reach)
    for sweep in range(_SWEEPS):
        for n in range(len(everyone)):
            if sweep and not company[n]:
                continue
            paint(n, 1.0)
            begin = found[n, :2].copy() if np.isfinite(found[n, 0]) else everyone[n]
            kernel.ascend(work, begin[0], begin[1], eye.table, _SPACING, eye.reach, eye.margin, curvature, limit, found[n])
            paint(n, -1.0)
    mine = found[: len(start)]
    mine[np.hypot(*(mine[:, :2] - start).T) > limit] = np.nan
    amplitude = mine[:, 2] / eye.energy
    return Centres(mine[:, :2], amplitude, 1 / (amplitude * np.sqrt(eye.information)), mine[:, 2] / np.sqrt(eye.energy))


def _has_company(xy: Floats, reach: float) -> NDArray[np.bool_]:
    distance2 = ((xy[:, None] - xy[None]) ** 2).sum(axis=-1)
    np.fill_diagonal(distance2, np.inf)
    return np.asarray((distance2 < (1.6 * reach) ** 2).any(axis=1)) if len(xy) > 1 else np.zeros(len(xy), bool)
