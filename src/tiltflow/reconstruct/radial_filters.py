"""Filters and weights of the weighted back-projection.

The ramp, the Gaussian fall-off beyond its end, the weight of a view by the angles of its neighbours and the padding of a line are
those of IMOD's `tilt` 4.8, whose output they reproduce to the rounding: see the notes of each function.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.errors import ParameterError

Floats = NDArray[np.float64]

DC = 0.2
"""Weight of the mean of a line, where the first frequency has 1; of IMOD's `tilt`.  It sets the level of the volume and hardly its
structures (0.2 % from 0.1 to 0.4, `benchmarks/sensitivity_volume.py`)."""

SIRT_CORNER = 0.00195
"""Frequency, cycles per pixel, at and below which the SIRT-like filter is the ramp itself; of IMOD's `FakeSIRTiterations`."""

_PADDED_PART = 1.1
"""Least length of a padded line over its width; of IMOD's `tilt`.  Twice as much makes no difference of 0.2 %."""
_FACTORS = 2, 3, 5
"""Prime factors of a padded length, for a fast Fourier transform; of IMOD's `tilt`."""
_END_PIXELS = 3
"""Pixels averaged at each end of a line, so that one noisy pixel does not tilt its continuation; of IMOD's `tilt`.
From 2 to 6 nothing changes by 0.1 %."""
_HAMMING = 0.54, 0.46
"""Mean and amplitude of the raised cosine of Hamming's window, which ends at 0.08."""
_SIRT_EXTRA = 0.3
"""Added to the number of iterations in the SIRT-like filter; of IMOD's `FakeSIRTiterations`, as are the next four."""
_SIRT_FULL, _SIRT_PART = 15, 30
"""Iterations up to which each counts as one, and up to which each counts as :data:`_SIRT_SECOND`; later ones :data:`_SIRT_LATER`."""
_SIRT_SECOND, _SIRT_LATER = 0.8, 0.6
"""Weights of the iterations between the two, and of those beyond."""


def padded_length(width: int) -> int:
    """Return the length to which lines are padded: the first even product of 2, 3 and 5 that is at least a tenth longer.

    >>> padded_length(128), padded_length(1024)
    (144, 1152)
    """
    n = int(np.ceil(_PADDED_PART * width))
    while n % 2 or _without_small_factors(n) > 1:
        n += 1
    return n


def _without_small_factors(n: int) -> int:
    for p in _FACTORS:
        while n % p == 0:
            n //= p
    return n


def continue_lines(lines: NDArray[np.float32], width: int) -> None:
    """Continue lines `(..., padded length)`, of which the first `width` pixels are given, linearly from their end to their beginning.

    Each end is the mean of :data:`_END_PIXELS` pixels.
    """
    end = lines[..., width - _END_PIXELS : width].mean(axis=-1, keepdims=True)
    beginning = lines[..., :_END_PIXELS].mean(axis=-1, keepdims=True)
    room = lines.shape[-1] - width
    t = (np.arange(1, room + 1) / (room + 1)).astype(np.float32)
    np.add(end, (beginning - end) * t, out=lines[..., width:])


