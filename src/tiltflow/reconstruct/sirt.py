"""SIRT: the volume whose projections match the views, by repeated back-projection of the differences.

    x <- x + relaxation C A' F R (b - A x)

A projects a slice onto the lines of the views, A' is its exact transpose (:mod:`tiltflow.kernels.projection`), R and C are one
over the row and column sums of A, and F is a low-pass: Gilbert 1972, doi:10.1016/0022-5193(72)90180-4; Gregor and Benson 2008,
doi:10.1109/TMI.2008.923696.  Each line of the views is solved on its own, so that memory does not grow with the volume.

The mean of every view is subtracted before, and the level and grey scale of weighted back-projection are restored after, so that
volumes by the two methods can be compared voxel by voxel.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.errors import ParameterError
from tiltflow.kernels.backprojection import backproject, stretch_lines
from tiltflow.kernels.projection import project, relax_lines
from tiltflow.model import Progress, Stack
from tiltflow.reconstruct.line_weighting import Weighting, filter_lines, read_lines
from tiltflow.reconstruct.radial_filters import low_pass, padded_length
from tiltflow.reconstruct.stretched_lines import StretchedLines, stretched_lines
from tiltflow.reconstruct.volume_slabs import Clock, Sink, VolumeGrid, assemble
from tiltflow.reconstruct.wbp import (
    ReconstructParams,
    axis_position,
    scale_factor,
    volume_grid,
    volume_shape,
    weigh_views,
)

Lines = NDArray[np.float32]

_MEAN_ROWS = 64
"""Rows of the stack of which at least so many are averaged for the mean of a view; nothing changes by 0.1 % from 32 to 128."""
_LEAST_SEEN = 1e-3
"""Sum of a row or column of A, over the largest, below which a ray or voxel is not corrected: one that only grazes the slice, and
whose correction would be that many times its share.  Nothing changes by 0.1 % from 0.0005 to 0.002."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SirtParams:
    """How the iterations are made; defaults as IMOD's `sirtsetup`.

    Attributes
    ----------
    iterations
        Number of iterations (`LeaveIterations`, 10).  6 to 15 are best at low dose, 45 at 400 electrons (`benchmarks/sirt.py`); at 150
        electrons 20 are as good as 10, and 5 leave 5 % more of the phantom unexplained (`benchmarks/sensitivity_volume.py`).
    relaxation
        Fraction of each correction that is applied, between 0 and 2.  1 is Gilbert's; half of it needs twice the iterations.
    start
        From zero, or from the weighted back-projection.
    radial_cutoff, radial_sigma
        Low-pass of the corrections: cutoff, and standard deviation of the Gaussian fall-off beyond, cycles per pixel
        (`RadiusAndSigma`, 0.4 and 0.05).  From half to double, what is unexplained changes by 1.3 %.
    """

    iterations: int = 10
    relaxation: float = 1.0
    start: Literal["zero", "back-projection"] = "zero"
    radial_cutoff: float = 0.4
    radial_sigma: float = 0.05

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ParameterError(f"{self.iterations} iterations of SIRT: it must be 1 or more")
        if not 0 < self.relaxation < 2:
            raise ParameterError(f"relaxation {self.relaxation:g} of SIRT: it converges between 0 and 2 only")


@dataclass(frozen=True, slots=True, eq=False)
class SirtResult:
    """The statistics of a reconstruction.

    Attributes
    ----------
    shape
        `(ny, nz, nx)`: slices run along the tilt axis.
    views
        Views that took part.
    residual_rms
        The rms difference of views and projections, in grey values of the views, before each iteration and after the last.
    minimum, maximum, mean
        Of the grey values, before rounding.
    scale_factor
        By which densities were multiplied.
    seconds
        CPU time by phase.
    """

    shape: tuple[int, int, int]
    views: int
    residual_rms: tuple[float, ...]
    minimum: float
    maximum: float
    mean: float
    scale_factor: float
    seconds: Mapping[str, float] = field(default_factory=dict)


def reconstruct_sirt(
    aligned: Stack,
    tilt_deg: ArrayLike,
    params: ReconstructParams,
    sirt: SirtParams,
    *,
    included: ArrayLike | None = None,
    sink: Sink,
    threads: int = 1,
    progress: Progress | None = None,
) -> SirtResult:
    """Reconstruct by SIRT and hand the volume to `sink`, slab by slab in the order of y.

    Parameters
    ----------
    aligned
        `(views, ny, nx)`, the tilt axis along y; only the rows of a slab are read at a time.
    tilt_deg
        `(views,)`, degrees.
    params
        As for :func:`tiltflow.reconstruct.wbp.reconstruct`; the radial filter is used by a start from the back-projection only.
    sirt
        Iterations, relaxation, start and low-pass.
    included
        `(views,)`: which views take part; None for all.
    sink
        Receives slabs of the type that the mode asks for.
    threads
        Slabs made at the same time.
    progress
        Called with the fraction done.

    Raises
    ------
    ParameterError
        If tilt angles or inclusions do not match the views, or a view is too steep.
    """
    weighting = weigh_views(aligned, tilt_deg, params, included)
    grid = volume_grid(aligned.shape, params)
    factor = scale_factor(aligned.shape, params)
    maker = _Solver(aligned, weighting, grid, axis_position(aligned.shape, params), factor, sirt)
    made = assemble(maker, grid, params.grey_mode, sink, threads=threads, progress=progress)
    return SirtResult(
        shape=volume_shape(aligned.shape, params),
        views=len(weighting.views),
        residual_rms=maker.residual_rms(),
        minimum=made.minimum,
        maximum=made.maximum,
        mean=made.mean,
        scale_factor=factor,
        seconds=made.seconds,
    )


