"""Beads found in a volume: compact bodies of the beads' size, of the sign of gold, and stronger than all else.

The volume is filtered by a difference of two Gaussians matched to a sphere, block by block, and the score of a voxel is the filtered value.
Local maxima are candidates.  Beads are those above the widest gap in the scores (on a logarithmic scale) between the noise and what a
typical bead scores: gold is several times as dense as anything else, so that there is such a gap where beads are in the volume.

Limits.  Beads must be at least three voxels across.  Two beads are told apart where their centres are a diameter apart across the beam; along
it, the missing wedge draws beads out, and two within 1.5 diameters may be found as one, between them.  A bead larger or smaller
than the given diameter by half scores less, and may be left out.  Dense particles of the size of beads (ribosomes of a strongly defocused
series) are below the gap as long as gold is in the volume; if none is, there may be no gap, and :attr:`FoundBeads.gap` is then small.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from tiltflow.errors import ParameterError
from tiltflow.model import Progress
from tiltflow.parallel import map_threads

Floats = NDArray[np.float64]

_LEAST_DIAMETER = 3.0
"""Voxels across a bead: below, the Gaussians are narrower than a voxel, and noise of single voxels scores as beads do."""
_NARROW, _WIDE = 0.21, 0.42
"""Standard deviations of the two Gaussians over the diameter: the first has the second moment of a sphere along an axis less a
little, so that touching beads keep two maxima; the second is twice as wide."""
_TRUNCATE = 3.0
"""Standard deviations at which a Gaussian is cut off."""
_APART = 0.8
"""Least distance of two beads, diameters: the weaker of nearer maxima is a part of the stronger."""
_BLOCK_VOXELS = 8_000_000
"""Voxels filtered at once: 100 MB with what the filter needs."""
_MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
_NOISE_SD = 6.0
"""Standard deviations of the scores of maxima, above their median, below which none is a bead: noise alone reaches it once in 10^9."""
_STRONGEST = 5
"""Maxima whose median score is that of a typical bead, where no tracked ones tell."""
_WEAKEST, _TYPICAL = 0.2, 0.8
"""Fractions of a typical bead's score between which the gap lies: beads at the edge of what the views see score a third, and half of the
beads score more than 0.8 of the median."""
_KNOWN_REACH = 1.0
"""Distance of a maximum from a tracked bead that makes it that bead's, diameters."""
_CLEAR_GAP = 1.15
"""Ratio of the scores at the two sides of a gap that shows that beads are apart from the rest."""


class Volume(Protocol):
    """A volume of which sections are read: an array, or a memory map."""

    @property
    def shape(self) -> tuple[int, ...]:
        """`(z, y, x)`."""

    def __getitem__(self, sections: slice, /) -> NDArray[Any]:
        """Return some sections, of any real type."""


@dataclass(frozen=True, slots=True, eq=False)
class FoundBeads:
    """Beads of a volume, the strongest first.

    Attributes
    ----------
    voxels
        `(beads, 3)`: x, y, z of the centres, voxels from the corner, along the last, the middle and the first axis of the array.
    score
        `(beads,)`.
    sign
        1 for beads brighter than what is around, -1 for darker ones.
    threshold
        Score that beads exceed.
    gap
        Score of the weakest bead over that of the strongest maximum that is none.
    noise
        Score that maxima of noise may reach.
    """

    voxels: Floats
    score: Floats
    sign: int
    threshold: float
    gap: float
    noise: float

    @property
    def clear(self) -> bool:
        """Whether beads are apart from all else: without, some may be missed and some be none."""
        return len(self.score) > 0 and self.gap >= _CLEAR_GAP


