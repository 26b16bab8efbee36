"""Patch tracking: areas of texture followed through the tilt series, for specimens without gold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.errors import ParameterError
from tiltflow.model import Evidence, Progress, Stack, Tracks


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchParams:
    """How patches are laid out and compared.

    Attributes
    ----------
    size_px
        Patches along x and y, raw pixels (SizeOfPatchesXandY).
    overlap
        Fraction of a patch that it shares with its neighbour (OverlapOfPatchesXandY).
    low_pass, low_pass_sigma
        Where the low-pass filter begins to fall, and the sigma of its fall, cycles per raw pixel (FilterRadius2, FilterSigma2).
    high_pass_sigma
        Sigma of the Gaussian taken away at low frequencies, cycles per raw pixel (FilterSigma1).
    max_size_px
        Views are binned until their larger side is at most this.
    """

    size_px: tuple[int, int] = (300, 300)
    overlap: float = 0.33
    low_pass: float = 0.25
    low_pass_sigma: float = 0.05
    high_pass_sigma: float = 0.03
    max_size_px: int = 512

    def __post_init__(self) -> None:
        if min(self.size_px) < 32 or not 0 <= self.overlap < 0.9:
            raise ParameterError(
                f"Patches of {self.size_px} px with overlap {self.overlap} cannot be tracked: sides start at 32, overlap is 0 to 0.9"
            )


@dataclass(frozen=True, slots=True, eq=False)
class PatchResult:
    """Tracks of patches and how well they were followed.

    Attributes
    ----------
    tracks
        `(track, view, 2)` raw pixels with the inverse covariance of each position.
    correlation
        `(track, view)` correlation with what was expected there; NaN where not tracked.
    transforms, tilt_deg
        `(views, 2, 3)` and `(views,)`: the alignment that the last pass ended with.
    evidence
        Of that alignment.
    notes
        What was dropped, and why.
    """

    tracks: Tracks
    correlation: NDArray[np.float64]
    transforms: NDArray[np.float64]
    tilt_deg: NDArray[np.float64]
    evidence: Evidence
    notes: tuple[str, ...]


def track_patches(
    stack: Stack,
    transforms: ArrayLike,
    tilt_deg: ArrayLike,
    params: PatchParams,
    *,
    included: ArrayLike | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> PatchResult:
    """Follow patches through the views; `transforms` `(views, 2, 3)` is the coarse alignment, raw to aligned."""
    raise NotImplementedError
