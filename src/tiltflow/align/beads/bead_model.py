"""The appearance of the beads of a series: their sign, diameter and profile, measured in the views nearest zero tilt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.beads.bead_views import BeadViews
from tiltflow.align.beads.centring import around
from tiltflow.align.beads.detection import Spots, find_spots, matched_filter, respond, strong
from tiltflow.align.beads.noise_spectrum import BLANKED, Grid, Pixels, ViewSpectrum, middle_of, noise_spectrum, transform_view
from tiltflow.align.beads.params import BeadParams
from tiltflow.align.beads.radial_profile import radii, sphere_profile
from tiltflow.kernels import beads as kernel
from tiltflow.parallel import map_threads

Floats = NDArray[np.float64]

_SIZES = np.geomspace(0.6, 1.7, 7)
"""Diameters tried, relative to the given one; 19 % apart, between which a parabola finds the maximum."""
_FINER = np.geomspace(0.85, 1.18, 5)
"""Diameters tried about that maximum, 8.5 % apart."""
_GIVES_WAY = 0.4
"""Part of the highest score from which a sign counts whose highest is at a size between others."""
_LEAST_Z = 5.0
"""Signal to noise of the spots that sign and diameter are judged by."""
_VIEWS = 3
"""Views nearest zero tilt that are examined."""
_LEAST_COUNT = 8
"""Least number of spots per view that sign and diameter are judged by."""
RING = 0.5
"""Width of the rings over which beads are averaged, working pixels."""
REACH = 2.0
"""Radius of a measured profile, diameters."""
_CLEAR, _CLEAREST = 0.4, 5
"""Spots enter the mean profile whose signal to noise is at least this fraction of the mean over this many of the clearest."""
_RIVAL = 0.3
_APART = 2.2
"""A bead is isolated if every spot with more than `_RIVAL` of its signal to noise lies `_APART` diameters away."""
_BASE = 1.3
"""Radius, diameters, beyond which the median of the profile is its base line."""
_FADE = 0.5
"""Width, diameters, over which the profile is tapered at its end."""


@dataclass(frozen=True, slots=True, eq=False)
class BeadModel:
    """The appearance of beads.

    Attributes
    ----------
    sign
        1 for beads lighter than their surroundings, -1 for darker ones: the factor that makes them light.
    diameter
        Working pixels.
    profile
        Over the radius, with a mean of 1 over the bead.
    noise
        Power by radial bin of a view without its beads.
    """

    sign: int
    diameter: float
    profile: Floats
    noise: Floats


def measure_bead_model(series: BeadViews, params: BeadParams, threads: int) -> BeadModel:
    """Return the model of the beads, from the views nearest zero tilt."""
    views = series.ordered[np.argsort(np.abs(series.tilt_deg[series.ordered]), kind="stable")[:_VIEWS]]
    count, diameter = max(params.target_number, _LEAST_COUNT), series.diameter

    def examine(view: int) -> _CentralView:
        return _CentralView.of(series.read(view), series.grid, diameter)

    exams = list(map_threads(examine, views, threads))

    def spots_of(size: float, *signs: int) -> list[tuple[Spots, ...]]:
        sphere = series.grid.transform(sphere_profile(size, 2 * size))
        return list(map_threads(lambda exam: exam.spots(sphere, size, signs), exams, threads))

    def scores_of(sizes: Floats, *signs: int) -> Floats:
        """Return the sum of squares of the clearest spots' signal to noise, `(signs, sizes)`."""
        found = [spots_of(size, *signs) for size in sizes]
        return np.array([[sum(np.sum(s[n].z[:count] ** 2) for s in views) for views in found] for n in range(len(signs))], float)

    signs = (-1, 1) if params.light is None else (1 if params.light else -1,)
    sizes = diameter * (_SIZES if params.adjust_size else np.ones(1))
    scores = scores_of(sizes, *signs)
    best = _best_sign(scores)
    sign, size = signs[best], _top(sizes, scores[best])
    # Once the beads are found the noise is measured without them, which sharpens the filter and the diameter.
    known = zip(views, exams, spots_of(size, sign), strict=True)
    exams = list(map_threads(lambda each: each[1].without(series.read(each[0]), each[2][0], size), known, threads))
    if params.adjust_size:
        size = _top(size * _FINER, scores_of(size * _FINER, sign)[0])
    spots = [found for (found,) in spots_of(size, sign)]
    profile = mean_profile(map(series.read, views), spots, sign, size, count)
    return BeadModel(sign, size, profile, np.exp(np.mean([np.log(exam.noise) for exam in exams], axis=0)))


