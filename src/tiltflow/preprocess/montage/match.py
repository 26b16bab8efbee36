"""The displacement of two neighbours to a few hundredths of a pixel, by least squares on the gray levels of their overlap.

`a(u) = gain b(u + d + (m + r J) u) + offset`, with the displacement d, a difference m of magnification and r of rotation (J turns by a
right angle).  Where both images are noisy the gradient holds noise too: steps are scaled by the power that the two gradients have in
common, and the covariance has the noise in both (as in errors-in-variables regression).  Smoothing leaves one independent value in
`4 pi sigma^2` pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.kernels.montage import match_moments, shift_spline
from tiltflow.model import Image
from tiltflow.preprocess.montage.overlaps import Overlap, flattened

Floats = NDArray[np.float64]

_BLUR_PX = 1.0
"""Standard deviation of the blur: of 0.6, 0.8, 1, 1.75 and 3 it places pieces best, at 400 electrons a pixel and at 60."""
_STEPS, _SHORT_PX = 12, 2e-3
"""Gauss-Newton steps at most, and the step that ends them."""
_LONGEST_PX = 0.8
"""Longest step: gradients of smoothed images tell no more."""
_FAR_PX = 3.5
"""What ends farther from where it began has left the peak."""
_RECUTS = 3
"""Times that the overlap is cut anew where the match was found half a pixel off."""
_HUBER = 3.0
"""Residuals above so many standard deviations count less."""
_NO_LIMIT = 1e30
"""Of residuals: before the match is near, large ones say nothing of outliers."""
_LEAST_GAIN = 0.1
"""Of a match: below, the images have next to nothing in common."""
_RAMP_PX = 4
"""Pixels over which the weight rises at the rim of the overlap."""
_LEAST_SHARE = 0.02
"""Part of the gradients' power that both images share, at least."""


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """What one overlap tells of its two pieces.

    Attributes
    ----------
    displacement_px
        `(2,)`, of the middle of the overlap, with no difference in rotation and magnification.
    variance
        `(2,)`, square pixels.
    correlation
        Of the matched gray levels.
    linear
        Magnification (a fraction) and rotation (radians) of the upper piece less those of the lower one, `(2,)`.
    linear_variance
        `(2,)`.
    coupling
        `(2, 2)`: what each of these would change in the displacement.
    middle
        `(2,)`: the middle of the overlap from the centre of the lower piece, pixels.
    """

    displacement_px: Floats
    variance: Floats
    correlation: float
    linear: Floats
    linear_variance: Floats
    coupling: Floats
    middle: Floats


def match(overlap: Overlap, lower: Image, upper: Image, start: Floats) -> Match | None:
    """Return how two strips match near a displacement; None where they do not.

    Parameters
    ----------
    overlap
        The edge.
    lower, upper
        Its strips, freed of outliers.
    start
        Where to begin, `(2,)` pixels.
    """
    whole = np.rint(start).astype(np.int64)
    rest = start - whole
    fit: _Fit | None = None
    for _ in range(_RECUTS):
        parts = overlap.common(whole)
        if parts is None:
            return None
        a, b = (np.ascontiguousarray(_smoothed(strip[part])) for strip, part in ((lower, parts[0]), (upper, parts[1])))
        # b(u + d) continues a(u): the piece lies -d further.
        fit = _least_squares(a, b, -rest)
        if fit is None:
            return None
        rest = -fit.moved
        if np.abs(whole + rest - start).max() > _FAR_PX:
            return None
        if np.abs(rest).max() < 0.75:
            break
        step = np.rint(rest).astype(np.int64)
        whole, rest = whole + step, rest - step
    if fit is None:
        return None
    return Match(whole + rest, fit.variance, fit.correlation, fit.linear, fit.linear_variance, fit.coupling, overlap.middle(whole))


