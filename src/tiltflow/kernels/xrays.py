"""Loops that detect x-ray hits in one image."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tiltflow.kernels import kernel

Image = NDArray[np.float32]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RING_INNER = 9
"""Squared radius, pixels, from which the surroundings of a candidate are sampled: 3 pixels, beyond the ordinary hit of 2.1."""
RING_OUTER = 30
"""Squared radius, pixels, up to which they are: the 72 pixels between make the error of their median a seventh of the noise."""
RING_REACH = 5
"""Greatest distance along x or y within the outer radius, pixels."""
CLIP_SD = 3.0
"""Standard deviations from the mean of a block beyond which pixels are outliers: 0.3 % of normal noise.  1.5 takes good pixels for
hits, 6 misses 1 % more of their pixels (`benchmarks/sensitivity_volume.py`)."""
CLIP_PASSES = 3
"""Passes of the clipping; with a single one, which clips nothing, 1 % more of the pixels of hits are missed."""
AT_ONCE = 32
"""Pixels that are looked at together: one in thousands is a candidate."""
BEAD_AREA = 6
"""Pixels above half its height that are too few for a bead: spheres four pixels across have seven or more (:func:`is_hit`)."""
BEAD_STEP = 0.62
"""Fall from pixel to pixel, as a fraction of its height, that is too steep for a bead (:func:`is_hit`).  With half of it nothing
changes in simulated series, with double 4 % more of the pixels of hits are missed."""
STEP_SD = 3.0
"""Standard deviations of the noise that are taken off the steepest fall of a group, which is the greatest of many; with 6, 2 % more
of the pixels of hits are missed."""
GROW_HEIGHT = 0.1
"""Fraction of its height at which a hit stops growing at the latest: a strong one must not grow over the tail of the camera's
point spread."""
FILL_REACH = 64
"""Pixels in each direction over which an unmarked pixel is looked for."""


@kernel(fastmath=True)
def block_statistics(image: Image, edges_y: Ints, edges_x: Ints, mean: Floats, sd: Floats, step_sd: Floats) -> None:
    """Write mean and standard deviation of each block, and the standard deviation of differences of horizontal neighbours.

    The blocks lie between consecutive `edges`; the outputs are `(blocks_y, blocks_x)`.  Every fourth row is read.  Each pass leaves
    out what lies beyond :data:`CLIP_SD` standard deviations of the one before, so that hits do not raise their own threshold.
    """
    for by in range(len(edges_y) - 1):
        for bx in range(len(edges_x) - 1):
            first, last = edges_x[bx], edges_x[bx + 1] - 1
            # Of single precision are the sums along a row, of distances from a mean: exact to a millionth of the spread.
            centre = 0.0
            for x in range(first, last):
                centre += float(image[edges_y[by], x])
            centre /= max(last - first, 1)
            limit, step_limit = np.float32(np.inf), np.float32(np.inf)
            spread, step_spread = 0.0, 0.0
            for _ in range(CLIP_PASSES):
                middle = np.float32(centre)
                count, total, square, steps, step_square = 0.0, 0.0, 0.0, 0.0, 0.0
                for y in range(edges_y[by], edges_y[by + 1], 4):
                    row, beside = image[y, first:last], image[y, first + 1 : last + 1]
                    n, s, q, m, t = np.float32(0), np.float32(0), np.float32(0), np.float32(0), np.float32(0)
                    for x in range(len(row)):
                        value, step = row[x] - middle, beside[x] - row[x]
                        inside = np.float32(1) if abs(value) <= limit else np.float32(0)
                        n += inside
                        s += inside * value
                        q += inside * value * value
                        inside = np.float32(1) if abs(step) <= step_limit else np.float32(0)
                        m += inside
                        t += inside * step * step
                    count += float(n)
                    total += float(s)
                    square += float(q)
                    steps += float(m)
                    step_square += float(t)
                offset = total / max(count, 1.0)
                centre = float(middle) + offset
                spread = math.sqrt(max(square / max(count, 1.0) - offset * offset, 0.0))
                step_spread = math.sqrt(step_square / max(steps, 1.0))
                limit, step_limit = np.float32(CLIP_SD * spread), np.float32(CLIP_SD * step_spread)
            mean[by, bx], sd[by, bx], step_sd[by, bx] = centre, spread, step_spread


@kernel()
def find_candidates(
    image: Image, edges_y: Ints, edges_x: Ints, threshold: Floats, step_threshold: Floats, margin: int, out: Ints
) -> int:
    """Write the flat indices of pixels that may be hits into `out`; return how many there are.

    A candidate exceeds `threshold` of its block, or exceeds all four pixels two steps away by `step_threshold` (near an edge of
    the image, those that exist).  Counting goes on when `out` is full, so that the caller knows the length needed.
    """
    ny, nx = image.shape
    found = 0
    for by in range(len(edges_y) - 1):
        for y in range(max(edges_y[by], margin), min(edges_y[by + 1], ny - margin)):
            below, above = image[y - 2 if y >= 2 else y + 2], image[y + 2 if y + 2 < ny else y - 2]
            row = image[y]
            for bx in range(len(edges_x) - 1):
                limit, fall = np.float32(threshold[by, bx]), np.float32(step_threshold[by, bx])
                x, last = max(edges_x[bx], margin), min(edges_x[bx + 1], nx - margin)
                while x < last:
                    end = x + 1
                    if x >= 2 and x + AT_ONCE <= min(last, nx - 2):
                        end = x + AT_ONCE
                        here, left, right = row[x:end], row[x - 2 : end - 2], row[x + 2 : end + 2]
                        lower, upper = below[x:end], above[x:end]
                        some = 0
                        for k in range(AT_ONCE):
                            base = here[k] - fall
                            stands_out = (base > left[k]) & (base > right[k]) & (base > lower[k]) & (base > upper[k])
                            some |= (here[k] > limit) | stands_out
                        if not some:
                            x = end
                            continue
                    for at in range(x, end):
                        value = row[at]
                        base = value - fall
                        if value > limit or (
                            base > row[at - 2 if at >= 2 else at + 2]
                            and base > row[at + 2 if at + 2 < nx else at - 2]
                            and base > below[at]
                            and base > above[at]
                        ):
                            if found < len(out):
                                out[found] = y * nx + at
                            found += 1
                    x = end
    return found


@kernel()
def ring_median(image: Image, y: int, x: int, work: Floats) -> float:
    """Return the median of the pixels at a distance of 3 to 5.5 pixels; `work` has room for a square of them."""
    ny, nx = image.shape
    count = 0
    for dy in range(-RING_REACH, RING_REACH + 1):
        for dx in range(-RING_REACH, RING_REACH + 1):
            square = dy * dy + dx * dx
            if RING_INNER <= square <= RING_OUTER and 0 <= y + dy < ny and 0 <= x + dx < nx:
                value = float(image[y + dy, x + dx])
                place = count
                while place > 0 and work[place - 1] > value:
                    work[place] = work[place - 1]
                    place -= 1
                work[place] = value
                count += 1
    return (work[(count - 1) // 2] + work[count // 2]) / 2 if count else 0.0


@kernel()
def grow(image: Image, seed: int, floor: float, state: NDArray[np.uint8], group: Ints) -> int:
    """Collect the connected pixels above `floor` around `seed` into `group`, and mark them in `state`; return how many.

    The number is negative when the group cannot be a hit: it is larger than `group`, or touches a rejected one (2 in `state`).
    """
    ny, nx = image.shape
    group[0] = seed
    state[seed // nx, seed % nx] = 1
    count, done = 1, 0
    rejected = False
    while done < count:
        y, x = group[done] // nx, group[done] % nx
        done += 1
        for yy in range(max(y - 1, 0), min(y + 2, ny)):
            for xx in range(max(x - 1, 0), min(x + 2, nx)):
                rejected = rejected or state[yy, xx] == 2
                if state[yy, xx] == 0 and image[yy, xx] > floor and count < len(group):
                    state[yy, xx] = 1
                    group[count] = yy * nx + xx
                    count += 1
    return -count if rejected or count == len(group) else count


@kernel()
def steepest_step(image: Image, group: Ints, count: int) -> float:
    """Largest fall from a pixel of the group to one of its four neighbours."""
    ny, nx = image.shape
    largest = 0.0
    for k in range(count):
        y, x = group[k] // nx, group[k] % nx
        value = float(image[y, x])
        if y > 0:
            largest = max(largest, value - image[y - 1, x])
        if y < ny - 1:
            largest = max(largest, value - image[y + 1, x])
        if x > 0:
            largest = max(largest, value - image[y, x - 1])
        if x < nx - 1:
            largest = max(largest, value - image[y, x + 1])
    return largest


@kernel()
def is_hit(
    image: Image, group: Ints, count: int, base: float, step_sd: float, max_area: float, giant: float, big_diff: float
) -> bool:
    """Return whether a group is a hit and not a bead: smaller than any bead, or falling off faster than a sphere can.

    The projection of a sphere four pixels across, at any position within a pixel and blurred by a camera with 0.4 pixels standard
    deviation, covers at least seven pixels at half its height and falls by at most 0.58 of the height from pixel to pixel; larger
    spheres are flatter.  :data:`STEP_SD` standard deviations are taken off the fall, as it is the steepest of many.  Of a bead that
    the edge of the image cuts, only the steep limb may be left, but at least half of those pixels.
    """
    ny, nx = image.shape
    height = 0.0
    cut = False
    for k in range(count):
        y, x = group[k] // nx, group[k] % nx
        height = max(height, float(image[y, x]) - base)
        cut = cut or y == 0 or x == 0 or y == ny - 1 or x == nx - 1
    half = 0
    for k in range(count):
        half += image[group[k] // nx, group[k] % nx] - base > 0.5 * height
    if cut:
        return half <= BEAD_AREA // 2
    if half <= BEAD_AREA:
        return True
    step = steepest_step(image, group, count)
    sharp = step - STEP_SD * step_sd > BEAD_STEP * height
    if count <= max_area:
        return sharp
    return sharp and height > giant * step_sd / math.sqrt(2.0) and step > big_diff * step_sd


@kernel()
def examine(
    image: Image,
    candidates: Ints,
    edges_y: Ints,
    edges_x: Ints,
    step_sd: Floats,
    criteria: tuple[float, float, float, float, float],
    max_area: float,
    state: NDArray[np.uint8],
    group: Ints,
    ring: Floats,
    starts: Ints,
    indices: Ints,
) -> int:
    """Grow each candidate and keep the hits; return how many there are.

    `criteria` are peak, diff, giant, big diff and grow.  `state` starts as zeros; pixels of hits become 1, those of rejected groups
    2.  The pixels of hit k are written to `indices[starts[k] : starts[k + 1]]`; hits beyond the length of `indices` are rejected.
    """
    peak, diff, giant, big_diff, grow_criterion = criteria
    nx = image.shape[1]
    hits, pixels, blocks_x = 0, 0, len(edges_x) - 1
    by, bx = 0, 0
    for seed in candidates:
        y, x = seed // nx, seed % nx
        if state[y, x]:
            continue
        while y >= edges_y[by + 1]:
            by += 1
        bx = min(x * blocks_x // nx, blocks_x - 1)
        while x < edges_x[bx]:
            bx -= 1
        while x >= edges_x[bx + 1]:
            bx += 1
        noise = step_sd[by, bx] / math.sqrt(2.0)
        base = ring_median(image, y, x, ring)
        height = image[y, x] - base
        if height <= peak * noise or height <= diff * step_sd[by, bx]:
            continue
        grown = grow(image, seed, base + max(grow_criterion * noise, GROW_HEIGHT * height), state, group)
        count = abs(grown)
        small = grown > 0 and pixels + count <= len(indices)
        if not small or not is_hit(image, group, count, base, step_sd[by, bx], max_area, giant, big_diff):
            for k in range(count):
                state[group[k] // nx, group[k] % nx] = 2
            continue
        starts[hits] = pixels
        for k in range(count):
            indices[pixels + k] = group[k]
        pixels += count
        hits += 1
    starts[hits] = pixels
    return hits


@kernel()
def fill_from_beside(image: Image, marked: NDArray[np.bool_], places: Ints) -> int:
    """Replace the marked pixels at `places` from the nearest unmarked ones along x and y; return for how many there are none.

    They count by the inverse square of their distance.  Pixels without any become NaN.
    """
    ny, nx = image.shape
    none = 0
    for place in places:
        y, x = place // nx, place % nx
        total, weight = 0.0, 0.0
        for dy, dx in ((0, -1), (0, 1), (-1, 0), (1, 0)):
            yy, xx = y, x
            for distance in range(1, FILL_REACH + 1):
                yy += dy
                xx += dx
                if not (0 <= yy < ny and 0 <= xx < nx):
                    break
                if not marked[yy, xx]:
                    total += float(image[yy, xx]) / (distance * distance)
                    weight += 1.0 / (distance * distance)
                    break
        image[y, x] = total / weight if weight > 0.0 else np.nan
        none += weight == 0.0
    return none
