"""Views put into place by the shift that most beads agree on.

The coarse alignment follows the bulk of the specimen, and now and then a view goes astray.  Where the beads of one view must be in
another is known up to a shift; each pair of an expected bead and a spot votes for one.  True pairs vote for the same, others for
any, so that a handful of beads decides over hundreds of chance pairs; how many votes chance would gather is known, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.spatial import cKDTree

from tiltflow.align.beads.cameras import Cameras, cameras_of_transforms
from tiltflow.align.beads.spot_field import SearchLimits, SpotField
from tiltflow.kernels import beads as kernel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_WIDER, _WIDEST = 4.0, 0.25
_MOST_PAIRS = 8_000
_LEAST_VOTES, _LEAST_CHANCE = 3, 1e-3


def agreed_shift(field: SpotField, predicted: Floats, view: int, reaches_px: Sequence[float], tolerance: float) -> Floats | None:
    """Return the shift that carries most predictions `(n, 2)` onto spots of a view, None when chance would do as well.

    It is looked for within each of `reaches_px` in turn.
    """
    spots = field.xy[field.of(view)]
    for reach in reaches_px:
        inside = predicted[(np.abs(predicted) < field.half + reach).all(axis=1)]
        if field.trees[view].count_neighbors(cKDTree(inside), reach) > _MOST_PAIRS:
            continue
        owner, target, _ = field.pairs(inside, view, reach)
        close = spots[target] - inside[owner]
        best, votes = kernel.densest(close, owner, len(inside), tolerance)
        # The best of many places is found by chance more often than any one of them.
        chance = len(inside) * len(spots) * np.pi * tolerance**2 / (4 * field.half.prod())
        places = max((reach / tolerance) ** 2, 1.0)
        if votes >= _LEAST_VOTES and places * special.gammainc(votes, chance) < _LEAST_CHANCE:
            near = ((close - close[best]) ** 2).sum(axis=-1) <= tolerance**2
            return np.asarray(np.median(close[near], axis=0))
    return None


def _wider(field: SpotField, reach: SearchLimits) -> tuple[float, float]:
    """Return how far to look when nothing is found nearby."""
    return _WIDER * reach.search, max(_WIDEST * min(field.shape), _WIDER * reach.search)


def chain_views(field: SpotField, start: Floats, reach: SearchLimits) -> Floats:
    """Return the start, `(views, 2, 3)`, with each view put right by its inner neighbour, all beads taken to lie at depth 0."""
    cameras = cameras_of_transforms(start, field.tilt_deg)
    shifts = cameras.shifts.copy()
    outward = field.outward
    for n, view in enumerate(outward[1:], start=1):
        inner = outward[:n]
        side = int(inner[np.argmin(np.abs(field.tilt_deg[inner] - field.tilt_deg[view]))])
        shifts[view] += shifts[side] - cameras.shifts[side]
        base, step = Cameras(cameras.matrices, shifts).ray(side, field.xy[field.of(side)])
        spread = 0.25 * reach.depth * float(np.hypot(*step[view]))
        tolerance = max(0.2 * field.diameter, spread, 1.5)
        found = agreed_shift(field, base[:, view], int(view), (reach.search + spread, *_wider(field, reach)), tolerance)
        if found is not None:
            shifts[view] += found
    chained = start.copy()
    chained[..., 2] = -np.einsum("vij,vj->vi", start[..., :2], shifts)
    return chained


def follow_views(field: SpotField, cameras: Cameras, points: Floats, views: Ints, reach: SearchLimits) -> Cameras:
    """Return the cameras with the shifts of `views`, in outward order, put right by what most points `(n, 3)` agree on."""
    shifts = cameras.shifts.copy()
    seen = cameras.project(points)
    moved: dict[int, Floats] = {}
    for view in views:
        side = [v for v in moved if field.tilt_deg[v] * field.tilt_deg[view] > 0]
        offset = moved[side[-1]] if side else np.zeros(2)
        found = agreed_shift(field, seen[:, view] + offset, int(view), (reach.search, *_wider(field, reach)), field.loose)
        moved[int(view)] = offset if found is None else offset + found
        shifts[view] += moved[int(view)]
    return Cameras(cameras.matrices, shifts)
