"""The pyramid for Neuroglancer, and its display window.

Chunks are made depth first: a chunk of a level needs the eight below it and nothing else, so that memory holds one row of chunks
per level at any time, however large the volume.  Each voxel of the reconstruction is read once, counted, compressed and binned
while it is in the cache.  (A volume of floats is read once more for its median.)

Row 0 of the pyramid is the top of the picture, as in the key image and the movies, and as bioformats2raw has it, where that of an MRC
file is the bottom.  Rows are turned over as they are read, so that every level is binned from the top.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tiltflow.atomic_write import atomic_write
from tiltflow.errors import StageError
from tiltflow.formats.mrc import MrcFile, convert, open_mrc
from tiltflow.formats.omezarr import CHUNK, OmeZarrWriter
from tiltflow.formats.zarrlayout import BIOFORMATS2RAW, PyramidLayout
from tiltflow.kernels import products as kernels
from tiltflow.model import Progress
from tiltflow.parallel import map_threads
from tiltflow.products.histogram import Histogram, VoxelStatistics
from tiltflow.products.sections import blocks

SHOWN_MADS = 5
"""The window shown reaches this many median absolute deviations to both sides of the median."""


@dataclass(frozen=True, slots=True)
class MadePyramid:
    """The pyramid: its levels, the voxel size along x, y, z, the statistics of the full resolution, and remarks."""

    shapes: tuple[tuple[int, int, int], ...]
    voxel_size_angstrom: tuple[float, float, float]
    statistics: VoxelStatistics
    notes: tuple[str, ...] = ()


def make_pyramid(
    volume: Path,
    path: Path,
    *,
    layout: PyramidLayout = BIOFORMATS2RAW,
    dtype: DTypeLike | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> MadePyramid:
    """Write the pyramid of a volume to the folder `path`.

    Parameters
    ----------
    layout
        Version, axes, and which way the rows run.
    dtype
        Type of the voxels, to which they are converted as in MRC files; if not given, that of the volume, float32 for floats.

    Raises
    ------
    ParameterError
        If a pyramid cannot hold the type.
    StageError
        If no voxel is usable.
    """
    with open_mrc(volume) as file:
        notes: tuple[str, ...] = ()
        voxel_size = file.header.pixel_size_angstrom
        if not all(size > 0 for size in voxel_size):
            notes += (f"{volume.name} gives no voxel size ({voxel_size}); the pyramid has 1 Å",)
            voxel_size = (1.0, 1.0, 1.0)
        kind = np.dtype(dtype) if dtype is not None else np.dtype(np.float32) if file.dtype.kind == "f" else file.dtype
        with atomic_write(path) as partial:
            writer = OmeZarrWriter(
                partial, name=volume.stem, shape=file.shape, dtype=kind, voxel_size_angstrom=voxel_size, layout=layout
            )
            histogram = Histogram(kind)
            _Builder(file, writer, histogram, threads, progress).build()
            statistics = histogram.statistics(_read_blocks(file))
            if statistics.unusable == math.prod(file.shape):
                raise StageError(f"{volume}: none of its voxels is usable; the reconstruction failed")
            if statistics.unusable:
                notes += (f"{volume.name}: {statistics.unusable} voxels are not finite or too large; they are stored unchanged",)
            shader = neuroglancer_metadata(statistics)["shaderParameters"]
            writer.finish(tuple(shader["window"]), tuple(shader["range"]))
    return MadePyramid(tuple(level.shape for level in writer.levels), voxel_size, statistics, notes)


def neuroglancer_metadata(statistics: VoxelStatistics) -> dict[str, Any]:
    """Return the metadata of the asset: how Neuroglancer shows the volume.

    Its limits are rounded outwards: to whole numbers, or for real numbers, which may all lie between 0 and 1, to a thousandth of their
    range where that is finer.  Where half of all voxels are equal, so that the deviation from the median is 0, the range is the window.
    """
    reach = SHOWN_MADS * statistics.mad
    decimals = _decimals(statistics)
    window = _outwards(statistics.minimum, statistics.maximum, decimals)
    shown = _outwards(statistics.median - reach, statistics.median + reach, decimals)
    limited = [_plain(min(max(value, statistics.minimum), statistics.maximum)) for value in shown]
    if not limited[0] < limited[1]:
        limited = [*window]
    return {"shader": "Grayscale", "dimensions": "XYZ", "shaderParameters": {"range": limited, "window": window}}


class _Builder:
    """Writes all levels of a volume, a row of chunks at a time."""

    def __init__(self, file: MrcFile, writer: OmeZarrWriter, histogram: Histogram, threads: int, progress: Progress | None) -> None:
        self._file, self._writer, self._histogram = file, writer, histogram
        self._threads, self._progress = threads, progress
        self._voxels_done = 0
        self._bin = kernels.bin_whole if histogram.whole else kernels.bin_real
        self._sums_type = np.int32 if histogram.whole else np.float32

    def build(self) -> None:
        """Write everything."""
        top = len(self._writer.levels) - 1
        nz, ny, _ = self._writer.levels[top].shape
        for z in range(0, nz, CHUNK):
            for y in range(0, ny, CHUNK):
                self._row(top, z, y, None)

    def _row(self, level: int, z: int, y: int, above: NDArray[Any] | None) -> None:
        """Write the chunks of a level that begin at `z`, `y`, with all those below them; bin them into `above`."""
        row = self._read(z, y) if level == 0 else self._gather(level, z, y)

        def write(x: int) -> None:
            chunk = np.ascontiguousarray(row[:, :, x : x + CHUNK])
            if level == 0:
                self._histogram.add(chunk)
            self._writer.write(level, chunk, z, y, x)
            if above is not None:
                bin_z, bin_y, bin_x = self._bins(level)
                start = x // bin_x
                out = above[:, :, start : start + -(-chunk.shape[2] // bin_x)]
                self._bin(chunk, bin_z, bin_y, bin_x, np.empty(chunk.shape[2], self._sums_type), out)

        for _ in map_threads(write, range(0, row.shape[2], CHUNK), self._threads):
            pass
        if level == 0 and self._progress is not None:
            self._voxels_done += row.size
            self._progress(self._voxels_done / math.prod(self._file.shape))

    def _read(self, z: int, y: int) -> NDArray[Any]:
        """Return rows `y` and on of the pyramid, which are those before `ny - y` of the file if they run from the top down."""
        sections, rows = slice(z, z + CHUNK), slice(y, y + CHUNK)
        if self._writer.layout.rows == "top-down":
            ny = self._file.shape[1]
            block = self._file.read_block(sections, slice(max(0, ny - y - CHUNK), ny - y))[:, ::-1]
        else:
            block = self._file.read_block(sections, rows)
        return convert(block, self._writer.dtype) if block.dtype != self._writer.dtype else block

    def _gather(self, level: int, z: int, y: int) -> NDArray[Any]:
        """Return a row of chunks of a level, binned from the four rows below it."""
        nz, ny, nx = self._writer.levels[level].shape
        row = np.empty((min(CHUNK, nz - z), min(CHUNK, ny - y), nx), self._writer.dtype)
        below_z, below_y, _ = self._writer.levels[level - 1].shape
        bin_z, bin_y, _ = self._bins(level - 1)
        for child_z in range(z * bin_z, min((z + CHUNK) * bin_z, below_z), CHUNK):
            for child_y in range(y * bin_y, min((y + CHUNK) * bin_y, below_y), CHUNK):
                k, j = child_z // bin_z - z, child_y // bin_y - y
                deep, high = -(-min(CHUNK, below_z - child_z) // bin_z), -(-min(CHUNK, below_y - child_y) // bin_y)
                self._row(level - 1, child_z, child_y, row[k : k + deep, j : j + high])
        return row

    def _bins(self, level: int) -> tuple[int, int, int]:
        """Return by how much the next level bins z, y and x of this one."""
        this, above = self._writer.levels[level].factors, self._writer.levels[level + 1].factors
        return above[0] // this[0], above[1] // this[1], above[2] // this[2]


def _read_blocks(file: MrcFile) -> Iterator[NDArray[Any]]:
    for place in blocks(file.shape):
        yield np.asarray(file.read_block(place.sections, place.rows), np.float32)


def _decimals(statistics: VoxelStatistics) -> int:
    """Return the decimals of a thousandth of the range of real numbers; 0 for whole numbers."""
    spread = statistics.maximum - statistics.minimum
    return 0 if statistics.whole or not spread > 0 else max(0, math.ceil(3 - math.log10(spread)))


def _outwards(low: float, high: float, decimals: int) -> list[float | int]:
    """Return two limits, rounded away from each other to so many decimals."""
    scale = 10.0**decimals
    return [_plain(round(value / scale, decimals)) for value in (math.floor(low * scale), math.ceil(high * scale))]


def _plain(value: float) -> float | int:
    """Return a whole number as an int, which JSON shows without a point."""
    return int(value) if value == int(value) else value
