"""Coarse alignment: every view correlated with its neighbours in tilt, from the zero-tilt view outward."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.model import Progress, Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class CoarseParams:
    """How views are correlated.  Defaults are those of IMOD's tiltxcorr command file where it has the parameter.

    Attributes
    ----------
    filter_sigma1
        High-pass filter: sigma of the Gaussian taken away at low frequencies, cycles per pixel of the binned image.
    filter_radius2, filter_sigma2
        Low-pass filter: where it begins to fall, and the sigma of its fall, cycles per pixel of the binned image.
    max_size_px
        Views are binned until their larger side is at most this.
    exclude_central_peak
        Whether to ignore the correlation peak that a fixed pattern makes at zero shift; None to decide from the data.
    find_axis
        Whether to estimate the angle of the tilt axis from the data and use it when it clearly disagrees with the header's.
    """

    filter_sigma1: float = 0.03
    filter_radius2: float = 0.25
    filter_sigma2: float = 0.05
    max_size_px: int = 512
    exclude_central_peak: bool | None = None
    find_axis: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class CoarseResult:
    """Where each view belongs, to about a pixel, and the evidence for it.

    Attributes
    ----------
    transforms
        `(views, 2, 3)`, global: raw to aligned coordinates, unbinned pixels.
    shifts_px
        Shift of each raw view that the transforms undo, `(views, 2)`.
    axis_angle_deg
        The angle of the tilt axis that was used.
    axis_angle_nominal_deg
        The one that was given.
    axis_angle_from_data_deg, axis_angle_error_deg
        The one that the data tell and its uncertainty; NaN when they do not tell.
    correlation
        Of each view with the neighbours it was placed by, `(views,)`; NaN for views left out.
    notes
        Sentences that a user should read.
    """

    transforms: NDArray[np.float64]
    shifts_px: NDArray[np.float64]
    axis_angle_deg: float
    axis_angle_nominal_deg: float
    axis_angle_from_data_deg: float
    axis_angle_error_deg: float
    correlation: NDArray[np.float64]
    notes: tuple[str, ...] = ()


def align_coarse(
    stack: Stack,
    tilt_deg: ArrayLike,
    axis_angle_deg: float,
    included: ArrayLike | None = None,
    params: CoarseParams | None = None,
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> CoarseResult:
    """Place every view by correlation with its neighbours, cosine-stretched to the same tilt."""
    raise NotImplementedError
