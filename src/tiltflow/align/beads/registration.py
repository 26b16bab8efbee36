"""Registration of views by the shift that most beads support.

The coarse alignment follows the bulk of the specimen, and may misplace a view.  The positions of the beads of one view in another are
known up to a shift; each pair of a predicted bead and a spot votes for one.  True pairs vote for the same shift, others for random
ones, so that a few beads outweigh hundreds of chance pairs; the number of votes expected by chance is known.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.align.beads.cameras import Cameras, cameras_of_transforms
from tiltflow.align.beads.spot_field import SearchLimits, SpotField
from tiltflow.kernels import bead_links as kernel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_WIDER, _WIDEST = 4.0, 0.25
"""When nothing is found within the search limit it is widened by the former, then to the latter as a fraction of the field."""
_MOST_PAIRS = 8_000
"""Pairs of beads and spots up to which votes are counted: the count takes the square of it."""
_LEAST_VOTES, _LEAST_CHANCE = 3, 1e-3
"""Votes that a shift needs, and the probability below which chance must give as many at any place."""
_DEPTH_SD = 0.25
"""Standard deviation of the beads' depth, as a fraction of the greatest distance between them: of an even distribution it is 0.29."""
_TOLERANCE, _LEAST_TOLERANCE_PX = 0.2, 1.5
"""Distance within which votes count as the same, diameters, and at least, raw pixels."""


def agreed_shift(field: SpotField, predicted: Floats, view: int, reaches_px: Sequence[float], tolerance: float) -> Floats | None:
    """Return the shift that carries most predictions `(n, 2)` onto spots of a view, None where chance explains it.

    It is searched for within each of `reaches_px` in turn.  All lengths are raw pixels.
    """
    spots = field.xy[field.of(view)]
    for reach in reaches_px:
        inside = predicted[(np.abs(predicted) < field.half + reach).all(axis=1)]
        if field.trees[view].count_neighbors(scipy.spatial.cKDTree(inside), reach) > _MOST_PAIRS:
            continue
        owner, target, _ = field.pairs(inside, view, reach)
        close = spots[target] - inside[owner]
        best, votes = kernel.densest(close, owner, tolerance, np.empty(len(inside), np.int64))
        # The best of many places is found by chance more often than any one of them.
        chance = len(inside) * len(spots) * np.pi * tolerance**2 / (4 * field.half.prod())
        places = max((reach / tolerance) ** 2, 1.0)
        if votes >= _LEAST_VOTES and places * scipy.special.gammainc(votes, chance) < _LEAST_CHANCE:
            near = ((close - close[best]) ** 2).sum(axis=-1) <= tolerance**2
            return np.asarray(np.median(close[near], axis=0))
    return None


def _wider(field: SpotField, limits: SearchLimits) -> tuple[float, float]:
    """Return the wider limits for when nothing is found nearby, raw pixels."""
    return _WIDER * limits.search, max(_WIDEST * min(field.shape), _WIDER * limits.search)


def chain_views(field: SpotField, start: Floats, limits: SearchLimits) -> Floats:
    """Return the start, `(views, 2, 3)`, with each view registered to its inner neighbour, all beads taken to lie at depth 0."""
    cameras = cameras_of_transforms(start, field.tilt_deg)
    shifts = cameras.shifts.copy()
    outward = field.outward
    for n, view in enumerate(outward[1:], start=1):
        inner = outward[:n]
        side = int(inner[np.argmin(np.abs(field.tilt_deg[inner] - field.tilt_deg[view]))])
        shifts[view] += shifts[side] - cameras.shifts[side]
        base, step = Cameras(cameras.matrices, shifts).ray(side, field.xy[field.of(side)])
        spread = _DEPTH_SD * limits.depth * float(np.hypot(*step[view]))
        tolerance = max(_TOLERANCE * field.diameter, spread, _LEAST_TOLERANCE_PX)
        found = agreed_shift(field, base[:, view], int(view), (limits.search + spread, *_wider(field, limits)), tolerance)
        if found is not None:
            shifts[view] += found
    chained = start.copy()
    chained[..., 2] = -np.einsum("vij,vj->vi", start[..., :2], shifts)
    return chained


def follow_views(field: SpotField, cameras: Cameras, points: Floats, views: Ints, limits: SearchLimits) -> Cameras:
    """Return the cameras with the shifts of `views`, in outward order, corrected to what most points `(n, 3)` support."""
    shifts = cameras.shifts.copy()
    seen = cameras.project(points)
    moved: dict[int, Floats] = {}
    for view in views:
        side = [v for v in moved if field.tilt_deg[v] * field.tilt_deg[view] > 0]
        offset = moved[side[-1]] if side else np.zeros(2)
        found = agreed_shift(field, seen[:, view] + offset, int(view), (limits.search, *_wider(field, limits)), field.loose)
        moved[int(view)] = offset if found is None else offset + found
        shifts[view] += moved[int(view)]
    return Cameras(cameras.matrices, shifts)
