"""What the work on a series takes: memory, disk and time, from the header and the recipe alone, before any of it starts.

Every stage streams, so that the peak of the memory is what the program itself takes and the few arrays that the hungriest stage
holds at once.  These are counted here in bytes a pixel of a view, or a voxel of a slab, for each thread; `tests/test_memory.py`
holds the counts against what the operating system measures.  The time is that of an ordinary core and right within a factor of two
or three, which tells an hour from a minute.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tiltflow.engines.native.positioning import small_binning
from tiltflow.engines.native.thickness import greatest_thickness
from tiltflow.engines.system_memory import available_memory
from tiltflow.errors import MemoryShortageError, ResourceError
from tiltflow.formats.mrc import read_header
from tiltflow.model import TiltSeries
from tiltflow.position.specimen_search import THICKER, search_height
from tiltflow.recipe import EngineName, Recipe
from tiltflow.reconstruct.aligned_stack import aligned_shape
from tiltflow.reconstruct.trim import Trim
from tiltflow.reconstruct.volume_slabs import GREYS, slab_rows
from tiltflow.reconstruct.wbp import LINES_AT_ONCE, volume_shape

_PROGRAM_BYTES = 400 << 20
"""Interpreter, libraries and compiled kernels, once all of them are loaded."""
_ENCODER_FRAMES, _LARGEST_FRAME = 80, 1 << 20
"""Frames that the encoder of movies holds, and the pixels of the largest."""
_PATCH_BYTES = 20
"""For each pixel of all binned views: the views, and the transforms of all patches, which overlap."""
_SMALL_PIXEL_BYTES, _SMALL_VOXEL_BYTES = 20, 14
"""For each pixel of the small views that the specimen is looked for in, and each voxel of the small volume."""
_LIKELY_PITCH_DEG = 3.0
_CHUNK = 128

_RAW_PIXEL_NS, _VOXEL_NS, _VOXEL_VIEW_NS = 40.0, 60.0, 0.35
"""CPU time of all that is done with each."""
_START_SECONDS = 10.0
_ALONE = 0.3
"""Part of the CPU time that only one thread works."""

_DISK_RESERVE = 1.05


@dataclass(frozen=True, slots=True)
class Plan:
    """What the work on a series takes.

    Attributes
    ----------
    memory_by_stage
        Peak of the resident memory in the stages that take the most, bytes.
    scratch
        Bytes in the scratch folder: the aligned stack and the volumes.
    results
        Bytes in the folder of the results, where the products are made.
    seconds
        Wall time, as far as that can be told.
    """

    memory_by_stage: Mapping[str, int]
    scratch: int
    results: int
    seconds: float

    @property
    def memory(self) -> int:
        """Peak of the resident memory, bytes."""
        return max(self.memory_by_stage.values())

    def __str__(self) -> str:
        hungriest = max(self.memory_by_stage, key=lambda stage: self.memory_by_stage[stage])
        return (
            f"up to {gigabytes(self.memory)} of memory ({hungriest}), {gigabytes(self.scratch)} of scratch, "
            f"{gigabytes(self.results)} of results, about {duration(self.seconds)}"
        )


@dataclass(frozen=True, slots=True)
class _Sizes:
    """What there is to work on: pixels, voxels, and bytes of each of them."""

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


def plan_series(series: TiltSeries, recipe: Recipe, engine: EngineName, threads: int, *, keep_volumes: bool = True) -> Plan:
    """Return what the work on a series takes.

    Parameters
    ----------
    recipe
        As this engine and this series have it.
    threads
        That it may use.
    keep_volumes
        Whether aligned stack and volume are among the results.
    """
    s = _sizes(series, recipe)
    stack = s.views * s.aligned_px * s.aligned_bytes
    volume = int(np.prod(s.kept)) * s.voxel_bytes
    # The averaged volume, its binned copy, and the pyramid if nothing of it could be compressed; pictures and movies are small.
    products = int(volume * (1 + 1 / 8 + 8 / 7)) + stack // 4 + (8 << 20)
    scratch = stack + volume
    if recipe.halves:
        scratch += 2 * volume * max(s.voxel_bytes, 2) // s.voxel_bytes
    if recipe.trim.to_bytes:
        scratch += 2 * int(np.prod(s.kept))
    results = products + (scratch if keep_volumes else 0)
    if engine == "imod":
        # A copy of the raw stack, one without x-rays, a prealigned one, and the volume before it is trimmed.
        scratch += 3 * s.views * s.raw_px * s.raw_bytes + int(np.prod(s.full)) * s.voxel_bytes
    work = 1e-9 * (
        _RAW_PIXEL_NS * s.views * s.raw_px + int(np.prod(s.kept)) * _VOXEL_NS + int(np.prod(s.full)) * s.views * _VOXEL_VIEW_NS
    )
    return Plan(
        memory_by_stage=_memory(s, threads),
        scratch=scratch,
        results=results,
        seconds=_START_SECONDS + work * (_ALONE + (1 - _ALONE) / max(threads, 1)),
    )


def _sizes(series: TiltSeries, recipe: Recipe) -> _Sizes:
    raw = read_header(series.path).dtype
    views, ny, nx = series.shape
    aligned = aligned_shape(series.shape, recipe.stack)
    params = replace(recipe.reconstruct, binning=recipe.stack.binning, thickness=greatest_thickness(recipe))
    full = volume_shape((views, *aligned), params)
    whole = raw.kind in "iu" and raw.itemsize <= 2
    mode = (1 if whole else 2) if params.mode is None else params.mode
    binning = -(-max(ny, nx) // recipe.patches.max_size_px)
    small = small_binning(series.shape)
    may_track = recipe.method == "patches" or (recipe.method == "gold" and recipe.fallback)
    return _Sizes(
        views=views,
        raw_px=ny * nx,
        raw_bytes=raw.itemsize,
        aligned_px=aligned[0] * aligned[1],
        aligned_bytes=2 if whole else 4,
        full=full,
        kept=Trim(full, recipe.trim).output_shape,
        voxel_bytes=1 if recipe.trim.to_bytes else np.dtype(GREYS[mode][0]).itemsize,
        tracked_px=(ny // binning) * (nx // binning) if may_track else 0,
        small_px=(ny // small) * (nx // small) if recipe.position.sample_type else 0,
        small_nz=THICKER * search_height(recipe.position, nx // small, small) // small,
    )


def _memory(s: _Sizes, threads: int) -> dict[str, int]:
    """Return the peak of each stage that can be the hungriest."""
    views = threads * s.raw_px * (2 * s.raw_bytes + 8)
    aligned = threads * (2 * s.raw_px * s.raw_bytes + 8 * s.aligned_px) + (2 * threads + 1) * 4 * s.aligned_px
    picture = max(s.aligned_px, s.kept[1] * s.kept[2])
    movies = 3 * threads * 8 * picture + _ENCODER_FRAMES * min(picture, _LARGEST_FRAME) * 3 // 2
    # A row of chunks of every level of the pyramid, as it is read and as it is binned.
    row = min(_CHUNK, s.kept[0]) * min(_CHUNK, s.kept[1]) * s.kept[2] * s.voxel_bytes
    pyramid = 4 * row + threads * 8 * _CHUNK**3
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
    """Return the bytes of slabs in the making and waiting, of the lines they are made of, and of sections kept for the pitch."""
    _, nz, nx = s.full
    rows = slab_rows(nz, nx)
    waiting = (2 * threads + 1) * rows
    kept = waiting + rows + int(nz * np.sin(np.deg2rad(_LIKELY_PITCH_DEG))) + 1
    lines = threads * s.views * LINES_AT_ONCE * nx * 8
    return 4 * nz * nx * (waiting + kept + threads) + lines


def check_room(plan: Plan, name: str, scratch: Path, results: Path) -> None:
    """Refuse work that does not fit into the memory or onto the disks.

    Raises
    ------
    ResourceError
        If it does not, with what is needed, what there is, and what to do.
    """
    memory = available_memory()
    if memory is not None and plan.memory > memory:
        raise MemoryShortageError(
            f"{name}: the work needs {gigabytes(plan.memory)} of memory, and {gigabytes(memory)} are available: use fewer threads "
            "(--threads) or series at once (--jobs), give the job more, or bin the aligned stack "
            "(runtime.AlignedStack.any.binByFactor)"
        )
    one_disk = scratch.stat().st_dev == results.stat().st_dev
    needs = [("scratch and results need", scratch, plan.scratch + plan.results)]
    if not one_disk:
        needs = [("scratch needs", scratch, plan.scratch), ("the results need", results, plan.results)]
    for what, folder, size in needs:
        free = shutil.disk_usage(folder).free
        if size * _DISK_RESERVE > free:
            raise ResourceError(
                f"{name}: {what} {gigabytes(size)} in {folder}, which has {gigabytes(free)} free: give another folder, a larger "
                "aligned binning (runtime.AlignedStack.any.binByFactor) or a smaller thickness"
            )


def gigabytes(size: int) -> str:
    """Return a size for people."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e9:.2g} GB"


def duration(seconds: float) -> str:
    """Return a time that is roughly known for people."""
    if seconds < 90:
        return f"{max(round(seconds, -1), 10):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
