"""Robust weights: Tukey's biweight on residuals that are first made comparable between views and parts of the field.

As tiltalign does (Mastronarde & Held 2017, doi:10.1016/j.jsb.2016.07.011): residuals are divided by a smoothed median per view,
views are taken together until a group has about 100 points, crowded groups are cut into rings by distance from the centre, and
each group has its own robust scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.robust_scale import SD_OF_MEDIAN

Floats = NDArray[np.float64]

_POINTS_PER_GROUP = 100
"""Points of a group, as in tiltalign: its robust scale is good to about 10 %."""
_MEDIAN_OF_RAYLEIGH = 1.17741
"""Median length of a two-dimensional normal vector of unit standard deviation per coordinate."""
_NEAR = 3
_REACH = 4.0
"""Views to either side over which the median residual of a view is smoothed, and where the parabolic weight falls to zero."""
_LONELY, _LEAST_WEIGHT = 1.5, 0.1
"""A view whose weights add up to less than the former has them raised to the latter: it is never left to one point, nor to none."""
_LEAST_SPREAD = 0.25
"""Least scale of the tracks' residuals, as a fraction of their median: among a few alike the next best is no outlier."""


def tukey(ratio: Floats, k: float) -> Floats:
    """Return (1 - (r/k)^2)^2, and 0 from k on.

    >>> tukey(np.array([0.0, 1.0, 2.0, 3.0]), 2.0)
    array([1.    , 0.5625, 0.    , 0.    ])
    """
    return np.where(ratio < k, (1 - np.minimum(ratio / k, 1.0) ** 2) ** 2, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class PointGroups:
    """The points of a series by groups whose residuals are comparable, and how the medians of views are smoothed.

    Attributes
    ----------
    seen
        `(tracks, views)`.
    tracks, views, group
        Track, view and group of each point, `(points,)`, group after group.
    first
        Where each group begins, `(groups,)`, and the end of the last.
    smoothing
        The matrix from the medians of views to smooth ones, `(views, views)`.
    """

    seen: NDArray[np.bool_]
    tracks: NDArray[np.int64]
    views: NDArray[np.int64]
    group: NDArray[np.int64]
    first: NDArray[np.int64]
    smoothing: Floats

    @classmethod
    def of(cls, radius: Floats, rank: NDArray[np.int64]) -> PointGroups:
        """Return the groups of points at distances from the centre `(tracks, views)`, NaN where unseen.

        `rank` is the order of the views in tilt.
        """
        seen = ~np.isnan(radius)
        groups = _groups(radius, rank)
        counts = [len(tracks) for tracks, _ in groups]
        tracks, views = (np.concatenate([group[k] for group in groups] or [np.empty(0, np.int64)]) for k in range(2))
        group = np.repeat(np.arange(len(groups)), counts)
        return cls(seen, tracks, views, group, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), _smoothing(seen, rank))

    def weights(self, length: Floats, k: float) -> Floats:
        """Return weights `(tracks, views)` from residual lengths `(tracks, views)`, NaN where unseen."""
        medians = _medians(length, self.seen.sum(axis=0))
        relative = length / np.maximum(self.smoothing @ medians, 1e-12)
        values = relative[self.tracks, self.views]
        ordered = values[np.lexsort((values, self.group))]
        begin, count = self.first[:-1], np.diff(self.first)
        middle = (ordered[begin + (count - 1) // 2] + ordered[begin + count // 2]) / 2
        scale = np.maximum(middle / _MEDIAN_OF_RAYLEIGH, 1e-12)
        weights = np.zeros_like(length)
        weights[self.tracks, self.views] = tukey(values / scale[self.group], k)
        lonely = weights.sum(axis=0) < _LONELY
        weights[:, lonely] = np.where(self.seen[:, lonely], np.maximum(weights[:, lonely], _LEAST_WEIGHT), 0.0)
        return weights


def track_weights(length: Floats, k: float) -> Floats:
    """Return one weight a track, `(tracks,)`, from its median residual among those of all tracks."""
    some = ~np.isnan(length).all(axis=1)
    typical = np.full(len(length), np.inf)
    typical[some] = np.nanmedian(length[some], axis=1)
    known = typical[some]
    centre = np.median(known)
    spread = max(SD_OF_MEDIAN * float(np.median(np.abs(known - centre))), _LEAST_SPREAD * float(centre), 1e-12)
    return tukey(np.maximum(typical - centre, 0.0) / spread, k)


def _medians(length: Floats, counts: NDArray[np.int64]) -> Floats:
    """Return the median of each view, `(views,)`, of which `counts` are not NaN; 0 where there are none."""
    # NaN sorts last.
    ordered, view = np.sort(length, axis=0), np.arange(length.shape[1])
    medians = (ordered[np.maximum(counts - 1, 0) // 2, view] + ordered[np.minimum(counts // 2, len(length) - 1), view]) / 2
    return np.where(counts > 0, medians, 0.0)


def _smoothing(seen: NDArray[np.bool_], rank: NDArray[np.int64]) -> Floats:
    """Return the matrix that smooths medians of views over their neighbours in tilt, by their number of points, `(views, views)`."""
    apart = np.abs(rank[:, None] - rank)
    weight = np.where(apart <= _NEAR, seen.sum(axis=0) * (1 - (apart / _REACH) ** 2), 0.0)
    return np.asarray(weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-300))


def _groups(radius: Floats, rank: NDArray[np.int64]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return the points of each group as indices of tracks and of views."""
    seen = ~np.isnan(radius)
    groups: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    pending: list[int] = []
    order = np.argsort(rank)
    left = int(seen.sum())
    for view in order:
        pending.append(int(view))
        count = int(seen[:, pending].sum())
        if count < _POINTS_PER_GROUP or 0 < left - count < _POINTS_PER_GROUP:
            continue
        groups.extend(_rings(seen, radius, pending))
        pending, left = [], left - count
    if pending and seen[:, pending].any():
        groups.extend(_rings(seen, radius, pending))
    return groups


def _rings(seen: NDArray[np.bool_], radius: Floats, views: list[int]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    tracks, columns = np.nonzero(seen[:, views])
    columns = np.asarray(views)[columns]
    rings = max(len(tracks) // _POINTS_PER_GROUP, 1)
    by_radius = np.argsort(radius[tracks, columns], kind="stable")
    return [(tracks[part], columns[part]) for part in np.array_split(by_radius, rings)]