def _smoothed(strip: Image) -> Image:
    return np.asarray(scipy.ndimage.gaussian_filter(flattened(strip), _BLUR_PX, mode="nearest", truncate=3.0), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    moved: Floats
    variance: Floats
    correlation: float
    linear: Floats
    linear_variance: Floats
    coupling: Floats


def _taper(n: int) -> Image:
    """Return the weights along a side: none at the rim, where smoothing lacks half of its pixels."""
    margin = min(int(np.ceil(2 * _BLUR_PX)), n // 6)
    distance = np.minimum(np.arange(n), np.arange(n)[::-1]) - margin + 1.0
    return np.asarray(np.clip(distance / _RAMP_PX, 0, 1), np.float32)


def _least_squares(a: Image, b: Image, start: Floats) -> _Fit | None:
    """Return where b continues a."""
    taper_y, taper_x = (_taper(n) for n in a.shape)
    coefficients = scipy.ndimage.spline_filter(b, 3, output=np.float32)
    shifted, scratch, moments = np.empty_like(b), np.empty_like(b), np.empty((9, 9))
    moved, gain, offset, limit = np.array(start, float), 1.0, 0.0, _NO_LIMIT
    few = np.array([0, 1, 4, 5])
    for _ in range(_STEPS):
        shift_spline(coefficients, moved[0], moved[1], scratch, shifted)
        match_moments(a, shifted, taper_y, taper_x, gain, offset, limit, moments)
        fit = _solved(moments, few)
        if fit is None or not fit[2] > 0:
            return None
        gain, offset, variance = fit[2], fit[3], _residual(moments, few, fit)
        limit = _HUBER * np.sqrt(variance) if limit < _NO_LIMIT or np.abs(fit[:2] / gain).max() < 0.3 else _NO_LIMIT
        step = np.linalg.solve(_shared(moments), fit[:2]) / max(gain, _LEAST_GAIN)
        moved += np.clip(step, -_LONGEST_PX, _LONGEST_PX)
        if np.abs(moved - start).max() > _FAR_PX:
            return None
        if np.abs(step).max() < _SHORT_PX:
            break
    return _finished(moments, moved, few, max(gain, _LEAST_GAIN), variance * 4 * np.pi * _BLUR_PX**2)


def _solved(moments: Floats, which: NDArray[np.int64]) -> Floats | None:
    normal = moments[np.ix_(which, which)]
    scale = np.sqrt(np.maximum(np.diag(normal), 1e-30))
    try:
        return np.asarray(
            np.linalg.solve(normal / np.outer(scale, scale) + 1e-9 * np.eye(len(which)), moments[which, 6] / scale) / scale
        )
    except np.linalg.LinAlgError:
        return None


def _residual(moments: Floats, which: NDArray[np.int64], fit: Floats) -> float:
    return float(max(moments[6, 6] - moments[which, 6] @ fit, 1e-20) / max(moments[5, 5], 1))


def _shared(moments: Floats) -> Floats:
    """Return the part of the gradients' power that both images share, a `(2, 2)` matrix."""
    mean, common = moments[:2, :2], moments[7:9, 7:9]
    values, vectors = np.linalg.eigh(mean)
    values = np.maximum(values, 1e-12 * max(float(values[1]), 1e-30))
    root = vectors / np.sqrt(values) @ vectors.T
    share, axes = np.linalg.eigh(root @ common @ root)
    back = vectors * np.sqrt(values) @ vectors.T
    # Similar to the ratio of the two matrices, with eigenvalues within limits.
    return np.asarray(root @ (axes * np.clip(share, _LEAST_SHARE, 1)) @ axes.T @ back)


def _finished(moments: Floats, moved: Floats, few: NDArray[np.int64], gain: float, noise: float) -> _Fit | None:
    all_ = np.arange(6)
    fit = _solved(moments, all_)
    if fit is None:
        return None
    scale = np.sqrt(np.maximum(np.diag(moments)[:6], 1e-30))
    normal = moments[:6, :6] / np.outer(scale, scale) + 1e-9 * np.eye(6)
    wide = np.linalg.inv(normal) / np.outer(scale, scale)
    narrow = np.linalg.inv(normal[np.ix_(few, few)]) / np.outer(scale[few], scale[few])
    shared = np.linalg.inv(_shared(moments))
    covariance = shared @ narrow[:2, :2] @ shared.T * noise / gain**2
    part = float(np.trace(shared)) / 2
    # What a change of magnification or rotation takes from the displacement when the others are fitted again.
    coupling = -narrow[:2] @ moments[few][:, 2:4]
    w, sa, sb = moments[5, 5], moments[5, 6], moments[4, 5]
    va, vb = moments[6, 6] - sa * sa / w, moments[4, 4] - sb * sb / w
    correlation = (moments[4, 6] - sa * sb / w) / np.sqrt(max(va * vb, 1e-30))
    return _Fit(
        moved,
        np.diag(covariance).copy(),
        float(correlation),
        part * fit[2:4] / gain,
        part**2 * np.diag(wide)[2:4] * noise / gain**2,
        # b moves by -d where the piece lies d further.
        -coupling,
    )
