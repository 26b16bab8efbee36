"""Where neighbours overlap, to a pixel: correlation over the common part, with all views and all edges together.

At a lag both strips are normalised over what they share, so that shading and the changing area count for nothing (Padfield 2012,
doi:10.1109/TIP.2011.2181402).  If neighbours correlate by c0 where they belong, a correlation c of n independent pixels is worth the
logarithm of a likelihood ratio, `n (c0 c - c0^2 / 2) / (1 - c0^2)`.  This adds up: over the views of an edge, as a piece is off by much
the same in all of them (what misplaces it is the calibration of the microscope); and over the edges that join two groups of pieces, once
it is known how pieces lie within each.  Groups are joined one by one, the clearest first.  Each view is then looked up near what was
found, and what its map says of the place is kept as a mean and a variance, for edges that are too faint to be matched by their gray
levels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.model import Image
from tiltflow.preprocess.montage.overlaps import LEAST_OVERLAP_PX, Overlap

Floats = NDArray[np.float64]

_SMOOTH_CELLS = 0.6
"""Standard deviation of the blur of binned strips, cells."""
_BOX_CELLS = 9
"""Side of the box, cells, whose mean is their background."""
_HALF_OF_CHI2 = 0.4549
"""Median of a squared normal deviate."""
_LEAST_LAGS = 3
"""Displacements along each axis, at least: there is a peak between its neighbours."""
_CORRELATION = 0.02, 0.8
"""Limits of the correlation that is expected of neighbours."""
_VIEW_PX, _SLOPE_PX, _PLACE_PX = 1.5, 2.0, 15.0
"""Standard deviations expected of displacements: of a view, of what follows the sine of the tilt, and of an edge in all views."""
_SLOPES_PX = 2.0 * np.arange(-2, 3)
"""Changes with the sine of the tilt that are tried, pixels."""
_CANDIDATES = 5
"""Peaks of all views together that are looked at closely."""
_CLEAR = 2.5
"""By how much the place of a group of pieces must be more likely than any other to be believed: of noise alone the best place is ahead of
the second by 1 at most, in 28 trials; right ones of series with 60 electrons a pixel were by 3 and more."""
_JUMP = 16.0
"""By how much a peak elsewhere must be more likely: the prior of a jump, one piece in a thousand to any of some thousand places."""
_CELL, _LEAST_NEWS = 0.35, 0.1
"""Standard error of a place within a cell, and how much of what was known before a view has to add to be told at all."""
_ROUNDS = 3
"""Of choosing peaks and fitting how they change with the tilt."""


@dataclass(frozen=True, slots=True, eq=False)
class Maps:
    """What the correlation of one edge tells.

    Attributes
    ----------
    correlation
        Of each displacement, `(views, ny, nx)`.
    samples
        Of how many independent pixels, `(views, ny, nx)`.
    dx, dy
        Displacements, pixels.
    """

    correlation: NDArray[np.float32]
    samples: NDArray[np.float32]
    dx: Floats
    dy: Floats

    @property
    def anyhow(self) -> NDArray[np.float32]:
        """Logarithm of the likelihood ratio of the correlation that is found, whatever is expected."""
        return -0.5 * self.samples * np.log1p(-(np.clip(self.correlation, 0, 0.999) ** 2))

    def evidence(self, expected: float) -> NDArray[np.float32]:
        """Logarithm of the likelihood ratio where neighbours are expected to correlate by so much."""
        worth = np.float32(1 / (1 - expected**2))
        return worth * self.samples * (np.float32(expected) * self.correlation - np.float32(expected**2 / 2))

    def at(self, maps: NDArray[np.float32], where: Floats) -> Floats:
        """Return the values of maps at displacements, `(views, points, 2)`."""
        views, points, _ = where.shape
        y = (where[..., 1] - self.dy[0]) / (self.dy[1] - self.dy[0])
        x = (where[..., 0] - self.dx[0]) / (self.dx[1] - self.dx[0])
        v = np.broadcast_to(np.arange(views)[:, None], (views, points))
        return np.asarray(scipy.ndimage.map_coordinates(maps, [v, y, x], order=1, mode="nearest", prefilter=False))


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Displacements of one edge, to about a pixel.

    Attributes
    ----------
    place_px
        `(views, 2)`: the most likely displacement.
    mean_px, variance
        `(views, 2)`: what the correlation alone says, as a mean and a variance; infinite where it says nothing.
    """

    place_px: Floats
    mean_px: Floats
    variance: Floats


