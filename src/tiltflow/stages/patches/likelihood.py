"""How patches are displaced: the likelihood of all views of a patch together.

The transforms a of a patch in all views are, where only chance and the specimen speak, normal with the covariance K of
:mod:`coherence`.  If the views are displaced by d, the log-likelihood is -a' K^-1 a with a_i -> a_i exp(2 pi i q d_i) summed over the
frequencies q.  Its slope at d = 0 compares every view with what all the others foretell of it (the best linear prediction, weighted by
what each knows at this frequency); its curvature joins the views like springs, strong between neighbours and weak between
far ones.  So one step of Newton gives the displacement of every view of a patch together with how certain it is - and a slow drift
along the series, which a chain of neighbours cannot exclude, is known to be uncertain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow.stages.patches.spectra import Cells

Floats = NDArray[np.float64]

_WEAKEST = 2e-4
"""Smallest stiffness of a mode, as a fraction of the stiffest."""
_DRIFT_DEGREES = 6
_SD_OF_MEDIAN = 1.4826


@dataclass(frozen=True, slots=True, eq=False)
class Displacements:
    """What the views of every patch say.

    Attributes
    ----------
    slope
        `(patches, views, 2)` of the log-likelihood by displacement in the plane of the specimen, raw pixels.
    curvature
        `(views, 2, views, 2)` of minus the log-likelihood, the mean over the patches.
    expected
        The same as the model expects it once all views are in place.
    agreement
        `(patches, views)` correlation of each view with what the others foretell of it, where they can.
    """

    slope: Floats
    curvature: Floats
    expected: Floats
    agreement: Floats


def compare(
    spectra: NDArray[np.complex64],
    cross: NDArray[np.complex128],
    believed: NDArray[np.complex128],
    settled: NDArray[np.complex128],
    cells: Cells,
    independent: float,
) -> Displacements:
    """Return slopes and curvature.

    Parameters
    ----------
    spectra
        `(views, cells, patches)`.
    cross
        `(bins, views, views)` from :func:`coherence.cross_spectra`.
    believed, settled
        `(twins, views, views)`: K as it is now, with views that may be displaced, and as it will be without.
    independent
        Fraction of the cells that are independent.
    """
    views, _, patches = spectra.shape
    diagonal = np.arange(views)
    precision = np.linalg.inv(believed)
    off = precision.astype(np.complex64)
    off[:, diagonal, diagonal] = 0
    slope = np.zeros((patches, views, 2))
    product, found, foretold = (np.zeros((views, patches)) for _ in range(3))
    springs, expected = np.zeros((views, views, 3)), np.zeros((views, views, 3))
    scale = 2 * independent
    for b in range(cells.bins):
        part = slice(cells.start[b], cells.start[b + 1])
        a = spectra[:, part]
        pull = (off[cells.twin[b]] @ a.reshape(views, -1)).reshape(a.shape)
        q = 2 * np.pi * np.stack([cells.x[part], cells.y[part]])
        joined = a.conj() * pull
        slope -= scale * np.einsum("aq,vqp->pva", q, joined.imag)
        own = precision[cells.twin[b], diagonal, diagonal].real[:, None]
        known = 1 - 1 / own
        product -= known * joined.real.sum(axis=1) / own
        found += known * (np.abs(a) ** 2).sum(axis=1)
        foretold += known * (np.abs(pull) ** 2).sum(axis=1) / own**2
        count = a.shape[1]
        moments = np.array([(q[0] ** 2).sum(), (q[0] * q[1]).sum(), (q[1] ** 2).sum()]) / count
        # conj(a_i) M_ik a_k: what joins views i and k.
        twin = cells.twin[b]
        springs += scale * count * moments * (precision[twin] * cross[b]).real[..., None]
        expected += scale * count * moments * (precision[twin] * settled[twin].T).real[..., None]
    agreement = product / np.sqrt(np.maximum(found * foretold, 1e-30))
    return Displacements(slope, _stiffness(springs), _stiffness(expected), agreement.T)


def _stiffness(springs: Floats) -> Floats:
    """Return `(views, 2, views, 2)` from springs xx, xy, yy `(views, views, 3)`: no force when all views move together."""
    views = len(springs)
    diagonal = np.arange(views)
    joined = springs.copy()
    joined[diagonal, diagonal] = 0.0
    joined[diagonal, diagonal] = -joined.sum(axis=1)
    return np.asarray(joined[..., [0, 1, 1, 2]].reshape(views, views, 2, 2).transpose(0, 2, 1, 3))


@dataclass(frozen=True, slots=True, eq=False)
class Settled:
    """Displacements of every view of every patch, and how certain they are.

    Attributes
    ----------
    moved
        `(patches, views, 2)` in the plane of the specimen, raw pixels.
    covariance
        `(2 views, 2 views)` of the displacements of a patch, as the likelihood has it.
    alive
        `(2 views,)` whether a view has anything to say.
    """

    moved: Floats
    covariance: Floats
    alive: NDArray[np.bool_]

    def information(self, drift: Floats, shapes: Floats) -> Floats:
        """Return the inverse covariance of the displacements of a patch, `(views, 2, views, 2)`.

        The likelihood knows nothing of what makes a real specimen differ from chance, which shows in slow drifts along the series:
        they stray from patch to patch by far more than they should.  So every patch is allowed to drift along `shapes`
        `(2 views, shapes)` by the standard deviations `drift` `(shapes,)`.
        """
        keep = self.alive
        wider = self.covariance + (shapes * drift**2) @ shapes.T
        out = np.zeros_like(wider)
        out[np.ix_(keep, keep)] = np.linalg.inv(wider[np.ix_(keep, keep)])
        views = len(keep) // 2
        return np.asarray(out.reshape(views, 2, views, 2))


def drift_shapes(tilt: Floats) -> Floats:
    """Return slow drifts of unit root mean square, `(2 views, shapes)`: polynomials of the tangent of the tilt.

    Along x the first two degrees are the patch's place and height; along y the first is its place.
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
    return np.asarray(_SD_OF_MEDIAN * np.median(np.abs(amplitude), axis=0))


