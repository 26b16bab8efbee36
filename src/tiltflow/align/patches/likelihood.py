"""Displacements of patches: the joint likelihood of all views of a patch.

The transforms a of a patch in all aligned views are modelled as normal with the covariance K of :mod:`coherence`.  If the views are
displaced by d, the log-likelihood is -a' K^-1 a with a_i -> a_i exp(2 pi i q d_i) summed over the frequencies q.  Its slope at d = 0
compares every view with its best linear prediction from all others; its curvature couples the views, strongly between neighbours and
weakly between distant ones.  So one Newton step gives the displacement of every view of a patch with its covariance, in which a slow
drift along the series, which a chain of neighbours does not exclude, has a large variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.patches.patch_spectra import FrequencyCells, Spectra
from tiltflow.align.patches.view_covariances import Covariance
from tiltflow.align.robust_scale import SD_OF_MEDIAN
from tiltflow.kernels.patches import add_couplings, add_products

Floats = NDArray[np.float64]

_WEAKEST = 2e-4
"""Lower bound of a mode's curvature in the Newton step, as a fraction of the largest: the step is long along the softest modes."""
_NOTHING = 1e-7
"""Lower bound of a mode's curvature as information, as a fraction of the largest: single precision holds no less."""
_DRIFT_DEGREES = 6
"""Highest degree of the polynomials of the tangent that stand for slow drifts."""


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """The likelihood of one patch about its present position.

    Attributes
    ----------
    slope
        `(views, 2)` of the log-likelihood by displacement in the plane of the specimen, raw pixels.
    curvature
        `(views, 2, views, 2)` of minus the log-likelihood; None where it is not wanted.
    expected
        The curvature that the model expects once all views are aligned.
    agreement
        `(views,)` correlation of each view with its prediction from the others.
    """

    slope: Floats
    curvature: Floats | None
    expected: Floats
    agreement: Floats


def compare(
    spectra: Spectra,
    cross: Covariance,
    precision: Covariance,
    expected: Floats,
    cells: FrequencyCells,
    independent: float,
    *,
    observed: bool = True,
) -> Comparison:
    """Return slope and curvature for one patch.

    Parameters
    ----------
    spectra, cross
        Of the patch; see :func:`tiltflow.align.patches.coherence.cross_spectra`.
    precision
        K^-1 for views that may be displaced, `(bins, views, views)`.
    expected
        The :func:`expected_curvature` of the model.
    cells
        The frequencies.
    independent
        Fraction of them that are independent.
    observed
        Whether the observed curvature is wanted.
    """
    scale, views = 2 * independent, spectra.shape[1]
    x, y = _along_axes(cells)
    slope, sums = np.zeros((views, 2)), np.zeros((3, views))
    add_products(spectra, precision @ spectra, precision, cross, x, y, slope, sums)
    return Comparison(
        -scale * slope,
        _stiffness(precision, cross, _moments(cells, independent), conjugate=False) if observed else None,
        expected,
        sums[0] / np.sqrt(np.maximum(sums[1] * sums[2], 1e-30)),
    )


def expected_curvature(precision: Covariance, settled: Covariance, cells: FrequencyCells, independent: float) -> Floats:
    """Return the curvature `(views, 2, views, 2)` that a model expects of a patch once all views are aligned.

    `settled` `(bins, views, views)` is K for aligned views; the others are those of :func:`compare`.
    """
    return _stiffness(precision, settled, _moments(cells, independent) * cells.count, conjugate=True)


def _along_axes(cells: FrequencyCells) -> tuple[Floats, NDArray[np.float32]]:
    """Return the x frequency of each bin and the y frequency of each cell, radians per raw pixel."""
    return 2 * np.pi * cells.bin_x, (2 * np.pi * cells.y * cells.valid).astype(np.float32)


def _moments(cells: FrequencyCells, independent: float) -> Floats:
    """Return the mean squares xx, xy, yy of the frequencies of each bin, `(3, bins)`, as often as they count."""
    x, y = _along_axes(cells)
    # A bin has one x frequency, and y frequencies as often negative as positive: their mean square counts.
    mean = np.divide(y.sum(axis=1), cells.count), np.divide((y**2).sum(axis=1), cells.count)
    return 2 * independent * np.stack([x**2, x * mean[0], mean[1]])


def _stiffness(precision: Covariance, other: Covariance, moments: Floats, *, conjugate: bool) -> Floats:
    """Return `(views, 2, views, 2)`: conj(a_i) M_ik a_k couples views i and k; zero for a displacement common to all views.

    `moments` `(3, bins)` are the mean squares xx, xy, yy of the frequencies; `conjugate` that the conjugate of `other` counts.
    """
    views = precision.shape[1]
    couplings = np.zeros((3, views, views))
    add_couplings(precision, other, conjugate, moments, couplings)
    diagonal = np.arange(views)
    couplings[:, diagonal, diagonal] = 0.0
    couplings += np.swapaxes(couplings, 1, 2)
    couplings[:, diagonal, diagonal] = -couplings.sum(axis=2)
    return np.asarray(couplings[[0, 1, 1, 2]].reshape(2, 2, views, views).transpose(2, 0, 3, 1))


