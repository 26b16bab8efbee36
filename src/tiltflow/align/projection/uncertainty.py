"""The uncertainty of a markerless alignment, from the disagreement of independent parts of the field.

At the end of a fit the gradient of the likelihood, the sum of the contributions of the parts of the field, is zero; the scatter of
these contributions measures the uncertainty.  The covariance of the parameters is `H^-1 (sum of g_b g_b^T) H^-1` over the parts b
(the sandwich estimator of Huber 1967 and White 1982, doi:10.2307/1912526, valid also where the model is not exact).  What counts is
the displacement that blurs the reconstruction; a shift of the whole specimen in any direction does not.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.projection.lost_views import LOST
from tiltflow.align.projection.matching import PARAMETERS, MatchStep
from tiltflow.align.projection.posterior import FreeParameters, Posterior
from tiltflow.align.projection.projection_fit import ProjectionFit

Floats = NDArray[np.float64]

_RECOGNISED = 16.0
"""Least median peak height of the correlations of views with their predictions, standard deviations.  Noise that was moved to its
best place reaches 3 to 6, series that end a pixel or more off up to 14, dim but sound ones about 30 (benchmarks/verdicts.py)."""
_MOST_LOST = 0.1
"""Share of lost views up to which the others carry the alignment."""
_TILT_CHANGE_DEG = 1.0
"""Standard deviation of the refined minus the nominal tilts above which either is wrong: goniometers are good to a few tenths."""
_GRID = (-0.4, -0.2, 0.0, 0.2, 0.4)
"""Where displacements are evaluated, as fractions of the field: up to a tenth from its edge, as the edge is tapered."""


def trust_warnings(heights: Floats, error_px: float, tilt_change_deg: Floats, limit_px: float) -> tuple[str, ...]:
    """Return the trust warnings of an alignment without tracks; none for a sound one.

    Parameters
    ----------
    heights
        Peak height of each included view (:meth:`tiltflow.align.projection.matching.Matcher.heights`), `(views,)` standard deviations.
    error_px
        Estimated error of the alignment, raw pixels; NaN where there is no estimate.
    tilt_change_deg
        Refined minus nominal tilts, `(views,)`.
    limit_px
        Largest error without a warning, raw pixels.
    """
    found, scatter = [*unrecognised(heights)], float(np.std(tilt_change_deg))
    if np.isnan(error_px):
        found.append("projection matching did not improve on the coarse alignment, whose error is not known")
    elif error_px > limit_px:
        found.append(
            f"the estimated error, from the disagreement of parts of the field, is {error_px:.2f} px, more than {limit_px:g} px"
        )
    if scatter > _TILT_CHANGE_DEG:
        found.append(
            f"the refined tilts scatter by {scatter:.1f} degrees about the nominal ones: the angles or their order may be wrong"
        )
    return tuple(found)


def unrecognised(heights: Floats) -> tuple[str, ...]:
    """Return the trust warnings that views may be anywhere, so that no estimate of the error counts; `heights` as above."""
    found = []
    height, lost = float(np.median(heights)), int(np.count_nonzero(heights < LOST))
    if lost > _MOST_LOST * len(heights):
        found.append(f"{lost} of {len(heights)} views do not correlate with their predictions from the others")
    if height < _RECOGNISED:
        found.append(
            f"views correlate weakly with their predictions from the others: the median peak is {height:.1f} standard deviations high, "
            f"less than {_RECOGNISED:g}"
        )
    return tuple(found)


def expected_error_px(fit: ProjectionFit, step: MatchStep, free: FreeParameters) -> tuple[float, Floats]:
    """Return the estimated root mean square error of a fit, raw pixels, and that of each view, `(views,)`.

    Where parameters were held fixed, what they would change if they were free is an error too, as far as it exceeds their noise.

    Parameters
    ----------
    fit, step
        The fit, and its normal equations at the end.
    free
        The parameters that were refined.
    """
    squares = _variances(fit, fit.solve_posterior(step, free))
    every = replace(free, rotation=True, magnification=True, tilt=True)
    if every != free:
        wider = fit.solve_posterior(step, every)
        distances = np.sum(blurring(fit, wider.change[None]) ** 2, axis=(0, 3)).mean(axis=1)
        by_noise = np.maximum(_variances(fit, wider) - squares, 0.0)
        squares = squares + max(float(np.mean(distances - by_noise)), 0.0)
    return float(np.sqrt(squares.mean())) * fit.frame.pixel, np.sqrt(squares) * fit.frame.pixel


def _variances(fit: ProjectionFit, found: Posterior) -> Floats:
    """Return the variance of the blur of each view, `(views,)`, pixels of the frame squared."""
    values, vectors = np.linalg.eigh(found.covariance)
    modes = (found.design @ (vectors * np.sqrt(np.maximum(values, 0)))).T.reshape(len(values), -1, PARAMETERS)
    return np.asarray(np.sum(blurring(fit, modes) ** 2, axis=(0, 3)).mean(axis=1))


def specimen_points(field: tuple[float, float], thickness: float) -> Floats:
    """Return the points `(n, 3)` at which displacements are evaluated: over the field `(height, width)`, on both faces."""
    height, width = field
    x, y, z = np.meshgrid(np.array(_GRID) * width, np.array(_GRID) * height, [-thickness / 2, thickness / 2])
    return np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1)


def blurring(fit: ProjectionFit, changes: Floats) -> Floats:
    """Return how changes of the parameters, `(n, views, 6)`, blur points of the specimen, pixels of the frame.

    The displacements along u and v, `(n, views, points, 2)`, are the residuals after each point is put at its best position.
    """
    tilts = fit.where.tilts
    cosine, sine = np.cos(tilts)[:, None], np.sin(tilts)[:, None]
    x, y, z = specimen_points(fit.frame.field, fit.model.thickness).T
    in_place = x + z * np.tan(tilts)[:, None]
    dx, dy, turn, growth, tilt, _ = (changes[..., k, None] for k in range(PARAMETERS))
    along_u = cosine * (dx + growth * in_place) - turn * y + tilt * (z / cosine - in_place * sine)
    along_v = dy + turn * in_place * cosine + growth * y
    design = np.concatenate([cosine, sine], axis=1)
    along_u -= np.einsum("ij,njp->nip", design @ np.linalg.pinv(design), along_u)
    along_v -= along_v.mean(axis=1, keepdims=True)
    return np.stack([along_u, along_v], axis=-1)
