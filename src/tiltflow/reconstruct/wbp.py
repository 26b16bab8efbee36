"""Weighted back-projection of an aligned stack, slice by slice along the tilt axis.

Every line of a view across the tilt axis is padded, filtered (:mod:`tiltflow.reconstruct.radial_filters`), stretched
(:mod:`tiltflow.reconstruct.stretched_lines`) and back-projected over its slice:

    slice(z, x) = (mean over views of weight_v line_v(x cos t_v + z sin t_v) + offset) * factor

An x-axis tilt turns the volume about x by bilinear interpolation between slices.  Radermacher 1992 ("Weighted back-projection
methods") is the classic; the grey scale, the filter and the interpolation are those of IMOD's `tilt`, reproduced to the rounding.
The volume is made in the order of y, in slabs of a few slices, so that neither the stack nor the volume is ever held.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.errors import ParameterError
from tiltflow.kernels.backprojection import backproject, stretch_lines
from tiltflow.model import Alignment, LocalAlignment, Progress, Stack
from tiltflow.reconstruct.line_weighting import Weighting, chosen_views, filter_padded, read_lines, weigh
from tiltflow.reconstruct.local_cells import TOLERANCE_PX, CellBackprojector, distortion
from tiltflow.reconstruct.radial_filters import density_weights, padded_length, radial_filter
from tiltflow.reconstruct.stretched_lines import SliceGrid, stretched_lines
from tiltflow.reconstruct.volume_slabs import GREYS, Clock, Sink, SliceMaker, VolumeGrid, assemble

LINES_AT_ONCE = 16
"""Lines of all views that are filtered together: 61 views of 256 pixels take 1 MB, which stays in the second-level cache."""
_SCALE_WIDTH_PX, _MOST_SCALE, _LEAST_SCALE, _LINEAR_SCALE = 512, 1000.0, 40.0, 5000.0
"""Width of raw images up to which the scale is the greatest, the greatest and the least, and the divisor for linear data: those of
IMOD's copytomocoms and batchruntomo, whose table of widths is a hyperbola."""
_MOST_X_AXIS_TILT_DEG = 45.0
"""Greatest X-axis tilt: beyond it the volume would be made mostly of lines that it leaves after a few voxels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconstructParams:
    """How the volume is reconstructed; defaults as IMOD's `tilt` under batchruntomo.  Lengths are pixels of the raw images.

    Attributes
    ----------
    thickness
        Thickness of the volume (`THICKNESS`); divided by the binning, rounded down.
    binning
        Binning of the aligned stack relative to the raw images (`IMAGEBINNED`).
    radial_cutoff, radial_falloff
        End of the ramp and width of the fall-off beyond it, cycles per (binned) pixel (`RADIAL`).  A lower cutoff
        removes noise with detail: 0.18 leaves 8 % less of a phantom at 150 electrons unexplained.
    falloff_is_true_sigma
        The fall-off is `exp(-(f / s)² / 2)` instead of `exp(-(f / s)²)` (`FalloffIsTrueSigma`).
    hamming_start
        Frequency where a Hamming-like fall-off replaces the Gaussian one (`HammingLikeFilter`); None for none.
    fake_sirt_iterations
        Iterations of SIRT that the filter imitates (`FakeSIRTiterations`); 0 for the plain ramp.
    density_neighbours
        Intervals on each side over which the weight of a view by its angular spacing is averaged (`DENSWEIGHT`); 0 for none.  Evenly
        spaced series do not change.
    log_offset
        Take the decimal logarithm of grey values after adding this (`LOG`); None for linear data.
    scale_offset, scale_factor
        Grey values are written as `(value + offset) * factor` (`SCALE`); factor None for :func:`default_scale_factor`.
    x_axis_tilt_deg
        `XAXISTILT`: the volume is turned about x by this angle, which is minus the pitch of the specimen; degrees.
    offset_deg
        Added to every tilt angle (`OFFSET`).
    axis_offset
        Distance of the tilt axis from the centre of the images, along x (second value of `OFFSET`).
    shift_x, shift_z
        Shift of the specimen within the volume, to higher columns and rows of a slice (`SHIFT`).
    width
        Width of the volume (`WIDTH`); None for that of the images.
    exclude_views
        Views left out, counted from 0 (`EXCLUDELIST`).
    mode
        MRC mode of the volume (`MODE`): 0 unsigned bytes, 1 integers, 2 reals; None for 1, unless the type of the data is known.
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
    axis_offset: float = 0.0
    shift_x: float = 0.0
    shift_z: float = 0.0
    width: int | None = None
    exclude_views: tuple[int, ...] = ()
    mode: int | None = None

    def __post_init__(self) -> None:
        if self.binning < 1 or self.thickness < self.binning:
            raise ParameterError(
                f"thickness {self.thickness} at binning {self.binning} leaves no volume: give raw pixels, at least the binning"
            )
        if self.mode is not None and self.mode not in GREYS:
            raise ParameterError(f"mode {self.mode} of the volume: give 0 (bytes), 1 (integers) or 2 (reals)")
        if abs(self.x_axis_tilt_deg) > _MOST_X_AXIS_TILT_DEG:
            raise ParameterError(
                f"X-axis tilt of {self.x_axis_tilt_deg:g} degrees: it must be within {_MOST_X_AXIS_TILT_DEG:g} degrees"
            )

    @property
    def grey_mode(self) -> int:
        """The mode with its default."""
        return 1 if self.mode is None else self.mode


