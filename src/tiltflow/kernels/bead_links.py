"""Loops over spots of several views: which of them may be the same bead."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tiltflow.kernels import kernel

Floats = NDArray[np.float64]

_NO_DEPTH = 1e-12
"""Squared displacement, pixels, between neighbouring depths below which a view does not resolve depth."""


@kernel()
def sweep_depths(
    base: Floats,
    step: Floats,
    half: Floats,
    xy: Floats,
    first: NDArray[np.int64],
    free: NDArray[np.bool_],
    across: Floats,
    normal: Floats,
    views: NDArray[np.int64],
    depths: Floats,
    tolerance: float,
    hits: NDArray[np.int32],
    possible: NDArray[np.int32],
) -> None:
    """Count, for each depth of points, the views in which a free spot lies where the point would be seen.

    In view v point m at depth z is seen at `base[m, v] + z step[v]`, from the centre of a field that reaches `half` to each side.
    The spots of view v are `xy[first[v] : first[v + 1]]`, in the order of `across`, their distances along `normal[v]`, a direction
    perpendicular to `step[v]`: those near the line along which a point moves follow one another.  `hits` and `possible` (views in which
    the point is in the field), `(points, depths)`, are added to.
    """
    last = depths.shape[0] - 1
    dz = (depths[last] - depths[0]) / max(last, 1)
    marked = np.empty(last + 1, np.int64)
    for m in range(base.shape[0]):
        marked[:] = -1
        for v in views:
            bx, by, sx, sy = base[m, v, 0], base[m, v, 1], step[v, 0], step[v, 1]
            length2 = sx * sx + sy * sy
            line = bx * normal[v, 0] + by * normal[v, 1]
            low, high = first[v], first[v + 1]
            while low < high:
                middle = (low + high) // 2
                if across[middle] < line - tolerance:
                    low = middle + 1
                else:
                    high = middle
            for k in range(last + 1):
                x, y = bx + depths[k] * sx, by + depths[k] * sy
                if abs(x) < half[0] and abs(y) < half[1]:
                    possible[m, k] += 1
            for n in range(low, first[v + 1]):
                if across[n] > line + tolerance:
                    break
                if not free[n]:
                    continue
                dx, dy = xy[n, 0] - bx, xy[n, 1] - by
                along = 0.0
                if length2 > 0:
                    along = (dx * sx + dy * sy) / length2
                px, py = dx - along * sx, dy - along * sy
                if length2 * dz * dz < _NO_DEPTH:
                    a, b = (0, last) if dx * dx + dy * dy <= tolerance * tolerance else (1, 0)
                else:
                    left2 = tolerance * tolerance - px * px - py * py
                    if left2 <= 0:
                        continue
                    reach = np.sqrt(left2 / length2)
                    a = max(int(np.ceil((along - reach - depths[0]) / dz)), 0)
                    b = min(int(np.floor((along + reach - depths[0]) / dz)), last)
                for k in range(a, b + 1):
                    if marked[k] != v:
                        marked[k] = v
                        hits[m, k] += 1


@kernel()
def densest(differences: Floats, owner: NDArray[np.int64], radius: float, seen: NDArray[np.int64]) -> tuple[int, int]:
    """Return the index of the difference with most owners within `radius`, and how many these are.

    `seen` is room to work in, `(owners,)`.
    """
    best, most = -1, 0
    for n in range(len(seen)):
        seen[n] = -1
    for n in range(differences.shape[0]):
        count = 0
        for m in range(differences.shape[0]):
            dx, dy = differences[m, 0] - differences[n, 0], differences[m, 1] - differences[n, 1]
            if dx * dx + dy * dy <= radius * radius and seen[owner[m]] != n:
                seen[owner[m]] = n
                count += 1
        if count > most:
            best, most = n, count
    return best, most
