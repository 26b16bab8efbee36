"""Robust weights: Tukey's biweight on residuals that are first made comparable between views and parts of the field.

As tiltalign does (Mastronarde & Held 2017, doi:10.1016/j.jsb.2016.07.011): residuals are divided by a smoothed median per view,
views are taken together until a group has about 100 points, crowded groups are cut into rings by distance from the centre, and
each group has its own robust scale.
"""

from __future__ import annotations

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


def point_weights(length: Floats, radius: Floats, rank: NDArray[np.int64], k: float) -> Floats:
    """Return weights `(tracks, views)` from residual lengths and distances from the centre.

    Both are `(tracks, views)`, NaN where unseen; `rank` is the order of the views in tilt.
    """
    relative = length / np.maximum(_smoothed_medians(length, rank), 1e-12)
    weights = np.zeros_like(length)
    for tracks, views in _groups(radius, rank):
        values = relative[tracks, views]
        scale = max(float(np.median(values)) / _MEDIAN_OF_RAYLEIGH, 1e-12)
        weights[tracks, views] = tukey(values / scale, k)
    lonely = weights.sum(axis=0) < _LONELY
    weights[:, lonely] = np.where(np.isnan(length[:, lonely]), 0.0, np.maximum(weights[:, lonely], _LEAST_WEIGHT))
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


def _smoothed_medians(length: Floats, rank: NDArray[np.int64]) -> Floats:
    """Return the median of each view, smoothed over its neighbours in tilt, `(views,)`."""
    counts = np.sum(~np.isnan(length), axis=0)
    # NaN sorts last.
    ordered, view = np.sort(length, axis=0), np.arange(length.shape[1])
    medians = (ordered[np.maximum(counts - 1, 0) // 2, view] + ordered[np.minimum(counts // 2, len(length) - 1), view]) / 2
    order = np.argsort(rank)
    sorted_medians, sorted_counts = medians[order], counts[order].astype(float)
    smooth = np.empty(len(order))
    for i in range(len(order)):
        near = np.arange(max(i - _NEAR, 0), min(i + _NEAR + 1, len(order)))
        near = near[sorted_counts[near] > 0]
        weight = sorted_counts[near] * (1 - (np.abs(near - i) / _REACH) ** 2)
        smooth[i] = np.average(sorted_medians[near], weights=weight) if len(near) else np.nan
    out = np.empty(len(order))
    out[order] = smooth
    return out


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
