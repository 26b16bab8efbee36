"""Measured positions and their weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.bundle.joint_weights import JointWeights

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Observations:
    """Positions and their weights.

    Attributes
    ----------
    xy
        `(tracks, views, 2)` from the image centre.
    information
        `(tracks, views, 3)` weights xx, xy, yy of each position; 0 where unseen.
    joint
        Weights of the positions of a track together, for tracks whose errors are correlated from view to view; they take the place
        of `information`, which then only marks what was seen.
    """

    xy: Floats
    information: Floats
    joint: JointWeights | None = None

    @cached_property
    def seen(self) -> NDArray[np.bool_]:
        """Where a point counts, `(tracks, views)`."""
        return np.asarray(self.information[..., 0] + self.information[..., 2] > 0)

    def weighted(self, weights: Floats) -> Observations:
        """Return the same positions with their weights multiplied by `(tracks, views)`.

        A joint weight is multiplied by the mean over the views of the track.
        """
        information = self.information * weights[..., None]
        if self.joint is None:
            return Observations(self.xy, information)
        whole = np.average(weights, axis=1, weights=np.maximum(self.seen, 1e-300))
        return Observations(self.xy, information, self.joint.scaled(whole))

    def only(self, track: int) -> Observations:
        """Return the positions of one track."""
        one = slice(track, track + 1)
        return Observations(self.xy[one], self.information[one], None if self.joint is None else self.joint.only(track))

    def weigh(self, track: int, columns: Floats) -> Floats:
        """Return the product of a track's weight matrix with `columns` `(2 views, n)`."""
        if self.joint is not None:
            return np.asarray(self.joint.of_track(track) @ columns)
        x, y = columns[0::2], columns[1::2]
        xx, xy, yy = self.information[track].T[..., None]
        return np.stack([xx * x + xy * y, xy * x + yy * y], axis=1).reshape(columns.shape)

    def pull(self, by_point: Floats, residual: Floats) -> tuple[Floats, Floats]:
        """Return the normal equations of the points, `(tracks, 3, 3)` and `(tracks, 3)`, given the derivative of positions by them."""
        if self.joint is not None:
            rays = by_point.reshape(-1, 3)
            of_kinds = rays.T @ self.joint.matrices @ rays
            weighed_residual = self.joint.times(residual).reshape(len(residual), -1)
            return self.joint.factor[:, None, None] * of_kinds[self.joint.kind], weighed_residual @ rays
        xx, xy, yy = np.moveaxis(self.information, -1, 0)
        weight = np.stack([np.stack([xx, xy], axis=-1), np.stack([xy, yy], axis=-1)], axis=-2)
        weighed = np.einsum("jvab,vbn->jvan", weight, by_point, optimize=True)
        normal = np.einsum("vam,jvan->jmn", by_point, weighed, optimize=True)
        return np.asarray(normal), np.asarray(np.einsum("jvan,jva->jn", weighed, residual, optimize=True))

    def squared(self, residual: Floats) -> Floats:
        """Return the weighted squares `(tracks, views)` of residuals `(tracks, views, 2)`; their sum is the objective of a fit."""
        if self.joint is not None:
            return np.asarray((residual * self.joint.times(residual)).sum(axis=2))
        x, y = residual[..., 0], residual[..., 1]
        xx, xy, yy = self.information[..., 0], self.information[..., 1], self.information[..., 2]
        return np.asarray(xx * x * x + 2 * xy * x * y + yy * y * y)

    def measured(self, weights: Floats) -> float:
        """Return the number of measured coordinates, each counted by its weight.

        Jointly weighted positions are determined up to a common shift only.
        """
        if self.joint is None:
            return 2 * float(weights.sum())
        whole = weights.sum(axis=1) / np.maximum(self.seen.sum(axis=1), 1)
        return float((whole * 2 * (self.seen.sum(axis=1) - 1)).sum())
