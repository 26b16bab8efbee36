"""Weighted back-projection of an aligned stack, section by section along the tilt axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.model import Progress, Stack

Sink = Callable[[int, NDArray[np.float32]], None]
"""Receives the first row y0 and a slab of sections `(rows, nz, nx)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconstructParams:
    """What the reconstruction shall be; defaults as IMOD's `tilt`.  Lengths are pixels of the raw images.

    Attributes
    ----------
    thickness
        Thickness of the volume (`THICKNESS`); divided by the binning, rounded down.
    binning
        Binning of the aligned stack relative to the raw images (`IMAGEBINNED`).
    radial_cutoff, radial_falloff
        End of the ramp and width of the fall beyond it, cycles per (binned) pixel (`RADIAL`).
    falloff_is_true_sigma
        The fall is `exp(-(f / s)² / 2)` instead of `exp(-(f / s)²)` (`FalloffIsTrueSigma`).
    hamming_start
        Frequency where a Hamming-like fall replaces the Gaussian one (`HammingLikeFilter`); None for none.
    fake_sirt_iterations
        Iterations of SIRT that the filter imitates (`FakeSIRTiterations`); 0 for the plain ramp.
    density_neighbours
        Intervals on each side over which the weight of a view by its angular spacing is averaged (`DENSWEIGHT`); 0 for none.
    log_offset
        Take the logarithm of grey values after adding this (`LOG`); None for linear data.
    scale_offset, scale_factor
        Grey values are written as `(value + offset) * factor` (`SCALE`); factor None for the one of IMOD's table by width.
    x_axis_tilt_deg
        Tilt of the specimen about x that is undone (`XAXISTILT`).
    offset_deg
        Added to every tilt angle (`OFFSET`).
    shift_x, shift_z
        Shift of the volume along x and z (`SHIFT`).
    axis_offset
        Distance of the tilt axis from the centre of the images along x (second value of `OFFSET`).
    width
        Width of the volume (`WIDTH`); None for that of the images.
    exclude_views
        Views left out, counted from 0 (`EXCLUDELIST`).
    mode
        MRC mode of the volume that the scaling is meant for (`MODE`): 0 bytes, 1 integers, 2 reals.
    """

    thickness: int
    binning: int = 1
    radial_cutoff: float = 0.35
    radial_falloff: float = 0.05
    falloff_is_true_sigma: bool = False
    hamming_start: float | None = None
    fake_sirt_iterations: int = 0
    density_neighbours: int = 2
    log_offset: float | None = None
    scale_offset: float = 0.0
    scale_factor: float | None = None
    x_axis_tilt_deg: float = 0.0
    offset_deg: float = 0.0
    shift_x: float = 0.0
    shift_z: float = 0.0
    axis_offset: float = 0.0
    width: int | None = None
    exclude_views: tuple[int, ...] = ()
    mode: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class ReconstructResult:
    """What was reconstructed, in numbers.

    Attributes
    ----------
    shape
        `(ny, nz, nx)`: sections run along the tilt axis.
    views
        Views that took part.
    voxel_views
        Voxels times views.
    seconds
        Time by phase, summed over threads.
    minimum, maximum, mean
        Of the grey values given to the sink.
    scale_factor
        The one used.
    """

    shape: tuple[int, int, int]
    views: int
    voxel_views: int
    minimum: float
    maximum: float
    mean: float
    scale_factor: float
    seconds: Mapping[str, float] = field(default_factory=dict)


def volume_shape(aligned_shape: tuple[int, ...], params: ReconstructParams) -> tuple[int, int, int]:
    """Return `(ny, nz, nx)` of the volume from an aligned stack `(views, ny, nx)`."""
    raise NotImplementedError


def reconstruct(
    aligned: Stack,
    tilt_deg: ArrayLike,
    params: ReconstructParams,
    *,
    included: ArrayLike | None = None,
    sink: Sink,
    threads: int = 1,
    progress: Progress | None = None,
) -> ReconstructResult:
    """Back-project an aligned stack and hand the volume to `sink`, slab by slab in the order of y."""
    raise NotImplementedError
