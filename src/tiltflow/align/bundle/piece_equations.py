"""Normal equations of views and pieces together, the points eliminated.

The shifts of the pieces of a view have the sum 0 and a Gaussian prior.  With B a square root of its covariance, the shifts are B t, with
t independent and of unit variance: a position moves by the sum over r of phi_r t_r, phi = (weights of the pieces there) B.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.align.bundle.leave_out import LeaveOut
from tiltflow.align.bundle.normal_equations import Geometry, Normal, congruent, normal_equations, reduced_system
from tiltflow.align.bundle.observations import Observations
from tiltflow.align.bundle.variables import PER_VIEW, Variables

Floats = NDArray[np.float64]

_NO_VARIANCE = 1e-12
"""Variance, as a fraction of the largest of a view, below which a combination of shifts is taken to be 0."""
_UNDETERMINED = 1e-9
"""Determinant of 1 - H of a position below which the others do not determine it, and it has no leave-out residual."""
_RIDGE = 1e-10
"""Added to the diagonal of the equations, scaled to 1."""


def prior_roots(sd_px: Floats, present: NDArray[np.bool_]) -> Floats:
    """Return B of every view, `(views, pieces, pieces - 1)`, for shifts whose mean is that of the view.

    Independent errors of the pieces, less their mean: `sd_px` `(views, pieces)` is what is left of each, so that the errors themselves
    are larger by n / (n - 1) in variance.  Missing pieces and those alone in a view have rows of 0.
    """
    views, pieces = sd_px.shape
    out = np.zeros((views, pieces, max(pieces - 1, 0)))
    for view, there in enumerate(present):
        at, count = np.flatnonzero(there), int(there.sum())
        if count < 2:
            continue
        centre = np.eye(count) - 1 / count
        covariance = centre @ np.diag(sd_px[view, at] ** 2 * count / (count - 1)) @ centre
        values, vectors = np.linalg.eigh(covariance)
        largest = values[1:]  # the mean has the variance 0
        kept = np.where(largest > _NO_VARIANCE * values[-1], np.sqrt(np.maximum(largest, 0.0)), 0.0)
        out[view, at, : count - 1] = vectors[:, 1:] * kept
    return out


@dataclass(frozen=True, slots=True, eq=False)
class PieceEquations:
    """Equations about a geometry, in units of the weights.

    Attributes
    ----------
    normal
        Of views and points alone.
    map_
        `(7 views, variables)`.
    views, view_right
        Reduced system of the variables of the views, without priors, `(m, m)` and `(m,)`.
    between
        `(m, n)` of the variables with the t, `(views, r, 2)` flat.
    own, right
        Of the t, without prior, `(n, n)` and `(n,)`.
    cross
        `(tracks, 3, n)`: L^-1 W' of the t.
    by_view, phi
        `(tracks, views, 2, 7)` and `(tracks, views, r)`: derivatives of positions by their view, and by t.
    """

    normal: Normal
    map_: Floats
    views: Floats
    view_right: Floats
    between: Floats
    own: Floats
    right: Floats
    cross: Floats
    by_view: Floats
    phi: Floats

    @classmethod
    def at(cls, geometry: Geometry, observations: Observations, variables: Variables, phi: Floats) -> PieceEquations:
        """Return the equations at a geometry."""
        by_view = geometry.view_jacobians(geometry.points)
        normal, map_ = normal_equations(geometry, observations), variables.matrix()
        views, view_right = reduced_system(normal, geometry, map_)
        residual, by_point = geometry.residual(observations), geometry.point_jacobians()
        collect = _independent if observations.joint is None else _joint
        between, own, cross, right = collect(observations, residual, by_view, by_point, phi)
        cross = np.asarray(np.linalg.solve(normal.factor, cross))
        flat, by_views = cross.reshape(-1, cross.shape[2]), normal.cross.reshape(-1, normal.cross.shape[2])
        return cls(
            normal=normal,
            map_=map_,
            views=views,
            view_right=view_right,
            between=map_.T @ (between - by_views.T @ flat),
            own=own - flat.T @ flat,
            right=right - flat.T @ normal.point_right.ravel(),
            cross=cross,
            by_view=by_view,
            phi=phi,
        )

    def system(self, precision: Floats, scale: float, noise_px: float) -> Floats:
        """Return the matrix `(m + n, m + n)` with the priors: of the variables, and of t with the standard deviation `scale`."""
        view_block = self.views + noise_px**2 * precision
        own = self.own + (noise_px / scale) ** 2 * np.eye(len(self.own))
        return np.block([[view_block, self.between], [self.between.T, own]])

    def of_views(self, values: Floats, t: Floats, scale: float, noise_px: float) -> tuple[Floats, Floats]:
        """Return S and b of :mod:`tiltflow.align.bundle.empirical_bayes` for the variables, the t eliminated under their prior."""
        own = self.own + (noise_px / scale) ** 2 * np.eye(len(self.own))
        through = scipy.linalg.solve(own, self.between.T, assume_a="pos")
        by_views, by_pieces = self._pulls(values, t)
        return (self.views - self.between @ through) / noise_px**2, (by_views - through.T @ by_pieces) / noise_px**2

    def of_pieces(self, values: Floats, t: Floats, precision: Floats, noise_px: float) -> tuple[Floats, Floats]:
        """Return the same for the t, the variables eliminated under their priors."""
        views = self.views + noise_px**2 * precision
        views = views + _RIDGE * np.trace(views) / len(views) * np.eye(len(views))
        through = scipy.linalg.solve(views, self.between, assume_a="pos")
        by_views, by_pieces = self._pulls(values, t)
        return (self.own - self.between.T @ through) / noise_px**2, (by_pieces - through.T @ by_views) / noise_px**2

    def _pulls(self, values: Floats, t: Floats) -> tuple[Floats, Floats]:
        """Return the right sides counted from the centre of the priors."""
        return self.views @ values + self.between @ t + self.view_right, self.between.T @ values + self.own @ t + self.right

    def point_steps(self, view_steps: Floats, t_steps: Floats) -> Floats:
        """Return the steps of the points, `(tracks, 3)`, that belong to steps of the views `(7 views,)` and of t `(n,)`."""
        right = self.normal.point_right - self.normal.cross @ view_steps - self.cross @ t_steps
        return np.asarray(np.linalg.solve(np.swapaxes(self.normal.factor, 1, 2), right[..., None])[..., 0])

    def covariance(self, precision: Floats, scale: float, noise_px: float) -> Floats:
        """Return the covariance of variables and t, in units of the squared noise, `(m + n, m + n)`."""
        return inverse(self.system(precision, scale, noise_px))

    def leave_out(self, geometry: Geometry, observations: Observations, covariance: Floats) -> LeaveOut:
        """Return the residual of every position as if it, or its whole track where errors are joint, had not been used."""
        if observations.joint is None:
            return self._positions_out(geometry, observations, covariance)
        return self._tracks_out(geometry, observations, covariance)

    def _positions_out(self, geometry: Geometry, observations: Observations, covariance: Floats) -> LeaveOut:
        by_view, phi = self.by_view, self.phi
        tracks, views, shapes = phi.shape
        spread_map = scipy.linalg.block_diag(self.map_, np.eye(len(self.own)))
        of_all = congruent(covariance, spread_map.T)
        inverse_factor = np.linalg.inv(self.normal.factor)
        to_point = np.einsum("jba,jbk->jak", inverse_factor, np.concatenate([self.normal.cross, self.cross], axis=2))
        joint = (to_point.reshape(tracks * 3, -1) @ of_all).reshape(tracks, 3, -1)
        of_point = np.einsum("jba,jbc->jac", inverse_factor, inverse_factor) + np.einsum("jak,jbk->jab", joint, to_point)
        by_point, residual = geometry.point_jacobians(), geometry.residual(observations)
        out, trace = np.full_like(residual, np.nan), 0.0
        for view in range(views):
            first = views * PER_VIEW + 2 * shapes * view
            own = np.r_[view * PER_VIEW : (view + 1) * PER_VIEW, first : first + 2 * shapes]
            moves = np.concatenate([by_view[:, view], _by_t(phi[:, view])], axis=2)
            shared = np.einsum("jak,jnk,bn->jab", moves, joint[:, :, own], by_point[view], optimize=True)
            spread = np.einsum("jak,kl,jbl->jab", moves, of_all[np.ix_(own, own)], moves, optimize=True)
            spread = spread - shared - np.swapaxes(shared, 1, 2) + by_point[view] @ of_point @ by_point[view].T
            seen = observations.seen[:, view]
            hat = spread[seen] @ _two_by_two(observations.information[seen, view])
            trace += float(np.trace(hat, axis1=1, axis2=2).sum())
            rest = np.eye(2) - hat
            determined = np.linalg.det(rest) > _UNDETERMINED
            left = np.linalg.solve(np.where(determined[:, None, None], rest, np.eye(2)), residual[seen, view, :, None])[..., 0]
            out[seen, view] = np.where(determined[:, None], left, np.nan)
        return LeaveOut(out, trace)

    def _tracks_out(self, geometry: Geometry, observations: Observations, covariance: Floats) -> LeaveOut:
        if observations.joint is None:
            raise TypeError("positions without joint weights")
        by_view, phi = self.by_view, self.phi
        tracks, views, _ = phi.shape
        by_point, residual = geometry.point_jacobians().reshape(-1, 3), geometry.residual(observations)
        out, trace = np.full_like(residual, np.nan), 3.0 * tracks
        maps = self.map_.reshape(views, PER_VIEW, -1)
        for track in range(tracks):
            weight = observations.joint.of_track(track)
            by_all = np.einsum("vap,vpm->vam", by_view[track], maps).reshape(2 * views, -1)
            moves = np.concatenate([by_all, _spread(_by_t(phi[track]))], axis=1)
            own = by_point @ np.linalg.pinv(by_point.T @ weight @ by_point, hermitian=True) @ (by_point.T @ weight)
            hat = moves @ covariance @ moves.T @ (weight - weight @ own)
            trace += float(np.trace(hat))
            left = np.linalg.solve(np.eye(2 * views) - hat, residual[track].ravel())
            left = left - own @ left
            out[track] = np.where(observations.seen[track, :, None], left.reshape(-1, 2), np.nan)
        return LeaveOut(out, trace)


def inverse(matrix: Floats) -> Floats:
    """Return the inverse of a positive matrix of variables of different units: scaled to a unit diagonal first."""
    root = root_of_inverse(matrix)
    return np.asarray(root @ root.T)


def root_of_inverse(matrix: Floats) -> Floats:
    """Return a square root `R` of the inverse, `R R'`, of such a matrix."""
    scale = 1 / np.sqrt(np.diag(matrix))
    scaled = matrix * scale * scale[:, None] + _RIDGE * np.eye(len(matrix))
    lower = scipy.linalg.cholesky(scaled, lower=True)
    return np.asarray(scale[:, None] * scipy.linalg.solve_triangular(lower, np.eye(len(matrix)), lower=True).T)


def _independent(
    observations: Observations, residual: Floats, by_view: Floats, by_point: Floats, phi: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the blocks of views with t `(7 views, n)`, of t, of points with t `(tracks, 3, n)`, and the right side of t."""
    tracks, views, shapes = phi.shape
    weight, each = _two_by_two(observations.information), np.arange(views)
    between, own = np.zeros((views, PER_VIEW, views, shapes, 2)), np.zeros((views, shapes, 2, views, shapes, 2))
    between[each, :, each] = np.einsum("jvap,jvab,jvr->vprb", by_view, weight, phi, optimize=True)
    own[each, :, :, each] = np.einsum("jvr,jvab,jvq->vraqb", phi, weight, phi, optimize=True)
    cross = np.einsum("van,jvab,jvr->jnvrb", by_point, weight, phi, optimize=True)
    right = np.einsum("jvr,jvab,jvb->vra", phi, weight, residual, optimize=True)
    count = views * shapes * 2
    return between.reshape(-1, count), own.reshape(count, count), cross.reshape(tracks, 3, count), right.ravel()