@dataclass(frozen=True, slots=True, eq=False)
class SettledPatches:
    """Displacements of every view of every patch, and their information.

    Attributes
    ----------
    moved
        `(patches, views, 2)` in the plane of the specimen, raw pixels.
    slopes
        `(patches, 2 views)` of the log-likelihood.
    stiffness
        `(2 views, 2 views)` curvature of minus the log-likelihood of a patch.
    """

    moved: Floats
    slopes: Floats
    stiffness: Floats

    def tempered(self, drift: Floats, shapes: Floats) -> tuple[Floats, Floats]:
        """Return the inverse covariance of a patch's displacements `(2 views, 2 views)`, and the gradients `(patches, 2 views)`.

        A real specimen is no random field, which shows in slow drifts along the series that differ from patch to patch by far more
        than the likelihood allows.  So every patch may drift along `shapes` `(2 views, shapes)` with the standard deviations `drift`
        `(shapes,)`.
        """
        allowed = (shapes * drift**2) @ shapes.T
        temper = np.linalg.inv(np.eye(len(allowed)) + self.stiffness @ allowed)
        information = temper @ self.stiffness
        return 0.5 * (information + information.T), self.slopes @ temper.T


def own_place(tilt: Floats) -> Floats:
    """Return how the views of a patch move with its own x, height and y, `(2 views, 3)`."""
    out = np.zeros((len(tilt), 2, 3))
    out[:, 0, 0], out[:, 0, 1], out[:, 1, 2] = 1.0, np.tan(tilt), 1.0
    return out.reshape(-1, 3)


def drift_shapes(tilt: Floats) -> Floats:
    """Return slow drifts of unit root mean square, `(2 views, shapes)`: polynomials of the tangent of the tilt.

    Along x degrees 0 and 1 are the patch's position and height; along y degree 0 is its position.
    """
    tangent = np.tan(tilt) / np.abs(np.tan(tilt)).max()
    basis = np.linalg.qr(np.vander(tangent, _DRIFT_DEGREES + 1, increasing=True))[0] * np.sqrt(len(tilt))
    along_x, along_y = basis[:, 2:], basis[:, 1:]
    out = np.zeros((len(tilt), 2, along_x.shape[1] + along_y.shape[1]))
    out[:, 0, : along_x.shape[1]] = along_x
    out[:, 1, along_x.shape[1] :] = along_y
    return out.reshape(2 * len(tilt), -1)


def measure_drift(residual: Floats, shapes: Floats) -> Floats:
    """Return the standard deviation of each drift over the patches, from residuals `(patches, views, 2)` of a rigid specimen."""
    amplitude = residual.reshape(len(residual), -1) @ shapes / (0.5 * len(shapes))
    return np.asarray(SD_OF_MEDIAN * np.median(np.abs(amplitude), axis=0))


def settle(comparisons: Sequence[Comparison], caution: float, unsettled_px: float) -> SettledPatches:
    """Return the displacements of all patches by a Newton step to the maximum of the likelihood.

    The curvature is the weighted mean of the expected one, with weight `caution`, and the observed one, which is exact but unstable
    while views are far from their places.  Soft modes are held at a small stiffness, and undetermined views stay within
    `unsettled_px`, raw pixels.  The observed one is not needed with a `caution` of 1.  A displacement common to all views is equivalent
    to another position of the patch and is held.
    """
    slopes = np.stack([each.slope for each in comparisons])
    views = slopes.shape[1]
    matrix = caution * _definite(_mean([each.expected for each in comparisons]))
    if caution < 1:
        matrix += (1 - caution) * _definite(_mean([each.curvature for each in comparisons if each.curvature is not None]))
    common = np.kron(np.ones((views, 1)), np.eye(2)) / np.sqrt(views)
    values, modes = np.linalg.eigh(0.5 * (matrix + matrix.T) + common @ common.T * np.trace(matrix) / len(matrix))
    slopes = slopes.reshape(len(slopes), -1)
    held = np.maximum(values, _WEAKEST * values[-1]) + 1 / (len(slopes) * unsettled_px**2)
    moved = slopes @ (modes / held) @ modes.T
    stiffness = (modes * np.maximum(values, _NOTHING * values[-1])) @ modes.T
    return SettledPatches(moved.reshape(len(slopes), views, 2), slopes, stiffness)


def _mean(curvatures: Sequence[Floats]) -> Floats:
    """Return the mean `(2 views, 2 views)` of curvatures."""
    return np.asarray(np.mean([each.reshape(2 * len(each), -1) for each in curvatures], axis=0))


def _definite(matrix: Floats) -> Floats:
    """Return the nearest positive semidefinite matrix."""
    values, modes = np.linalg.eigh(0.5 * (matrix + matrix.T))
    return np.asarray((modes * np.maximum(values, 0.0)) @ modes.T)