def follow_alignment(params: ReconstructParams, alignment: Alignment) -> ReconstructParams:
    """Return the parameters with the X-axis tilt, z shift and thickness that an alignment carries."""
    return replace(
        params,
        x_axis_tilt_deg=params.x_axis_tilt_deg + alignment.x_axis_tilt_deg,
        shift_z=params.shift_z + alignment.z_shift,
        thickness=params.thickness if alignment.thickness is None else alignment.thickness,
    )


@dataclass(frozen=True, slots=True, eq=False)
class ReconstructResult:
    """The statistics of a reconstruction.

    Attributes
    ----------
    shape
        `(ny, nz, nx)`: slices run along the tilt axis.
    views
        Views that took part.
    voxel_views
        Voxels times views.
    minimum, maximum, mean
        Of the grey values, before rounding.
    scale_factor
        By which grey values were multiplied.
    seconds
        CPU time by phase: `read`, `filter`, `stretch`, `back-project`, `turn`, `round`, `write`.
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
    nx = aligned_shape[-1] if params.width is None else params.width // params.binning
    return aligned_shape[-2], params.thickness // params.binning, nx


def default_scale_factor(width: int, *, logarithm: bool) -> float:
    """Return the factor of `SCALE` for raw images of `width` pixels.

    The ramp counts frequencies, so that grey values grow with the width.  The factor compensates for it, between 1000 for images up
    to 512 pixels and 40, and is divided by 5000 for linear data, as in IMOD's copytomocoms and batchruntomo.
    """
    factor = float(np.clip(_MOST_SCALE * _SCALE_WIDTH_PX / width, _LEAST_SCALE, _MOST_SCALE))
    return factor if logarithm else factor / _LINEAR_SCALE


def scale_factor(aligned_shape: tuple[int, ...], params: ReconstructParams) -> float:
    """Return the factor that grey values are multiplied by: the one given, or :func:`default_scale_factor`."""
    if params.scale_factor is not None:
        return params.scale_factor
    return default_scale_factor(aligned_shape[-1] * params.binning, logarithm=params.log_offset is not None)


def reconstruct(
    aligned: Stack,
    tilt_deg: ArrayLike,
    params: ReconstructParams,
    *,
    included: ArrayLike | None = None,
    local: LocalAlignment | None = None,
    y_per_z: ArrayLike | None = None,
    sink: Sink,
    threads: int = 1,
    progress: Progress | None = None,
) -> ReconstructResult:
    """Back-project an aligned stack and hand the volume to `sink`, slab by slab in the order of y.

    Parameters
    ----------
    aligned
        `(views, ny, nx)`, the tilt axis along y; only the rows of a slab are read at a time.
    tilt_deg
        `(views,)`, degrees.
    params
        Filter, scale, and place of the volume.
    included
        `(views,)`: which views take part; None for all.
    local
        Local alignments on top of that of the stack; of all views, pixels of the raw images.
    y_per_z
        `(views,)`: displacement along y in the aligned view for each pixel of height.
    sink
        Receives slabs of the type that the mode asks for.
    threads
        Slabs made at the same time.
    progress
        Called with the fraction done.

    Returns
    -------
    ReconstructResult
        Shape and grey values of the volume.

    Raises
    ------
    ParameterError
        If tilt angles or inclusions do not match the views, or a view is too steep.
    """
    weighting = weigh_views(aligned, tilt_deg, params, included)
    grid = volume_grid(aligned.shape, params)
    axis = axis_position(aligned.shape, params)
    maker: SliceMaker
    if local is None and not z_factors_matter(y_per_z, weighting.views, params):
        maker = Backprojector(aligned, weighting, grid, axis)
    else:
        skew = None if y_per_z is None else np.asarray(y_per_z, np.float64)
        seen = distortion(local, skew, weighting.views, weighting.tilt_deg, params.binning)
        maker = CellBackprojector(aligned, weighting, grid, axis, seen)
    made = assemble(maker, grid, params.grey_mode, sink, threads=threads, progress=progress)
    shape = volume_shape(aligned.shape, params)
    return ReconstructResult(
        shape=shape,
        views=len(weighting.views),
        voxel_views=shape[0] * shape[1] * shape[2] * len(weighting.views),
        minimum=made.minimum,
        maximum=made.maximum,
        mean=made.mean,
        scale_factor=scale_factor(aligned.shape, params),
        seconds=made.seconds,
    )


def z_factors_matter(y_per_z: ArrayLike | None, views: NDArray[np.int64], params: ReconstructParams) -> bool:
    """Return whether heights are displaced along y by more than a tenth of a pixel at the top or the bottom of the volume."""
    if y_per_z is None:
        return False
    height = (params.thickness / 2 + abs(params.shift_z)) / params.binning
    return bool(np.abs(np.asarray(y_per_z, np.float64)[views]).max() * height > TOLERANCE_PX)


def volume_grid(aligned_shape: tuple[int, ...], params: ReconstructParams) -> VolumeGrid:
    """Return the voxels of the volume of an aligned stack `(views, ny, nx)`, and where they lie in the specimen."""
    ny, nz, nx = volume_shape(aligned_shape, params)
    xz = SliceGrid(nx, nz, -params.shift_x / params.binning, params.shift_z / params.binning)
    return VolumeGrid(ny, xz, -params.x_axis_tilt_deg)


def axis_position(aligned_shape: tuple[int, ...], params: ReconstructParams) -> float:
    """Return where the tilt axis crosses the lines of the views, pixels from their beginning."""
    return aligned_shape[-1] / 2 + params.axis_offset / params.binning


def weigh_views(aligned: Stack, tilt_deg: ArrayLike, params: ReconstructParams, included: ArrayLike | None = None) -> Weighting:
    """Return the views that take part, and the filter, weight and fill of each."""
    views = chosen_views(aligned.shape[0], included, params.exclude_views)
    tilt = np.asarray(tilt_deg, np.float64)
    if tilt.shape != (aligned.shape[0],):
        raise ParameterError(f"{tilt.size} tilt angles for {aligned.shape[0]} aligned views: there must be one a view")
    factor = scale_factor(aligned.shape, params)
    radial = radial_filter(
        padded_length(aligned.shape[2]),
        cutoff=params.radial_cutoff,
        falloff=params.radial_falloff,
        true_sigma=params.falloff_is_true_sigma,
        hamming_start=params.hamming_start,
        sirt_iterations=params.fake_sirt_iterations,
    )
    tilt = tilt[views] + params.offset_deg
    share = density_weights(tilt, params.density_neighbours) * factor / len(views)
    return weigh(aligned, views, tilt, share, radial, log_offset=params.log_offset, base=params.scale_offset * factor)


class Backprojector:
    """Makes slices of lines by weighted back-projection.

    Parameters
    ----------
    axis_px
        Where the tilt axis crosses the lines, pixels from their beginning.
    """

    def __init__(self, aligned: Stack, weighting: Weighting, grid: VolumeGrid, axis_px: float) -> None:
        self._aligned, self._weighting = aligned, weighting
        self._top = grid.whole.z_first
        self._samples = stretched_lines(weighting.tilt_deg, aligned.shape[2], grid.whole, axis_px)
        shape = grid.line_nz, grid.xz.nx
        lines = LINES_AT_ONCE, len(weighting.views), padded_length(aligned.shape[2])
        self._scratch = _Scratch(lines, self._samples.length, shape)

    @property
    def outside(self) -> float:
        """Grey value of voxels that no view sees."""
        return self._weighting.base + float(self._weighting.fill.sum())

    def slices(self, y0: int, tops: NDArray[np.float64], clock: Clock) -> Iterator[NDArray[np.float32]]:
        """Yield the slice of each line from y0 on."""
        for first in range(0, len(tops), LINES_AT_ONCE):
            yield from self._few_slices(y0 + first, tops[first : first + LINES_AT_ONCE], clock)

    def _few_slices(self, y0: int, tops: NDArray[np.float64], clock: Clock) -> Iterator[NDArray[np.float32]]:
        """Yield the slice of each line; lines stay in the cache from being read to being back-projected."""
        s, w, scratch = self._samples, self._weighting, self._scratch
        width = self._aligned.shape[2]
        by_row = scratch.lines[: len(tops)]
        lines = by_row.transpose(1, 0, 2)
        read_lines(self._aligned, w, y0, y0 + len(tops), out=lines[..., :width])
        clock.lap("read")
        filter_padded(lines, width, w.weights)
        clock.lap("filter")
        for line, top in zip(by_row[..., :width], tops, strict=True):
            stretch_lines(line, s.even, s.odd, s.count, s.inside, s.pixel, s.fraction, w.fill, scratch.stretched)
            clock.lap("stretch")
            shift = s.shift + s.slope * (self._top - top)
            backproject(scratch.stretched, s.even, s.odd, shift, s.slope, np.float32(w.base), scratch.xz)
            clock.lap("back-project")
            yield scratch.xz


class _Scratch(threading.local):
    """Arrays that each thread makes once and uses for all of its slabs: fresh memory costs as much as what is done in it.

    Attributes
    ----------
    lines
        `(rows, views, padded length)`.
    stretched
        The samples of one line of all views.
    xz
        The slice, `(nz, nx)`.
    """

    def __init__(self, lines: tuple[int, int, int], samples: int, shape: tuple[int, int]) -> None:
        self.lines, self.stretched = np.empty(lines, np.float32), np.empty(samples, np.float32)
        self.xz = np.empty(shape, np.float32)