def radial_filter(
    length: int,
    *,
    cutoff: float = 0.35,
    falloff: float = 0.05,
    true_sigma: bool = False,
    hamming_start: float | None = None,
    sirt_iterations: int = 0,
) -> Floats:
    """Return the weights of the frequencies of a line of `length` pixels, `(length // 2 + 1,)`.

    Parameters
    ----------
    length
        Of the padded line.
    cutoff, falloff
        End of the ramp and width of the fall-off beyond it, cycles per pixel; defaults as in `tilt.com` of batchruntomo.
    true_sigma
        The fall-off is `exp(-d² / 2 s²)` instead of `exp(-d² / s²)`.
    hamming_start
        Frequency from which a raised cosine, 1 to 0.08 at 0.5 cycles per pixel, takes the place of cutoff and fall-off.
    sirt_iterations
        Iterations of SIRT to imitate (:func:`sirt_window`).

    Raises
    ------
    ParameterError
        If a frequency is out of range.

    Notes
    -----
    The ramp counts frequencies: 1 for the first one, 2 for the second, 0.2 for the mean.  It ends one short of
    `int(cutoff length)` and stays level under the fall-off, whose width is a whole number of frequencies.  The rounding of that
    width was found by comparison with two outputs of `tilt`; it matters for lines of a few hundred pixels only.
    """
    if not 0 < cutoff <= 1 or falloff < 0:
        raise ParameterError(f"radial filter with cutoff {cutoff} and fall-off {falloff}: give 0 < cutoff <= 1 and fall-off >= 0")
    k = np.arange(length // 2 + 1, dtype=np.float64)
    ramp = k.copy()
    ramp[0] = DC
    if hamming_start is not None:
        if not 0 <= hamming_start < 0.5:
            raise ParameterError(f"the Hamming-like fall-off starts at {hamming_start}: it must be at least 0 and below 0.5")
        window = _hamming(k / length, hamming_start)
    else:
        top = max(int(cutoff * length), 2)
        width = falloff * length
        if not true_sigma:
            width = np.floor((cutoff + falloff) * length + 0.5) - top - 1
        beyond = np.maximum(k + 1 - top, 0) / max(width, 1.0)
        window = np.exp(-(beyond**2) * (0.5 if true_sigma else 1.0))
        ramp = np.minimum(ramp, top - 1)
    return np.asarray(ramp * window * sirt_window(k / length, sirt_iterations))


def _hamming(frequency: Floats, start: float) -> Floats:
    t = np.clip((frequency - start) / (0.5 - start), 0, 1)
    mean, amplitude = _HAMMING
    return np.asarray(mean + amplitude * np.cos(np.pi * t))


def sirt_window(frequency: ArrayLike, iterations: int) -> Floats:
    """Return the factor on the ramp at each frequency, cycles per pixel, that imitates iterations of SIRT.

    `1 - (1 - a / f)^(n + 0.3)` above the corner a, where n is the number of iterations, compressed beyond 15 and beyond 30.

    Notes
    -----
    A Landweber iteration approaches the filtered back-projection geometrically at a rate that falls as 1 / f: Zeng 2012,
    doi:10.1118/1.3673956.  IMOD's `FakeSIRTiterations`.

    >>> sirt_window([0.001, 0.00195, 0.5], 10).round(3).tolist()
    [1.0, 1.0, 0.039]
    """
    f = np.asarray(frequency, np.float64)
    if iterations < 0:
        raise ParameterError(f"{iterations} iterations of the SIRT-like filter: it must be 0 or more")
    if iterations == 0:
        return np.ones_like(f)
    later, second = max(iterations - _SIRT_PART, 0), min(max(iterations - _SIRT_FULL, 0), _SIRT_PART - _SIRT_FULL)
    n = min(iterations, _SIRT_FULL) + _SIRT_SECOND * second + _SIRT_LATER * later
    return np.asarray(1 - (1 - SIRT_CORNER / np.maximum(f, SIRT_CORNER)) ** (n + _SIRT_EXTRA))


def low_pass(length: int, cutoff: float, sigma: float) -> Floats:
    """Return weights `(length // 2 + 1,)` that are 1 up to `cutoff` and fall as a Gaussian of `sigma`, cycles per pixel."""
    beyond = np.maximum(np.arange(length // 2 + 1) / length - cutoff, 0)
    return np.exp(-0.5 * (beyond / max(sigma, 1e-9)) ** 2)


def density_weights(tilt_deg: ArrayLike, neighbours: int = 2) -> Floats:
    """Return the weight of each view by how far apart the views around it are; their mean is about 1.

    The k-th interval to either side is weighted by `1 / (k - 0.5)`, up to `neighbours` of them; at the ends of the range those that
    exist.  The weight of a view is this mean interval over that of the whole range.  Without neighbours all weights are 1.

    Notes
    -----
    IMOD's `DENSWEIGHT`, default 2.  They equal the weights of 41 views that were fitted to a reconstruction by `tilt`, to five digits.
    """
    tilt = np.asarray(tilt_deg, np.float64)
    n = len(tilt)
    spread = float(np.ptp(tilt)) if n else 0.0
    if neighbours <= 0 or n < 2 or spread == 0:
        return np.ones(n)
    order = np.argsort(tilt, kind="stable")
    intervals = np.diff(tilt[order])
    total, norm = np.zeros(n), np.zeros(n)
    for k in range(1, min(neighbours, n - 1) + 1):
        share = 1 / (k - 0.5)
        above = np.arange(n) + k - 1 < n - 1
        below = np.arange(n) - k >= 0
        total[above] += share * intervals[np.flatnonzero(above) + k - 1]
        total[below] += share * intervals[np.flatnonzero(below) - k]
        norm += share * (above.astype(float) + below)
    weights = np.empty(n)
    weights[order] = total / norm / (spread / (n - 1))
    return weights
