"""The adjustment itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tiltflow.model import Progress, Tracks
from tiltflow.stages.solve.params import SolveParams
from tiltflow.stages.solve.solution import Solution


def solve(
    tracks: Tracks,
    tilt_deg: ArrayLike,
    axis_angle_deg: float,
    params: SolveParams,
    *,
    image_shape: tuple[int, int],
    included: ArrayLike | None = None,
    start: ArrayLike | None = None,
    progress: Progress | None = None,
) -> Solution:
    """Return the geometry that explains the tracks best.

    Parameters
    ----------
    tracks
        Positions in raw pixels.
    tilt_deg, axis_angle_deg
        Nominal tilts, `(views,)`, and angle of the tilt axis.
    image_shape
        `(ny, nx)` of the raw images.
    included
        `(views,)` views to use; all by default.
    start
        A coarse alignment, `(views, 2, 3)`: it decides the origin along z, and places views that have no points.
    """
    raise NotImplementedError


_ = np
