"""The slab that a section fills in a small volume, from its texture (:mod:`tiltflow.position.texture`).

Heights are voxels above the centre of the volume, z up.  A slab lies between two planes
`z = bottom + x tan(tilt) + y tan(pitch)` and `z = top + ...`.

**SlopeFit and centre.**  A slab divides the cells of all columns into shells by their depth: outside, close to a surface, and deeper.
Each shell has levels of texture of its own, whose distribution is taken from the cells that fall into it; the likelihood of the slab
is the sum over shells and levels of `n log(n / N)`, with n cells of the level among the N of the shell.  It is greatest when no
texture lies outside and the shells are as unlike each other as can be: neither an edge of some shape nor a threshold is assumed.
The search begins with the slopes for which the levels at the same height are most alike, which needs no surfaces.

**Thickness.**  Along planes of these slopes the mean of the energy of short waves makes a hump, which ends where the section
does (:mod:`tiltflow.position.section_edges`).  Each band of waves says so on its own; their mean counts.

**Errors.**  The field is cut into tiles, and the slab found again with each of them left out in turn (jackknife).  To the error of the
thickness comes by how much bands of waves disagree, and what remains for the best of fields.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tiltflow.position.section_edges import thickness_of
from tiltflow.position.texture import LEVELS, Columns

Floats = NDArray[np.float64]
SlopeFit = tuple[float, float]

STEEPEST_DEG = 12.0
"""Slopes are searched up to this."""
LEAST_THICKNESS = 6
"""Voxels."""

_RIMS = (0.1, 0.25)
"""Depths, as parts of the thickness, at which one shell ends and the next begins."""
_TILES = 4
"""Along each side of the field, for the jackknife."""
_LEAST_THICKNESS_ERROR = 0.04
"""Part of the thickness; that of simulated sections with thousands of structures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionFit:
    """A slab and the standard errors of what describes it; heights in voxels.

    `contrast` is the height of the hump that the slab makes in the mean of the texture along its planes, over the scatter of this
    mean outside.
    """

    centre: float
    thickness: float
    centre_error: float
    thickness_error: float
    contrast: float


def fit_slopes(columns: Columns, *, sharper: Sequence[Columns] = ()) -> tuple[SlopeFit, SlopeFit]:
    """Return the slopes (tilt, pitch) of the most likely slab, and their errors.

    Parameters
    ----------
    sharper
        The same columns of shorter waves, which take part once the slopes are known roughly.
    """
    levelled = _Levelled(columns)
    slopes = _climb(levelled.alikeness, _coarse(levelled.alikeness), 2.0, 0.25)
    slopes = _climb(levelled.likelihood, slopes, 0.5, 0.12)
    return _sharpen([levelled, *map(_Levelled, sharper)], slopes)


def fit_section(columns: Columns, slopes: SlopeFit, *, sharper: Sequence[Columns] = ()) -> SectionFit:
    """Return the most likely slab of given slopes (tilt, pitch).

    Parameters
    ----------
    sharper
        The same columns of shorter waves, which tell the thickness; none for those of the others.
    """
    levelled = _Levelled(columns)
    centre, centre_error = _centre(levelled, slopes)
    thickness, thickness_error = _thickness(sharper or [columns], slopes, centre)
    return SectionFit(
        centre=centre,
        thickness=thickness,
        centre_error=centre_error,
        thickness_error=thickness_error,
        contrast=_contrast(levelled, slopes, centre, thickness),
    )


