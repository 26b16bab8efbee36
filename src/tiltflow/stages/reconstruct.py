"""Weighted back-projection of an aligned stack, section by section along the tilt axis.

Every line of a view across the tilt axis is padded, filtered (:mod:`tiltflow.stages.filters`), stretched
(:mod:`tiltflow.stages.lines`) and smeared back over its section:

    section(z, x) = (mean over views of weight_v line_v(x cos t_v + z sin t_v) + offset) * factor

An x-axis tilt turns the volume about x by bilinear interpolation between sections.  Radermacher 1992 ("Weighted back-projection
methods") is the classic; the grey scale, the filter and the interpolation are those of IMOD's `tilt`, reproduced to the rounding.
The volume is made in the order of y, in slabs of a few sections, so that neither the stack nor the volume is ever held.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.errors import ParameterError
from tiltflow.kernels.backprojection import backproject, stretch_lines, turn_about_x
from tiltflow.kernels.grey import round_into, statistics
from tiltflow.model import Progress, Stack
from tiltflow.parallel import map_threads
from tiltflow.stages.filters import density_weights, padded_length, radial_filter
from tiltflow.stages.lines import Section, StretchedLines, stretched_lines
from tiltflow.stages.weighting import Weighting, chosen_views, filter_lines, read_lines, weigh

Sink = Callable[[int, NDArray[Any]], None]
"""Receives the first row y0 and a slab of sections `(rows, nz, nx)`; their top (greatest z) is row 0, as in `_full_rec.mrc`."""

_SLAB_BYTES = 16 << 20
_TURN_BYTES = 64 << 20
_GREYS: Mapping[int, tuple[type[np.generic], int, int]] = {
    0: (np.uint8, 0, 255),
    1: (np.int16, -32768, 32767),
    2: (np.float32, 0, 0),
}


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
        Take the decimal logarithm of grey values after adding this (`LOG`); None for linear data.
    scale_offset, scale_factor
        Grey values are written as `(value + offset) * factor` (`SCALE`); factor None for :func:`default_scale_factor`.
    x_axis_tilt_deg
        `XAXISTILT`: the volume is turned about x by this angle, which is minus the pitch of the specimen.
    offset_deg
        Added to every tilt angle (`OFFSET`).
    axis_offset
        Distance of the tilt axis from the centre of the images, along x (second value of `OFFSET`).
    shift_x, shift_z
        Shift of the specimen within the volume, to higher columns and rows of a section (`SHIFT`).
    width
        Width of the volume (`WIDTH`); None for that of the images.
    exclude_views
        Views left out, counted from 0 (`EXCLUDELIST`).
    mode
        MRC mode of the volume (`MODE`): 0 unsigned bytes, 1 integers, 2 reals.
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
    mode: int = 1

    def __post_init__(self) -> None:
        if self.binning < 1 or self.thickness < self.binning:
            raise ParameterError(
                f"thickness {self.thickness} at binning {self.binning} leaves no volume: give raw pixels, at least the binning"
            )
        if self.mode not in _GREYS:
            raise ParameterError(f"mode {self.mode} of the volume: give 0 (bytes), 1 (integers) or 2 (reals)")
        if abs(self.x_axis_tilt_deg) > 45:
            raise ParameterError(f"x-axis tilt of {self.x_axis_tilt_deg:g} degrees: it must be within 45")


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
    minimum, maximum, mean
        Of the grey values, before rounding.
    scale_factor
        The one used.
    seconds
        Time by phase, summed over threads: `read`, `filter`, `stretch`, `back-project`, `round`, `write`.
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

    The ramp counts frequencies, so that grey values grow with the width; this takes it back, between 1000 for images up to 512
    pixels and 40, and divides by 5000 for linear data, as IMOD's copytomocoms and batchruntomo do.
    """
    factor = float(np.clip(1000 * 512 / width, 40, 1000))
    return factor if logarithm else factor / 5000


