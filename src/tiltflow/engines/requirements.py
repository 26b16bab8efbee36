"""Memory, disk and time that the work on a series needs, from the header and the recipe alone, before any of it starts.

Every stage streams, so that the peak of the memory is that of the program itself plus the few arrays that the most demanding stage
holds at once.  These are counted here in bytes for each pixel of a view, or voxel of a slab, and thread; `tests/test_memory.py`
compares the counts with what the operating system measures.  The time is that of an ordinary core, to a factor of two or three,
which distinguishes minutes from hours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tiltflow.align.fallback import methods_to_try
from tiltflow.align.methods import Method
from tiltflow.engines.plan import Plan
from tiltflow.engines.thickness import greatest_thickness
from tiltflow.formats.stacks import open_stack
from tiltflow.model import TiltSeries
from tiltflow.position.specimen_search import SECOND_SEARCH_FACTOR, search_height, small_binning
from tiltflow.recipe import Recipe
from tiltflow.reconstruct.aligned_stack import aligned_dtype, aligned_shape
from tiltflow.reconstruct.trim import Trim
from tiltflow.reconstruct.volume_slabs import GREYS, slab_rows
from tiltflow.reconstruct.wbp import LINES_AT_ONCE, volume_shape

_PROGRAM_BYTES = 400 << 20
"""Interpreter, libraries and compiled kernels, once all of them are loaded; measured by `tests/test_memory.py`."""
_ENCODER_FRAMES, _LARGEST_FRAME = 80, 1 << 20
"""Frames that x264 holds for its lookahead, references and threads, and the pixels of the largest frame of a movie."""
_PATCH_BYTES = 20
"""For each pixel of all binned views: the views (4 bytes), and the spectra of all patches, which overlap."""
_SMALL_PIXEL_BYTES, _SMALL_VOXEL_BYTES = 20, 14
"""For each pixel of the small views in which the specimen is searched (as they are, without gold, filtered, and aligned), and each
voxel of the small volume (real numbers, smoothed, and its background)."""
_LIKELY_PITCH_DEG = 3.0
"""Pitch of the specimen for which slices of lines are kept; steeper ones, which are rare, need more than planned."""
_CHUNK = 128
"""Side of the chunks of the pyramid, voxels (:data:`tiltflow.formats.omezarr.CHUNK`)."""
_FOURIER_BYTES = 8
"""For each pixel of a view, or voxel of a chunk, in work: two real numbers or a complex one."""
_SMALL_PRODUCTS_BYTES = 8 << 20
"""Pictures, movies and pages."""

_RAW_PIXEL_NS, _VOXEL_NS, _VOXEL_VIEW_NS = 40.0, 60.0, 0.35
"""CPU time of all that is done with each raw pixel (alignment, aligned stack), voxel (products), and voxel of each view
(back-projection): `benchmarks/whole_run.py` and `benchmarks/reconstruction.py`."""
_COARSE_VIEW_S = 0.07
"""CPU time of the coarse alignment of a view, whatever its size, as all is done on binned views."""
_METHOD_VIEW_S: Mapping[Method, float] = {"gold": 0.06, "patches": 0.2, "projection": 0.13, "coarse": 0.0}
"""The same of each method, measured on a series of 41 views; patches of small views take less."""
_START_SECONDS = 10.0
"""CPU time of starting the program, and of loading or compiling kernels."""
_ALONE = 0.3
"""Fraction of the CPU time in which only one thread works."""


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Numbers of pixels and voxels, and the bytes of each."""

    views: int
    raw_px: int
    raw_bytes: int
    aligned_px: int
    aligned_bytes: int
    full: tuple[int, int, int]
    kept: tuple[int, int, int]
    voxel_bytes: int
    tracked_px: int
    small_px: int
    small_nz: int


def plan_series(series: TiltSeries, recipe: Recipe, threads: int, *, keep_volumes: bool = True) -> Plan:
    """Return what the work on a series needs.

    Parameters
    ----------
    series
        The tilt series.
    recipe
        As made for this engine and this series.
    threads
        Threads that it may use.
    keep_volumes
        Whether aligned stack and volume are among the results.
    """
    s = _sizes(series, recipe)
    stack = s.views * s.aligned_px * s.aligned_bytes
    volume = int(np.prod(s.kept)) * s.voxel_bytes
    # The averaged volume, its binned copy, and the pyramid if nothing of it could be compressed; pictures and movies are small.
    products = int(volume * (1 + 1 / 8 + 8 / 7)) + stack // 4 + _SMALL_PRODUCTS_BYTES
    scratch = stack + volume
    if recipe.halves:
        scratch += 2 * volume * max(s.voxel_bytes, 2) // s.voxel_bytes
    viewed = 4 * int(np.prod(s.kept))
    # Each volume to look at is of real numbers; its making takes one or two more for a while.
    scratch += sum(viewed for each in (recipe.deconvolve, recipe.diffuse) if each is not None)
    passing = 2 * viewed if recipe.diffuse is not None else viewed if recipe.deconvolve is not None else 0
    if recipe.trim.to_bytes:
        scratch += 2 * int(np.prod(s.kept))
    results = products + (scratch if keep_volumes else 0)
    scratch += passing
    if recipe.halves:
        scratch += _half_stack_bytes(series, s)
    work = 1e-9 * (
        _RAW_PIXEL_NS * s.views * s.raw_px + int(np.prod(s.kept)) * _VOXEL_NS + int(np.prod(s.full)) * s.views * _VOXEL_VIEW_NS
    )
    asked, fallback = _alignment_seconds(s.views, recipe)
    shared = _ALONE + (1 - _ALONE) / max(threads, 1)
    return Plan(
        memory_by_stage=_memory(s, threads),
        scratch=scratch,
        results=results,
        seconds=_START_SECONDS + (work + asked) * shared,
        fallback_seconds=fallback * shared,
    )