def _joint(
    observations: Observations, residual: Floats, by_view: Floats, by_point: Floats, phi: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    if observations.joint is None:
        raise TypeError("positions without joint weights")
    tracks, views, shapes = phi.shape
    count, size = views * shapes * 2, views * PER_VIEW
    between, own = np.zeros((size, count)), np.zeros((count, count))
    cross, right = np.empty((tracks, 3, count)), np.zeros(count)
    flat = by_point.reshape(-1, 3)
    for track in range(tracks):
        weight, by_t = observations.joint.of_track(track), _spread(_by_t(phi[track]))
        weighed = weight @ by_t
        between += np.einsum("vap,van->vpn", by_view[track], weighed.reshape(views, 2, count)).reshape(size, count)
        own += by_t.T @ weighed
        cross[track] = flat.T @ weighed
        right += weighed.T @ residual[track].ravel()
    return between, own, cross, right


def _by_t(phi: Floats) -> Floats:
    """Return the derivative of positions by t, `(n, 2, 2 r)`, from phi `(n, r)`."""
    return np.asarray(np.einsum("nr,ab->narb", phi, np.eye(2)).reshape(len(phi), 2, -1))


def _spread(blocks: Floats) -> Floats:
    """Return blocks `(views, 2, c)` on the diagonal of a matrix `(2 views, views c)`."""
    views, _, count = blocks.shape
    out = np.zeros((views, 2, views, count))
    out[np.arange(views), :, np.arange(views)] = blocks
    return out.reshape(2 * views, -1)


def _two_by_two(information: Floats) -> Floats:
    """Return weights xx, xy, yy `(..., 3)` as matrices `(..., 2, 2)`."""
    xx, xy, yy = np.moveaxis(information, -1, 0)
    return np.stack([np.stack([xx, xy], axis=-1), np.stack([xy, yy], axis=-1)], axis=-2)
