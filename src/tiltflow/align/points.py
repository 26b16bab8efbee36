"""Points of the specimen in the views of an alignment, and what an alignment leaves between the two."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow import geometry
from tiltflow.model import Alignment

Floats = NDArray[np.float64]


def seen_by(alignment: Alignment, points: ArrayLike) -> Floats:
    """Return where points `(points, 3)` of an alignment's volume are seen, `(points, views, 2)` raw pixels from the image centre."""
    views = geometry.project(points, alignment.tilt_deg)
    return np.asarray(geometry.apply(geometry.invert(alignment.transforms)[:, None], views).swapaxes(0, 1))


def left_over(alignment: Alignment, seen: ArrayLike) -> Floats:
    """Return what an alignment leaves between points and their best positions in its volume, `(points, views, 2)` aligned pixels.

    Parameters
    ----------
    alignment
        Any alignment of the series.
    seen
        Raw positions, `(points, views, 2)`, from the image centre; NaN where unseen.  Views that the alignment leaves out do not count.
    """
    positions = np.asarray(seen, float)
    known = ~np.isnan(positions[..., 0]) & alignment.included
    aligned = geometry.apply(alignment.transforms, np.where(known[..., None], positions, 0.0))
    tilts = np.deg2rad(alignment.tilt_deg)
    design = np.where(known[..., None], np.stack([np.cos(tilts), np.sin(tilts)], axis=-1), 0.0)
    x_z = np.einsum("pij,pvj,pv->pi", np.linalg.pinv(np.einsum("pvi,pvj->pij", design, design)), design, aligned[..., 0])
    y = np.einsum("pv,pv->p", known, aligned[..., 1]) / np.maximum(known.sum(axis=1), 1)
    out = aligned - np.stack([np.einsum("pvi,pi->pv", design, x_z), np.broadcast_to(y[:, None], known.shape)], axis=-1)
    return np.where(known[..., None], out, np.nan)
