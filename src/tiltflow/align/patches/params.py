"""Parameters and result of patch tracking."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow.errors import ParameterError
from tiltflow.model import Tracks

HIGH_PASS_SIGMAS = 4.0
"""Frequencies below this part of the high-pass filter's sigma are left out: its gain is 3 % there."""
_SMALLEST_PX = 32
"""Least side of a patch: two of the smallest windows."""
_MOST_OVERLAP = 0.9
"""With more, the number of patches grows without bound, and they hold no more information."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchParams:
    """How patches are laid out and compared.

    Views are whitened and frequencies weighted by the coherence of the views, so that the filters only set the range of frequencies.

    Attributes
    ----------
    size_px
        Patches along x and y, raw pixels (SizeOfPatchesXandY); made smaller where fewer than three fit along a side.
    overlap
        Fraction of a patch that it shares with its neighbour (OverlapOfPatchesXandY; IMOD's 0.33).
    low_pass, low_pass_sigma
        Frequencies above their sum are left out, cycles per raw pixel (FilterRadius2, FilterSigma2; IMOD's 0.25 and 0.05).
    high_pass_sigma
        Frequencies below a quarter of it are left out, cycles per raw pixel (FilterSigma1; IMOD's 0.03).
    max_size_px
        Views are binned until their larger side is at most this, for time and memory.
    passes
        Most passes with all frequencies, which take most of the time; fewer where the views stay in place.
    settled_px
        The passes end when the views move by less than this, raw pixels: well below the error of an alignment by patches, 0.1 to 0.2.
    """

    size_px: tuple[int, int] = (300, 300)
    overlap: float = 0.33
    low_pass: float = 0.25
    low_pass_sigma: float = 0.05
    high_pass_sigma: float = 0.03
    max_size_px: int = 512
    passes: int = 2
    settled_px: float = 0.02

    def __post_init__(self) -> None:
        if min(self.size_px) < _SMALLEST_PX or not 0 <= self.overlap < _MOST_OVERLAP:
            raise ParameterError(
                f"Patches of {self.size_px} px with overlap {self.overlap} cannot be tracked: sides start at {_SMALLEST_PX}, "
                f"the overlap lies between 0 and {_MOST_OVERLAP:g}"
            )
        if not 0 <= self.high_pass_sigma / HIGH_PASS_SIGMAS < self.low_pass:
            raise ParameterError(
                f"A filter from {self.high_pass_sigma} to {self.low_pass} cycles per pixel lets nothing pass: "
                "the high-pass filter must lie below the low-pass filter"
            )


@dataclass(frozen=True, slots=True, eq=False)
class PatchResult:
    """Tracks of patches and how well they were followed.

    Attributes
    ----------
    tracks
        `(track, view, 2)` raw pixels, with joint weights, as the errors of a patch are correlated from view to view.  The last track is
        the whole field, at its position by the coarse alignment.
    correlation
        `(track, view)` of each view of a patch with its prediction from all others; NaN where not tracked, and for the field.
    transforms, tilt_deg
        `(views, 2, 3)` and `(views,)`: the alignment of the last pass.
    depth_px
        Thickness of the specimen by the coherence of the patches, raw pixels.
    error_px, error_limit_px
        The estimated error of that alignment, and its upper limit with 95 % confidence, raw pixels.
    notes
        What was changed or dropped, and why.
    """

    tracks: Tracks
    correlation: NDArray[np.float64]
    transforms: NDArray[np.float64]
    tilt_deg: NDArray[np.float64]
    depth_px: float
    error_px: float
    error_limit_px: float
    notes: tuple[str, ...]
