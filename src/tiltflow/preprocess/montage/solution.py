"""Offsets of all pieces of all views from the displacements of their edges: one robust least squares.

The offset of a piece is what all views share, what follows the sine of the tilt, and what this view adds:

    e_kv = constant_k + slope_k sin(tilt_v) + deviation_kv

The variance of the deviations is estimated with the rest (EM), so that a view whose edges say little takes the place that the others
expect, with a standard error that says so.  An edge is judged by what all the others of its view, and the other views, predict for it:
of edges that do not close a loop the least likely one is doubted.  A piece that is far from where it is expected is believed if its
edges agree with one another, or, where no loop tells, if they match as clearly as edges do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow.piece_grid import PieceGrid

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_CONSTANT_PX, _SLOPE_PX = 10.0, 3.0
"""Standard deviations of what is shared, before anything was measured: errors of image shift
and stage are mostly within."""
_LEAST_DEVIATION_PX = 0.01
"""Of a view from what is shared: below what any edge can tell."""
_FLOOR_PX = 0.01
"""Standard error of any edge at least: interpolation is no better."""
_ROUNDS = 25
"""Of weights and variances in turn; they change by less than a thousandth then."""
_DOUBT = 16.0
"""Squared misfit, in variances and summed over x and y, from which an edge loses weight: one in 3000 by chance."""
DOUBTED = 0.25
"""Weight below which an edge is doubted, and left out."""
_UNSURE = 1e-6
"""Weight of an edge without a clear match until others agree with it."""
_FAR = 3.0
"""Standard deviations from where a piece is expected, beyond which it is believed to have moved by itself."""
_CLOSING = 0.4549
"""Median of a squared normal deviate."""
_INFLATION = 0.25, 25.0
"""Limits of the factor on the variances of edges that the closing of loops gives."""


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """Offsets of pieces.

    Attributes
    ----------
    offset_px
        `(views, pieces, 2)`.
    covariance
        `(views, 2, pieces, pieces)`, along x and along y, square pixels.
    weight
        `(views, edges)` from 0 to 1; 0 where nothing was measured.
    misfit
        `(views, edges)`: squared misfit of an edge to what all others predict, in variances.
    predicted_px
        `(views, edges, 2)`: displacements of the solution.
    away_px
        `(views, pieces)`: how far pieces are from where all views expect them.
    deviation_px
        Standard deviation of a view from what all views share.
    inflation
        Factor on the variances of edges.
    """

    offset_px: Floats
    covariance: Floats
    weight: Floats
    misfit: Floats
    predicted_px: Floats
    away_px: Floats
    deviation_px: float
    inflation: float


def incidence(grid: PieceGrid) -> Floats:
    """Return `(edges, pieces)`: -1 for the lower piece of an edge, 1 for the upper one."""
    matrix = np.zeros((len(grid.edges), grid.pieces))
    for number, edge in enumerate(grid.edges):
        matrix[number, edge.lower], matrix[number, edge.upper] = -1, 1
    return matrix


def solve(grid: PieceGrid, displacement: Floats, variance: Floats, sure: Flags, slope: Floats) -> Solution:
    """Return the offsets that explain the displacements of edges best.

    Parameters
    ----------
    grid
        The pieces.
    displacement
        `(views, edges, 2)` pixels; NaN where nothing was measured.
    variance
        `(views, edges, 2)`.
    sure
        `(views, edges)`: which match as clearly as edges of this series do.
    slope
        `(views,)`: sine of the tilt.
    """
    have = np.asarray(np.isfinite(displacement).all(axis=2))
    y = np.where(have[..., None], displacement, 0.0)
    inflation = _inflation(grid, y, variance, have & sure)
    var = np.where(have[..., None], inflation * variance + _FLOOR_PX**2, 1.0)
    model = _Model(incidence(grid), np.stack([np.ones(len(slope)), slope], axis=1), y, var, have)
    weight = np.where(sure, 1.0, _UNSURE) * have
    loose, deviation = np.ones((len(y), grid.pieces)), _first_deviation(model, weight)
    state = model.state(weight, loose, deviation)
    # Only what matches clearly can tell that a piece has moved.
    clear = np.einsum("ve,ek->vk", (sure & have).astype(float), np.abs(model.incidence)) > 0
    for turn in range(_ROUNDS if len(grid.edges) else 0):
        weight = _weights(state, model, weight, sure)
        state = model.state(weight, loose, deviation)
        if turn > _ROUNDS // 3:
            away = np.sqrt((state.x**2).sum(axis=2))
            loose = np.where(clear, np.minimum(1.0, _FAR * deviation / np.maximum(away, 1e-9)) ** 2, 1.0)
        deviation = _deviation(state, loose)
        state = model.state(weight, loose, deviation)
    return Solution(
        offset_px=state.offset,
        covariance=state.covariance(),
        weight=weight,
        misfit=state.misfit * have,
        predicted_px=state.predicted,
        away_px=np.linalg.norm(state.x, axis=2),
        deviation_px=deviation,
        inflation=inflation,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Model:
    incidence: Floats
    basis: Floats
    y: Floats
    variance: Floats
    have: Flags

    def state(self, weight: Floats, loose: Floats, deviation: float) -> _State:
        """Return the solution with given weights of edges, and looseness of pieces."""
        b = self.incidence
        pieces = b.shape[1]
        w = np.moveaxis(weight[..., None] / self.variance, 2, 1)
        prior = loose / deviation**2
        precision = np.einsum("ek,vae,el->vakl", b, w, b) + (prior[:, None, :, None] * np.eye(pieces))
        inner = np.linalg.inv(precision)
        wb = w[..., None] * b
        # C^-1 = W - W B (B' W B + P)^-1 B' W, the inverse covariance of the edges of a view.
        inverse = w[..., None] * np.eye(len(b)) - wb @ inner @ np.swapaxes(wb, 2, 3)
        y = np.moveaxis(self.y, 2, 1)
        part = np.einsum("ek,vaef,fl->vakl", b, inverse, b)
        normal = np.einsum("vp,vq,vakl->apkql", self.basis, self.basis, part).reshape(2, 2 * pieces, 2 * pieces)
        right = np.einsum("vp,ek,vaef,vaf->apk", self.basis, b, inverse, y).reshape(2, 2 * pieces)
        before = np.repeat([1 / _CONSTANT_PX**2, 1 / _SLOPE_PX**2], pieces)
        shared = np.linalg.inv(normal + np.diag(before))
        trend = np.einsum("aij,aj->ai", shared, right).reshape(2, 2, pieces)
        expected = np.einsum("vp,apk->vak", self.basis, trend)
        z = y - np.einsum("ek,vak->vae", b, expected)
        x = np.einsum("vakl,vael,vae->vak", inner, wb, z)
        return _State(self, b, w, inner, wb, inverse, shared, expected, z, x - x.mean(axis=2, keepdims=True))


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    model: _Model
    b: Floats
    w: Floats
    inner: Floats
    wb: Floats
    inverse: Floats
    shared: Floats
    expected: Floats
    z: Floats
    deviation: Floats

    @property
    def x(self) -> Floats:
        """Deviations, `(views, pieces, 2)`."""
        return np.moveaxis(self.deviation, 1, 2)

    @property
    def offset(self) -> Floats:
        """Offsets with mean 0, `(views, pieces, 2)`."""
        whole = self.expected + self.deviation
        return np.asarray(np.moveaxis(whole - whole.mean(axis=2, keepdims=True), 1, 2))

    @property
    def predicted(self) -> Floats:
        """Displacements of all edges, `(views, edges, 2)`."""
        return np.asarray(np.einsum("ek,vka->vea", self.b, self.offset))

    @property
    def misfit(self) -> Floats:
        """Squared misfit of each edge to what all others predict, in variances, summed over x and y."""
        pull = np.einsum("vaef,vaf->vae", self.inverse, self.z)
        diagonal = np.maximum(np.einsum("vaee->vae", self.inverse), 1e-30)
        used = diagonal > 1e-12
        current = 1 / np.maximum(self.w, 1e-30)
        spread = np.where(used, 1 / diagonal - current, 0) + np.moveaxis(self.model.variance, 2, 1)
        away = np.where(used, pull / diagonal, 0)
        return np.asarray((away**2 / np.maximum(spread, 1e-12)).sum(axis=1))

    @property
    def told_by_others(self) -> Flags:
        """Whether the other edges of the view say where an edge is, rather than the other views."""
        diagonal = np.maximum(np.einsum("vaee->vae", self.inverse), 1e-30)
        current = 1 / np.maximum(self.w, 1e-30)
        alone = np.einsum("ek,vakl,el->vae", self.b, np.linalg.inv(self._prior), self.b)
        return np.asarray(((1 / diagonal - current) < 0.25 * alone).all(axis=1))

    @property
    def _prior(self) -> Floats:
        return np.asarray(np.linalg.inv(self.inner) - np.einsum("vaek,el->vakl", self.wb, self.b))

    def covariance(self) -> Floats:
        """Covariance of the offsets of a view with their mean taken out, `(views, 2, pieces, pieces)`."""
        pieces = self.b.shape[1]
        centre = np.eye(pieces) - 1 / pieces
        left = np.eye(pieces) - self.inner @ np.einsum("vaek,el->vakl", self.wb, self.b)
        basis = self.model.basis
        shared = np.einsum("vp,apkql,vq->vakl", basis, self.shared.reshape(2, 2, pieces, 2, pieces), basis)
        return np.asarray(centre @ (self.inner + left @ shared @ np.swapaxes(left, 2, 3)) @ centre)


def _first_deviation(model: _Model, weight: Floats) -> float:
    """Return how far displacements of a view are from their trend, as a first guess."""
    state = model.state(weight, np.ones((len(model.y), model.incidence.shape[1])), 1.0)
    z = np.moveaxis(state.z, 1, 2)[weight > 0.5]
    return max(1.4826 * float(np.median(np.abs(z))) / np.sqrt(2), 0.1) if len(z) else 1.0


def _weights(state: _State, model: _Model, weight: Floats, sure: Flags) -> Floats:
    """Return new weights of edges; of those of a view that lose weight only the least likely one does."""
    misfit = state.misfit
    wanted = np.minimum(1.0, _DOUBT / np.maximum(misfit, 1e-9)) ** 2
    # What is doubted is left out: a little of something wrong adds to the spread of views, and is then no longer so wrong.
    wanted = np.where(wanted < DOUBTED, _UNSURE, wanted)
    # What only the other views speak against is a piece that moved, if its edge is clear.
    wanted = np.where(sure & ~state.told_by_others, 1.0, wanted)
    falling = wanted < 0.9 * weight
    worst = np.where(falling, misfit, -1).argmax(axis=1)
    new = np.where(falling, weight, np.maximum(wanted, _UNSURE))
    rows = np.flatnonzero(falling.any(axis=1))
    new[rows, worst[rows]] = np.maximum(wanted[rows, worst[rows]], _UNSURE)
    return np.where(model.have, new, 0.0)


def _deviation(state: _State, loose: Floats) -> float:
    """Return the standard deviation of views from what they share, pieces that moved by themselves aside."""
    pieces = state.b.shape[1]
    centre = np.eye(pieces) - 1 / pieces
    left = np.einsum("vakk->vk", centre @ state.inner @ centre)
    squares = loose * (state.x**2).sum(axis=2) + np.where(loose > 0.5, left, 0)
    used = 2 * np.where(loose > 0.5, 1.0, loose).sum() * (pieces - 1) / pieces
    return max(float(np.sqrt(squares.sum() / max(used, 1e-9))), _LEAST_DEVIATION_PX)


def _inflation(grid: PieceGrid, y: Floats, variance: Floats, good: Flags) -> float:
    """Return by what the variances of edges have to be multiplied, from how loops of four edges close; 1 where there are none."""
    number = {(edge.lower, edge.upper): at for at, edge in enumerate(grid.edges)}
    ratios = []
    for edge in grid.edges:
        if edge.axis or (edge.lower, above := edge.lower + grid.columns) not in number:
            continue
        loop = [
            number[edge.lower, edge.upper],
            number[edge.upper, edge.upper + grid.columns],
            number[above, above + 1],
            number[edge.lower, above],
        ]
        closed = good[:, loop].all(axis=1)
        rest = y[closed][:, loop].transpose(0, 2, 1) @ np.array([1.0, 1, -1, -1])
        ratios.append((rest**2 / variance[closed][:, loop].sum(axis=1)).ravel())
    if not ratios or len(all_ := np.concatenate(ratios)) < 6:
        return 1.0
    return float(np.clip(np.median(all_) / _CLOSING, *_INFLATION))
