"""The slab that a specimen fills in a small volume: from its texture, and from gold on its surfaces.

Heights are voxels above the centre of the volume, z up.  A slab lies between two planes
`z = centre + x tan(tilt) + y tan(pitch) ± thickness / 2`.

**Slopes from texture.**  The volume is cut into columns, and the energy of its fine structure measured at every height of each.
What a specimen adds to the noise is learned together with the slab: the slab is the one that maximises the sum of the log
likelihood ratio of inside to outside over its cells, and the two distributions are those of the cells inside and outside.

**Slopes from gold.**  Beads that lie on one surface, or on two parallel ones, give the slopes more sharply than texture does.

**Surfaces.**  Along planes of these slopes the energy of all columns is averaged: a profile with one hump.  A surface is where its
excess falls below a small part of the peak, so that the sparse structures next to a surface still count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import isotonic_regression

Floats = NDArray[np.float64]

STEEPEST_DEG = 12.0
"""Slopes are searched up to this."""

_EDGES = np.linspace(-4.0, 12.0, 65)
_FOOT = 0.06
"""Part of the excess at the peak of the profile that is left at a surface; from simulated sections of 50 to 150 pixels."""


@dataclass(frozen=True, slots=True)
class Slab:
    """A slab; angles in degrees, lengths in voxels."""

    tilt_deg: float
    pitch_deg: float
    centre: float
    thickness: float


@dataclass(frozen=True, slots=True)
class Surfaces:
    """The heights of two surfaces, voxels, and how far the hump between them rises above the noise of the profile."""

    bottom: float
    top: float
    contrast: float


@dataclass(frozen=True, slots=True)
class Gold:
    """One or two parallel planes of beads: their slopes, and the height of each at the centre of the volume."""

    tilt_deg: float
    pitch_deg: float
    heights: tuple[float, ...]
    beads: int
    spread: float
    """Root mean square distance of beads from their plane, voxels."""


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Log energy of the texture, in `noise` units of its scatter: `energy[y, x, z]`, of columns at `y` and `x` from the centre."""

    energy: Floats
    noise: float
    y: Floats
    x: Floats
    lowest: float
    """Height of the first z."""


