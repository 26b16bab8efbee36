"""Alignment without tracks: every view is matched with what all the others say it must look like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.model import Progress, Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class RefineParams:
    """How far the refinement goes.

    Attributes
    ----------
    max_size_px
        Views are binned until their larger side is at most this.
    max_iterations
        At each resolution.
    thickness_px
        Thickness of the specimen, unbinned pixels; None to estimate it from the data.
    refine_rotation, refine_magnification, refine_tilt
        Which parameters of each view are refined beside its shift.
    """

    max_size_px: int = 512
    max_iterations: int = 8
    thickness_px: float | None = None
    refine_rotation: bool = True
    refine_magnification: bool = True
    refine_tilt: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class RefineResult:
    """A refined alignment and the evidence for it.

    Attributes
    ----------
    transforms
        `(views, 2, 3)`: raw to aligned coordinates, unbinned pixels.
    tilt_deg
        Refined tilts, `(views,)`.
    axis_angle_deg
        Mean angle of the tilt axis.
    correlation
        Of each view with its prediction from the others, `(views,)`; NaN for views left out.
    correlation_start
        The same for the alignment that was given.
    error_px
        What the method believes the error of its alignment to be, from two halves of the data that know nothing of each other.
    thickness_px
        Thickness of the specimen that explains the data best.
    iterations
        In all.
    improved
        Whether the result is better than the start; if not, the start is given back.
    notes
        Sentences that a user should read.
    """

    transforms: NDArray[np.float64]
    tilt_deg: NDArray[np.float64]
    axis_angle_deg: float
    correlation: NDArray[np.float64]
    correlation_start: NDArray[np.float64]
    error_px: float
    thickness_px: float
    iterations: int
    improved: bool
    notes: tuple[str, ...] = ()


def refine_by_projection(
    stack: Stack,
    start: ArrayLike,
    tilt_deg: ArrayLike,
    axis_angle_deg: float,
    included: ArrayLike | None = None,
    params: RefineParams | None = None,
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> RefineResult:
    """Refine an alignment, given as transforms `(views, 2, 3)`, by matching each view with its prediction from the others."""
    raise NotImplementedError