def _alignment_seconds(views: int, recipe: Recipe) -> tuple[float, float]:
    """Return the CPU time of the alignment that is asked for, and of all further methods that may be tried."""
    if recipe.alignment is not None:
        return 0.0, 0.0
    first, *further = methods_to_try(recipe.method, fallback=recipe.fallback)
    asked = _COARSE_VIEW_S + _METHOD_VIEW_S[first]
    if first == "projection":
        asked += _METHOD_VIEW_S["patches"]  # which check the axis
    return views * asked, views * sum(_METHOD_VIEW_S[method] for method in further)


def _half_stack_bytes(series: TiltSeries, s: _Sizes) -> int:
    """Return the bytes of the larger of the aligned stacks of even and of odd frames, which lie in scratch one after the other."""
    return max((s.views * s.aligned_px * aligned_dtype(_dtype(path)).itemsize for path in series.frame_stacks or ()), default=0)


def raw_copy_bytes(series: TiltSeries) -> int:
    """Return the bytes of a copy of the raw stack, of a montage those of its pieces."""
    if series.montage is not None:
        ny, nx = series.montage.piece_shape
        return series.montage.sections * ny * nx * _raw_dtype(series).itemsize
    return view_copy_bytes(series)


def view_copy_bytes(series: TiltSeries) -> int:
    """Return the bytes of a stack of the views of a series as raw pixels."""
    views, ny, nx = series.shape
    return views * ny * nx * _raw_dtype(series).itemsize


def untrimmed_volume_bytes(series: TiltSeries, recipe: Recipe) -> int:
    """Return the bytes of the volume before it is trimmed."""
    s = _sizes(series, recipe)
    return int(np.prod(s.full)) * s.voxel_bytes


def _raw_dtype(series: TiltSeries) -> np.dtype[Any]:
    return _dtype(series.path)


def _dtype(path: Path) -> np.dtype[Any]:
    with open_stack(path) as stack:
        return stack.dtype


def _sizes(series: TiltSeries, recipe: Recipe) -> _Sizes:
    raw = _raw_dtype(series)
    views, ny, nx = series.shape
    aligned = aligned_shape(series.shape, recipe.stack)
    params = replace(recipe.reconstruct, binning=recipe.stack.binning, thickness=greatest_thickness(recipe))
    full = volume_shape((views, *aligned), params)
    dtype = aligned_dtype(raw)
    mode = (1 if dtype.kind == "i" else 2) if params.mode is None else params.mode
    binning = -(-max(ny, nx) // recipe.patches.max_size_px)
    small = small_binning(series.shape)
    # Patches are what is asked for, check what is matched with projections, or come after gold.
    may_track = recipe.method in {"patches", "projection"} or (recipe.method == "gold" and recipe.fallback)
    return _Sizes(
        views=views,
        raw_px=ny * nx,
        raw_bytes=raw.itemsize,
        aligned_px=aligned[0] * aligned[1],
        aligned_bytes=dtype.itemsize,
        full=full,
        kept=Trim(full, recipe.trim).output_shape,
        voxel_bytes=1 if recipe.trim.to_bytes else np.dtype(GREYS[mode][0]).itemsize,
        tracked_px=(ny // binning) * (nx // binning) if may_track else 0,
        small_px=(ny // small) * (nx // small) if recipe.position.sample_type else 0,
        small_nz=SECOND_SEARCH_FACTOR * search_height(recipe.position, nx // small, small) // small,
    )


def _memory(s: _Sizes, threads: int) -> dict[str, int]:
    """Return the peak of each stage that may need the most memory."""
    views = threads * s.raw_px * (2 * s.raw_bytes + _FOURIER_BYTES)
    aligned = threads * (2 * s.raw_px * s.raw_bytes + _FOURIER_BYTES * s.aligned_px) + (2 * threads + 1) * 4 * s.aligned_px
    picture = max(s.aligned_px, s.kept[1] * s.kept[2])
    movies = 3 * threads * _FOURIER_BYTES * picture + _ENCODER_FRAMES * min(picture, _LARGEST_FRAME) * 3 // 2
    # A row of chunks of every level of the pyramid, as it is read and as it is binned.
    row = min(_CHUNK, s.kept[0]) * min(_CHUNK, s.kept[1]) * s.kept[2] * s.voxel_bytes
    pyramid = 4 * row + threads * _FOURIER_BYTES * _CHUNK**3
    parts = {
        "raw views": views,
        "patches": _PATCH_BYTES * s.views * s.tracked_px,
        "aligned stack": aligned,
        "positioning": s.small_px * (_SMALL_PIXEL_BYTES * s.views + _SMALL_VOXEL_BYTES * s.small_nz),
        "reconstruction": _slabs(s, threads),
        "movies": movies,
        "pyramid": pyramid,
    }
    return {stage: _PROGRAM_BYTES + part for stage, part in parts.items()}


def _slabs(s: _Sizes, threads: int) -> int:
    """Return the bytes of slabs that are made and that wait, of the lines they are made of, and of slices kept for the pitch."""
    _, nz, nx = s.full
    rows = slab_rows(nz, nx)
    waiting = (2 * threads + 1) * rows
    kept = waiting + rows + int(nz * np.sin(np.deg2rad(_LIKELY_PITCH_DEG))) + 1
    lines = threads * s.views * LINES_AT_ONCE * nx * _FOURIER_BYTES
    return 4 * nz * nx * (waiting + kept + threads) + lines
