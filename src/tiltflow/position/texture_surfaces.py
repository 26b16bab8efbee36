"""The two surfaces of a section in a small volume, from its texture (:mod:`tiltflow.position.texture`).

Heights are voxels above the centre of the volume, z up.  A section lies between the planes
`z = bottom + x tan(tilt) + y tan(pitch)` and `z = top + ...`.

**Slopes and centre.**  A hypothetical section divides the cells of all columns into shells by their depth: outside, close to a
surface, and deeper.  Each shell has its own distribution of texture levels, estimated from the cells in it; the log likelihood of
the section is the sum over shells and levels of `n log(n / N)`, with n cells of the level among the N of the shell.  It is greatest
when no texture lies outside and the shells differ most: neither an edge of some shape nor a threshold is assumed.  The search begins
with the slopes at which the levels within each height differ least, which needs no surfaces.

**Thickness.**  Along planes of these slopes the mean energy in the higher frequency bands has a peak, which ends where the section
does (:mod:`tiltflow.position.section_edges`).  Each band gives an estimate, and their geometric mean is used.

**Errors.**  The field is divided into tiles, and the section is fitted again with each of them left out in turn (jackknife).  To the
error of the thickness are added half the range of the bands' estimates, and a floor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.position.section_edges import thickness_of
from tiltflow.position.texture import LEVELS, Columns

Floats = NDArray[np.float64]
SlopeFit = tuple[float, float]

STEEPEST_DEG = 12.0
"""Slopes are searched up to this angle.  Sections lie within a few degrees of the holder's plane, lamellae are milled at 8 to 12."""
LEAST_THICKNESS = 6
"""Thinnest section, voxels: what remains of a surface alone, blurred by 2.3 voxels."""

_RIMS = (0.1, 0.25)
"""Depths at which one shell ends and the next begins, as fractions of the thickness.  With half of them the error of the centre grows
by 0.7 px on small simulated sections, with double those of slopes and centre are a little smaller (`docs/sensitivity/position.md`)."""
_TILES = 4
"""Tiles along each side of the field, for the jackknife: sixteen give a standard error to 20 %.  With
four of them the errors come out so large that a good position is not trusted; 64 change nothing."""
_LEAST_THICKNESS_ERROR = 0.04
"""Floor of the error of the thickness, as a fraction of it: the rms error of simulated sections whose jackknife error is small
(`benchmarks/positioning.py`)."""
_CANDIDATE_STEP = 2
"""Voxels between the surfaces of the sections among which the most likely one is sought first; less than the blur."""

_COARSE_STEP_DEG = 4.0
"""Spacing of the grid of slopes that the search begins with.  Half or double, of this and the next two, leads to the same slopes."""
_COARSE_BLUR = 1.5
"""Standard deviation by which counts are smoothed along z for the coarse search, voxels; columns are rounded to whole voxels."""
_LEVEL_STEPS_DEG = 2.0, 0.25
"""First and last step of the search for the slopes with the least difference within heights: from half the coarse grid down."""
_LIKELIHOOD_STEPS_DEG = 0.5, 0.12
"""First and last step of the search for the slopes of the most likely section; the fit of a paraboloid comes after, so that half or
double changes them by less than 0.01 degrees."""
_FIT_STEP_VOXELS, _FIT_STEP_DEG = 1.5, 1.0
"""Step of the grid that the paraboloid is fitted to: it moves the edge of the field by so many voxels, but is no greater than this.
From half to double the slopes change by 0.01 degrees."""
_FIT_REACH = 2
"""Steps to either side of the best slopes that this grid has, and to which the summit is confined."""

_SURFACE_REACH = 5.0
"""Voxels around the surfaces of the most likely section within which they are sought again for each tile left out.
2.5 or 10 find the same."""
_SURFACE_STEP, _ROUGH_SURFACE_STEP = 0.5, 1.0
"""Voxels between the surfaces tried for the centre, and while slopes are fitted; half or double changes the centre by 0.1 px."""
_FULL_HEIGHT = 0.8
"""Fraction of the columns, compared with the fullest height, that a height needs to be used: slopes cut the ends of the volume."""
_CORE, _OUTSIDE, _OUTSIDE_VOXELS = 0.25, 0.6, 2
"""Distances from the centre, as fractions of the thickness, within which the texture's peak and beyond which its background are
measured; the background begins two voxels farther out, for the blur."""
_FEWEST_OUTSIDE = 3
"""Heights outside the section needed for the scatter of the background."""
_MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionFit:
    """A section of given slopes, and standard errors; voxels.

    Attributes
    ----------
    centre
        Height of its middle above the centre of the volume.
    thickness
        Distance of its surfaces along z.
    centre_error, thickness_error
        Their standard errors.
    contrast
        Height of the peak of the mean texture along its planes, over the scatter of this mean outside the section.
    """

    centre: float
    thickness: float
    centre_error: float
    thickness_error: float
    contrast: float


