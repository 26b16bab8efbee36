"""Gold on the surfaces of a section: beads in a small volume, and the one or two parallel planes that they lie on.

Positions are voxels from the centre of the volume, z up; a plane is `z = height + x tan(tilt) + y tan(pitch)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

Floats = NDArray[np.float64]

_STEEPEST_DEG = 12.0


@dataclass(frozen=True, slots=True)
class Gold:
    """One or two parallel planes of beads: their slopes, degrees, and the height of each at the centre of the volume, voxels."""

    tilt_deg: float
    pitch_deg: float
    heights: tuple[float, ...]
    beads: int
    spread: float
    """Root mean square distance of beads from their plane, voxels."""
    tilt_error_deg: float = 0.0
    pitch_error_deg: float = 0.0


def find_gold(volume: NDArray[np.float32], threshold: float = 8.0, apart: float = 4.0, most: int = 200) -> Floats:
    """Return the positions `(beads, 3)`, x y z voxels from the centre with z up, of what stands out like gold.

    Spots that stand `threshold` standard deviations out of the noise and are not much weaker than the strongest few, at most
    `most` of them, at least `apart` from each other.
    """
    smooth = ndimage.gaussian_filter(volume[:, ::-1], 1.0, truncate=3)
    smooth -= ndimage.uniform_filter(smooth, 15)
    noise = 1.4826 * float(np.median(np.abs(smooth[::2, ::2, ::2])))
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
    taken, tree = np.zeros(len(at), bool), cKDTree(at)
    for i in range(len(at)):
        if not taken[i]:
            beads.append(i)
            taken[tree.query_ball_point(at[i], apart)] = True
        if len(beads) == most:
            break
    centred = at[beads] + 0.5 - np.array(volume.shape) / 2
    return np.asarray(centred[:, [2, 0, 1]])


def fit_gold(beads: Floats, reach: float = 3.0) -> Gold | None:
    """Return the plane, or the two parallel planes, that three quarters of the beads lie on within `reach`; None if they do not."""
    if len(beads) < 6 or np.linalg.svd(beads[:, :2] - beads[:, :2].mean(axis=0), compute_uv=False)[1] < 20 * reach:
        return None
    grid = np.arange(-_STEEPEST_DEG, _STEEPEST_DEG + 0.1, 1.0)
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
    off = beads[used, 2] - design @ solution
    variance = float(off @ off) / max(len(off) - design.shape[1], 1)
    tilt, pitch = np.rad2deg(np.arctan(slopes))
    tilt_error, pitch_error = np.rad2deg(np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design))[:2]))
    return Gold(
        float(tilt),
        float(pitch),
        tuple(float(h) for h in sorted(levels)),
        int(used.sum()),
        float(np.sqrt(np.mean(off**2))),
        float(tilt_error),
        float(pitch_error),
    )


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