def settle(displacements: Displacements, caution: float, unsettled_px: float) -> Settled:
    """Return the displacements at the top of the likelihood.

    The curvature is `caution` parts the expected one and the rest the one that was found, which is exact but, with views far from their
    places, may be unstable.  Modes that are soft are held at a small stiffness, and where the data say nothing a view stays within
    `unsettled_px`.  A displacement common to all views is a mere matter of where the patch is said to lie: it is given a stiffness.
    """
    views = displacements.slope.shape[1]
    found, expected = displacements.curvature.reshape(2 * views, -1), displacements.expected.reshape(2 * views, -1)
    matrix = (1 - caution) * _definite(found) + caution * _definite(expected)
    common = np.kron(np.ones((views, 1)), np.eye(2)) / np.sqrt(views)
    alive = np.repeat(np.abs(displacements.slope).sum(axis=(0, 2)) > 0, 2)
    values, modes = np.linalg.eigh(0.5 * (matrix + matrix.T) + common @ common.T * np.trace(matrix) / len(matrix))
    slopes = displacements.slope.reshape(len(displacements.slope), -1)
    values = np.maximum(values, _WEAKEST * values[-1]) + 1 / (len(slopes) * unsettled_px**2)
    covariance = (modes / values) @ modes.T
    return Settled((slopes @ covariance).reshape(displacements.slope.shape), covariance, alive)


def _definite(matrix: Floats) -> Floats:
    """Return the nearest positive semidefinite matrix."""
    values, modes = np.linalg.eigh(0.5 * (matrix + matrix.T))
    return np.asarray((modes * np.maximum(values, 0.0)) @ modes.T)
