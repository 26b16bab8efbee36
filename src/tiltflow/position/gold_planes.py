"""Gold beads on the surfaces of a section: their positions in a small volume, and the one or two parallel planes they lie on.

Positions are voxels from the centre of the volume, z up; a plane is `z = height + x tan(tilt) + y tan(pitch)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_SMOOTHING = 1.0
"""Standard deviation of the Gaussian that the volume is smoothed with, voxels: beads are 2 to 5 voxels across in a volume of 300.
With 2 no planes are found in simulated sections."""
_TRUNCATE = 3.0
"""Standard deviations at which this Gaussian is cut off."""
_BACKGROUND_SIDE = 15
"""Side of the cube whose mean is the background of a bead, voxels: several beads wide.  With 7 or 30 the planes are found
as well."""
_MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
_THRESHOLD = 8.0
"""Standard deviations of the noise that a bead exceeds; noise reaches 5.5 in ten million voxels, structures of the specimen more.  4
or 16 find the same beads in simulated sections (`docs/sensitivity/position.md`)."""
_STRONGEST = 5
"""Voxels whose median strength is that of a strong bead."""
_WEAKEST = 0.4
"""Strength of the weakest bead over that of a strong one: beads lie between voxels, and differ in size.  With
0.2 structures are taken for beads, which then lie on no plane; 0.8 finds the same planes."""
_APART = 4.0
"""Least distance of two beads, voxels: the side lobes of a bead lie within."""
_MOST = 200
"""Beads at most; the planes of a hundred are known to a tenth of a degree."""
_MOST_VOXELS = 100
"""Voxels sorted into beads, for each of the beads at most; more would take seconds in a volume full of noise."""

_REACH = 3.0
"""Distance from a plane within which a bead lies on it, voxels: the spread of beads about a surface, and half their size.
With 1.5 the slopes are worse by 0.2 degrees, 6 find the same planes."""
_FEWEST = 6
"""Beads of a plane at least: twice what two slopes and a height need."""
_LEAST_WIDTH = 20
"""Least second singular value of the beads' x and y over the reach: beads in a row determine one slope only."""
_STEEPEST_DEG = 12.0
"""Slopes are searched up to this angle, as those of texture (:mod:`tiltflow.position.texture_surfaces`)."""
_GRID_DEG = 1.0
"""Spacing of the slopes that are tried: 2.6 voxels at the edge of a field of 300, less than the reach.  0.5 or 2 lead to the
same planes."""
_ROUNDS = 5
"""Rounds of least squares with the beads within reach; 2 or 10 give the same planes."""
_ON_PLANES = 0.75
"""Fraction of the beads that must lie on the planes."""
_PLANES_APART = 3
"""Distance of two planes over the reach, at least."""
_FEWEST_ON_SECOND, _SECOND_PART = 3.0, 0.15
"""Beads on the second plane at least, and as a fraction of all; three make a plane."""


@dataclass(frozen=True, slots=True)
class Gold:
    """One or two parallel planes of beads.

    Attributes
    ----------
    tilt_deg, pitch_deg
        Slopes along x and y, degrees.
    heights
        Of each plane at the centre of the volume, voxels, the lowest first.
    beads
        Number of beads on them.
    spread
        Root mean square distance of these from their plane, voxels.
    tilt_error_deg, pitch_error_deg
        Standard errors of the slopes, degrees.
    """

    tilt_deg: float
    pitch_deg: float
    heights: tuple[float, ...]
    beads: int
    spread: float
    tilt_error_deg: float = 0.0
    pitch_error_deg: float = 0.0


