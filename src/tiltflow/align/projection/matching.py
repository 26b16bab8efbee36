"""One Gauss-Newton step of matching each view with its prediction from the others.

The residual of a view, weighted by the inverse covariance of :mod:`tiltflow.align.projection.covariance_model`, is compared with
how the predicted view changes with each of its parameters.  As the prediction is independent of the view's own noise the comparison
is unbiased.  All views are moved at once by a Gauss-Newton step of the likelihood, whose matrix couples their parameters through the
same covariance: a drift that neighbouring views share, which matching one view after the other would hardly correct, is removed in
one step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.align.projection.covariance_model import (
    CovarianceModel,
    Prediction,
    Spectra,
    precisions,
)
from tiltflow.align.projection.frequency_band import FrequencyBand, Rings
from tiltflow.align.projection.stretched_views import StretchedViews, ViewGeometry
from tiltflow.parallel import map_threads

Floats = NDArray[np.float64]
Images = NDArray[np.float32]
T = TypeVar("T")

PARAMETERS = 6
"""Of each view: displacement along x and y (pixels of the frame), rotation, magnification, tilt (radians), and the slope."""
_STRIDE = 2
"""The matrix is computed from every second frequency along x and y: the window has smoothed the spectra."""
_WORTH_THREADS = 800_000
"""Pixels of all frames from which threads are used: with fewer, starting them costs more than it saves."""
_KEPT_PX = 4_000_000
"""Pixels of all frames up to which the weights of the views are kept from one use of a geometry to the next: 16 MB."""
_LOBE_PX = 4
"""Pixels to either side that a peak is wide: finer detail than that is what places a view."""
_AT_ONCE_PX = 400_000
"""Pixels of the views that are transformed by one call, or that a thread takes at a time: what small ones take is mostly the calls."""
_BLOCKS = 6
"""Blocks along each side of the frame, whose disagreement gives the uncertainty of the result."""


@dataclass(frozen=True, slots=True, eq=False)
class MatchStep:
    """The normal equations of one step.

    Attributes
    ----------
    matrix
        `(views * 6, views * 6)`: the Fisher information of the parameters of all views.
    gradient
        `(blocks, views * 6)`: the right side, one row for each part of the field.
    correlation
        Of each view with its prediction, `(views,)`.
    """

    matrix: Floats
    gradient: Floats
    correlation: Floats


class Matcher:
    """The views on a frame, the band of frequencies that is compared, and the window of the field."""

    def __init__(self, stretched: StretchedViews, band: FrequencyBand, window: Images, *, threads: int = 1) -> None:
        self.stretched = stretched
        self.band = band
        self._window = window
        ny, nx = stretched.frame.shape
        self._threads = threads if ny * nx * len(stretched) >= _WORTH_THREADS else 1
        self._at_once = max(_AT_ONCE_PX // (ny * nx), 1)
        rows, columns = (np.minimum(np.arange(n) * _BLOCKS // n, _BLOCKS - 1) for n in (ny, nx))
        self._blocks = np.ascontiguousarray(rows[:, None] * _BLOCKS + columns[None, :], np.int32)
        self._weighed: tuple[ViewGeometry | None, dict[int, Images]] = None, {}

    def spectra(self, where: ViewGeometry, filling: Spectra | None) -> Spectra:
        """Return the transforms of all views, `(q, views, p)`; what lies outside a view is filled from `filling`, its prediction.

        Without predictions all views are tapered at the same border, so that content seen by some views only does not count.
        """
        band, views = self.band, len(self.stretched)
        out = np.empty((len(band.q), views, len(band.p)), np.complex64)

        def at(some: slice) -> None:
            filled = None if filling is None else self._images(filling[:, some].swapaxes(0, 1))
            images = np.empty((some.stop - some.start, *band.shape), np.float32)
            for n, view in enumerate(range(some.start, some.stop)):
                image, weight = self._sample(view, where)
                np.multiply(image, weight, out=images[n])
                if filled is None:
                    images[n] *= self._window
                else:
                    images[n] += (1 - weight) * filled[n]
            out[:, some] = band.crop(scipy.fft.rfft2(images)).swapaxes(0, 1)

        for _ in map_threads(at, self._parts(), self._threads):
            pass
        return out

    def _parts(self) -> list[slice]:
        """Return the views in parts that are worked on one after the other."""
        views = len(self.stretched)
        return [slice(k, min(k + self._at_once, views)) for k in range(0, views, self._at_once)]

    def _of_each(self, at: Callable[[int], T]) -> list[T]:
        """Return a function of each view."""

        def of_some(some: slice) -> list[T]:
            return [at(view) for view in range(some.start, some.stop)]

        return list(chain.from_iterable(map_threads(of_some, self._parts(), self._threads)))

    def _sample(self, view: int, where: ViewGeometry) -> tuple[Images, Images]:
        """Return a view and its weight, and keep the latter where that takes little memory."""
        image, weight = self.stretched.sample(view, where)
        if self.band.shape[0] * self.band.shape[1] * len(self.stretched) <= _KEPT_PX:
            if self._weighed[0] is not where:
                self._weighed = where, {}
            self._weighed[1][view] = weight
        return image, weight

    def _weight(self, view: int, where: ViewGeometry) -> Images:
        """Return the weight of a view, which is not to be changed."""
        at, weights = self._weighed
        return weights[view] if at is where and view in weights else self._sample(view, where)[1]

    def _images(self, values: NDArray[np.complex64]) -> Images:
        """Return the images, `(n, ny, nx)`, whose bands are `values`, `(n, q, p)`."""
        return np.asarray(scipy.fft.irfft2(self.band.embed(values), self.band.shape), np.float32)

    def step(
        self, where: ViewGeometry, model: CovarianceModel, spectra: Spectra, prediction: Prediction, *, matrix: Floats | None = None
    ) -> MatchStep:
        """Return the normal equations at a geometry.

        A `matrix` computed at a similar geometry may be given; computing it is most of the work.
        """
        band, views = self.band, len(self.stretched)
        changes = np.empty((len(band.q[::_STRIDE]), views, PARAMETERS, len(band.p[::_STRIDE])), np.complex64)
        gradient = np.zeros((_BLOCKS**2, views, PARAMETERS))
        correlation = np.empty(views)

        def at(view: int) -> None:
            gradient[:, view], fields, correlation[view] = self._view(view, where, spectra, prediction)
            if matrix is None:
                changes[:, view] = band.crop(scipy.fft.rfft2(fields))[:, ::_STRIDE, ::_STRIDE].swapaxes(0, 1)

        self._of_each(at)
        if matrix is None:
            matrix = self._matrix(model, np.tan(where.tilts), changes)
        ny, nx = band.shape
        return MatchStep(matrix, gradient.reshape(_BLOCKS**2, -1) * (ny * nx), correlation)

    def correlation(self, where: ViewGeometry, spectra: Spectra, prediction: Prediction) -> Floats:
        """Return the correlation of each view with its prediction, `(views,)`, where it has data."""

        def at(view: int) -> float:
            weight = self._weight(view, where)
            seen, predicted = self._images(np.stack([spectra[:, view], prediction.predicted[:, view]]))
            return _agreement(weight * self._window, seen, predicted)

        return np.array(self._of_each(at))

    def heights(self, spectra: Spectra, prediction: Prediction) -> tuple[Floats, Floats]:
        """Return the height of each view's correlation peak with its prediction, and of the highest elsewhere, both `(views,)`.

        In standard deviations of the correlation over all displacements.  Noise that was moved to its best place reaches 4 or 5, and 8
        where what is predicted is uneven over the field; then another place is nearly as good.
        """

        def at(view: int) -> tuple[float, float]:
            product = np.conj(prediction.predicted[:, view]) * spectra[:, view] * prediction.precision[:, view]
            correlation = np.roll(self._images(product[None])[0], (_LOBE_PX, _LOBE_PX), (0, 1))
            spread = float(correlation.std()) or 1.0
            middle = slice(_LOBE_PX - 1, _LOBE_PX + 2)
            here = max(float(correlation[middle, middle].max()), 0.0)
            correlation[: 2 * _LOBE_PX + 1, : 2 * _LOBE_PX + 1] = -np.inf
            return here / spread, max(float(correlation.max()), 0.0) / spread

        return tuple(np.array(self._of_each(at)).T)

    def _view(self, view: int, where: ViewGeometry, spectra: Spectra, prediction: Prediction) -> tuple[Floats, Images, float]:
        """Return the gradient by blocks, the view's derivatives by its parameters, and its correlation with its prediction."""
        from tiltflow.kernels.refine import sensitivities  # numba is slow to import

        band = self.band
        predicted = prediction.predicted[:, view]
        weight = self._weight(view, where) * self._window
        parts = (
            2j * np.pi * band.q[:, None] * predicted,
            2j * np.pi * band.p[None, :] * predicted,
            prediction.by_tilt[:, view],
            prediction.weighted[:, view],
            spectra[:, view],
            predicted,
        )
        by_x, by_y, by_tilt, residual, seen, expected = self._images(np.array(parts, np.complex64))
        changes = np.empty((PARAMETERS, *by_x.shape), np.float32)
        sums = np.zeros((_BLOCKS**2, PARAMETERS))
        sensitivities(by_x, by_y, by_tilt, weight, residual, float(where.tilts[view]), self._blocks, changes, sums)
        return sums, changes, _agreement(weight, seen, expected)

    def _matrix(self, model: CovarianceModel, tangents: Floats, changes: NDArray[np.complex64]) -> Floats:
        """Return the curvature of the likelihood over all parameters of all views."""
        band, views = self.band, len(tangents)

        def at(index: int) -> Images:
            total = np.zeros((PARAMETERS, PARAMETERS, views, views), np.float32)
            rings = Rings.of(band.group[index][::_STRIDE])
            inverses, _ = precisions(model, float(band.q[index]), tangents, rings.groups)
            inverses /= model.signal[rings.groups][:, None, None]
            for links, (_, ring) in zip(inverses, rings, strict=True):
                part = changes[index // _STRIDE][:, :, rings.order[ring]].transpose(1, 0, 2)
                # Real products are the quickest, and many small ones: one large one would start threads of its own.
                flat, turned = np.concatenate([part.real, part.imag], axis=2), np.concatenate([-part.imag, part.real], axis=2)
                by, across = np.asarray(links.real, np.float32), np.asarray(links.imag, np.float32)
                for a in range(PARAMETERS):
                    along = np.matmul(flat[a], flat[a:].transpose(0, 2, 1))
                    along *= by
                    aside = np.matmul(flat[a], turned[a:].transpose(0, 2, 1))
                    aside *= across
                    along += aside
                    total[a, a:] += along
            return total

        matrix = np.zeros((PARAMETERS, PARAMETERS, views, views))
        for part in map_threads(at, range(0, len(band.q), _STRIDE), self._threads):
            matrix += part
        for a in range(PARAMETERS):
            for b in range(a):
                matrix[a, b] = matrix[b, a].T
        return np.asarray(matrix.transpose(2, 0, 3, 1).reshape(views * PARAMETERS, -1) * (2 * _STRIDE**2))


def _agreement(weight: Images, seen: Images, expected: Images) -> float:
    """Return the correlation of two images under a weight."""
    norm = float(np.sqrt(np.sum(weight * seen**2) * np.sum(weight * expected**2)))
    return float(np.sum(weight * seen * expected)) / norm if norm > 0 else 0.0