def find_beads(
    volume: Volume,
    diameter: float,
    *,
    sign: int | None = None,
    known: ArrayLike | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> FoundBeads:
    """Return the beads in a volume.

    Parameters
    ----------
    volume
        `(z, y, x)`, or with its axes in another order; read in blocks of sections of about eight million voxels, so that it may be a memory map.
    diameter
        Of the beads, voxels.
    sign
        1 for beads brighter than what is around, -1 for darker ones (gold in a reconstruction of views that show dense matter dark); None to
        take that of the known beads, or else of the strongest maxima.
    known
        `(beads, 3)` voxels: tracked beads (:meth:`tiltflow.erase.positions.VolumeFrame.voxels`), which tell the sign and what a typical bead
        scores.
    threads
        Blocks filtered at the same time.
    progress
        Called with the fraction done.

    Raises
    ------
    ParameterError
        If beads are smaller than three voxels, or the sign is neither of two.
    """
    if not diameter >= _LEAST_DIAMETER:
        raise ParameterError(
            f"beads of {diameter:.1f} voxels are too small to be found: make the volume with a lower binning, so that they are at least "
            f"{_LEAST_DIAMETER:g} across, better 5"
        )
    if sign not in {None, 1, -1}:
        raise ParameterError(f"sign {sign} of beads: give 1 for bright ones, -1 for dark ones")
    at = None if known is None else np.asarray(known, float).reshape(-1, 3)
    at = None if at is None else at[np.isfinite(at).all(axis=1)]
    both = _maxima(volume, diameter, (1, -1) if sign is None else (sign,), threads, progress)
    chosen = sign or max(both, key=lambda s: _typical(*both[s], diameter, at))
    return _chosen(*both[chosen], chosen, _typical(*both[chosen], diameter, at))


def _chosen(voxels: Floats, score: Floats, sign: int, typical: float) -> FoundBeads:
    """Return the maxima above the gap."""
    if not len(score):
        return FoundBeads(voxels, score, sign, np.inf, np.inf, 0.0)
    middle = float(np.median(score))
    noise = middle + _NOISE_SD * _MAD_TO_SD * float(np.median(np.abs(score - middle)))
    threshold = max(noise, typical * _TYPICAL)
    least = max(noise, typical * _WEAKEST)
    between = score[(score > least) & (score < max(threshold, least))]
    weakest_sure = score[score >= max(threshold, least)]
    edges = np.concatenate([weakest_sure[-1:], between, [least]]) if weakest_sure.size else np.array([least])
    if len(edges) > 1:
        widest = int(np.argmax(edges[:-1] / edges[1:]))
        threshold = float(np.sqrt(edges[widest] * edges[widest + 1]))
    beads = score > threshold
    below = score[~beads]
    count = int(beads.sum())
    gap = float(score[count - 1] / below[0]) if count and below.size else np.inf
    return FoundBeads(voxels[beads], score[beads], sign, threshold, gap, noise)


def _typical(voxels: Floats, score: Floats, diameter: float, known: Floats | None) -> float:
    """Return what a typical bead scores: the median of the known ones, or of the few strongest maxima."""
    if known is not None and len(known) and len(score):
        strongest = [max(score[near], default=0.0) for near in cKDTree(voxels).query_ball_point(known, _KNOWN_REACH * diameter)]
        return float(np.median(strongest))
    return float(np.median(score[:_STRONGEST])) if len(score) else 0.0


def _maxima(
    volume: Volume, diameter: float, signs: tuple[int, ...], threads: int, progress: Progress | None
) -> dict[int, tuple[Floats, Floats]]:
    """Return the local maxima of the filtered volume times each sign: their places and scores, the strongest first."""
    nz, ny, nx = volume.shape
    margin = int(np.ceil(_TRUNCATE * _WIDE * diameter)) + int(np.ceil(diameter)) + 2
    sections = max(_BLOCK_VOXELS // (ny * nx) - 2 * margin, margin)
    starts = range(0, nz, sections)

    def block(start: int) -> list[tuple[Floats, Floats]]:
        first = max(start - margin, 0)
        filtered = _filtered(np.asarray(volume[first : min(start + sections + margin, nz)], np.float32), diameter)
        own = slice(start - first, min(start + sections, nz) - first)
        return [_peaks(filtered * np.float32(sign), own, first, diameter) for sign in signs]

    found: list[list[tuple[Floats, Floats]]] = []
    for done, each in enumerate(map_threads(block, starts, threads), start=1):
        found.append(each)
        if progress is not None:
            progress(done / len(starts))
    return {sign: _strongest_apart([each[i] for each in found], _APART * diameter) for i, sign in enumerate(signs)}


def _filtered(block: NDArray[np.float32], diameter: float) -> NDArray[np.float32]:
    """Return the difference of the two Gaussians; beyond the edges of the volume, which are left out of the maxima, it is mirrored."""
    narrow, wide = (ndimage.gaussian_filter(block, width * diameter, truncate=_TRUNCATE) for width in (_NARROW, _WIDE))
    return np.asarray(narrow - wide)


def _peaks(filtered: NDArray[np.float32], own: slice, first: int, diameter: float) -> tuple[Floats, Floats]:
    """Return places (x, y, z) and scores of the positive maxima within half a diameter, in some sections of a block."""
    side = 2 * max(int(_APART * diameter / 2), 1) + 1
    top = (filtered == ndimage.maximum_filter(filtered, side)) & (filtered > 0)
    at = np.argwhere(top[own]) + [own.start, 0, 0]
    score = filtered[tuple(at.T)].astype(float)
    centre = at + 0.5 + _offset(filtered, at) + [first, 0, 0]
    return centre[:, ::-1], score


def _offset(filtered: NDArray[np.float32], at: NDArray[np.int64]) -> Floats:
    """Return where the parabola through a maximum and its two neighbours along each axis has its top, `(maxima, 3)`."""
    out = np.zeros(at.shape)
    for axis, step in enumerate(np.eye(3, dtype=np.int64)):
        inside = (at[:, axis] > 0) & (at[:, axis] < filtered.shape[axis] - 1)
        low, here, high = (filtered[tuple((at[inside] + k * step).T)].astype(float) for k in (-1, 0, 1))
        bend = low + high - 2 * here
        out[inside, axis] = np.where(bend < 0, np.clip((low - high) / np.where(bend < 0, 2 * bend, 1.0), -0.5, 0.5), 0.0)
    return out


def _strongest_apart(found: list[tuple[Floats, Floats]], apart: float) -> tuple[Floats, Floats]:
    """Return maxima in the order of their scores, without those that are nearer to a stronger one than they may be."""
    voxels, score = (np.concatenate([each[i] for each in found]) for i in range(2))
    order = np.lexsort((*voxels.T, -score))
    voxels, score = voxels[order], score[order]
    kept = np.ones(len(score), bool)
    for strong, weak in _near_pairs(voxels, apart):
        kept[weak] &= not kept[strong]
    return voxels[kept], score[kept]


def _near_pairs(voxels: Floats, apart: float) -> Iterator[tuple[int, int]]:
    """Yield the pairs of maxima within a distance, the stronger (earlier) one first, in the order of it, then of the weaker."""
    if len(voxels):
        pairs = cKDTree(voxels).query_pairs(apart, output_type="ndarray")
        for strong, weak in pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]:
            yield int(strong), int(weak)
