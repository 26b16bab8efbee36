"""Where two neighbours overlap, to a pixel: correlation over the common part, with all views of an edge together.

At a lag both strips are normalised over what they share, so that shading and the changing area count for nothing (Padfield 2012,
doi:10.1109/TIP.2011.2181402).  What a correlation c of n independent pixels tells is the logarithm of a likelihood ratio,
`-n log(1 - c^2) / 2`; this adds up over views.  A piece is off by much the same in all views, as what misplaces it is the calibration
of the microscope: the sum over views shows where, even if no single view does, and each view is then looked up near it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from tiltflow.model import Image
from tiltflow.preprocess.montage.overlaps import LEAST_OVERLAP_PX, Overlap, flattened

Floats = NDArray[np.float64]

_SMOOTH_CELLS = 0.6
"""Standard deviation of the blur of binned strips, cells."""
_BOX_CELLS = 9
"""Side of the box, cells, whose mean is their background."""
_BLUR_PX = 2.5
"""How far views may differ, pixels, and still add up in the common peak."""
_LEAST_SPREAD_PX = 1.5
"""Standard deviation about the common peak with which a view is looked up, at least."""
_JUMP = 16.0
"""By how much a peak elsewhere must be more likely: the prior of a jump, one piece in a thousand to any of some thousand places."""
_ROUNDS = 4
"""Of choosing peaks and fitting how they change with the tilt."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Displacements of one edge, to about a pixel.

    Attributes
    ----------
    displacement_px
        `(views, 2)`; NaN where a piece is missing.
    clear
        `(views,)`: by how much the peak is more likely than any other place outside its surroundings; negative if it is less.
    """

    displacement_px: Floats
    clear: Floats


def binned(strip: Image, factor: int) -> Image:
    """Return a strip averaged in blocks, blurred and flattened."""
    ny, nx = (n // factor for n in strip.shape)
    small = strip[: ny * factor, : nx * factor].reshape(ny, factor, nx, factor).mean(axis=(1, 3))
    small = ndimage.gaussian_filter(small, _SMOOTH_CELLS, mode="nearest")
    broad = small
    for _ in range(2):
        broad = ndimage.uniform_filter(broad, _BOX_CELLS, mode="nearest")
    return np.asarray(small - broad, np.float32)


def find_displacements(overlap: Overlap, lower: Image, upper: Image, slope: Floats) -> Found:
    """Return the displacement of an edge in some views.

    Parameters
    ----------
    overlap
        The edge.
    lower, upper
        Binned strips, `(views, ny, nx)`.
    slope
        `(views,)`: what displacements may change with, the sine of the tilt.
    """
    lags_y, lags_x = _lags(overlap, lower.shape[1:])
    maps = _evidence(lower, upper, lags_y, lags_x)
    across = overlap.overlap - overlap.reach
    base = np.array([across, 0.0] if overlap.edge.axis == 0 else [0.0, across])
    dx, dy = base[0] - lags_x * overlap.binning, base[1] - lags_y * overlap.binning
    return _choose(maps, dx.astype(float), dy.astype(float), slope, overlap.binning)


def _lags(overlap: Overlap, shape: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the lags along y and x, cells: to either side along the edge, and across it for as long as enough is common."""
    cells = overlap.search // overlap.binning + 1
    least = max(-(-LEAST_OVERLAP_PX // overlap.binning), 2)
    ranges = []
    for axis, n in ((1, shape[0]), (0, shape[1])):
        if axis == overlap.edge.axis:
            wide = min(overlap.overlap + overlap.search, overlap.reach) // overlap.binning
            ranges.append(np.arange(least - n, wide - n + 1))
        else:
            ranges.append(np.arange(-min(cells, n - least), min(cells, n - least) + 1))
    return ranges[0], ranges[1]


def _evidence(a: Image, b: Image, lags_y: NDArray[np.int64], lags_x: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the logarithms of likelihood ratios, `(views, lags_y, lags_x)`, that b continues a at a lag."""
    ny, nx = a.shape[1:]
    shape = tuple(fft.next_fast_len(n + int(np.abs(lag).max()) + 1, real=True) for n, lag in ((ny, lags_y), (nx, lags_x)))
    fa, fb = fft.rfft2(a, shape), fft.rfft2(b, shape)
    product = fft.irfft2(np.conj(fa) * fb, shape)[:, lags_y[:, None] % shape[0], lags_x % shape[1]]
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
    c = np.clip(c, 0, 0.999)
    return np.asarray(-0.5 * n / grain[:, None, None] * np.log1p(-c * c), np.float32)


def _sums(images: NDArray[np.float32], area: list[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> Floats:
    """Return the sums of images over rectangles, one for each pair of lags."""
    table = np.zeros((len(images), images.shape[1] + 1, images.shape[2] + 1))
    np.cumsum(images, axis=1, out=table[:, 1:, 1:], dtype=float)
    np.cumsum(table[:, 1:, 1:], axis=2, out=table[:, 1:, 1:])
    (y0, y1), (x0, x1) = area
    rows = table[:, y1] - table[:, y0]
    return np.asarray(rows[:, :, x1] - rows[:, :, x0])


def _choose(maps: NDArray[np.float32], dx: Floats, dy: Floats, slope: Floats, binning: int) -> Found:
    """Return the peak of each view near the one that all have in common, or elsewhere if it is far more likely there."""
    views = len(maps)
    reach = 2 * int(np.ceil(_BLUR_PX / binning)) + 1
    usual = np.median(maps.max(axis=(1, 2)))
    # No view outvotes all others.
    total = ndimage.maximum_filter(np.minimum(maps, 3 * usual), (0 * reach + 1, reach, reach)).mean(axis=0)
    total = ndimage.uniform_filter(total, reach, mode="nearest")
    y, x = np.unravel_index(int(total.argmax()), total.shape)
    trend = np.repeat([[dx[x], dy[y]]], views, axis=0)
    design = np.stack([np.ones(views), slope], axis=1)
    spread, found = 2 * _LEAST_SPREAD_PX, trend
    for _ in range(_ROUNDS):
        far = (dx[None, None] - trend[:, None, None, 0]) ** 2 + (dy[None, :, None] - trend[:, None, None, 1]) ** 2
        near = maps - 0.5 * np.asarray(far / spread**2, np.float32)
        found, height = _peaks(near, dx, dy)
        weight = np.clip(height / max(float(np.median(height)), 1.0), 0.05, 1)
        for _ in range(3):
            away = np.linalg.norm(found - trend, axis=1)
            w = weight / (1 + (away / (2 * _LEAST_SPREAD_PX)) ** 2)
            ridge = np.diag([0.0, 0.1 * w.sum() / max(views, 1) + 1e-9])
            trend = design @ np.linalg.solve(design.T @ (w[:, None] * design) + ridge + 1e-9 * np.eye(2), design.T @ (w[:, None] * found))
        spread = max(_LEAST_SPREAD_PX, 1.4826 * float(np.median(np.linalg.norm(found - trend, axis=1))))
    anywhere, most = _peaks(maps, dx, dy)
    jumped = (most > height + _JUMP) & (most > 0.5 * usual)
    found = np.where(jumped[:, None], anywhere, found)
    outside = (dx[None, None] - found[:, None, None, 0]) ** 2 + (dy[None, :, None] - found[:, None, None, 1]) ** 2 > (3 * binning) ** 2 + 4
    at = np.where(jumped, most, height)
    return Found(found, at - np.where(outside, maps, 0).max(axis=(1, 2)))


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
