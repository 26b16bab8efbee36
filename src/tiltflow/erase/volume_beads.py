"""Beads found in a volume: compact bodies of the beads' size, of the sign of gold, and stronger than all else.

The volume is filtered by a difference of two Gaussians matched to a sphere, block by block, and the score of a voxel is the
filtered value. Local maxima are candidates.  Beads are those above the widest gap in the scores (on a logarithmic scale) between
the noise and what a typical bead scores: gold is several times as dense as anything else, so that there is such a gap where beads
are in the volume.

Limits, measured in simulated volumes of beads of 5 voxels, tilted to 60 degrees.  Beads must be at least three voxels across.  Two that
touch are told apart across the beam; along it, where the missing wedge draws them out, from 1.2 diameters on, and of those that
touch some are found as one.  Beads of half to one and a half of the given diameter are found; one of twice it falls into pieces.
Where gold is in the volume, the weakest bead scores two to seven times as much as anything else (:attr:`FoundBeads.gap`); where there is
none, maxima of noise and of the specimen go over into each other, and :attr:`FoundBeads.clear` is false.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

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
"""Voxels filtered at once by a thread: 160 MB with what the filter needs."""
_ROUNDING = 1e-3
"""Part of the strongest score below which maxima are those of rounding, where the volume is constant."""
_MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
_NOISE_SD = 6.0
"""Standard deviations of the scores of maxima, above their median, below which none is a bead: noise alone reaches it once in 10^9."""
_STRONGEST = 5
"""Maxima whose median score is that of a typical bead, where no tracked ones tell."""
_WEAKEST, _TYPICAL = 0.2, 0.8
"""Fractions of a typical bead's score between which the gap lies: beads of half the size score 0.4 of it, the specimen 0.15.
Without the first, a few bodies of the specimen pass for beads where there is little noise."""
_KNOWN_REACH = 1.0
"""Distance of a maximum from a tracked bead that makes it that bead's, diameters."""
_CLEAR_GAP = 1.7
"""Ratio of the scores at the two sides of a gap that shows that beads are apart from the rest: the strongest maximum of noise stands
out by up to 1.5 (100 volumes), gold by 2.2 at least in simulated volumes, and 2.7 in a real one."""


Block = tuple[slice, slice]
"""Sections and rows of a part of a volume."""


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
        """Whether beads are apart from all else; otherwise there may be none at all, and nothing should be erased without a look."""
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
        `(z, y, x)`, or with its axes in another order; read in blocks of about eight million voxels, so that it
        may be a memory map.
    diameter
        Of the beads, voxels.
    sign
        1 for beads brighter than what is around, -1 for darker ones (gold in a reconstruction of views that show dense matter
        dark); None to take that of the known beads, or else of the strongest maxima.
    known
        `(beads, 3)` voxels: tracked beads (:meth:`tiltflow.erase.positions.VolumeFrame.voxels`), which tell the sign and what a
        typical bead scores.
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
    """Return the maxima above the widest gap, which lies between what noise, or the weakest bead, may score and what most beads score."""
    if not len(score):
        return FoundBeads(voxels, score, sign, np.inf, np.inf, 0.0)
    middle = float(np.median(score))
    noise = middle + _NOISE_SD * _MAD_TO_SD * float(np.median(np.abs(score - middle)))
    least = max(noise, typical * _WEAKEST)
    sure = int(np.count_nonzero(score >= max(least, typical * _TYPICAL)))
    steps = np.append(score[max(sure - 1, 0) : np.count_nonzero(score > least)], least)
    widest = int(np.argmax(steps[:-1] / steps[1:])) if len(steps) > 1 else 0
    threshold = float(np.sqrt(steps[widest] * steps[widest + 1])) if len(steps) > 1 else least
    beads = int(np.count_nonzero(score > threshold))
    gap = float(score[beads - 1] / score[beads]) if 0 < beads < len(score) else np.inf
    return FoundBeads(voxels[:beads], score[:beads], sign, threshold, gap, noise)


