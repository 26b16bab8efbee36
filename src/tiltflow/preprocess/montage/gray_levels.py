"""Gain and shading of pieces, evened out from what neighbours show of the same place.

The logarithm of the ratio of two pieces, in blocks of their overlap, is the difference of their gains and of the beam at the two places:

    log b - log a = gain_b - gain_a + beam(x_b) - beam(x_a),    beam(x, y) = slope . (x, y) + fall . (x^2, y^2, x y)

The fall of the beam is that of all pieces of all views; each view has a slope; a piece has a gain, and each view adds to it a little.
Blocks have to lie side by side across the overlap, too: of pieces as they are written both places are at the same distance from the
centre in the mean, and the fall would not be seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow.model import Image
from tiltflow.preprocess.montage.overlaps import Overlap

Floats = NDArray[np.float64]

_ACROSS, _ALONG = 4, 8
"""Blocks of an overlap."""
_LEAST_RATIO = 0.4
"""Logarithms of ratios beyond are no gain: a bar of the grid, or gold that lies elsewhere."""
_GAIN, _VIEW_GAIN, _SLOPE, _FALL = 0.2, 0.02, 0.05, 0.3
"""Standard deviations expected: of the gain of a piece, of what a view adds to it, of the slope of the beam over a piece, and of its
fall to one side of a piece from the centre (times four)."""
_ROUNDS = 5
"""Of robust weights."""
_HUBER = 2.5
"""Residuals above so many standard deviations lose weight."""


@dataclass(frozen=True, slots=True, eq=False)
class GrayLevels:
    """What the gray levels of pieces are to be divided by.

    Attributes
    ----------
    log_gain
        `(views, pieces)`, mean 0 in a view.
    slope
        `(views, 2)`, of the logarithm of the beam over a piece, along x and y.
    fall
        `(3,)`: of x^2, y^2 and x y from the centre of a piece, in units of its sides.
    """

    log_gain: Floats
    slope: Floats
    fall: Floats

    @classmethod
    def even(cls, views: int, pieces: int) -> GrayLevels:
        """Return what changes nothing."""
        return cls(np.zeros((views, pieces)), np.zeros((views, 2)), np.zeros(3))

    @property
    def changes(self) -> bool:
        """Whether anything is to be divided."""
        return bool(self.log_gain.any() or self.slope.any() or self.fall.any())

    def beam(self, view: int, shape: tuple[int, int]) -> Image:
        """Return by what the pieces of a view are to be multiplied, gains aside, `(ny, nx)`."""
        y, x = ((np.arange(n) + 0.5) / n - 0.5 for n in shape)
        (sx, sy), (xx, yy, xy) = self.slope[view], self.fall
        columns, rows = -(sx * x + xx * x * x), -(sy * y + yy * y * y)
        return np.asarray(np.exp(rows[:, None] + columns - xy * np.outer(y, x)), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Ratios:
    """Logarithms of ratios in the blocks of an overlap `(blocks,)`, and what changes with the beam, `(blocks, 5)`."""

    lower: int
    upper: int
    values: Floats
    places: Floats


def ratios_of(overlap: Overlap, lower: Image, upper: Image, displacement: Floats) -> Ratios | None:
    """Return the ratios of two strips in the blocks of their overlap; None where it is too small or not bright."""
    parts = overlap.common(np.rint(displacement).astype(np.int64))
    if parts is None:
        return None
    a, b = lower[parts[0]], upper[parts[1]]
    counts = (_ALONG, _ACROSS) if overlap.edge.axis == 0 else (_ACROSS, _ALONG)
    edges = [np.linspace(0, n, count + 1).astype(int) for n, count in zip(a.shape, counts, strict=True)]
    means = [_block_means(image, edges) for image in (a, b)]
    if min(float(mean.min()) for mean in means) <= 0:
        return None
    middle = [(edge[:-1] + edge[1:]) / 2 for edge in edges]
    y, x = (grid.ravel() for grid in np.meshgrid(*middle, indexing="ij"))
    first = overlap.strips()
    places = []
    for part, strip in zip(parts, first, strict=True):
        u = (x + part[1].start + strip[1].start) / overlap.size[0] - 0.5
        v = (y + part[0].start + strip[0].start) / overlap.size[1] - 0.5
        places.append(np.stack([u, v, u * u, v * v, u * v], axis=1))
    values = (np.log(means[1]) - np.log(means[0])).ravel()
    keep = np.abs(values) < _LEAST_RATIO
    return Ratios(overlap.edge.lower, overlap.edge.upper, values[keep], (places[1] - places[0])[keep])


def _block_means(image: Image, edges: list[NDArray[np.int64]]) -> Floats:
    sums = np.add.reduceat(np.add.reduceat(image, edges[0][:-1], axis=0, dtype=float), edges[1][:-1], axis=1)
    return np.asarray(sums / np.outer(np.diff(edges[0]), np.diff(edges[1])))


def solve_gray_levels(ratios: list[list[Ratios]], pieces: int) -> GrayLevels:
    """Return gains and the beam from the ratios of all overlaps of each view: least squares with weights for outliers."""
    views = len(ratios)
    tables = [_table(each, pieces) for each in ratios]
    weights: list[Floats] = [np.ones(len(values)) for values, _, _ in tables]
    prior_own = np.concatenate([np.full(pieces, _VIEW_GAIN**-2.0), np.full(2, _SLOPE**-2.0)])
    prior_shared = np.concatenate([np.full(pieces, _GAIN**-2.0), np.full(3, _FALL**-2.0)])
    noise = 0.01**2
    shared: Floats = np.zeros(pieces + 3)
    own: list[Floats] = [np.zeros(pieces + 2)] * views
    for _ in range(_ROUNDS):
        normal, right, kept = np.diag(prior_shared), np.zeros(pieces + 3), []
        for (values, of_view, of_all), w in zip(tables, weights, strict=True):
            ww = w[:, None] / noise
            inner = np.linalg.inv(of_view.T @ (ww * of_view) + np.diag(prior_own))
            cross, own_right = of_view.T @ (ww * of_all), of_view.T @ (ww[:, 0] * values)
            normal += of_all.T @ (ww * of_all) - cross.T @ inner @ cross
            right += of_all.T @ (ww[:, 0] * values) - cross.T @ inner @ own_right
            kept.append((inner, cross, own_right))
        shared = np.asarray(np.linalg.solve(normal, right))
        own = [inner @ (own_right - cross @ shared) for inner, cross, own_right in kept]
        rest = [values - of_view @ x - of_all @ shared for (values, of_view, of_all), x in zip(tables, own, strict=True)]
        noise = max((1.4826 * float(np.median(np.abs(np.concatenate(rest))))) ** 2, 1e-8) if sum(map(len, rest)) else noise
        weights = [np.asarray(np.minimum(1.0, _HUBER * np.sqrt(noise) / np.maximum(np.abs(r), 1e-12))) for r in rest]
    gain = shared[:pieces] + np.array([x[:pieces] for x in own])
    return GrayLevels(gain - gain.mean(axis=1, keepdims=True), np.array([x[pieces:] for x in own]), shared[pieces:])


def _table(ratios: list[Ratios], pieces: int) -> tuple[Floats, Floats, Floats]:
    """Return the values of a view, and their designs: of what is its own (gains, slope), and of what all share (gains, fall)."""
    values = np.concatenate([r.values for r in ratios]) if ratios else np.zeros(0)
    places = np.concatenate([r.places for r in ratios]) if ratios else np.zeros((0, 5))
    gains = np.zeros((len(values), pieces))
    row = 0
    for r in ratios:
        gains[row : row + len(r.values), r.upper], gains[row : row + len(r.values), r.lower] = 1, -1
        row += len(r.values)
    return values, np.concatenate([gains, places[:, :2]], axis=1), np.concatenate([gains, places[:, 2:]], axis=1)