def scale_factor(aligned_shape: tuple[int, ...], params: ReconstructParams) -> float:
    """Return the factor that grey values are multiplied by: the one given, or that of the table."""
    if params.scale_factor is not None:
        return params.scale_factor
    return default_scale_factor(aligned_shape[-1] * params.binning, logarithm=params.log_offset is not None)


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
    """Back-project an aligned stack and hand the volume to `sink`, slab by slab in the order of y.

    Parameters
    ----------
    aligned
        `(views, ny, nx)`, the tilt axis along y; only the rows of a slab are read at a time.
    tilt_deg
        `(views,)`.
    included
        `(views,)`: which views take part; None for all.
    sink
        Receives slabs of the type that the mode asks for.
    """
    plan = plan_views(aligned, tilt_deg, params, included)
    ny, nz, nx = shape = volume_shape(aligned.shape, params)
    work = _Turned(aligned, plan, params) if params.x_axis_tilt_deg else _Level(aligned, plan, params)
    seconds = dict.fromkeys(("read", "filter", "stretch", "back-project", "round", "write"), 0.0)
    low, high, total = np.inf, -np.inf, 0.0
    for y0, slab, (least, most, part), spent in map_threads(work, range(0, ny, work.rows), threads):
        low, high, total = min(low, least), max(high, most), total + part
        begin = time.perf_counter()
        sink(y0, slab)
        seconds["write"] += time.perf_counter() - begin
        for phase, elapsed in spent.items():
            seconds[phase] += elapsed
        if progress is not None:
            progress(min((y0 + work.rows) / ny, 1.0))
    voxels = ny * nz * nx
    return ReconstructResult(
        shape, len(plan.views), voxels * len(plan.views), low, high, total / voxels, scale_factor(aligned.shape, params), seconds
    )


def plan_views(aligned: Stack, tilt_deg: ArrayLike, params: ReconstructParams, included: ArrayLike | None = None) -> Weighting:
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


class _Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.spent[phase] = self.spent.get(phase, 0.0) + now - self._last
        self._last = now


Slab = tuple[int, NDArray[Any], tuple[float, float, float], dict[str, float]]