class _Levelled:
    """Counts cells by level and height above planes of given slopes."""

    def __init__(self, columns: Columns) -> None:
        by, bx, nz = columns.level.shape
        self._x, self._y, self._energy = columns.x, columns.y, columns.energy
        steepest = np.tan(np.deg2rad(STEEPEST_DEG + 2))
        self._pad = int(np.ceil(steepest * (np.abs(columns.x).max() + np.abs(columns.y).max()))) + 1
        self.heights = nz + 2 * self._pad
        """Heights counted, the first at :attr:`lowest`."""
        self.lowest = columns.lowest - self._pad
        tile = (np.arange(by) * _TILES // by)[:, None] * _TILES + np.arange(bx) * _TILES // bx
        cell = columns.level + LEVELS * (np.arange(nz) + self._pad)
        self._place = (cell + LEVELS * self.heights * tile[..., None]).reshape(by, bx, nz)
        starts = np.arange(0, self.heights + 1, 2)
        first, last = np.triu_indices(len(starts), LEAST_THICKNESS // 2)
        self._pairs = starts[first].astype(np.float64), starts[last].astype(np.float64)

    def counts(self, slopes: SlopeFit) -> Floats:
        """Return the cells at each height and level of every tile, `(tiles, heights, levels)`."""
        place = self._place - LEVELS * self._rise(slopes)[..., None]
        size = _TILES**2 * self.heights * LEVELS
        return np.bincount(place.ravel(), minlength=size).reshape(_TILES**2, self.heights, LEVELS).astype(np.float64)

    def profiles(self, slopes: SlopeFit) -> tuple[Floats, Floats]:
        """Return the sum of the energy at each height of every tile, `(tiles, heights)`, and the cells it is the sum of."""
        place = (self._place // LEVELS - self._rise(slopes)[..., None]).ravel()
        size, shape = _TILES**2 * self.heights, (_TILES**2, self.heights)
        sums = np.bincount(place, self._energy.ravel(), size).reshape(shape)
        return sums, np.bincount(place, minlength=size).reshape(shape).astype(np.float64)

    def _rise(self, slopes: SlopeFit) -> NDArray[np.int64]:
        tilt, pitch = np.tan(np.deg2rad(slopes))
        return np.asarray(np.rint(tilt * self._x + pitch * self._y[:, None]).astype(np.int64))

    @property
    def reach(self) -> float:
        """Half the width of the field."""
        return float(np.abs(self._x).max())

    def alikeness(self, slopes: SlopeFit) -> float:
        """Return how alike the levels at the same height are."""
        counts = ndimage.gaussian_filter1d(self.counts(slopes).sum(axis=0), 1.5, axis=0)
        return float(_information(counts).sum())

    def likelihood(self, slopes: SlopeFit) -> float:
        """Return the log likelihood of the best slab of these slopes."""
        return float(_likelihoods(_below(self.counts(slopes).sum(axis=0)), *self._pairs).max())

    def best(self, counts: Floats) -> tuple[float, float]:
        """Return where the best slab begins and ends, in heights counted from the first, to two."""
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
    """Return the log likelihoods of slabs between the heights `first` and `last`, counted from the first one."""

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


def _near(first: float, last: float, reach: float = 5.0, step: float = 0.5) -> tuple[Floats, Floats]:
    """Return the slabs whose surfaces lie near those of one."""
    around = np.arange(-reach, reach + step / 2, step)
    firsts, lasts = (grid.ravel() for grid in np.meshgrid(np.maximum(first + around, 0.0), last + around))
    kept = lasts - firsts >= LEAST_THICKNESS
    return firsts[kept], lasts[kept]


def _coarse(score: Callable[[SlopeFit], float]) -> SlopeFit:
    grid = np.arange(-STEEPEST_DEG, STEEPEST_DEG + 0.1, 4.0)
    return max(((float(t), float(p)) for t in grid for p in grid), key=score)


def _climb(score: Callable[[SlopeFit], float], slopes: SlopeFit, step: float, least: float) -> SlopeFit:
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


def _sharpen(textures: Sequence[_Levelled], slopes: SlopeFit) -> tuple[SlopeFit, SlopeFit]:
    """Return the slopes to a fraction of the grid of the search, and their errors.

    Around the best slopes the likelihood is a paraboloid; it is fitted to a grid, for all tiles and without each of them.
    """
    first = textures[0]
    step = min(float(np.rad2deg(np.arctan(1.5 / first.reach))), 1.0)
    grid = np.array([(i, j) for i in (-2, -1, 0, 1, 2) for j in (-2, -1, 0, 1, 2)], np.float64)
    scores = np.zeros((_TILES**2 + 1, len(grid)))
    pairs = _near(*first.best(first.counts(slopes).sum(axis=0)), step=1.0)
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
    """Return where `a i + b j + aa i² + ab i j + bb j²` is greatest, at most two from the origin; the origin if nowhere."""
    if aa >= 0 or 4 * aa * bb <= ab * ab:
        return np.zeros(2)
    return np.clip(np.linalg.solve([[2 * aa, ab], [ab, 2 * bb]], [-a, -b]), -2, 2)


def _jackknife(values: Floats) -> Floats:
    """Return the standard error of what was estimated with each of n parts left out, `(n, values)`."""
    n = len(values)
    return np.asarray(np.sqrt((n - 1) / n * ((values - values.mean(axis=0)) ** 2).sum(axis=0)))


def _centre(levelled: _Levelled, slopes: SlopeFit) -> tuple[float, float]:
    """Return the height of the middle of the most likely slab of given slopes, and its error."""
    counts = levelled.counts(slopes)
    whole = counts.sum(axis=0)
    firsts, lasts = _near(*levelled.best(whole))
    found = []
    for some in (whole, *(whole - part for part in counts)):
        best = int(np.argmax(_likelihoods(_below(some), firsts, lasts)))
        found.append((firsts[best] + lasts[best]) / 2)
    return float(levelled.lowest - 0.5 + found[0]), float(_jackknife(np.array(found[1:])))


def _thickness(textures: Sequence[Columns], slopes: SlopeFit, centre: float) -> tuple[float, float]:
    """Return the thickness of the slab of given slopes and centre, and its error."""
    found = np.array([_thicknesses(each, slopes, centre) for each in textures])
    mean = np.exp(np.log(found).mean(axis=0))
    disagreement = float(np.ptp(found[:, 0])) / 2
    return float(mean[0]), float(np.hypot(np.hypot(_jackknife(mean[1:]), disagreement), _LEAST_THICKNESS_ERROR * mean[0]))


def _thicknesses(texture: Columns, slopes: SlopeFit, centre: float) -> list[float]:
    """Return the thickness of the whole field, and of the field without each of its tiles."""
    levelled = _Levelled(texture)
    sums, cells = levelled.profiles(slopes)
    inner, middle = _inner(levelled, cells.sum(axis=0), centre)
    found = []
    for used in (np.ones(len(sums), bool), *~np.eye(len(sums), dtype=bool)):
        profile = sums[used, inner].sum(axis=0) / np.maximum(cells[used, inner].sum(axis=0), 1)
        found.append(max(thickness_of(profile, middle, texture.waves.blur), float(LEAST_THICKNESS)))
    return found


def _inner(levelled: _Levelled, cells: Floats, centre: float) -> tuple[slice, float]:
    """Return the heights that most columns reach, and where among them the centre lies."""
    full = np.flatnonzero(cells >= 0.8 * cells.max())
    middle = float(np.clip(centre - levelled.lowest, full[0], full[-1]))
    return slice(int(full[0]), int(full[-1]) + 1), middle - float(full[0])


def _contrast(levelled: _Levelled, slopes: SlopeFit, centre: float, thickness: float) -> float:
    """Return the height of the hump of the texture over the scatter outside it."""
    sums, cells = (each.sum(axis=0) for each in levelled.profiles(slopes))
    heights, middle = _inner(levelled, cells, centre)
    profile = np.sqrt(sums[heights] / cells[heights])
    away = np.abs(np.arange(len(profile)) - middle)
    inside, outside = profile[away <= thickness / 4], profile[away > 0.6 * thickness + 2]
    if len(outside) < 3:
        return 0.0
    ground = float(np.median(outside))
    scatter = 1.4826 * float(np.median(np.abs(outside - ground)))
    return float((inside.mean() - ground) / max(scatter, 1e-6 * abs(ground), 1e-30))
