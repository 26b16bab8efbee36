"""From slices of single lines to slabs of the volume: X-axis tilt, rounding, statistics and order.

Whatever method makes a slice from one line of the views (weighted back-projection, SIRT), the volume is assembled here.  Without
X-axis tilt the slices are the volume.  With it, the slice of every line is made once, over the heights where the turned volume
crosses it, and the volume is interpolated bilinearly between neighbouring lines and heights (as `tilt` does, `XTILTINTERP 1`);
beyond the first and the last line it has one fill value.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tiltflow.kernels.backprojection import turn_about_x
from tiltflow.kernels.grey import round_into, statistics
from tiltflow.model import Progress
from tiltflow.parallel import map_threads
from tiltflow.reconstruct.stretched_lines import SliceGrid

Sink = Callable[[int, NDArray[Any]], None]
"""Receives the first row y0 and a slab of slices `(rows, nz, nx)`, which it may keep; their top (greatest z) is row 0, as in
`_full_rec.mrc`."""

GREYS: Mapping[int, tuple[type[np.generic], int, int]] = {
    0: (np.uint8, 0, 255),
    1: (np.int16, -32768, 32767),
    2: (np.float32, 0, 0),
}
"""MRC mode to the type of a voxel, and the least and the greatest integer."""

_SLAB_BYTES = 48 << 20
"""Size of the slices of a slab as real numbers, bytes: it bounds the memory of wide or thick volumes (`tests/test_memory.py`)."""
_MOST_ROWS = 48
"""Slices of a slab at most.  Their rows of one height are written at once, which costs half as much as with 16 slices."""


class Clock:
    """CPU seconds by phase, of the calling thread."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._last = time.thread_time()

    def lap(self, phase: str) -> None:
        """Add the time since the last call to a phase."""
        now = time.thread_time()
        self.spent[phase] = self.spent.get(phase, 0.0) + now - self._last
        self._last = now


@dataclass(frozen=True)
class VolumeGrid:
    """The voxels of the volume, and the slice of every line that it is made from.

    Attributes
    ----------
    ny
        Lines of the views, and slices of the volume.
    xz
        Voxels of each slice of the volume.
    pitch_deg
        Pitch of the specimen about x, degrees, that the volume is levelled by.
    """

    ny: int
    xz: SliceGrid
    pitch_deg: float = 0.0

    @cached_property
    def cosine(self) -> float:
        """Of the pitch angle."""
        return float(np.cos(np.deg2rad(self.pitch_deg)))

    @cached_property
    def sine(self) -> float:
        """Of the pitch angle."""
        return float(np.sin(np.deg2rad(self.pitch_deg)))

    @cached_property
    def line_nz(self) -> int:
        """Rows of the slice of a line."""
        if self.pitch_deg == 0:
            return self.xz.nz
        return int(np.ceil(self.xz.nz / self.cosine + 2 * abs(self.sine / self.cosine))) + 2

    @cached_property
    def tops(self) -> NDArray[np.float64]:
        """Height of the first row of the slice of each line, `(ny,)`, a whole number of rows from the volume's."""
        if self.pitch_deg == 0:
            return np.full(self.ny, self.xz.z_first)
        y = np.arange(self.ny) + 0.5 - self.ny / 2
        highest = (self.xz.z_first + y * self.sine + abs(self.sine)) / self.cosine
        return np.asarray(self.xz.z_first + np.ceil(highest - self.xz.z_first))

    @cached_property
    def whole(self) -> SliceGrid:
        """A slice that contains those of all lines."""
        top, bottom = float(self.tops.max()), float(self.tops.min()) - (self.line_nz - 1)
        nz = round(top - bottom) + 1
        return SliceGrid(self.xz.nx, nz, self.xz.x_centre, (top + bottom) / 2)

    def line_at(self, row: float, z_row: float) -> float:
        """Return the (fractional) line in which the voxel at row `z_row` of slice `row` lies."""
        y, z = row + 0.5 - self.ny / 2, self.xz.z_first - z_row
        return y * self.cosine - z * self.sine + self.ny / 2 - 0.5

    def lines_of(self, row0: int, row1: int) -> tuple[int, int]:
        """Return the first and one past the last line that slices `row0..row1` of the volume are made from."""
        at = [self.line_at(row, z) for row in (row0, row1 - 1) for z in (0, self.xz.nz - 1)]
        first = min(max(int(np.floor(min(at))), 0), self.ny - 1)
        return first, max(min(int(np.floor(max(at))) + 2, self.ny), first + 1)