def fit_slopes(columns: Columns, *, finer: Sequence[Columns] = ()) -> tuple[SlopeFit, SlopeFit]:
    """Return the slopes of the most likely section, and their standard errors.

    Parameters
    ----------
    columns
        The texture in the lowest frequency band.
    finer
        The same columns in higher bands, which are included once the slopes are roughly known.

    Returns
    -------
    slopes, errors
        (tilt, pitch) each, degrees.
    """
    counts = _LevelCounts(columns)
    slopes = _pattern_search(counts.height_information, _coarse_grid(counts.height_information), *_LEVEL_STEPS_DEG)
    slopes = _pattern_search(counts.likelihood, slopes, *_LIKELIHOOD_STEPS_DEG)
    return _refine_slopes([counts, *map(_LevelCounts, finer)], slopes)


def fit_section(columns: Columns, slopes: SlopeFit, *, finer: Sequence[Columns] = ()) -> SectionFit:
    """Return the most likely section of given slopes.

    Parameters
    ----------
    columns
        The texture in the lowest frequency band.
    slopes
        (tilt, pitch), degrees.
    finer
        The same columns in higher bands, which give the thickness; if there are none, the lowest does.
    """
    levelled = _LevelCounts(columns)
    centre, centre_error = _centre(levelled, slopes)
    thickness, thickness_error = _thickness(finer or [columns], slopes, centre)
    return SectionFit(
        centre=centre,
        thickness=thickness,
        centre_error=centre_error,
        thickness_error=thickness_error,
        contrast=_contrast(levelled, slopes, centre, thickness),
    )


