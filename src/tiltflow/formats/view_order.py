"""Whether the views of a stack are in the order of their list of angles, or sorted by tilt, asked of the pixels.

An `.mdoc` lists views as they were acquired, 0, 3, -3, -6 ... degrees; programs sort the stack by tilt and leave the list as it was.
Where no header of the stack tells its own order, only the images do: views at neighbouring tilts are most alike.

The likeness of two views is the highest value of their cross-correlation, whatever the shift between them.  Views at high tilt or of few
electrons are less like all others, so that the mean of each view is taken from its logarithms.  What is left is compared with the
closeness of the views in tilt, from which the means are taken too, under either order.  The order that explains more of it is right
if the evidence is beyond doubt: the logarithm of the ratio of the likelihoods, as if pairs of views were independent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_SIDE = 128
"""Pixels of the shorter side of the views that are compared, at least: shifts need not be known, and noise is averaged."""
_LOW, _HIGH = 0.03, 0.2
"""Band of frequencies, cycles per pixel: between the shading of the beam and the noise."""
_CLIP_SIGMAS = 4.0
"""Beyond it are gold and x-ray hits, which would be all that is compared."""
_REACH_STEPS = 2.0
"""Fall of the closeness in tilt, steps: neighbours and their neighbours are alike, views further apart are not."""
_LEAST_LIKENESS = 1e-3
"""Of views that have nothing in common, where the logarithm has no value."""
_FEWEST_VIEWS = 7
"""With fewer views hardly a pair is close in one order and not in the other."""
_EVIDENCE = 12.0
"""Logarithm of the ratio of the likelihoods from which on an order is beyond doubt.  Of four series of others and four simulated ones,
whole, thinned out, cut and in noise, in five orders of acquisition, 595 of 960 stacks are decided and none wrongly; of 960 in random
order none is decided."""


class Order(Enum):
    """In which order the views are."""

    AS_LISTED = auto()
    SORTED = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class OrderOfViews:
    """What the images say about the order of their angles.

    Attributes
    ----------
    order
        The answer.
    listed, by_tilt
        Correlation of likeness and closeness in tilt for angles as they are listed and for angles in rising order, -1 to 1.
    """

    order: Order
    listed: float
    by_tilt: float


def order_of_views(views: Iterable[NDArray[Any]], listed_deg: ArrayLike) -> OrderOfViews:
    """Return whether views have the angles as listed or in rising order.

    Parameters
    ----------
    views
        Images `(y, x)` of one size, read one at a time.
    listed_deg
        An angle for each, degrees, `(views,)`.
    """
    listed = np.asarray(listed_deg, np.float64)
    rising = np.sort(listed)
    steps = np.diff(rising)
    if len(listed) < _FEWEST_VIEWS or not steps.any():
        return OrderOfViews(Order.UNKNOWN, 0.0, 0.0)
    reach = _REACH_STEPS * float(np.median(steps[steps > 0]))
    likeness = _less_means(np.log(np.maximum(_likeness(views), _LEAST_LIKENESS)))
    as_listed, by_tilt = (_explained(likeness, angles, reach) for angles in (listed, rising))
    pairs = len(listed) * (len(listed) - 1) / 2
    evidence = pairs / 2 * (_unexplained(as_listed) - _unexplained(by_tilt))
    order = Order.UNKNOWN
    if abs(evidence) >= _EVIDENCE:
        order = Order.SORTED if evidence > 0 else Order.AS_LISTED
    return OrderOfViews(order, as_listed, by_tilt)


def _likeness(views: Iterable[NDArray[Any]]) -> Floats:
    """Return the highest normalised cross-correlation of each pair of views, `(views, views)`."""
    small = [_binned(view) for view in views]
    shape = small[0].shape
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1]))
    band = np.exp(-((frequency / _HIGH) ** 4)) * (1 - np.exp(-((frequency / _LOW) ** 2)))
    window = np.sqrt(np.hanning(shape[0])[:, None] * np.hanning(shape[1]))
    spectra = np.array([_spectrum(view, window, band) for view in small])
    likeness = np.eye(len(small))
    for i in range(1, len(small)):
        likeness[i, :i] = np.fft.irfft2(spectra[i] * spectra[:i].conj(), shape).max(axis=(1, 2))
    return np.maximum(likeness, likeness.T)


def _binned(view: NDArray[Any]) -> Floats:
    """Return a view averaged over squares to little more than the side that is compared."""
    factor = max(1, min(view.shape) // _SIDE)
    ny, nx = (size // factor for size in view.shape)
    return np.asarray(
        view[: ny * factor, : nx * factor].reshape(ny, factor, nx, factor).mean(axis=(1, 3), dtype=np.float64), np.float64
    )


def _spectrum(view: Floats, window: Floats, band: Floats) -> NDArray[np.complex128]:
    """Return the spectrum of a view within the band, of unit power; zeros for a view without contrast."""
    finite = view[np.isfinite(view)]
    middle = float(np.median(finite)) if finite.size else 0.0
    level = np.nan_to_num(view - middle, nan=0.0, posinf=0.0, neginf=0.0)
    spread = 1.4826 * float(np.median(np.abs(level))) or float(level.std())
    spectrum = np.fft.rfft2(np.clip(level, -_CLIP_SIGMAS * spread, _CLIP_SIGMAS * spread) * window) * band
    power = float(np.sum(np.fft.irfft2(spectrum, view.shape) ** 2))
    return spectrum / np.sqrt(power) if power > 0 else spectrum


def _less_means(pairs: Floats) -> Floats:
    """Return a symmetric matrix without the mean of each row and column; its diagonal does not count, and is 0."""
    n = len(pairs)
    off = pairs - np.diag(np.diag(pairs))
    mean = off.sum() / (n * (n - 1))
    of_view = (off.sum(axis=1) - (n - 1) * mean) / (n - 2)
    left = off - mean - of_view[:, None] - of_view
    np.fill_diagonal(left, 0.0)
    return np.asarray(left, np.float64)


def _explained(likeness: Floats, tilt_deg: Floats, reach_deg: float) -> float:
    """Return the correlation of likeness and closeness in tilt, both without the means of the views."""
    closeness = _less_means(np.exp(-np.abs(tilt_deg[:, None] - tilt_deg) / reach_deg))
    scale = np.sqrt(np.sum(closeness**2) * np.sum(likeness**2))
    return float(np.sum(closeness * likeness) / scale) if scale > 0 else 0.0


def _unexplained(correlation: float) -> float:
    """Return the logarithm of the part of the variance that is left; a negative correlation explains nothing."""
    return float(np.log1p(-(min(max(correlation, 0.0), 0.999) ** 2)))