def columns(volume: NDArray[np.float32], scale: float, *, block: int = 12, widest: float = 4.0, kept: float = 0.9) -> Columns:
    """Return the energy of structures of a volume `(y, z, x)` whose first row is its top.

    Parameters
    ----------
    scale
        Sigma of the smoothing, voxels; structures above `widest` times it do not count.
    block
        Side of a column.
    kept
        Part of the voxels of a cell, the darkest, that counts: beads and streaks are few and bright.
    """
    smooth = ndimage.gaussian_filter(volume[:, ::-1], scale, truncate=3)
    smooth -= ndimage.gaussian_filter(smooth, (widest * scale, 0, widest * scale), truncate=3)
    ny, nz, nx = volume.shape
    # The columns at either end of x are seen by few tilted views.
    by, bx = max(ny // block, 1), max(int(0.9 * nx) // block, 1)
    side_y, side_x = min(block, ny), min(block, nx)
    y0, x0 = (ny - by * side_y) // 2, (nx - bx * side_x) // 2
    ends = int(np.ceil(3 * scale))
    inner = smooth[y0 : y0 + by * side_y, ends : nz - ends, x0 : x0 + bx * side_x]
    squares = (inner**2).reshape(by, side_y, -1, bx, side_x).transpose(0, 3, 2, 1, 4).reshape(by, bx, nz - 2 * ends, -1)
    count = max(int(kept * squares.shape[-1]), 1)
    if count < squares.shape[-1]:
        squares = np.partition(squares, count - 1, axis=-1)[..., :count]
    energy = np.log(squares.mean(axis=-1) + 1e-30).astype(np.float64)
    energy -= np.percentile(energy, 25, axis=-1, keepdims=True)
    noise = max(float(np.median(np.abs(np.diff(energy[..., :: max(round(2 * scale), 1)], axis=-1)))) / 0.954, 1e-9)
    return Columns(
        energy=energy / noise,
        noise=noise,
        y=y0 + (np.arange(by) + 0.5) * side_y - ny / 2,
        x=x0 + (np.arange(bx) + 0.5) * side_x - nx / 2,
        lowest=ends + 0.5 - nz / 2,
    )


def find_surfaces(cells: Columns, slopes_deg: tuple[float, float]) -> Surfaces:
    """Return where the specimen begins and ends along planes of the given slopes (tilt, pitch)."""
    mean = _levelled(cells.energy, cells, slopes_deg) / (len(cells.y) * len(cells.x))
    excess = ndimage.gaussian_filter1d(np.exp(cells.noise * mean), 1.0)
    scatter = 1.4826 * float(np.median(np.abs(np.diff(excess, 2)))) / np.sqrt(6)
    peak = int(np.argmax(ndimage.gaussian_filter1d(excess, 2.0)))
    ends, feet = [], []
    for side in (excess[peak::-1], excess[peak:]):
        foot = float(side.min())
        level = foot + _FOOT * (side[0] - foot)
        k = max(int(np.argmax(side <= level)), 1)
        rise = side[k - 1] - side[k] if len(side) > 1 else 0.0
        ends.append(k - 1 + (side[k - 1] - level) / rise if rise > 0 else 0.0)
        feet.append(foot)
    contrast = (excess[peak] - max(feet)) / max(scatter, 1e-9)
    return Surfaces(cells.lowest + peak - ends[0], cells.lowest + peak + ends[1], float(contrast))


def fit_slab(cells: Columns, rounds: int = 4) -> Slab:
    """Return the most likely slab, its slopes within some 12 degrees."""
    nz = cells.energy.shape[-1]
    likelihood = np.clip(cells.energy - 1.5, -0.7, 2.0)
    slopes = _coarse(likelihood, cells)
    for _ in range(rounds):
        slopes = _steepest_ascent(likelihood, cells, slopes)
        _, first, last = _best_run(_levelled(likelihood, cells, slopes))
        height = np.arange(nz) - _rise(cells, slopes)[..., None]
        inside = (height >= first) & (height < last)
        outside = (height < first - 3) | (height >= last + 3)
        if not inside.any() or not outside.any():
            break
        ratio = _log_ratio(cells.energy[inside], cells.energy[outside])
        likelihood = np.interp(cells.energy, (_EDGES[1:] + _EDGES[:-1]) / 2, ratio)
    return Slab(slopes[0], slopes[1], cells.lowest - 0.5 + (first + last) / 2, float(last - first))


def _log_ratio(inside: Floats, outside: Floats) -> Floats:
    """Return the log likelihood ratio of inside to outside in each bin of energy; it never falls with the energy."""
    counts = np.array([np.histogram(np.clip(e, _EDGES[0], _EDGES[-1]), _EDGES)[0] for e in (inside, outside)], np.float64)
    counts = ndimage.gaussian_filter1d(counts, 1.5)
    pooled = counts.sum(axis=0)
    # Where neither has a cell, the prior makes them equal, and the order makes the bin follow its neighbours.
    prior = 20 * (pooled + 1e-6) / (pooled + 1e-6).sum()
    shares = (counts + prior) / (counts.sum(axis=1, keepdims=True) + 20)
    ratio = np.log(shares[0]) - np.log(shares[1])
    ordered = isotonic_regression(ratio, weights=pooled + 1e-6).x
    return np.asarray(np.clip(ordered, -2, 2))


def _rise(cells: Columns, slopes: tuple[float, float]) -> Floats:
    tilt, pitch = np.tan(np.deg2rad(slopes))
    return np.asarray(tilt * cells.x[None, :] + pitch * cells.y[:, None])


def _levelled(likelihood: Floats, cells: Columns, slopes: tuple[float, float]) -> Floats:
    """Return the sum over columns along planes of the given slopes, `(z,)`."""
    nz = likelihood.shape[-1]
    at = np.arange(nz) + _rise(cells, slopes)[..., None]
    k = np.clip(np.floor(at).astype(np.int64), 0, nz - 2)
    f = np.clip(at - k, 0, 1)
    levelled = np.take_along_axis(likelihood, k, -1) * (1 - f) + np.take_along_axis(likelihood, k + 1, -1) * f
    return np.asarray(levelled.sum(axis=(0, 1)))


def _best_run(profile: Floats) -> tuple[float, int, int]:
    """Return the greatest sum of consecutive values, where they begin, and one past where they end."""
    total = np.concatenate([[0.0], np.cumsum(profile)])
    gain = total - np.minimum.accumulate(total)
    last = int(np.argmax(gain))
    first = int(np.argmin(total[: last + 1]))
    return float(gain[last]), first, last


def _coarse(likelihood: Floats, cells: Columns) -> tuple[float, float]:
    grid = np.arange(-STEEPEST_DEG, STEEPEST_DEG + 0.1, 3.0)
    candidates = [(float(t), float(p)) for t in grid for p in grid]
    return max(candidates, key=lambda s: _best_run(_levelled(likelihood, cells, s))[0])


def _steepest_ascent(likelihood: Floats, cells: Columns, slopes: tuple[float, float]) -> tuple[float, float]:
    best = _best_run(_levelled(likelihood, cells, slopes))[0]
    step = 1.5
    while step > 0.05:
        around = [(slopes[0] + i * step, slopes[1] + j * step) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
        scores = [_best_run(_levelled(likelihood, cells, s))[0] for s in around]
        if max(scores) > best:
            best, slopes = max(scores), around[int(np.argmax(scores))]
        else:
            step /= 2
    return slopes


def find_gold(volume: NDArray[np.float32], threshold: float = 8.0, apart: float = 4.0, most: int = 300) -> Floats:
    """Return the positions `(beads, 3)`, x y z voxels from the centre with z up, of what stands out like gold.

    Spots that stand `threshold` standard deviations out of the noise and are not much weaker than the strongest few, at most
    `most` of them, at least `apart` from each other.
    """
    smooth = ndimage.gaussian_filter(volume[:, ::-1], 1.0, truncate=3)
    smooth -= ndimage.gaussian_filter(smooth, 6.0, truncate=3)
    noise = 1.4826 * float(np.median(np.abs(smooth)))
    # Gold is of one sign, the one of the strongest voxels.
    if -float(smooth.min()) > float(smooth.max()):
        smooth = -smooth
    at = np.argwhere(smooth > threshold * noise)
    strength = smooth[tuple(at.T)]
    order = np.argsort(-strength)
    at, strength = at[order], strength[order]
    if len(at):
        strongest = float(np.median(strength[:5]))
        at = at[strength > 0.4 * strongest][: 100 * most]
    beads: list[int] = []
    taken = np.zeros(len(at), bool)
    for i in range(len(at)):
        if not taken[i]:
            beads.append(i)
            taken |= ((at - at[i]) ** 2).sum(axis=1) <= apart**2
        if len(beads) == most:
            break
    centred = at[beads] + 0.5 - np.array(volume.shape) / 2
    return np.asarray(centred[:, [2, 0, 1]])


def fit_gold(beads: Floats, reach: float = 3.0) -> Gold | None:
    """Return the plane, or the two parallel planes, that three quarters of the beads lie on within `reach`; None if they do not."""
    if len(beads) < 6 or np.linalg.svd(beads[:, :2] - beads[:, :2].mean(axis=0), compute_uv=False)[1] < 20 * reach:
        return None
    grid = np.arange(-STEEPEST_DEG, STEEPEST_DEG + 0.1, 0.5)
    candidates = [(float(t), float(p)) for t in grid for p in grid]
    slopes = np.tan(np.deg2rad(max(candidates, key=lambda s: _gathered(beads, np.tan(np.deg2rad(s)), reach)[0])))
    for _ in range(5):
        heights = beads[:, 2] - beads[:, :2] @ slopes
        _, levels = _gathered(beads, slopes, reach)
        distance = np.abs(heights[:, None] - np.array(levels))
        plane, used = distance.argmin(axis=1), distance.min(axis=1) <= reach
        if used.sum() < max(6, 0.75 * len(beads)):
            return None
        design = np.column_stack([beads[used, :2], plane[used][:, None] == np.arange(len(levels))])
        solution = np.linalg.lstsq(design, beads[used, 2], rcond=None)[0]
        slopes, levels = solution[:2], tuple(solution[2:])
    spread = float(np.sqrt(np.mean((beads[used, 2] - design @ solution) ** 2)))
    tilt, pitch = np.rad2deg(np.arctan(slopes))
    return Gold(float(tilt), float(pitch), tuple(float(h) for h in sorted(levels)), int(used.sum()), spread)


def _gathered(beads: Floats, slopes: Floats, reach: float) -> tuple[float, tuple[float, ...]]:
    """Return how well beads gather on one or two levels along planes of given slopes, and the levels."""
    heights = np.sort(beads[:, 2] - beads[:, :2] @ slopes)
    near = np.maximum(1 - ((heights[:, None] - heights) / reach) ** 2, 0)
    support = near.sum(axis=1)
    first = int(np.argmax(support))
    apart = np.where(np.abs(heights - heights[first]) > 3 * reach, support, 0)
    second = int(np.argmax(apart))
    levels = [heights[first]]
    if apart[second] >= max(3.0, 0.15 * len(beads)):
        levels.append(heights[second])
    nearest = np.abs(heights[:, None] - np.array(levels)).min(axis=1)
    return float(np.maximum(1 - (nearest / reach) ** 2, 0).sum()), tuple(float(h) for h in levels)
