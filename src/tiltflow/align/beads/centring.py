"""Centres of beads whose positions are known to about a pixel.

The centre is the peak of the response R of the matched filter (:mod:`tiltflow.align.beads.detection`), which is the most likely centre
under the noise spectrum of the view.  With F the Fisher information of a bead of amplitude 1,

    F = (2 pi)^2 / 2  sum f^2 T^2 / N,        sigma = 1 / (a sqrt(F))

is the Cramer-Rao bound, which is reported as the standard deviation.  Neighbours, whose rings and flanks would shift a centre, are
subtracted with the amplitude found for them; two beads that overlap are marked, as neither centre is reliable.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.align.beads.noise_spectrum import Grid, Pixels, counting_power
from tiltflow.align.beads.radial_profile import STEP
from tiltflow.kernels import beads as kernel
from tiltflow.model import Image

Floats = NDArray[np.float64]

_SPACING = 0.05
"""Spacing of the filter's table, working pixels; it is interpolated linearly."""
_REACH = 1.5
"""Radius of the filter, diameters: the bead and the surroundings that it is compared with."""
_FADE = 0.25
"""Width, diameters, over which the filter is tapered at its end."""
_SWEEPS = 2
"""Times that neighbouring beads are centred, with the others subtracted."""
_FINEST = 0.5
"""Highest frequency of the filter, cycles per working pixel (Nyquist's)."""
_LEAST_STRUCTURE = 0.03
"""Least power of the specimen's own structures over the white noise: keeps the contrast finite where there are none."""
_COMPANY, _LONE, _OVERLAP = 2.4, 2.2, 0.9
"""Distance to the nearest other bead, diameters: below the first they are centred with each other subtracted, above the second a bead
enters the mean profile, below the third both are marked as overlapped."""
_LITTLE = 0.25
"""Part of an image up to which boxes about beads are taken out of it one by one."""
MARGIN = 0.65
"""Distance from the edge of a view, diameters, within which no bead is measured: the disc, and its blurred rim."""


@dataclass(frozen=True, slots=True, eq=False)
class RadialFilter:
    """The radially symmetric filter of one view.

    Attributes
    ----------
    diameter, profile
        Of a bead.
    table, reach
        The filter and its derivative over the radius, and where it ends.
    energy, information
        E and F.
    specimen_energy
        E with the noise of the specimen's own structures alone, without the white noise of counting electrons.
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
    """Makes the filter for beads of a diameter from their profile and the noise spectrum of a view."""

    grid: Grid
    diameter: float
    waves: Floats

    @classmethod
    def of(cls, grid: Grid, diameter: float) -> RadialFilterFactory:
        """Return the factory for a diameter, working pixels."""
        f = grid.frequency[grid.frequency <= _FINEST]
        reach = _REACH * diameter
        r = np.arange(int(reach / _SPACING) + 3) * _SPACING
        phase = 2 * np.pi * np.multiply.outer(r, f)
        taper = np.clip((reach - r) / (_FADE * diameter), 0, 1)[:, None]
        return cls(grid, diameter, np.stack([scipy.special.j0(phase), -scipy.special.j1(phase) * 2 * np.pi * f]) * taper)

    def __call__(self, profile: Floats, noise: Floats) -> RadialFilter:
        """Return the filter."""
        f = self.grid.frequency[: self.waves.shape[2]]
        density = noise[: len(f)] / (self.grid.padded[0] * self.grid.padded[1])
        transform = self.grid.transform(profile)[: len(f)]
        area = 2 * np.pi * f * (f[1] - f[0])
        gain = transform / density * area
        white = counting_power(noise, self.grid) / (self.grid.padded[0] * self.grid.padded[1])
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
    """The measurement of each bead in one view.

    Attributes
    ----------
    xy
        `(beads, 2)` working pixels; NaN where there is no bead.
    amplitude, sigma, z
        Height above the surroundings, standard deviation of the position per axis, and signal to noise; NaN where there is no bead.
    contrast
        Signal to noise against the specimen's own structures, without the noise of counting; NaN where there is no bead.
    overlapped
        Where another bead overlaps.
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


def centre_beads(image: Pixels, start: Floats, others: Floats, filter_: RadialFilter, sign: int, limit: float) -> Centres:
    """Return the centres of beads within `limit` of `start` `(beads, 2)`, working pixels.

    `others` `(n, 2)` are further beads, which may overlap.  `sign` is 1 for beads lighter than their surroundings, else -1.
    """
    count = len(start)
    beads = np.concatenate([start, others])
    # A bead climbs by the limit in each of two sweeps at most.
    work = _copy_around(image, beads, sign, _SWEEPS * limit + max(filter_.reach, STEP * len(filter_.profile)) + 2)
    found = np.full((len(beads), 3), np.nan)
    curvature = filter_.information / filter_.energy
    crowded = np.flatnonzero(_nearest(beads) < _COMPANY * filter_.diameter)
    for turns in (np.arange(len(beads)), *[crowded] * (_SWEEPS - 1)):
        kernel.centre_in_turn(
            work,
            beads,
            turns,
            filter_.table,
            _SPACING,
            filter_.reach,
            MARGIN * filter_.diameter,
            curvature,
            limit,
            filter_.profile,
            STEP,
            filter_.energy,
            found,
        )
    own = found[:count]
    own[np.hypot(*(own[:, :2] - start).T) > limit] = np.nan
    gap = _nearest(np.where(np.isfinite(found[:, :2]), found[:, :2], beads))[:count]
    amplitude = own[:, 2] / filter_.energy
    return Centres(
        xy=own[:, :2],
        amplitude=amplitude,
        sigma=1 / (amplitude * np.sqrt(filter_.information)),
        z=own[:, 2] / np.sqrt(filter_.energy),
        contrast=amplitude * np.sqrt(filter_.specimen_energy),
        overlapped=gap < _OVERLAP * filter_.diameter,
        lone=gap > _LONE * filter_.diameter,
    )


def around(image: Pixels, points: Floats, reach: float) -> Image:
    """Return an image as float32, of which only what lies within reach of points is set; itself if it is float32."""
    return image if image.dtype == np.float32 else _copy_around(image, points, 1, reach)


def _copy_around(image: Pixels, points: Floats, sign: int, reach: float) -> Image:
    """Return an image times a sign, of which only what lies within reach of points is set: of a large view that is little."""
    if len(points) * (2 * reach) ** 2 > _LITTLE * image.size:
        return np.asarray(image, np.float32) * np.float32(sign)
    out = np.empty(image.shape, np.float32)
    kernel.copy_around(image, points, reach, float(sign), out)
    return out


def _nearest(xy: Floats) -> Floats:
    """Return the distance from each point to the nearest other one."""
    # The nearest of all is the point itself.
    return np.asarray(scipy.spatial.cKDTree(xy).query(xy, k=2)[0][:, 1])
