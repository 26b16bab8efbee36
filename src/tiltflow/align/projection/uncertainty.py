"""How far off a fit of a tilt series may be, told by parts of the field that know nothing of each other.

At the end of a fit the gradient of the likelihood is zero, as the sum of what the parts of the field contribute; what each part
would move on its own is the fit's disagreement with itself.  The covariance of the parameters is `H^-1 (sum of g_b g_b^T) H^-1`
over the parts b (Huber's sandwich: right even where the model is not), and what matters of it is the displacement that blurs the
reconstruction: a shift of the whole specimen in any direction does not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.projection.matching import PARAMETERS, MatchStep
from tiltflow.align.projection.posterior import FreeParameters
from tiltflow.align.projection.projection_fit import ProjectionFit

Floats = NDArray[np.float64]

_RECOGNISED = 16.0
"""Least median height of the correlations of views with their predictions, standard deviations.  Views of noise that were moved to
where they fit reach 3 to 6, those of series that end a pixel or more off up to 14, of dim but sound ones about 30."""
_LOST = 6.0
"""A view that is not recognised may be anywhere."""
_MOST_LOST = 0.1
_TILT_CHANGE_DEG = 1.0
"""Angles that scatter by more about those of the header are wrong in the header, or wrong here."""
_GRID = (-0.4, -0.2, 0.0, 0.2, 0.4)
"""Where in the field displacements are looked at, as fractions of it."""


def trust_warnings(heights: Floats, error_px: float, tilt_change_deg: Floats, limit_px: float) -> tuple[str, ...]:
    """Return the reasons not to trust an alignment without tracks.

    Parameters
    ----------
    heights
        How clearly each view that takes part is recognised (:meth:`tiltflow.align.projection.matching.Matcher.heights`), `(views,)`.
    error_px
        What its error is expected to be, raw pixels; NaN where nothing tells.
    tilt_change_deg
        Refined minus nominal tilts, `(views,)`.
    limit_px
        Largest error that raises no doubt.
    """
    found = []
    height, scatter = float(np.median(heights)), float(np.std(tilt_change_deg))
    lost = len(lost_views(heights))
    if lost > _MOST_LOST * len(heights):
        found.append(f"{lost} of {len(heights)} views are not recognised by what the others predict")
    if height < _RECOGNISED:
        found.append(
            f"views are hardly recognised by what the others predict: {height:.1f} standard deviations above chance, "
            f"less than {_RECOGNISED:g}"
        )
    if np.isnan(error_px):
        found.append("matching views with each other found nothing better than the coarse alignment, whose error nothing measures")
    elif error_px > limit_px:
        found.append(f"parts of the field disagree by {error_px:.2f} px, more than {limit_px:g} px")
    if scatter > _TILT_CHANGE_DEG:
        found.append(
            f"the images want tilts that scatter by {scatter:.1f} degrees about those given: the angles or their order may be wrong"
        )
    return tuple(found)


def lost_views(heights: Floats) -> NDArray[np.intp]:
    """Return the views that may be anywhere; NaN for those that take no part."""
    return np.flatnonzero(heights < _LOST)


def expected_error_px(fit: ProjectionFit, step: MatchStep, free: FreeParameters) -> tuple[float, Floats]:
    """Return the root mean square displacement, raw pixels, that is to be expected of a fit, and that of each view.

    `step` are the normal equations at the end of the fit.
    """
    found = fit.solve_posterior(step, free)
    values, vectors = np.linalg.eigh(found.covariance)
    modes = (found.design @ (vectors * np.sqrt(np.maximum(values, 0)))).T.reshape(len(values), -1, PARAMETERS)
    squares = np.sum(blurring(fit, modes) ** 2, axis=(0, 3)).mean(axis=1)
    return float(np.sqrt(squares.mean())) * fit.frame.pixel, np.sqrt(squares) * fit.frame.pixel


def blurring(fit: ProjectionFit, changes: Floats) -> Floats:
    """Return how changes of the parameters, `(n, views, 6)`, displace points of the specimen, pixels of the frame.

    The displacements, `(n, views, points, 2)`, are those along u and v that are left when each point is put where it fits best.
    """
    tilts = fit.where.tilts
    cosine, sine = np.cos(tilts)[:, None], np.sin(tilts)[:, None]
    height, width = fit.frame.field
    depth = fit.slab.thickness / 2
    x, y, z = (g.ravel() for g in np.meshgrid(np.array(_GRID) * width, np.array(_GRID) * height, [-depth, depth]))
    in_place = x + z * np.tan(tilts)[:, None]
    dx, dy, turn, growth, tilt, _ = (changes[..., k, None] for k in range(PARAMETERS))
    along_u = cosine * (dx + growth * in_place) - turn * y + tilt * (z / cosine - in_place * sine)
    along_v = dy + turn * in_place * cosine + growth * y
    design = np.concatenate([cosine, sine], axis=1)
    along_u -= np.einsum("ij,njp->nip", design @ np.linalg.pinv(design), along_u)
    along_v -= along_v.mean(axis=1, keepdims=True)
    return np.stack([along_u, along_v], axis=-1)