def find_gold(volume: NDArray[np.float32]) -> Floats:
    """Return the positions of spots that are as strong as gold.

    They exceed the noise by :data:`_THRESHOLD` standard deviations, are not much weaker than the strongest few, and lie
    :data:`_APART` from each other.

    Parameters
    ----------
    volume
        `(y, z, x)`, its first row in z the top; gold may be dark or bright.

    Returns
    -------
    NDArray
        `(beads, 3)`: x, y, z, voxels from the centre of the volume, z up.
    """
    smooth = scipy.ndimage.gaussian_filter(volume[:, ::-1], _SMOOTHING, truncate=_TRUNCATE)
    smooth -= scipy.ndimage.uniform_filter(smooth, _BACKGROUND_SIDE)
    noise = _MAD_TO_SD * float(np.median(np.abs(smooth[::2, ::2, ::2])))
    # Gold is of one sign, the one of the strongest voxels.
    if -float(smooth.min()) > float(smooth.max()):
        smooth = -smooth
    at = np.argwhere(smooth > _THRESHOLD * noise)
    strength = smooth[tuple(at.T)]
    order = np.argsort(-strength)
    at, strength = at[order], strength[order]
    if len(at):
        strongest = float(np.median(strength[:_STRONGEST]))
        at = at[strength > _WEAKEST * strongest][: _MOST_VOXELS * _MOST]
    beads: list[int] = []
    taken, tree = np.zeros(len(at), bool), scipy.spatial.cKDTree(at)
    for i in range(len(at)):
        if not taken[i]:
            beads.append(i)
            taken[tree.query_ball_point(at[i], _APART)] = True
        if len(beads) == _MOST:
            break
    centred = at[beads] + 0.5 - np.array(volume.shape) / 2
    return np.asarray(centred[:, [2, 0, 1]])


def fit_gold(beads: Floats) -> Gold | None:
    """Return the plane, or the two parallel planes, on which most beads lie; None if there are none.

    Parameters
    ----------
    beads
        `(beads, 3)`: x, y, z, voxels from the centre of the volume, z up.
    """
    if len(beads) < _FEWEST or np.linalg.svd(beads[:, :2] - beads[:, :2].mean(axis=0), compute_uv=False)[1] < _LEAST_WIDTH * _REACH:
        return None
    grid = np.arange(-_STEEPEST_DEG, _STEEPEST_DEG + 0.1, _GRID_DEG)
    candidates = [(float(t), float(p)) for t in grid for p in grid]
    slopes = np.tan(np.deg2rad(max(candidates, key=lambda s: _levels(beads, np.tan(np.deg2rad(s)))[0])))
    for _ in range(_ROUNDS):
        heights = beads[:, 2] - beads[:, :2] @ slopes
        _, levels = _levels(beads, slopes)
        distance = np.abs(heights[:, None] - np.array(levels))
        plane, used = distance.argmin(axis=1), distance.min(axis=1) <= _REACH
        if used.sum() < max(_FEWEST, _ON_PLANES * len(beads)):
            return None
        design = np.column_stack([beads[used, :2], plane[used][:, None] == np.arange(len(levels))])
        solution = np.linalg.lstsq(design, beads[used, 2], rcond=None)[0]
        slopes, levels = solution[:2], tuple(solution[2:])
    residual = beads[used, 2] - design @ solution
    variance = float(residual @ residual) / max(len(residual) - design.shape[1], 1)
    tilt, pitch = np.rad2deg(np.arctan(slopes))
    tilt_error, pitch_error = np.rad2deg(np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design))[:2]))
    return Gold(
        float(tilt),
        float(pitch),
        tuple(float(h) for h in sorted(levels)),
        int(used.sum()),
        float(np.sqrt(np.mean(residual**2))),
        float(tilt_error),
        float(pitch_error),
    )


def _levels(beads: Floats, slopes: Floats) -> tuple[float, tuple[float, ...]]:
    """Return the number of beads on one or two planes of given slopes (weighted by their distance), and the planes' heights."""
    heights = np.sort(beads[:, 2] - beads[:, :2] @ slopes)
    near = np.maximum(1 - ((heights[:, None] - heights) / _REACH) ** 2, 0)
    support = near.sum(axis=1)
    first = int(np.argmax(support))
    apart = np.where(np.abs(heights - heights[first]) > _PLANES_APART * _REACH, support, 0)
    second = int(np.argmax(apart))
    levels = [heights[first]]
    if apart[second] >= max(_FEWEST_ON_SECOND, _SECOND_PART * len(beads)):
        levels.append(heights[second])
    nearest = np.abs(heights[:, None] - np.array(levels)).min(axis=1)
    return float(np.maximum(1 - (nearest / _REACH) ** 2, 0).sum()), tuple(float(h) for h in levels)
