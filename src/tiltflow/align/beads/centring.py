"""Centres of beads whose place is known to a pixel.

The centre is the top of the response R of the matched filter (:mod:`tiltflow.align.beads.detection`), which is the most likely centre
under the noise spectrum of the view.  With F the Fisher information of a bead of amplitude 1,

    F = (2 pi)^2 / 2  sum f^2 T^2 / N,        sigma = 1 / (a sqrt(F))

is the error that no centring can beat (Cramer and Rao), and what is reported.  Neighbours, whose rings and flanks would pull a
centre, are subtracted with the amplitude found for them; two beads that overlap are marked, as neither can be trusted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.spatial import cKDTree

from tiltflow.align.beads.noise_spectrum import Grid
from tiltflow.align.beads.radial_profile import STEP
from tiltflow.kernels import beads as kernel
from tiltflow.model import Image

Floats = NDArray[np.float64]

_SPACING = 0.05
_REACH = 1.5
_SWEEPS = 2
_FINEST, _WHITE = 0.5, 0.38
_LEAST_STRUCTURE = 0.03
_COMPANY, _LONE, _OVERLAP = 2.4, 2.2, 0.9
_MARGIN = 0.65


@dataclass(frozen=True, slots=True, eq=False)
class RadialFilter:
    """The round filter of one view.

    Attributes
    ----------
    diameter, profile
        Of a bead.
    table, reach
        The filter and its derivative over the radius, and where it ends.
    energy, information
        E and F.
    specimen_energy
        E with the noise of the specimen's own structures alone, without that of counting electrons, which is white.
    """

    diameter: float
    table: Floats
    reach: float
    energy: float
    information: float
    specimen_energy: float
    profile: Floats


@dataclass(frozen=True, slots=True, eq=False)
class RadialFilterFactory:
    """Makes the filter for beads of a diameter, cut off smoothly at 1.5 of it, from their profile and the noise of a view."""

    grid: Grid
    diameter: float
    waves: Floats

    @classmethod
    def of(cls, grid: Grid, diameter: float) -> RadialFilterFactory:
        """Return the maker for a diameter, working pixels."""
        f = grid.frequency[grid.frequency <= _FINEST]
        reach = _REACH * diameter
        r = np.arange(int(reach / _SPACING) + 3) * _SPACING
        phase = 2 * np.pi * np.multiply.outer(r, f)
        taper = np.clip((reach - r) / (0.25 * diameter), 0, 1)[:, None]
        return cls(grid, diameter, np.stack([special.j0(phase), -special.j1(phase) * 2 * np.pi * f]) * taper)

    def __call__(self, profile: Floats, noise: Floats) -> RadialFilter:
        """Return the filter."""
        f = self.grid.frequency[: self.waves.shape[2]]
        density = noise[: len(f)] / (self.grid.padded[0] * self.grid.padded[1])
        transform = self.grid.transform(profile)[: len(f)]
        area = 2 * np.pi * f * (f[1] - f[0])
        gain = transform / density * area
        white = float(np.median(density[f > _WHITE]))
        structure = np.maximum(density - white, _LEAST_STRUCTURE * white)
        return RadialFilter(
            diameter=self.diameter,
            table=self.waves @ gain,
            reach=_REACH * self.diameter,
            energy=float(np.sum(gain * transform)),
            information=float(np.sum(gain * transform * (2 * np.pi * f) ** 2) / 2),
            specimen_energy=float(np.sum(transform**2 / structure * area)),
            profile=profile,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Centres:
    """What one view gave for each bead.

    Attributes
    ----------
    xy
        `(beads, 2)` working pixels; NaN where there is no bead.
    amplitude, sigma, z
        How far it stands out, standard deviation per axis, and signal to noise; NaN where there is no bead.
    contrast
        Signal to the specimen's own structures, without the noise of counting; NaN where there is no bead.
    overlapped
        Where another bead is in the way.
    lone
        Where no other bead is near.
    """

    xy: Floats
    amplitude: Floats
    sigma: Floats
    z: Floats
    contrast: Floats
    overlapped: NDArray[np.bool_]
    lone: NDArray[np.bool_]


def centre_beads(image: Image, start: Floats, bystanders: Floats, eye: RadialFilter, sign: int, limit: float) -> Centres:
    """Return the centres of beads that are expected at `start` `(beads, 2)`, working pixels; they are within `limit` of it.

    `bystanders` `(n, 2)` are further beads that may be in the way.  `sign` is 1 for beads lighter than their surroundings.
    """
    work = image * np.float32(sign)
    count = len(start)
    everyone = np.concatenate([start, bystanders])
    found = np.full((len(everyone), 3), np.nan)
    curvature = eye.information / eye.energy

    def paint(n: int, factor: float) -> None:
        if np.isfinite(found[n, 2]):
            kernel.add_profile(work, found[n, 0], found[n, 1], factor * found[n, 2] / eye.energy, eye.profile, STEP)

    company = _nearest(everyone) < _COMPANY * eye.diameter
    for sweep in range(_SWEEPS):
        for n in np.flatnonzero(company).tolist() if sweep else range(len(everyone)):
            paint(n, 1.0)
            x, y = found[n, :2] if np.isfinite(found[n, 0]) else everyone[n]
            kernel.ascend(work, x, y, eye.table, _SPACING, eye.reach, _MARGIN * eye.diameter, curvature, limit, found[n])
            paint(n, -1.0)
    mine = found[:count]
    mine[np.hypot(*(mine[:, :2] - start).T) > limit] = np.nan
    gap = _nearest(np.where(np.isfinite(found[:, :2]), found[:, :2], everyone))[:count]
    amplitude = mine[:, 2] / eye.energy
    return Centres(
        xy=mine[:, :2],
        amplitude=amplitude,
        sigma=1 / (amplitude * np.sqrt(eye.information)),
        z=mine[:, 2] / np.sqrt(eye.energy),
        contrast=amplitude * np.sqrt(eye.specimen_energy),
        overlapped=gap < _OVERLAP * eye.diameter,
        lone=gap > _LONE * eye.diameter,
    )


def _nearest(xy: Floats) -> Floats:
    """Return the distance from each point to the nearest other one."""
    # The nearest of all is the point itself.
    return np.asarray(cKDTree(xy).query(xy, k=2)[0][:, 1])