class _LevelCounts:
    """Counts of cells by level and height above planes of given slopes."""

    def __init__(self, columns: Columns) -> None:
        by, bx, nz = columns.level.shape
        self._x, self._y, self._energy = columns.x, columns.y, columns.energy
        # The paraboloid is fitted to a grid that may reach beyond the steepest slopes.
        steepest = np.tan(np.deg2rad(STEEPEST_DEG + _FIT_REACH * _FIT_STEP_DEG))
        self._pad = int(np.ceil(steepest * (np.abs(columns.x).max() + np.abs(columns.y).max()))) + 1
        self.heights = nz + 2 * self._pad
        """Number of heights, the first at :attr:`lowest`."""
        self.lowest = columns.lowest - self._pad
        tile = (np.arange(by) * _TILES // by)[:, None] * _TILES + np.arange(bx) * _TILES // bx
        cell = columns.level + LEVELS * (np.arange(nz) + self._pad)
        self._place = (cell + LEVELS * self.heights * tile[..., None]).reshape(by, bx, nz)
        starts = np.arange(0, self.heights + 1, _CANDIDATE_STEP)
        first, last = np.triu_indices(len(starts), LEAST_THICKNESS // _CANDIDATE_STEP)
        self._pairs = starts[first].astype(np.float64), starts[last].astype(np.float64)

    def counts(self, slopes: SlopeFit) -> Floats:
        """Return the cells at each height and level of every tile, `(tiles, heights, levels)`."""
        place = self._place - LEVELS * self._rise(slopes)[..., None]
        size = _TILES**2 * self.heights * LEVELS
        return np.bincount(place.ravel(), minlength=size).reshape(_TILES**2, self.heights, LEVELS).astype(np.float64)

    def profiles(self, slopes: SlopeFit) -> tuple[Floats, Floats]:
        """Return the sum of the energy at each height of every tile, `(tiles, heights)`, and the number of cells summed."""
        place = (self._place // LEVELS - self._rise(slopes)[..., None]).ravel()
        size, shape = _TILES**2 * self.heights, (_TILES**2, self.heights)
        sums = np.bincount(place, self._energy.ravel(), size).reshape(shape)
        return sums, np.bincount(place, minlength=size).reshape(shape).astype(np.float64)

    def _rise(self, slopes: SlopeFit) -> NDArray[np.int64]:
        tilt, pitch = np.tan(np.deg2rad(slopes))
        return np.asarray(np.rint(tilt * self._x + pitch * self._y[:, None]).astype(np.int64))

    @property
    def reach(self) -> float:
        """Half the width of the field, voxels."""
        return float(np.abs(self._x).max())

    def height_information(self, slopes: SlopeFit) -> float:
        """Return the log likelihood of the levels when each height has a distribution of its own."""
        counts = scipy.ndimage.gaussian_filter1d(self.counts(slopes).sum(axis=0), _COARSE_BLUR, axis=0)
        return float(_information(counts).sum())

    def likelihood(self, slopes: SlopeFit) -> float:
        """Return the log likelihood of the best section of these slopes."""
        return float(_likelihoods(_below(self.counts(slopes).sum(axis=0)), *self._pairs).max())

    def best(self, counts: Floats) -> tuple[float, float]:
        """Return bottom and top of the best section, heights counted from the first, to :data:`_CANDIDATE_STEP`."""
        best = int(np.argmax(_likelihoods(_below(counts), *self._pairs)))
        return float(self._pairs[0][best]), float(self._pairs[1][best])


def _information(counts: Floats) -> Floats:
    """Return the sum over the last axis of `n log(n / N)`."""
    total = counts.sum(axis=-1)
    return np.asarray((counts * np.log(np.maximum(counts, 1e-9))).sum(axis=-1) - total * np.log(np.maximum(total, 1e-9)))


def _below(counts: Floats) -> Floats:
    """Return the cells of each level below every height, `(heights + 1, levels)`."""
    return np.concatenate([np.zeros((1, counts.shape[1])), np.cumsum(counts, axis=0)])


def _likelihoods(below: Floats, first: Floats, last: Floats) -> Floats:
    """Return the log likelihoods of sections between the heights `first` and `last`, counted from the first one."""

    def up_to(at: Floats) -> Floats:
        k = np.clip(at.astype(np.int64), 0, len(below) - 2)
        part = (at - k)[:, None]
        return np.asarray(below[k] * (1 - part) + below[k + 1] * part)

    rest, sum_ = np.broadcast_to(below[-1], (len(first), below.shape[1])), np.zeros(len(first))
    for depth in (0.0, *_RIMS):
        rim = depth * (last - first)
        deeper = up_to(last - rim) - up_to(first + rim)
        sum_ += _information(rest - deeper)
        rest = deeper
    return np.asarray(sum_ + _information(rest))


def _sections_near(first: float, last: float, step: float) -> tuple[Floats, Floats]:
    """Return the sections whose surfaces lie within :data:`_SURFACE_REACH` of those of one."""
    around = np.arange(-_SURFACE_REACH, _SURFACE_REACH + step / 2, step)
    firsts, lasts = (grid.ravel() for grid in np.meshgrid(np.maximum(first + around, 0.0), last + around))
    kept = lasts - firsts >= LEAST_THICKNESS
    return firsts[kept], lasts[kept]


def _coarse_grid(score: Callable[[SlopeFit], float]) -> SlopeFit:
    """Return the slopes of the greatest score on a coarse grid."""
    grid = np.arange(-STEEPEST_DEG, STEEPEST_DEG + 0.1, _COARSE_STEP_DEG)
    return max(((float(t), float(p)) for t in grid for p in grid), key=score)


def _pattern_search(score: Callable[[SlopeFit], float], slopes: SlopeFit, step: float, least: float) -> SlopeFit:
    """Return the slopes of the greatest score near some, by pattern search with steps from `step` down to `least` degrees."""
    best = score(slopes)
    while step >= least:
        around = [(slopes[0] + i * step, slopes[1] + j * step) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
        scores = [score(each) if max(map(abs, each)) <= STEEPEST_DEG else -np.inf for each in around]
        if max(scores) > best:
            best, slopes = max(scores), around[int(np.argmax(scores))]
        else:
            step /= 2
    return slopes


def _refine_slopes(textures: Sequence[_LevelCounts], slopes: SlopeFit) -> tuple[SlopeFit, SlopeFit]:
    """Return the slopes to a fraction of the steps of the search, and their standard errors.

    A paraboloid is fitted to the log likelihood on a grid around the best slopes, for all tiles and with each of them left out.
    """
    first = textures[0]
    step = min(float(np.rad2deg(np.arctan(_FIT_STEP_VOXELS / first.reach))), _FIT_STEP_DEG)
    steps = range(-_FIT_REACH, _FIT_REACH + 1)
    grid = np.array([(i, j) for i in steps for j in steps], np.float64)
    scores = np.zeros((_TILES**2 + 1, len(grid)))
    pairs = _sections_near(*first.best(first.counts(slopes).sum(axis=0)), _ROUGH_SURFACE_STEP)
    for levelled in textures:
        for column, (i, j) in enumerate(grid):
            counts = levelled.counts((slopes[0] + i * step, slopes[1] + j * step))
            whole = counts.sum(axis=0)
            scores[0, column] += _likelihoods(_below(whole), *pairs).max()
            for tile, part in enumerate(counts):
                scores[tile + 1, column] += _likelihoods(_below(whole - part), *pairs).max()
    i, j = grid.T
    design = np.stack([np.ones_like(i), i, j, i * i, i * j, j * j], axis=1)
    tops = np.array([_summit(*each[1:]) for each in np.linalg.lstsq(design, scores.T, rcond=None)[0].T])
    best = np.array(slopes) + step * tops[0]
    errors = step * _jackknife(tops[1:])
    return (float(best[0]), float(best[1])), (float(errors[0]), float(errors[1]))


def _summit(a: float, b: float, aa: float, ab: float, bb: float) -> Floats:
    """Return where `a i + b j + aa i² + ab i j + bb j²` is greatest, within the grid; the origin if it has no maximum."""
    if aa >= 0 or 4 * aa * bb <= ab * ab:
        return np.zeros(2)
    return np.clip(np.linalg.solve([[2 * aa, ab], [ab, 2 * bb]], [-a, -b]), -_FIT_REACH, _FIT_REACH)


def _jackknife(values: Floats) -> Floats:
    """Return the standard error of values that were estimated with each of n tiles left out, `(n, values)`."""
    n = len(values)
    return np.asarray(np.sqrt((n - 1) / n * ((values - values.mean(axis=0)) ** 2).sum(axis=0)))


def _centre(levelled: _LevelCounts, slopes: SlopeFit) -> tuple[float, float]:
    """Return the height of the middle of the most likely section of given slopes, and its standard error."""
    counts = levelled.counts(slopes)
    whole = counts.sum(axis=0)
    firsts, lasts = _sections_near(*levelled.best(whole), _SURFACE_STEP)
    found = []
    for some in (whole, *(whole - part for part in counts)):
        best = int(np.argmax(_likelihoods(_below(some), firsts, lasts)))
        found.append((firsts[best] + lasts[best]) / 2)
    return float(levelled.lowest - 0.5 + found[0]), float(_jackknife(np.array(found[1:])))


def _thickness(textures: Sequence[Columns], slopes: SlopeFit, centre: float) -> tuple[float, float]:
    """Return the thickness of the section of given slopes and centre, and its standard error."""
    found = np.array([_thicknesses(each, slopes, centre) for each in textures])
    mean = np.exp(np.log(found).mean(axis=0))
    between_bands = float(np.ptp(found[:, 0])) / 2
    return float(mean[0]), float(np.hypot(np.hypot(_jackknife(mean[1:]), between_bands), _LEAST_THICKNESS_ERROR * mean[0]))


def _thicknesses(texture: Columns, slopes: SlopeFit, centre: float) -> list[float]:
    """Return the thickness of the whole field, and of the field without each of its tiles."""
    levelled = _LevelCounts(texture)
    sums, cells = levelled.profiles(slopes)
    inner, middle = _full_heights(levelled, cells.sum(axis=0), centre)
    found = []
    for used in (np.ones(len(sums), bool), *~np.eye(len(sums), dtype=bool)):
        profile = sums[used, inner].sum(axis=0) / np.maximum(cells[used, inner].sum(axis=0), 1)
        found.append(max(thickness_of(profile, middle, texture.band.blur), float(LEAST_THICKNESS)))
    return found


def _full_heights(levelled: _LevelCounts, cells: Floats, centre: float) -> tuple[slice, float]:
    """Return the heights that most columns reach, and the place of the centre among them."""
    full = np.flatnonzero(cells >= _FULL_HEIGHT * cells.max())
    middle = float(np.clip(centre - levelled.lowest, full[0], full[-1]))
    return slice(int(full[0]), int(full[-1]) + 1), middle - float(full[0])


def _contrast(levelled: _LevelCounts, slopes: SlopeFit, centre: float, thickness: float) -> float:
    """Return the height of the peak of the texture over the scatter outside it."""
    sums, cells = (each.sum(axis=0) for each in levelled.profiles(slopes))
    heights, middle = _full_heights(levelled, cells, centre)
    profile = np.sqrt(sums[heights] / cells[heights])
    away = np.abs(np.arange(len(profile)) - middle)
    inside, outside = profile[away <= _CORE * thickness], profile[away > _OUTSIDE * thickness + _OUTSIDE_VOXELS]
    if len(outside) < _FEWEST_OUTSIDE:
        return 0.0
    background = float(np.median(outside))
    scatter = _MAD_TO_SD * float(np.median(np.abs(outside - background)))
    return float((inside.mean() - background) / max(scatter, 1e-6 * abs(background), 1e-30))
