"""Where the texture of a section ends above and below its middle.

The mean of the energy of texture along the planes of a section makes a hump.  On either side of the middle, d voxels away from it,
with the surface at e, its flank is taken for

    ground + step [d < e] + ramp max(e - d, 0) + bend max(e - d, 0)²,    none of them negative,

blurred in z as the volume is, which is known.  Texture that is as dense at the surface as below it is a step; texture that thins out
towards the surface rises from it slowly.  Each flank has a shape of its own, and both have the end e, but for half a voxel that the
middle may be off, for which the two fit best from their feet to four fifths of the height.

Structures have a size, and where they lie as they like, few whole ones reach a surface: the texture of simulated sections, of vesicles,
filaments and blobs, ends 5 % of the thickness below either.  This is put on where the texture thins out, not where it ends in a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize, special

Floats = NDArray[np.float64]

_SHOULDER = 0.8
"""Part of the height of the hump up to which a flank is fitted."""
_FLANK = 0.25
"""Part of the height left where the feet begin; they are as long as it is from the top to here."""
_LEAST_FEET = 8
_GROUND_PERCENTILE = 15
_LEAST_HEIGHTS = 5
_SMOOTHED = 1.0
"""Standard deviation of the Gaussian that flanks are smoothed with to find shoulder and feet, voxels."""
_STEP_WIDTH = 1.516
"""From four fifths to a quarter of the height of a blurred step, standard deviations."""
_GRID = 0.25
"""Of the ends that are tried, voxels."""
_SLACK = 1.0
"""By how much the ends may differ: the middle is known to half of it."""
_PUT_ON = 0.11
"""Part of the thickness, both surfaces together."""
_NEAR = 6
"""Voxels from the middle within which the top of the hump is looked for."""


@dataclass(frozen=True, slots=True, eq=False)
class _Flank:
    """One side of the hump: distances from the middle, voxels, and values between ground and top as parts of the height.

    `width` is the distance from the shoulder to where the feet begin.
    """

    distance: Floats
    values: Floats
    width: float

    def misfit(self, end: float, blur: float) -> float:
        """Return the squared misfit of a flank that ends somewhere."""
        return float(optimize.nnls(_shapes(self.distance, end, blur), self.values, maxiter=100)[1]) ** 2

    def steepness(self, blur: float) -> float:
        """Return the width of a step over that of the flank, at most 1."""
        return min(_STEP_WIDTH * float(np.hypot(blur, _SMOOTHED)) / max(self.width, 1e-6), 1.0)


def thickness_of(profile: Floats, middle: float, blur: float) -> float:
    """Return the thickness of a section, voxels, from the mean energy at each height; 0 where there is no hump.

    Parameters
    ----------
    middle
        Of the section, heights from that of the first value.
    blur
        Standard deviation of the energy that the volume shows of a point, voxels.
    """
    smooth = ndimage.gaussian_filter1d(profile, 1.5)
    first = min(max(round(middle) - _NEAR, 0), len(profile) - 1)
    top = first + int(np.argmax(smooth[first : round(middle) + _NEAR + 1]))
    away = np.asarray(np.arange(len(profile)) - middle, np.float64)
    flanks = [_flank(profile[top::-1], -away[top::-1], float(smooth[top])), _flank(profile[top:], away[top:], float(smooth[top]))]
    if any(len(flank.values) < _LEAST_HEIGHTS for flank in flanks):
        return 0.0

    nearest, farthest = min(flank.distance[0] for flank in flanks) + 1, min(flank.distance[-1] for flank in flanks)
    ends = np.arange(max(nearest, 2.0), max(farthest, 4.0), _GRID)
    below, above = (np.array([flank.misfit(float(end), blur) for end in ends]) for flank in flanks)
    misfit = below[:, None] + above
    misfit[np.abs(ends[:, None] - ends) > _SLACK] = np.inf
    i, j = np.unravel_index(np.argmin(misfit), misfit.shape)
    steepness = float(np.mean([flank.steepness(blur) for flank in flanks]))
    return float((ends[i] + ends[j]) * (1 + _PUT_ON * (1 - steepness**4)))


def _flank(values: Floats, distance: Floats, top: float) -> _Flank:
    """Return a flank from its shoulder to its feet, from values that begin at the top."""
    ground = float(np.percentile(values, _GROUND_PERCENTILE))
    if top <= ground:
        return _Flank(distance[:0], values[:0], 0.0)
    smooth = (ndimage.gaussian_filter1d(values, _SMOOTHED) - ground) / (top - ground)
    shoulder, feet = _crossing(smooth, _SHOULDER), _crossing(smooth, _FLANK)
    used = slice(int(np.ceil(shoulder)), int(np.ceil(feet)) + max(int(np.ceil(feet)), _LEAST_FEET))
    return _Flank(distance[used], (values[used] - values[used].min()) / (top - ground), feet - shoulder)


def _crossing(falling: Floats, level: float) -> float:
    """Return where values fall to a level for the first time."""
    k = int(np.argmax(falling <= level))
    return k - float((level - falling[k]) / (falling[k - 1] - falling[k])) if k > 0 else 0.0


def _shapes(distance: Floats, end: float, blur: float) -> Floats:
    """Return ground, step, ramp and bend of a flank that ends somewhere, blurred by a Gaussian, `(distances, 4)`."""
    x = (end - distance) / blur
    inside, at = special.ndtr(x), np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    return np.stack([np.ones_like(x), inside, blur * (x * inside + at), blur**2 * ((x**2 + 1) * inside + x * at)], axis=1)
