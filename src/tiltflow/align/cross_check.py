"""The error of an alignment without tracks, measured against patches that are tracked independently of it.

The likelihood of projection matching knows the shifts of the views well, and the weak directions of the geometry badly: on simulated
series without gold its tilt axis was off by up to 3.6 degrees, with a standard error of 0.01 to 0.2 by the curvature of the likelihood,
because the profile of the specimen over depth, which is fitted too, takes up most of the difference.  A wrong axis moves a view at
tilt t by

    v = delta x (1 - cos t)

against the views near zero tilt, which no position of a point in space can undo: patches see it.  With D the distance between both
alignments over the specimen, and e the estimated error of the patches, the error is taken as sqrt(D^2 + e^2), as in
:mod:`tiltflow.align.audit`.  Where patches cannot be tracked, the axis is taken to be known to about a degree, or to no better than it
was moved away from the one that was told: in small fields it strayed by up to 3.7 degrees from right ones.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tiltflow import geometry
from tiltflow.align.points import left_over, seen_by
from tiltflow.align.projection.uncertainty import specimen_points
from tiltflow.model import Alignment
from tiltflow.observer import StageObserver

Floats = NDArray[np.float64]

AXIS_SD_DEG = 0.9
"""Standard deviation of the tilt axis angle found by projection matching, degrees: root mean square over twelve simulated series without
gold, plastic and cryo, but for one that began from a wrong axis (benchmarks/markerless.py)."""
_CHECKED_THICKNESS = 0.2
"""Thickness of the specimen over which alignments are compared, as a fraction of the field's smaller side: that of a thick section."""


def distance_px(one: Alignment, other: Alignment, image_shape: tuple[int, int], thickness_px: float) -> float:
    """Return the root mean square distance between two alignments of a series over the specimen, raw pixels.

    Points are compared after each is moved to its best position, so that origin, scale and hand of the tilt do not count.

    Parameters
    ----------
    one, other
        The alignments; views that either leaves out do not count.
    image_shape
        `(ny, nx)` of the raw views.
    thickness_px
        Of the specimen.
    """
    both = replace(one, included=one.included & other.included)
    apart = left_over(both, seen_by(other, specimen_points(image_shape, thickness_px)))[:, both.included]
    return float(np.sqrt(np.mean(np.sum(apart**2, axis=-1))))


def axis_error_px(
    alignment: Alignment, image_shape: tuple[int, int], thickness_px: float, axis_sd_deg: float = AXIS_SD_DEG
) -> float:
    """Return the error that an uncertain tilt axis alone makes, raw pixels; parameters as of :func:`distance_px`."""
    turned = np.einsum("ij,vjk->vik", geometry.rotation(axis_sd_deg), alignment.transforms)
    return distance_px(alignment, replace(alignment, transforms=turned), image_shape, thickness_px)


def unconfirmed_axis_sd_deg(found: Alignment, told_deg: float | None) -> float:
    """Return the standard deviation of a tilt axis angle that nothing but the images tells, degrees.

    Parameters
    ----------
    found
        The alignment.
    told_deg
        The angle that a source tells, which is mostly right; None where none does.
    """
    if told_deg is None:
        return AXIS_SD_DEG
    off = geometry.common_axis_angle(found.transforms[found.included]) - told_deg
    return max(AXIS_SD_DEG, abs((off + 90) % 180 - 90))


def check_by_patches(
    found: Alignment,
    patches: Alignment | None,
    image_shape: tuple[int, ...],
    limit_px: float,
    notes: StageObserver,
    told_deg: float | None = None,
) -> Alignment:
    """Return a markerless alignment with the error that patches measure; without patches, with that of an uncertain tilt axis.

    Parameters
    ----------
    found
        The alignment.
    patches
        Another of the same series, by patches; one with trust warnings measures nothing.
    image_shape
        `(ny, nx)` of the raw views.
    limit_px
        Largest error without a warning, raw pixels.
    notes
        Hears of the distance and of the reason.
    told_deg
        Angle of the tilt axis that a source tells; None where none does.
    """
    own_px, thickness = found.evidence.error_px, _CHECKED_THICKNESS * min(image_shape)
    shape = (image_shape[0], image_shape[1])
    if own_px is None or np.isnan(own_px):
        return found
    theirs_px = patches.evidence.error_px if patches is not None and not patches.evidence.trust_warnings else None
    if patches is None or theirs_px is None:
        axis_sd = unconfirmed_axis_sd_deg(found, told_deg)
        error_px = float(np.hypot(own_px, axis_error_px(found, shape, thickness, axis_sd)))
        said = f"no patches confirm the tilt axis, which may be off by {axis_sd:.2g} degrees"
    else:
        apart = distance_px(found, patches, shape, thickness)
        error_px = float(np.hypot(apart, theirs_px))
        notes.number("distance_from_patches", apart, "px")
        said = f"patches measure its error: it is {apart:.2f} px from them, and their own error is {theirs_px:.2f} px"
    notes.note(said)
    warnings = found.evidence.trust_warnings
    if error_px > limit_px >= own_px:
        warnings = (*warnings, f"{said}: {error_px:.2f} px in all, more than {limit_px:g} px")
    evidence = replace(found.evidence, error_px=error_px, trust_warnings=warnings, notes=(*found.evidence.notes, said))
    return replace(found, evidence=evidence)
