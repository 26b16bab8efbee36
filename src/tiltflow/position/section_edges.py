"""Where the texture of a section ends above and below its middle.

The mean texture energy along planes parallel to a section, as a function of height, is a peak.  On either side of the middle, d voxels
away from it and with the surface at distance e, its flank is modelled as

    background + step [d < e] + linear max(e - d, 0) + quadratic max(e - d, 0)²,    no coefficient negative,

blurred in z by the known blur of the volume.  Texture that is as dense at the surface as below it is a step; texture that thins out
towards the surface rises from it slowly.  Each flank has coefficients of its own, and both end at the same distance e (give or take
half a voxel of the middle), the one that fits both best between their base and four fifths of their height.

Structures have a size, and those that reach a surface are cut or lie below it: the texture of simulated sections, of vesicles,
filaments and blobs, ends 5 % of the thickness below either surface.  The thickness is corrected for this where the texture thins out,
and not where it ends in a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_SHOULDER = 0.8
"""Fraction of the height of the peak up to which a flank is fitted.  With 0.4 the thickness changes by 2 %
(`docs/sensitivity/position.md`)."""
_BASE = 0.25
"""Fraction of the height at which the base of a flank begins; it is as long as the distance from the top to there.  With
0.12 the thickness changes by less than 1 %, with 0.5, which leaves little of a flank, by 6 %."""
_SHORTEST_BASE = 8
"""Voxels of the base at least: of a thin section it is too short to show the background.  Half or double makes no difference for sections
of 25 voxels and more."""
_BACKGROUND_PERCENTILE = 15
"""Percentile of the values from the top outwards that is a first estimate of the background; from 7 to 30 the thickness
changes by 1 %."""
_FEWEST_HEIGHTS = 5
"""Values of a flank needed for a fit with four coefficients and an end."""
_PEAK_SMOOTHING = 1.5
"""Standard deviation of the Gaussian by which a profile is smoothed to find the height of its peak, voxels: the middle blur of the
bands of texture.  Half or double, of this and of the next, changes the thickness by 0.1 %."""
_FLANK_SMOOTHING = 1.0
"""Standard deviation of the Gaussian by which flanks are smoothed to find shoulder and base, voxels."""
_STEP_WIDTH = 1.516
"""Distance over which a blurred step falls from four fifths to a quarter of its height, standard deviations of the blur:
`norm.ppf(0.8) - norm.ppf(0.25)`."""
_GRID = 0.25
"""Spacing of the ends that are tried, voxels; half or double changes the thickness by 0.1 %."""
_SHORTEST_END, _LEAST_FARTHEST_END = 2.0, 4.0
"""Nearest and least farthest end tried, voxels from the middle, whatever the flanks are: a section of 4 to 8 voxels."""
_END_DIFFERENCE = 1.0
"""Greatest difference of the two ends, voxels: the middle is known to half a voxel.  With double, flanks of different shape end
apart and the thickness changes by 2 %."""
THICKNESS_CORRECTION = 0.11
"""Fraction of the thickness that is added where the texture thins out, for both surfaces together.

Fitted to the 36 sections of set 1 of `benchmarks/positioning.py`, which texture alone finds 10 % too thin in the median
(`--correction 0`).  0.11 makes the median error nil, with a standard error of 0.01; single sections need 0.09 to 0.14 (quartiles),
plastic ones 0.10 and cryo ones 0.12 in the median.  The rms error is 5.4 % with 0.11, 5.5 % with 0.09 and 5.9 % with 0.13.  The
reason is in the head of this module; real sections, with other structures, may need another value."""
_STEP_POWER = 4
"""The correction fades out as `1 - steepness^4`: fully applied up to a steepness of a half, and not at a step, which has 1.  With
a power of 2 or 8 the thickness changes by 0.1 %."""
_NEAR = 6
"""Voxels from the middle within which the top of the peak is sought; 3 or 12 change the thickness by 0.1 %."""
_MOST_STEPS = 100
"""Iterations allowed to the non-negative fit.  SciPy's default, three for each coefficient, is too few for some profiles."""


