"""Correlation coefficients of pairs of stretched views over what both show, at every displacement.

The coefficient at a displacement is that of the pixels which both views then have, with their own means and variances, so that it
does not fall merely because less is shared (Padfield 2012, Masked object registration in the Fourier domain,
doi:10.1109/TIP.2011.2181402).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.align.projection.stretched_views import Frame, StretchedViews, ViewGeometry
from tiltflow.preprocess.binned_views import BinnedViews

Floats = NDArray[np.float64]
Images = NDArray[np.float32]

_WIDEST = 2.2
"""Frame over field along x: room for the stretch of a view at 60 degrees; steeper ones are cut off at the sides."""
_TAPER_PX = 3.0
"""Width of the tapered edge of each view."""
_LEAST_SHARED = 0.3
"""Part of the smaller view that both must show: the coefficient of a few pixels is high by chance."""
_KEPT = 3
"""Views whose transforms are kept: a view is paired with the next one and the one after."""
_NOTHING = 1e-3
"""Pixels, and products of variances, below which rounding of the transforms is all there is."""


@dataclass(frozen=True, slots=True, eq=False)
class Overlap:
    """The correlation of two views by the displacement of the second, both maps periodic.

    Element `[y, x]` is the displacement by y and x pixels of the frame, or by those minus the size.

    Attributes
    ----------
    coefficients
        -1 where too little is shared.
    shared
        Part of the smaller view that both show.
    """

    coefficients: Images
    shared: Images


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """Transforms of a view's weight, weighted values and weighted squares, and its area in pixels."""

    weight: NDArray[np.complex64]
    values: NDArray[np.complex64]
    squares: NDArray[np.complex64]
    area: float


class OverlapCorrelator:
    """Views stretched to zero tilt, whose correlation over the overlap can be had for every displacement.

    Parameters
    ----------
    views
        Binned, flattened images.
    where
        Their geometry; displacements are counted from it.
    """

    def __init__(self, views: BinnedViews, where: ViewGeometry) -> None:
        self.frame = Frame.around(views, where.axis_deg, (1.0, _WIDEST))
        self._stretched = StretchedViews(views, self.frame, _TAPER_PX)
        self._where = where
        ny, nx = (scipy.fft.next_fast_len(2 * n, real=True) for n in self.frame.shape)
        self._shape = ny, nx
        # Pairs are asked for along the series: those of all views at once would be the largest of what an alignment holds.
        self._sums = lru_cache(maxsize=_KEPT)(self._sums_of)

    def _sums_of(self, view: int) -> _Sums:
        image, weight = self._stretched.sample(view, self._where)
        ones, values, squares = (
            np.asarray(scipy.fft.rfft2(each, self._shape), np.complex64) for each in (weight, image * weight, image**2 * weight)
        )
        return _Sums(ones, values, squares, float(weight.sum()))

    def correlate(self, one: int, other: int) -> Overlap:
        """Return the correlation of two views, numbers of which are given, by the displacement of the other."""
        a, b = self._sums(one), self._sums(other)

        def summed(first: NDArray[np.complex64], second: NDArray[np.complex64]) -> Images:
            return np.asarray(scipy.fft.irfft2(np.conj(first) * second, self._shape), np.float32)

        shared = np.maximum(summed(a.weight, b.weight), _NOTHING)
        mean_a, mean_b = summed(a.values, b.weight) / shared, summed(a.weight, b.values) / shared
        variance_a = summed(a.squares, b.weight) / shared - mean_a**2
        variance_b = summed(a.weight, b.squares) / shared - mean_b**2
        covariance = summed(a.values, b.values) / shared - mean_a * mean_b
        power = np.sqrt(np.maximum(variance_a, 0) * np.maximum(variance_b, 0))
        part = shared / np.float32(min(a.area, b.area))
        known = (part > _LEAST_SHARED) & (power > _NOTHING * float(power.max()))
        found = np.where(known, covariance / np.where(known, power, 1), -1)
        return Overlap(np.asarray(found, np.float32), np.asarray(part, np.float32))