class _Level:
    """Makes slabs of sections, each from its own line of the views."""

    def __init__(self, aligned: Stack, plan: Weighting, params: ReconstructParams) -> None:
        self.aligned, self.plan = aligned, plan
        self.ny, self.nz, self.nx = volume_shape(aligned.shape, params)
        self.grey, self.low, self.high = _GREYS[params.mode]
        self.section = Section(self.nx, self.nz, -params.shift_x / params.binning, params.shift_z / params.binning)
        self.axis = aligned.shape[2] / 2 + params.axis_offset / params.binning
        self.samples = self._samples(self.section)
        self.rows = int(np.clip(_SLAB_BYTES // (self.nz * self.nx * np.dtype(self.grey).itemsize), 1, 16))

    def _samples(self, section: Section) -> StretchedLines:
        return stretched_lines(self.plan.tilt_deg, self.aligned.shape[2], section, self.axis)

    def __call__(self, y0: int) -> Slab:
        y1 = min(y0 + self.rows, self.ny)
        clock = _Clock()
        filtered = self._filtered(y0, y1, clock)
        slab = np.empty((y1 - y0, self.nz, self.nx), self.grey)
        section = np.empty((self.nz, self.nx), np.float32)
        lines = np.empty(self.samples.length, np.float32)
        greys = []
        for j in range(y1 - y0):
            self._stretch(filtered[:, j], lines, clock)
            self._backproject(lines, self.samples.shift, section, clock)
            greys.append(self._store(section, slab[j], clock))
        return y0, slab, _joined(greys), clock.spent

    def _filtered(self, y0: int, y1: int, clock: _Clock) -> NDArray[np.float32]:
        lines = read_lines(self.aligned, self.plan, y0, y1)
        clock.lap("read")
        filtered = filter_lines(lines, self.plan.weights)
        clock.lap("filter")
        return filtered

    def _stretch(self, filtered: NDArray[np.float32], lines: NDArray[np.float32], clock: _Clock) -> None:
        s = self.samples
        stretch_lines(filtered, s.even, s.odd, s.count, s.inside, s.start, s.step, self.plan.fill, lines)
        clock.lap("stretch")

    def _backproject(self, lines: NDArray[np.float32], shift: NDArray[np.float64], out: NDArray[np.float32], clock: _Clock) -> None:
        s = self.samples
        backproject(lines, s.even, s.odd, shift, s.slope, np.float32(self.plan.base), out)
        clock.lap("back-project")

    def _store(self, section: NDArray[np.float32], out: NDArray[Any], clock: _Clock) -> tuple[float, float, float]:
        if out.dtype == np.float32:
            out[...] = section
        else:
            round_into(section, self.low, self.high, out)
        greys = statistics(section)
        clock.lap("round")
        return greys


class _Turned(_Level):
    """Makes slabs of a volume that is turned about x, from untilted sections around them."""

    def __init__(self, aligned: Stack, plan: Weighting, params: ReconstructParams) -> None:
        super().__init__(aligned, plan, params)
        pitch = -np.deg2rad(params.x_axis_tilt_deg)
        self.cosine, self.sine = float(np.cos(pitch)), float(np.sin(pitch))
        top, bottom, _, _ = self._reach(0, self.ny)
        self.whole = self._grown(top, bottom)
        self.samples = self._samples(self.whole)
        self.rows = 32

    def _grown(self, top: float, bottom: float) -> Section:
        """Return the untilted section between two heights, on rows in step with those of the volume."""
        above = int(np.ceil(top - self.section.z_first))
        z_first = self.section.z_first + above
        nz = int(np.ceil(z_first - bottom)) + 1
        return Section(self.nx, nz, self.section.x_centre, z_first - (nz - 1) / 2)

    def _reach(self, y0: int, y1: int) -> tuple[float, float, float, float]:
        """Return the greatest and the least height, and the first and the last line, that rows `y0..y1` of the volume need."""
        y = np.array([y0, y1 - 1])[:, None] + 0.5 - self.ny / 2
        z = self.section.z_first - np.array([0, self.nz - 1])
        heights = y * self.sine + z * self.cosine
        lines = y * self.cosine - z * self.sine + self.ny / 2 - 0.5
        return float(heights.max()), float(heights.min()), float(lines.min()), float(lines.max())

    def __call__(self, y0: int) -> Slab:
        y1 = min(y0 + self.rows, self.ny)
        clock = _Clock()
        top, bottom, first, last = self._reach(y0, y1)
        part = self._grown(top, bottom)
        below = round(self.whole.z_first - part.z_first)
        line0 = min(max(int(np.floor(first)), 0), self.ny - 1)
        line1 = max(min(int(np.ceil(last)) + 1, self.ny), line0 + 1)
        filtered = self._filtered(line0, line1, clock)
        lines = np.empty((line1 - line0, self.samples.length), np.float32)
        for j in range(line1 - line0):
            self._stretch(filtered[:, j], lines[j], clock)
        slab = np.empty((y1 - y0, self.nz, self.nx), self.grey)
        columns = max(_TURN_BYTES // (4 * len(lines) * part.nz) // 64, 1) * 64
        greys = []
        outside = np.float32(self.plan.base + self.plan.fill.sum())
        for x0 in range(0, self.nx, columns):
            n = min(columns, self.nx - x0)
            sections = np.empty((max(len(lines), 2), max(part.nz, 2), n), np.float32)
            for j in range(len(lines)):
                self._backproject(lines[j], self.samples.shift + self.samples.slope * below + 2 * x0, sections[j], clock)
            sections[len(lines) :] = sections[0]
            turned = np.empty((self.nz, n), np.float32)
            stored = np.empty((self.nz, n), self.grey)
            for j in range(y1 - y0):
                y, z = y0 + j + 0.5 - self.ny / 2, self.section.z_first
                at_line = y * self.cosine - z * self.sine + self.ny / 2 - 0.5 - line0
                at_height = part.z_first - (y * self.sine + z * self.cosine)
                turn_about_x(sections, at_line, self.sine, at_height, self.cosine, outside, turned)
                clock.lap("back-project")
                greys.append(self._store(turned, stored, clock))
                slab[j, :, x0 : x0 + n] = stored
        return y0, slab, _joined(greys), clock.spent


def _joined(greys: list[tuple[float, float, float]]) -> tuple[float, float, float]:
    low, high, total = zip(*greys, strict=True)
    return min(low), max(high), sum(total)
