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

PARAMETERS = 6
"""Of each view: displacement along x and y (pixels of the frame), rotation, magnification, tilt (radians), and the slope."""
_STRIDE = 3
"""The matrix is computed from every third frequency along x and y: it sets the length of steps, whose direction counts them all.  Every
second one takes twice the time; coarse alignments of twelve simulated series differ by 0.2 % in the mean."""
_WORTH_THREADS = 1_500_000
"""Pixels of all images from which threads are used: with fewer they wait for each other for longer than they save."""
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
    """The views on a frame, the band of frequencies that is compared, and the window of the field.

    Images of the band are compared on as few samples as hold it, which are spread over the frame.

    Parameters
    ----------
    stretched
        The views.
    band
        The frequencies.
    taper
        Width of the border over which the window falls, as a fraction of the field.
    threads
        Threads to use where there is enough to do.
    """

    def __init__(self, stretched: StretchedViews, band: FrequencyBand, taper: float, *, threads: int = 1) -> None:
        self.stretched = stretched
        self.band = band
        self._samples = band.on_fewest_samples()
        frame, (ny, nx) = stretched.frame, self._samples.shape
        self._field, self._window = frame.window(taper), frame.window(taper, (ny, nx))
        self._y, self._x = (each.ravel() for each in frame.coordinates((ny, nx)))
        self._threads = threads
        rows, columns = (np.minimum(np.arange(n) * _BLOCKS // n, _BLOCKS - 1) for n in (ny, nx))
        self._blocks = np.ascontiguousarray(rows[:, None] * _BLOCKS + columns[None, :], np.int32)

    def spectra(self, where: ViewGeometry, filling: Spectra | None) -> Spectra:
        """Return the transforms of all views, `(q, views, p)`; what lies outside a view is filled from `filling`, its prediction.

        Without predictions all views are tapered at the same border, so that content seen by some views only does not count.
        """
        from tiltflow.kernels import refine  # numba is slow to import

        band = self.band
        out = np.empty((len(band.q), len(self.stretched), len(band.p)), np.complex64)

        def at(some: slice) -> None:
            if filling is None:
                images = self.stretched.sample_filled(some, where, np.zeros((some.stop - some.start, *band.shape), np.float32))
                images *= self._field
            else:
                images = self.stretched.sample_filled(some, where, _images(band, filling, some))
            refine.take_band(scipy.fft.rfft2(images, overwrite_x=True), band.rows, some.start, out)

        self._in_parts(at, band.shape)
        return out

    def _in_parts(self, at: Callable[[slice], None], shape: tuple[int, int], images: int = 1) -> None:
        """Call a function with the views in parts, of each of which it holds some `images`."""
        views, pixels = len(self.stretched), images * shape[0] * shape[1]
        at_once = max(_AT_ONCE_PX // pixels, 1)
        parts = [slice(k, min(k + at_once, views)) for k in range(0, views, at_once)]
        for _ in map_threads(at, parts, self._threads if pixels * views >= _WORTH_THREADS else 1):
            pass

    def step(
        self, where: ViewGeometry, model: CovarianceModel, spectra: Spectra, prediction: Prediction, *, matrix: Floats | None = None
    ) -> MatchStep:
        """Return the normal equations at a geometry.

        A `matrix` computed at a similar geometry may be given; computing it is most of the work.
        """
        from tiltflow.kernels import refine  # numba is slow to import

        band, samples, views = self.band, self._samples, len(self.stretched)
        (ny, nx), known = samples.shape, (prediction.predicted, prediction.by_tilt, prediction.weighted, spectra)
        changes = np.empty((len(band.q[::_STRIDE]), views, PARAMETERS, len(band.p[::_STRIDE])), np.complex64)
        gradient, powers = np.zeros((views, _BLOCKS**2, PARAMETERS)), np.zeros((views, 3))

        def at(some: slice) -> None:
            transforms = np.zeros((some.stop - some.start, PARAMETERS, ny, nx // 2 + 1), np.complex64)
            refine.put_transforms(*known, some.start, band.q, band.p, samples.rows, transforms)
            images = scipy.fft.irfft2(transforms, (ny, nx), overwrite_x=True)
            weights = self.stretched.weights(some, where, self._window)
            refine.sensitivities(images, weights, where.tilts[some], self._y, self._x, self._blocks, gradient[some], powers[some])
            if matrix is None:
                refine.take_changes(scipy.fft.rfft2(images, overwrite_x=True), samples.rows, _STRIDE, some.start, changes)

        self._in_parts(at, samples.shape, PARAMETERS)
        if matrix is None:
            matrix = self._matrix(model, np.tan(where.tilts), changes)
        blocks = gradient.swapaxes(0, 1).reshape(_BLOCKS**2, -1)
        return MatchStep(matrix, blocks * (ny * nx), _agreement(powers))

    def correlation(self, where: ViewGeometry, spectra: Spectra, prediction: Prediction) -> Floats:
        """Return the correlation of each view with its prediction, `(views,)`, where it has data."""
        powers = np.empty((len(self.stretched), 3))

        def at(some: slice) -> None:
            weights = self.stretched.weights(some, where, self._window)
            seen, expected = (_images(self._samples, each, some) for each in (spectra, prediction.predicted))
            for n, (a, b) in enumerate(((seen, seen), (expected, expected), (seen, expected))):
                powers[some, n] = np.einsum("vyx,vyx,vyx->v", weights, a, b)

        self._in_parts(at, self._samples.shape, 3)
        return _agreement(powers)

    def heights(self, spectra: Spectra, prediction: Prediction) -> tuple[Floats, Floats]:
        """Return the height of each view's correlation peak with its prediction, and of the highest elsewhere, both `(views,)`.

        In standard deviations of the correlation over all displacements.  Noise that was moved to its best place reaches 4 or 5, and 8
        where what is predicted is uneven over the field; then another place is nearly as good.
        """
        product = np.conj(prediction.predicted) * spectra * prediction.precision

        def at(view: int) -> tuple[float, float]:
            correlation = np.roll(_images(self.band, product, slice(view, view + 1))[0], (_LOBE_PX, _LOBE_PX), (0, 1))
            spread = float(correlation.std()) or 1.0
            middle = slice(_LOBE_PX - 1, _LOBE_PX + 2)
            here = max(float(correlation[middle, middle].max()), 0.0)
            correlation[: 2 * _LOBE_PX + 1, : 2 * _LOBE_PX + 1] = -np.inf
            return here / spread, max(float(correlation.max()), 0.0) / spread

        return tuple(np.array([at(view) for view in range(len(self.stretched))]).T)

    def _matrix(self, model: CovarianceModel, tangents: Floats, changes: NDArray[np.complex64]) -> Floats:
        """Return the curvature of the likelihood over all parameters of all views."""
        band, views = self.band, len(tangents)
        total = np.zeros((PARAMETERS, PARAMETERS, views, views), np.float32)
        for index in range(0, len(band.q), _STRIDE):
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
        matrix = np.asarray(total, np.float64)
        for a in range(PARAMETERS):
            for b in range(a):
                matrix[a, b] = matrix[b, a].T
        return np.asarray(matrix.transpose(2, 0, 3, 1).reshape(views * PARAMETERS, -1) * (2 * _STRIDE**2))


def _images(band: FrequencyBand, values: Spectra, some: slice) -> Images:
    """Return the images of some views, `(n, ny, nx)`, whose bands are `values`, `(q, views, p)`."""
    from tiltflow.kernels.refine import put_band  # numba is slow to import

    transforms = np.zeros((some.stop - some.start, band.shape[0], band.shape[1] // 2 + 1), np.complex64)
    put_band(values, some.start, band.rows, transforms)
    return np.asarray(scipy.fft.irfft2(transforms, band.shape, overwrite_x=True), np.float32)


def _agreement(powers: Floats) -> Floats:
    """Return the correlations of pairs of images, `(n,)`, from the sums of their squares and products, `(n, 3)`."""
    norm = np.sqrt(powers[:, 0] * powers[:, 1])
    return np.asarray(np.divide(powers[:, 2], norm, out=np.zeros(len(norm)), where=norm > 0))