@dataclass(frozen=True, slots=True, eq=False)
class _Flank:
    """One side of the peak, from its shoulder to the end of its base.

    Attributes
    ----------
    distance
        From the middle, voxels.
    values
        Above the lowest one, as fractions of the height of the peak.
    width
        Distance from the shoulder to the beginning of the base, voxels.
    """

    distance: Floats
    values: Floats
    width: float

    def misfit(self, end: float, blur: float) -> float:
        """Return the sum of squared residuals of a flank that ends at a distance."""
        return float(scipy.optimize.nnls(_shapes(self.distance, end, blur), self.values, maxiter=_MOST_STEPS)[1]) ** 2

    def steepness(self, blur: float) -> float:
        """Return the width of a blurred step over that of the flank, at most 1."""
        return min(_STEP_WIDTH * float(np.hypot(blur, _FLANK_SMOOTHING)) / max(self.width, 1e-6), 1.0)


def thickness_of(profile: Floats, middle: float, blur: float) -> float:
    """Return the thickness of a section from the mean texture energy at each height.

    Parameters
    ----------
    profile
        Mean energy, `(heights,)`, one a voxel.
    middle
        Of the section, voxels from the height of the first value.
    blur
        Standard deviation of the energy that the volume shows of a point, voxels.

    Returns
    -------
    float
        Voxels; 0 where the profile has no peak.
    """
    smooth = scipy.ndimage.gaussian_filter1d(profile, _PEAK_SMOOTHING)
    first = min(max(round(middle) - _NEAR, 0), len(profile) - 1)
    top = first + int(np.argmax(smooth[first : round(middle) + _NEAR + 1]))
    away = np.asarray(np.arange(len(profile)) - middle, np.float64)
    flanks = [_flank(profile[top::-1], -away[top::-1], float(smooth[top])), _flank(profile[top:], away[top:], float(smooth[top]))]
    if any(len(flank.values) < _FEWEST_HEIGHTS for flank in flanks):
        return 0.0

    nearest, farthest = min(flank.distance[0] for flank in flanks) + 1, min(flank.distance[-1] for flank in flanks)
    ends = np.arange(max(nearest, _SHORTEST_END), max(farthest, _LEAST_FARTHEST_END), _GRID)
    below, above = (np.array([flank.misfit(float(end), blur) for end in ends]) for flank in flanks)
    misfit = below[:, None] + above
    misfit[np.abs(ends[:, None] - ends) > _END_DIFFERENCE] = np.inf
    i, j = np.unravel_index(np.argmin(misfit), misfit.shape)
    steepness = float(np.mean([flank.steepness(blur) for flank in flanks]))
    return float((ends[i] + ends[j]) * (1 + THICKNESS_CORRECTION * (1 - steepness**_STEP_POWER)))


def _flank(values: Floats, distance: Floats, top: float) -> _Flank:
    """Return a flank from its shoulder to the end of its base, from values that begin at the top."""
    background = float(np.percentile(values, _BACKGROUND_PERCENTILE))
    if top <= background:
        return _Flank(distance[:0], values[:0], 0.0)
    smooth = (scipy.ndimage.gaussian_filter1d(values, _FLANK_SMOOTHING) - background) / (top - background)
    shoulder, base = _crossing(smooth, _SHOULDER), _crossing(smooth, _BASE)
    used = slice(int(np.ceil(shoulder)), int(np.ceil(base)) + max(int(np.ceil(base)), _SHORTEST_BASE))
    return _Flank(distance[used], (values[used] - values[used].min()) / (top - background), base - shoulder)


def _crossing(falling: Floats, level: float) -> float:
    """Return where values fall to a level for the first time, interpolated linearly."""
    k = int(np.argmax(falling <= level))
    return k - float((level - falling[k]) / (falling[k - 1] - falling[k])) if k > 0 else 0.0


def _shapes(distance: Floats, end: float, blur: float) -> Floats:
    """Return the four terms of a flank that ends at a distance, blurred by a Gaussian, `(distances, 4)`."""
    x = (end - distance) / blur
    inside, at = scipy.special.ndtr(x), np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    return np.stack([np.ones_like(x), inside, blur * (x * inside + at), blur**2 * ((x**2 + 1) * inside + x * at)], axis=1)