class _Solver:
    """Makes the slices of lines by SIRT."""

    def __init__(
        self, aligned: Stack, weighting: Weighting, grid: VolumeGrid, axis_px: float, factor: float, params: SirtParams
    ) -> None:
        self._aligned, self._weighting, self._params = aligned, weighting, params
        self._width = aligned.shape[2]
        self._top, self._shape = grid.whole.z_first, (grid.line_nz, grid.xz.nx)
        self._samples = stretched_lines(weighting.tilt_deg, self._width, grid.whole, axis_px)
        length = padded_length(self._width)
        self._gain = _grey_values_per_density(weighting.tilt_deg, factor, length)
        self._low_pass = np.broadcast_to(
            low_pass(length, params.radial_cutoff, params.radial_sigma).astype(np.float32), weighting.weights.shape
        )
        self._ramp = weighting.weights / np.float32(self._gain)
        self._means = self._view_means()
        self._lock = threading.Lock()
        self._squares, self._pixels = np.zeros(params.iterations + 1), 0

    @property
    def outside(self) -> float:
        """Grey value of voxels that no view sees."""
        return self._weighting.base + float(self._weighting.fill.sum())

    def residual_rms(self) -> tuple[float, ...]:
        """Return the rms difference of views and projections before each iteration and after the last."""
        return tuple(np.sqrt(self._squares / max(self._pixels, 1)).tolist())

    def _view_means(self) -> Lines:
        every = max(self._aligned.shape[1] // _MEAN_ROWS, 1)
        rows = range(0, self._aligned.shape[1], every)
        means = [read_lines(self._aligned, self._weighting, y, y + 1).mean(axis=(1, 2), dtype=np.float64) for y in rows]
        return np.asarray(np.mean(means, axis=0), np.float32)

    def slices(self, y0: int, tops: NDArray[np.float64], clock: Clock) -> Iterator[NDArray[np.float32]]:
        """Yield the slice of each line from y0 on."""
        views = read_lines(self._aligned, self._weighting, y0, y0 + len(tops)) - self._means[:, None, None]
        clock.lap("read")
        rays: _Rays | None = None
        for j, top in enumerate(tops):
            if rays is None or rays.top != top:
                rays = _Rays(self._samples, self._width, self._shape, top, self._samples.slope * (self._top - top))
            xz = self._solve(np.ascontiguousarray(views[:, j]), rays)
            clock.lap("iterate")
            xz *= np.float32(self._gain)
            xz += np.float32(self.outside)
            yield xz

    def _solve(self, views: Lines, rays: _Rays) -> NDArray[np.float32]:
        xz = np.zeros(self._shape, np.float32)
        if self._params.start == "back-projection":
            rays.back_project(self._filtered(views, self._ramp), xz)
        correction = np.empty(self._shape, np.float32)
        squares = []
        for _ in range(self._params.iterations):
            difference = views - rays.project(xz)
            squares.append(float((difference**2).sum(dtype=np.float64)))
            difference *= rays.per_ray
            rays.back_project(self._filtered(difference, self._low_pass), correction)
            correction *= rays.per_voxel
            correction *= np.float32(self._params.relaxation)
            xz += correction
        squares.append(float(((views - rays.project(xz)) ** 2).sum(dtype=np.float64)))
        with self._lock:
            self._squares += squares
            self._pixels += views.size
        return xz

    @staticmethod
    def _filtered(lines: Lines, weights: Lines) -> Lines:
        return filter_lines(lines[:, None], weights)[:, 0]


class _Rays:
    """The projection of XZ slices whose first row is at one height, its transpose, and the inverse row and column sums."""

    def __init__(
        self, samples: StretchedLines, width: int, shape: tuple[int, int], top: float, lowered: NDArray[np.float64]
    ) -> None:
        self.top = top
        self._samples, self._shift = samples, samples.shift + lowered
        self._stretched = np.empty(samples.length, np.float32)
        self._lines = np.empty((len(samples.shift), width), np.float32)
        self._zero = np.zeros(len(samples.shift), np.float32)
        self.per_ray = _inverse(self.project(np.ones(shape, np.float32)))
        column = np.empty(shape, np.float32)
        self.back_project(np.ones_like(self._lines), column)
        self.per_voxel = _inverse(column)

    def project(self, xz: NDArray[np.float32]) -> Lines:
        """Return the projections, `(views, width)`; the array is reused by the next call."""
        s = self._samples
        project(xz, s.even, s.odd, self._shift, s.slope, self._stretched)
        relax_lines(self._stretched, s.even, s.odd, s.inside, s.pixel, s.fraction, self._lines)
        return self._lines

    def back_project(self, lines: Lines, out: NDArray[np.float32]) -> None:
        """Write the sum over the views of their lines, back-projected, to `out` `(z, x)`."""
        s = self._samples
        stretch_lines(lines, s.even, s.odd, s.count, s.inside, s.pixel, s.fraction, self._zero, self._stretched)
        backproject(self._stretched, s.even, s.odd, self._shift, s.slope, np.float32(0), out)


def _inverse(sums: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return one over sums, and 0 where they are below :data:`_LEAST_SEEN` of the largest."""
    seen = sums > _LEAST_SEEN * sums.max()
    return np.where(seen, 1 / np.where(seen, sums, 1), 0).astype(np.float32)


def _grey_values_per_density(tilt_deg: NDArray[np.float64], factor: float, length: int) -> float:
    """Return the grey value of density 1 in a weighted back-projection: `factor length / (views * mean tilt interval)`."""
    views = len(tilt_deg)
    interval = np.deg2rad(np.ptp(tilt_deg)) / (views - 1) if views > 1 else 0.0
    return factor * length / (views * (interval or np.pi))