def binned(strip: Image, factor: int) -> Image:
    """Return a strip averaged in blocks, blurred and flattened."""
    ny, nx = (n // factor for n in strip.shape)
    small = strip[: ny * factor, : nx * factor].reshape(ny, factor, nx, factor).mean(axis=(1, 3))
    small = scipy.ndimage.gaussian_filter(small, _SMOOTH_CELLS, mode="nearest")
    broad = small
    for _ in range(2):
        broad = scipy.ndimage.uniform_filter(broad, _BOX_CELLS, mode="nearest")
    return np.asarray(small - broad, np.float32)


def evidence_of(overlap: Overlap, lower: Image, upper: Image) -> Maps | None:
    """Return what the binned strips of an edge tell in some views, `(views, ny, nx)` each; None where they are too narrow to tell any."""
    lags_y, lags_x = _lags(overlap, lower.shape[1:])
    if min(len(lags_y), len(lags_x)) < _LEAST_LAGS:
        return None
    across = overlap.overlap - overlap.reach
    base = (across, 0) if overlap.edge.axis == 0 else (0, across)
    dx, dy = base[0] - lags_x[::-1] * overlap.binning, base[1] - lags_y[::-1] * overlap.binning
    c, n = _correlations(lower, upper, lags_y, lags_x)
    c, n = c[:, ::-1, ::-1], n[:, ::-1, ::-1]
    # Most displacements are wrong: there, c is to have the variance 1 / n.
    n = n / max(float(np.median(c * c * n)) / _HALF_OF_CHI2, 0.1)
    return Maps(np.asarray(c, np.float32), np.asarray(n, np.float32), dx.astype(float), dy.astype(float))


def _lags(overlap: Overlap, shape: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the lags along y and x, cells: to either side along the edge, and across it for as long as enough is common."""
    cells = overlap.search // overlap.binning + 1
    least = max(-(-LEAST_OVERLAP_PX // overlap.binning), 2)
    ranges = []
    for axis, n in ((1, shape[0]), (0, shape[1])):
        if axis == overlap.edge.axis:
            ranges.append(np.arange(least - n, 1))
        else:
            ranges.append(np.arange(-min(cells, n - least), min(cells, n - least) + 1))
    return ranges[0], ranges[1]


def _correlations(a: Image, b: Image, lags_y: NDArray[np.int64], lags_x: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return the correlation of b(x + lag) with a(x), and of how many independent pixels, `(views, lags_y, lags_x)`."""
    ny, nx = a.shape[1:]
    shape = tuple(scipy.fft.next_fast_len(n + int(np.abs(lag).max()) + 1, real=True) for n, lag in ((ny, lags_y), (nx, lags_x)))
    fa, fb = scipy.fft.rfft2(a, shape), scipy.fft.rfft2(b, shape)
    product = scipy.fft.irfft2(np.conj(fa) * fb, shape)[:, lags_y[:, None] % shape[0], lags_x % shape[1]]
    pa, pb = np.abs(fa) ** 2, np.abs(fb) ** 2
    # Two unrelated images correlate the more, the fewer frequencies both are made of.
    grain = shape[0] * (shape[1] // 2 + 1) * (pa * pb).sum((1, 2)) / np.maximum(pa.sum((1, 2)) * pb.sum((1, 2)), 1e-30)
    grain *= ny * nx / (shape[0] * shape[1])
    area_a = [(np.maximum(-lags, 0), np.minimum(n, n - lags)) for lags, n in ((lags_y, ny), (lags_x, nx))]
    area_b = [(low + lags, high + lags) for (low, high), lags in zip(area_a, (lags_y, lags_x), strict=True)]
    n = np.maximum(np.outer(*(high - low for low, high in area_a)), 1)
    sa, sb, qa, qb = (_sums(image, area) for image, area in ((a, area_a), (b, area_b), (a * a, area_a), (b * b, area_b)))
    va, vb = qa - sa * sa / n, qb - sb * sb / n
    c = (product - sa * sb / n) / np.sqrt(np.maximum(va * vb, 1e-20))
    return np.clip(c, -1, 1), n / np.maximum(grain, 1e-9)[:, None, None]


def _sums(images: NDArray[np.float32], area: list[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> Floats:
    """Return the sums of images over rectangles, one for each pair of lags."""
    table = np.zeros((len(images), images.shape[1] + 1, images.shape[2] + 1))
    np.cumsum(images, axis=1, out=table[:, 1:, 1:], dtype=float)
    np.cumsum(table[:, 1:, 1:], axis=2, out=table[:, 1:, 1:])
    (y0, y1), (x0, x1) = area
    rows = table[:, y1] - table[:, y0]
    return np.asarray(rows[:, :, x1] - rows[:, :, x0])


def shared_places(
    overlaps: list[Overlap], maps: list[Maps | None], views: list[list[int]], slope: Floats, pieces: int
) -> tuple[Floats, list[int]]:
    """Return where pieces lie in each view as all views together have it, `(views, pieces, 2)`, and the edges that are too faint to tell.

    A place is a constant, and a part with the slope; across edges that are too faint pieces are left as written.

    That neighbours correlate alike in all views is assumed: of correlations c of n pixels the place is the likelier, the greater
    `(sum n c)^2 / (2 sum n)`.

    Parameters
    ----------
    overlaps
        The edges.
    maps, views
        What each tells (None for nothing), and of which views.
    slope
        `(views,)`: sine of the tilt.
    pieces
        How many there are.
    """
    blurred = [None if m is None else _blurred(m, overlap) for m, overlap in zip(maps, overlaps, strict=True)]
    group, place = np.arange(pieces), np.zeros((len(slope), pieces, 2))
    faint = [number for number, (of_edge, have) in enumerate(zip(maps, views, strict=True)) if have and of_edge is None]
    joints: dict[tuple[int, int], tuple[float, Floats]] = {}
    for _ in range(pieces - 1):
        between: dict[tuple[int, int], list[int]] = {}
        for number, overlap in enumerate(overlaps):
            low, high = int(group[overlap.edge.lower]), int(group[overlap.edge.upper])
            if low != high and blurred[number] is not None:
                between.setdefault((min(low, high), max(low, high)), []).append(number)
        if not between:
            break
        joints = {pair: joint for pair, joint in joints.items() if pair in between}
        for pair, numbers in between.items():
            if pair not in joints:
                joints[pair] = _joined(pair, numbers, overlaps, blurred, views, slope, group, place)
        best = max(joints, key=lambda pair: joints[pair][0])
        low, high = best
        if joints[best][0] < _CLEAR:
            faint += between[best]
            joints[best] = (0.0, np.zeros((2, 2)))
        place[:, group == high] += (np.stack([np.ones(len(slope)), slope], axis=1) @ joints[best][1])[:, None]
        group[group == high] = low
        joints = {pair: joint for pair, joint in joints.items() if low not in pair and high not in pair}
    return place, faint


def _blurred(maps: Maps, overlap: Overlap) -> Maps:
    """Return the same, for a place that views are scattered about."""
    blur = scipy.ndimage.gaussian_filter(maps.correlation, (0, *(2 * (_VIEW_PX / overlap.binning,))), mode="nearest")
    return Maps(blur, maps.samples, maps.dx, maps.dy)


def _joined(
    pair: tuple[int, int],
    numbers: list[int],
    overlaps: list[Overlap],
    maps: list[Maps | None],
    views: list[list[int]],
    slope: Floats,
    group: NDArray[np.int64],
    place: Floats,
) -> tuple[float, Floats]:
    """Return how clearly the second of two groups of pieces lies where from the first, and where: a constant and a slope, `(2, 2)`."""
    parts = []
    for number in numbers:
        of_edge, edge = maps[number], overlaps[number].edge
        if of_edge is not None:
            sign = 1.0 if group[edge.upper] == pair[1] else -1.0
            have = views[number]
            parts.append((of_edge, sign, slope[have], place[have, edge.upper] - place[have, edge.lower]))

    def value(points: Floats, slopes: Floats) -> Floats:
        total, samples = np.zeros(len(points)), np.zeros(len(points))
        for of_edge, sign, sines, known in parts:
            where = sign * (points + sines[:, None, None] * slopes) + known[:, None]
            n = of_edge.at(of_edge.samples, where)
            samples += n.sum(axis=0)
            total += (n * of_edge.at(of_edge.correlation, where)).sum(axis=0)
        before = (points**2).sum(axis=1) / _PLACE_PX**2 + (slopes**2).sum(axis=1) / _SLOPE_PX**2
        return np.asarray(np.maximum(total, 0) ** 2 / (2 * np.maximum(samples, 1e-9)) - 0.5 * before)

    step = min(overlaps[number].binning for number in numbers)
    reach = max(overlaps[number].search for number in numbers) + step
    side = np.arange(-reach, reach + 1, step, dtype=float)
    points = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    values = value(points, np.zeros((1, 2)))
    found: list[tuple[float, Floats]] = []
    coarse = values
    for _ in range(_CANDIDATES):
        at = int(values.argmax())
        found.append(_refined(value, points[at], step))
        values = np.where(np.linalg.norm(points - points[at], axis=1) < 2 * _VIEW_PX + 2 * step, -np.inf, values)
    found.sort(key=lambda each: -each[0])
    apart = [each[0] for each in found if np.linalg.norm(each[1][0] - found[0][1][0]) > 2 * _VIEW_PX]
    away = np.linalg.norm(points - found[0][1][0], axis=1) > 2 * _VIEW_PX + 2 * step
    return found[0][0] - max(apart, default=float(coarse[away].max())), found[0][1]


def _refined(value: Callable[[Floats, Floats], Floats], start: Floats, step: float) -> tuple[float, Floats]:
    """Return the best constant and slope about a start, and how likely they are."""
    place, slopes, best = start, np.zeros(2), -np.inf
    around = np.stack(np.meshgrid(*2 * (step * np.arange(-1.5, 2, 0.5),)), axis=-1).reshape(-1, 2)
    tried = np.stack(np.meshgrid(_SLOPES_PX, _SLOPES_PX), axis=-1).reshape(-1, 2)
    for factor in (1.0, 0.5, 0.25):
        values = value(np.broadcast_to(place, tried.shape), slopes + factor * tried)
        slopes = slopes + factor * tried[int(values.argmax())]
        values = value(place + around, np.broadcast_to(slopes, around.shape))
        place, best = place + around[int(values.argmax())], float(values.max())
    return best, np.stack([place, slopes])


def look_up(overlap: Overlap, maps: Maps, expected: Floats, slope: Floats) -> Found:
    """Return the displacement of an edge in each view, near where it is expected `(views, 2)`, or elsewhere if that is far likelier."""
    views = len(expected)
    design = np.stack([np.ones(views), slope], axis=1)
    trend, spread, found = expected, 1.5 * _VIEW_PX, expected
    n, c = (maps.at(each, expected[:, None])[:, 0] for each in (maps.samples, _blurred(maps, overlap).correlation))
    evidence = maps.evidence(float(np.clip((n * c).sum() / n.sum(), *_CORRELATION)))
    likely = evidence
    for _ in range(_ROUNDS):
        far = (maps.dx[None, None] - trend[:, None, None, 0]) ** 2 + (maps.dy[None, :, None] - trend[:, None, None, 1]) ** 2
        likely = np.asarray(evidence - 0.5 * far / spread**2, np.float32)
        found, _ = _peaks(likely, maps.dx, maps.dy)
        away = found - expected
        for _ in range(3):
            w = 1 / (1 + ((found - trend) ** 2).sum(axis=1) / (2 * _VIEW_PX) ** 2)
            ridge = np.diag([0.3, 0.6])
            trend = expected + design @ np.linalg.solve(design.T @ (w[:, None] * design) + ridge, design.T @ (w[:, None] * away))
        spread = float(np.clip(1.4826 * np.median(np.abs(found - trend)), _VIEW_PX, 3 * _VIEW_PX))
    mean, variance = _moments(likely, maps, found, trend, spread)
    anyhow = maps.anyhow
    anywhere, most = _peaks(anyhow, maps.dx, maps.dy)
    there = maps.at(anyhow, found[:, None])[:, 0]
    usual = np.median(there)
    jumped = (most > there + _JUMP) & (most > 0.5 * usual)
    found, mean = (np.where(jumped[:, None], anywhere, each) for each in (found, mean))
    return Found(found, mean, np.where(jumped[:, None], float(overlap.binning) ** 2, variance))


def _moments(likely: NDArray[np.float32], maps: Maps, found: Floats, trend: Floats, spread: float) -> tuple[Floats, Floats]:
    """Return mean and variance of what maps say of each view, with what was expected taken out again."""
    weight = np.exp(likely - likely.max(axis=(1, 2), keepdims=True))
    weight /= weight.sum(axis=(1, 2), keepdims=True)
    mean, variance = np.zeros((len(likely), 2)), np.zeros((len(likely), 2))
    for axis, (values, marginal) in enumerate(((maps.dx, weight.sum(axis=1)), (maps.dy, weight.sum(axis=2)))):
        cell = values[1] - values[0]
        middle = marginal @ values
        spreads = (marginal * (values - middle[:, None]) ** 2).sum(axis=1)
        # Within a cell a parabola tells more than the mean of few.
        middle = np.where(spreads < cell**2, found[:, axis], middle)
        told = spreads < spread**2 / (1 + _LEAST_NEWS)
        left = np.where(told, spread**2 - spreads, 1.0)
        mean[:, axis] = np.where(told, middle + (middle - trend[:, axis]) * spreads / left, middle)
        variance[:, axis] = np.where(told, np.maximum(spreads * spread**2 / left, (_CELL * cell) ** 2), np.inf)
    return mean, variance


def _peaks(maps: NDArray[np.float32], dx: Floats, dy: Floats) -> tuple[Floats, Floats]:
    """Return the places of the maxima of maps, `(views, 2)`, by a parabola through each and its neighbours, and their heights."""
    views, ny, nx = maps.shape
    y, x = np.unravel_index(maps.reshape(views, -1).argmax(axis=1), (ny, nx))
    v = np.arange(views)
    top = maps[v, y, x].astype(float)
    places = []
    for at, n, axis, coordinate in ((x, nx, 2, dx), (y, ny, 1, dy)):
        before, after = np.maximum(at - 1, 0), np.minimum(at + 1, n - 1)
        low = maps[v, y, before] if axis == 2 else maps[v, before, x]
        high = maps[v, y, after] if axis == 2 else maps[v, after, x]
        curve = np.maximum(2 * top - low - high, 1e-6)
        part = np.where((before < at) & (after > at), np.clip(0.5 * (high - low) / curve, -0.5, 0.5), 0)
        places.append(np.interp(at + part, np.arange(n), coordinate))
    return np.stack(places, axis=1), top
