"""Which of many good tracks to keep: from both surfaces, and spread over the field."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_PLANE_CYCLES = 20
"""Most alternations between assigning points and fitting; they end when no point changes sides."""
_LEAST_APART = 5.0
"""Least distance of two planes, in root mean square deviations from them."""
_FEWEST = 4
"""Points of two parallel planes at least: their unknowns."""
_TIPS = (-0.1, 0.0, 0.1)
"""Slopes along x and y that the separation starts from: 6 degrees, more than a section is inclined to the grid."""


def split_surfaces(points: Floats, least_gap: float) -> NDArray[np.int8]:
    """Return 1 for points on the upper of two parallel planes and -1 for the lower, 0 if they lie on one plane, `(points,)`.

    `points` `(points, 3)` and `least_gap`, the least distance of two surfaces, are in pixels.
    """
    label = np.zeros(len(points), np.int8)
    if len(points) < _FEWEST:
        return label
    flat = points[:, :2] - points[:, :2].mean(axis=0)
    best, best_spread = None, np.inf
    # A plane through all points may be inclined towards one cluster: the best of several starts is kept.
    for tip_x in _TIPS:
        for tip_y in _TIPS:
            height = points[:, 2] - flat @ [tip_x, tip_y]
            upper = height > _best_cut(height)
            upper, spread = _two_planes(flat, points[:, 2], upper)
            if spread < best_spread:
                best, best_spread = upper, spread
    if best is None or best.all() or not best.any():
        return label
    design = np.column_stack([flat, best, ~best])
    gap = float(np.diff(np.linalg.lstsq(design, points[:, 2], rcond=None)[0][2:][::-1])[0])
    if abs(gap) < max(least_gap, _LEAST_APART * best_spread):
        return label
    label[best], label[~best] = np.sign(gap), -np.sign(gap)
    return label


def _best_cut(height: Floats) -> float:
    """Return the threshold that makes two groups tightest (Otsu 1979, doi:10.1109/TSMC.1979.4310076)."""
    ordered = np.sort(height)
    n = np.arange(1, len(ordered))
    sums = np.cumsum(ordered)[:-1]
    between = (sums / n - (ordered.sum() - sums) / (len(ordered) - n)) ** 2 * n * (len(ordered) - n)
    k = int(np.argmax(between))
    return float((ordered[k] + ordered[k + 1]) / 2)


def _two_planes(flat: Floats, z: Floats, upper: Bools) -> tuple[Bools, float]:
    spread = np.inf
    for _ in range(_PLANE_CYCLES):
        if upper.all() or not upper.any():
            return upper, np.inf
        design = np.column_stack([flat, upper, ~upper])
        solution = np.linalg.lstsq(design, z, rcond=None)[0]
        height = z - flat @ solution[:2]
        spread = float(np.sqrt(np.mean((height - np.where(upper, solution[2], solution[3])) ** 2)))
        nearer = np.abs(height - solution[2]) < np.abs(height - solution[3])
        if (nearer == upper).all():
            break
        upper = nearer
    return upper, spread


def spread_out(points: Floats, surface: NDArray[np.int8], quality: Floats, count: int) -> NDArray[np.int64]:
    """Return the indices of `count` tracks that are good, far from each other, and shared between the surfaces.

    One after the other the track is taken whose quality times the distance to the nearest one taken is largest.
    """
    if len(points) <= count:
        return np.arange(len(points))
    places = points[:, :2]
    chosen = [int(np.argmax(quality))]
    distance = np.hypot(*(places - places[chosen[0]]).T)
    for _ in range(count - 1):
        score = quality * distance
        if surface.any():
            fewer = 1 if (surface[chosen] == 1).sum() < (surface[chosen] == -1).sum() else -1
            members = surface == fewer
            members[chosen] = False
            if members.any():
                score = np.where(members, score, -1.0)
        score[chosen] = -2.0
        chosen.append(int(np.argmax(score)))
        distance = np.minimum(distance, np.hypot(*(places - places[chosen[-1]]).T))
    return np.sort(np.array(chosen))