def _typical(voxels: Floats, score: Floats, diameter: float, known: Floats | None) -> float:
    """Return what a typical bead scores: the median of the known ones, or of the few strongest maxima."""
    if known is not None and len(known) and len(score):
        strongest = [
            max(score[near], default=0.0) for near in scipy.spatial.cKDTree(voxels).query_ball_point(known, _KNOWN_REACH * diameter)
        ]
        return float(np.median(strongest))
    return float(np.median(score[:_STRONGEST])) if len(score) else 0.0


def _maxima(
    volume: Volume, diameter: float, signs: tuple[int, ...], threads: int, progress: Progress | None
) -> dict[int, tuple[Floats, Floats]]:
    """Return the local maxima of the filtered volume times each sign: their places and scores, the strongest first."""
    margin = int(np.ceil(_TRUNCATE * _WIDE * diameter)) + int(np.ceil(diameter)) + 2
    blocks = _blocks(volume.shape, margin)

    def peaks(block: Block) -> list[tuple[Floats, Floats]]:
        read = [slice(max(own.start - margin, 0), min(own.stop + margin, n)) for own, n in zip(block, volume.shape, strict=False)]
        filtered = _filtered(np.asarray(volume[read[0]][:, read[1]], np.float32), diameter)
        first = read[0].start, read[1].start
        return [_peaks(filtered * np.float32(sign), block, first, diameter) for sign in signs]

    found: list[list[tuple[Floats, Floats]]] = []
    for done, each in enumerate(map_threads(peaks, blocks, threads), start=1):
        found.append(each)
        if progress is not None:
            progress(done / len(blocks))
    return {sign: _strongest_apart([each[i] for each in found], _APART * diameter) for i, sign in enumerate(signs)}


def _blocks(shape: tuple[int, ...], margin: int) -> list[Block]:
    """Return the sections and rows of blocks that make up a volume, and with their margins hold about :data:`_BLOCK_VOXELS`."""
    nz, ny, nx = shape
    if 3 * margin * nz * nx <= _BLOCK_VOXELS:
        deep, tall = nz, max(_BLOCK_VOXELS // (nz * nx) - 2 * margin, margin)
    else:
        deep = tall = max(int(np.sqrt(_BLOCK_VOXELS / nx)) - 2 * margin, margin)
    return [(slice(z, min(z + deep, nz)), slice(y, min(y + tall, ny))) for z in range(0, nz, deep) for y in range(0, ny, tall)]


def _filtered(block: NDArray[np.float32], diameter: float) -> NDArray[np.float32]:
    """Return the difference of the two Gaussians; beyond the edges of the volume, which are left out of the maxima, it is mirrored."""
    narrow, wide = (scipy.ndimage.gaussian_filter(block, width * diameter, truncate=_TRUNCATE) for width in (_NARROW, _WIDE))
    return np.asarray(narrow - wide)


def _peaks(filtered: NDArray[np.float32], own: Block, first: tuple[int, int], diameter: float) -> tuple[Floats, Floats]:
    """Return places (x, y, z) and scores of the positive maxima of a block, of which the first section and row are given."""
    side = 2 * max(int(_APART * diameter / 2), 1) + 1
    top = (filtered == scipy.ndimage.maximum_filter(filtered, side)) & (filtered > 0)
    z, y = (slice(each.start - start, each.stop - start) for each, start in zip(own, first, strict=True))
    at = np.argwhere(top[z, y]) + np.array([z.start, y.start, 0])
    score = filtered[tuple(at.T)].astype(float)
    centre = at + 0.5 + _offset(filtered, at) + np.array([*first, 0])
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
    order = order[: np.count_nonzero(score > _ROUNDING * score.max(initial=0.0))]
    voxels, score = voxels[order], score[order]
    kept = np.ones(len(score), bool)
    for strong, weak in _near_pairs(voxels, apart):
        kept[weak] &= not kept[strong]
    return voxels[kept], score[kept]


def _near_pairs(voxels: Floats, apart: float) -> Iterator[tuple[int, int]]:
    """Yield the pairs of maxima within a distance, the stronger (earlier) one first, in the order of it, then of the weaker."""
    if len(voxels):
        pairs = scipy.spatial.cKDTree(voxels).query_pairs(apart, output_type="ndarray")
        for strong, weak in pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]:
            yield int(strong), int(weak)