@dataclass(frozen=True, slots=True, eq=False)
class _CentralView:
    """The spectrum of a view near zero tilt, and of its noise."""

    grid: Grid
    spectrum: ViewSpectrum
    noise: Floats

    @classmethod
    def of(cls, image: Pixels, grid: Grid, diameter: float) -> _CentralView:
        spectrum, middle = transform_view(image, grid), middle_of(image, grid)
        del image
        return cls(grid, spectrum, noise_spectrum(middle, grid, None, diameter))

    def spots(self, sphere: Floats, size: float, signs: Sequence[int]) -> tuple[Spots, ...]:
        """Return the spots like spheres of a size and transform, for each sign: the filter of dark ones is minus that of light ones."""
        filter_ = matched_filter(sphere, self.noise, self.grid)
        response = respond(self.spectrum, filter_, self.grid)
        turned = (response if sign > 0 else -response for sign in signs)
        return tuple(find_spots(each, filter_, self.grid, size, _LEAST_Z, size / 2) for each in turned)

    def without(self, image: Pixels, spots: Spots, size: float) -> _CentralView:
        """Return the view with the noise measured between the spots."""
        middle = middle_of(image, self.grid)
        del image
        return replace(self, noise=noise_spectrum(middle, self.grid, strong(spots), BLANKED * size))


def _best_sign(scores: Floats) -> int:
    """Return the row of the sign that beads have, from the scores by sign and size, `(signs, sizes)`.

    What is clearest at the smallest or largest size, as x-ray hits and contamination are, gives way to what is clearest at one between.
    """
    highest, at = scores.max(axis=1), np.argmax(scores, axis=1)
    between = (at > 0) & (at < scores.shape[1] - 1) & (highest > _GIVES_WAY * highest.max())
    return int(np.argmax(np.where(between, highest, 0.0) if between.any() else highest))


def _top(sizes: Floats, scores: Floats) -> float:
    """Return the size of the highest score, by a parabola in the logarithm of the size."""
    k = int(np.argmax(scores))
    if k in {0, len(sizes) - 1}:
        return float(sizes[k])
    a, b, c = scores[k - 1 : k + 2]
    offset = 0.5 * (a - c) / (a - 2 * b + c)
    return float(np.exp(np.log(sizes[k]) + offset * (np.log(sizes[k + 1]) - np.log(sizes[k]))))


def mean_profile(images: Iterable[Pixels], spots: Sequence[Spots], sign: int, diameter: float, count: int) -> Floats:
    """Return the mean profile of the clearest isolated beads."""
    reach = REACH * diameter
    rings = np.zeros((3, int(np.ceil(reach / RING)) + 1))
    for image, found in zip(images, spots, strict=True):
        clear = found.z > _CLEAR * float(np.mean(found.z[:_CLEAREST])) if len(found) else np.zeros(0, bool)
        clear[count:] = False
        real = around(image, found.xy[clear], reach)
        for n in np.flatnonzero(clear):
            gaps = np.hypot(*(found.xy - found.xy[n]).T)
            gaps[n] = np.inf
            nearest = gaps[found.z > _RIVAL * found.z[n]].min(initial=np.inf)
            if nearest < _APART * diameter:
                continue
            kernel.add_to_rings(real, found.xy[n : n + 1], float(sign), reach, RING, rings)
    return profile_of_rings(rings, diameter)


def profile_of_rings(rings: Floats, diameter: float) -> Floats:
    """Return the profile from sums, squares and counts over rings, `(3, rings)`: mean 1 over the bead, 0 far from it.

    Values below their own uncertainty are drawn to zero (a Wiener factor), so that the filter does not follow the noise of the mean.
    """
    reach = REACH * diameter
    sums, squares, counts = rings
    if counts[0] == 0:
        return sphere_profile(diameter, reach)
    mean = sums / np.maximum(counts, 1)
    error2 = np.maximum(squares / np.maximum(counts, 1) - mean**2, 0) / np.maximum(counts, 1)
    mean -= np.median(mean[int(_BASE * diameter / RING) :])
    mean *= mean**2 / np.maximum(mean**2 + error2, 1e-30)
    r = radii(reach)
    profile = np.interp(r, (np.arange(len(mean)) + 0.5) * RING, mean) * np.clip((reach - r) / (_FADE * diameter), 0, 1)
    bead = r < diameter / 2
    level = float(np.sum((profile * r)[bead]) / np.sum(r[bead]))
    return np.asarray(profile / level) if level > 0 else sphere_profile(diameter, reach)