class SliceMaker(Protocol):
    """Makes the slices of lines."""

    @property
    def outside(self) -> float:
        """Grey value of voxels that no view sees."""

    def slices(self, y0: int, tops: NDArray[np.float64], clock: Clock) -> Iterator[NDArray[np.float32]]:
        """Yield the slice `(line_nz, nx)` of each line from y0 on, in order; `tops` are the heights of their first rows.

        The array is reused for the next one.
        """


@dataclass(frozen=True, slots=True)
class Assembly:
    """Statistics of an assembled volume: grey values before rounding, and CPU seconds by phase."""

    minimum: float
    maximum: float
    mean: float
    seconds: Mapping[str, float]


def assemble(
    maker: SliceMaker,
    grid: VolumeGrid,
    mode: int,
    sink: Sink,
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> Assembly:
    """Make the volume and hand it to `sink`, slab by slab in the order of y.

    Parameters
    ----------
    maker
        Makes the slice of each line.
    grid
        Voxels of the volume.
    mode
        MRC mode of the voxels (:data:`GREYS`).
    sink
        Receives the slabs.
    threads
        Slabs made at the same time.
    progress
        Called with the fraction done.
    """
    seconds: dict[str, float] = {}
    make_slabs = _turned_slabs if grid.pitch_deg else _level_slabs
    slabs = make_slabs(maker, grid, lambda y0, y1: _Slab(grid, mode, y0, y1), threads, seconds)
    low, high, total = np.inf, -np.inf, 0.0
    for slab in slabs:
        least, greatest, added = slab.statistics()
        low, high, total = min(low, least), max(high, greatest), total + added
        begin = time.thread_time()
        sink(slab.y0, slab.greys)
        slab.spent["write"] = time.thread_time() - begin
        _add(seconds, slab.spent)
        if progress is not None:
            progress((slab.y0 + len(slab.greys)) / grid.ny)
        del slab  # or its memory is held while the next one is made
    return Assembly(low, high, total / (grid.ny * grid.xz.nz * grid.xz.nx), seconds)


def _add(seconds: dict[str, float], spent: Mapping[str, float]) -> None:
    for phase, elapsed in spent.items():
        seconds[phase] = seconds.get(phase, 0.0) + elapsed


class _Slab:
    """Slices of the volume that are being made."""

    def __init__(self, grid: VolumeGrid, mode: int, y0: int, y1: int) -> None:
        dtype, self._least, self._most = GREYS[mode]
        self.y0 = y0
        # Rows of one height lie together, as they do in the volume once y and z are exchanged, so that they are written as they are.
        self._heights = np.empty((grid.xz.nz, y1 - y0, grid.xz.nx), dtype)
        self.greys = self._heights.transpose(1, 0, 2)
        self._low, self._high = np.full(grid.xz.nx, np.inf, np.float32), np.full(grid.xz.nx, -np.inf, np.float32)
        self._sums = np.zeros((y1 - y0, grid.xz.nx), np.float32)
        self.spent: dict[str, float] = {}

    def put(self, j: int, xz: NDArray[np.float32]) -> None:
        """Round a slice into its place."""
        columns = self._low, self._high, self._sums[j]
        if self.greys.dtype == np.float32:
            self.greys[j] = xz
            statistics(xz, *columns)
        else:
            round_into(xz, self._least, self._most, *columns, j, self._heights)

    def statistics(self) -> tuple[float, float, float]:
        """Return the least, the greatest and the sum of the grey values before rounding."""
        return float(self._low.min()), float(self._high.max()), float(self._sums.sum(dtype=np.float64))


def slab_rows(nz: int, nx: int) -> int:
    """Return how many slices of `(nz, nx)` voxels make a slab."""
    return int(np.clip(_SLAB_BYTES // (4 * nz * nx), 1, _MOST_ROWS))


def _blocks(ny: int, nz: int, nx: int) -> list[tuple[int, int]]:
    rows = slab_rows(nz, nx)
    return [(y0, min(y0 + rows, ny)) for y0 in range(0, ny, rows)]


def _level_slabs(
    maker: SliceMaker, grid: VolumeGrid, begin: Callable[[int, int], _Slab], threads: int, _seconds: dict[str, float]
) -> Iterator[_Slab]:
    def make(block: tuple[int, int]) -> _Slab:
        slab, clock = begin(*block), Clock()
        for j, xz in enumerate(maker.slices(block[0], grid.tops[slice(*block)], clock)):
            slab.put(j, xz)
            clock.lap("round")
        slab.spent = clock.spent
        return slab

    yield from map_threads(make, _blocks(grid.ny, grid.xz.nz, grid.xz.nx), threads)


def _turned_slabs(
    maker: SliceMaker, grid: VolumeGrid, begin: Callable[[int, int], _Slab], threads: int, seconds: dict[str, float]
) -> Iterator[_Slab]:
    """Yield slabs of the turned volume; slices of lines are kept as long as they are needed."""
    blocks = _blocks(grid.ny, grid.line_nz, grid.xz.nx)

    def make_lines(block: tuple[int, int]) -> tuple[int, list[NDArray[np.float32]], dict[str, float]]:
        clock = Clock()
        kept = []
        for xz in maker.slices(block[0], grid.tops[slice(*block)], clock):
            kept.append(xz.copy())
            clock.lap("turn")
        return block[0], kept, clock.spent

    def windows() -> Iterator[tuple[tuple[int, int], dict[int, NDArray[np.float32]]]]:
        lines: dict[int, NDArray[np.float32]] = {}
        waiting = iter(blocks)
        block = next(waiting, None)
        for y0, slices, spent in map_threads(make_lines, blocks, threads):
            _add(seconds, spent)
            lines.update(enumerate(slices, y0))
            while block is not None:
                first, last = grid.lines_of(*block)
                if last - 1 not in lines:
                    break
                yield block, {y: lines[y] for y in range(first, last)}
                lines = {y: xz for y, xz in lines.items() if y >= first}
                block = next(waiting, None)

    def turn(window: tuple[tuple[int, int], dict[int, NDArray[np.float32]]]) -> _Slab:
        block, lines = window
        slab, clock = begin(*block), Clock()
        xz = np.empty((grid.xz.nz, grid.xz.nx), np.float32)
        for row in range(*block):
            _turn(grid, row, lines, np.float32(maker.outside), xz)
            clock.lap("turn")
            slab.put(row - block[0], xz)
            clock.lap("round")
        slab.spent = clock.spent
        return slab

    yield from map_threads(turn, windows(), threads)


def _turn(
    grid: VolumeGrid, row: int, lines: Mapping[int, NDArray[np.float32]], outside: np.float32, out: NDArray[np.float32]
) -> None:
    """Interpolate one slice of the turned volume between those of lines."""
    at = grid.line_at(row, 0) + grid.sine * np.arange(grid.xz.nz)
    y = row + 0.5 - grid.ny / 2
    height = y * grid.sine + (grid.xz.z_first - np.arange(grid.xz.nz)) * grid.cosine
    seen = (at >= 0) & (at <= grid.ny - 1)
    out[~seen] = outside
    nearest = np.minimum(at.astype(np.int64), max(grid.ny - 2, 0))
    for line in np.unique(nearest[seen]).tolist():
        rows = np.flatnonzero(seen & (nearest == line))
        here, there = line, min(line + 1, grid.ny - 1)
        turn_about_x(
            lines[here],
            lines[there],
            grid.tops[here] - height[rows],
            grid.tops[there] - height[rows],
            (at[rows] - line).astype(np.float32),
            out[rows[0] : rows[-1] + 1],
        )
