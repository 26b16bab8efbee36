"""From sections of single lines to slabs of the volume: x-axis tilt, rounding, statistics, order.

Whatever makes a section from one line of the views (weighted back-projection, SIRT), the volume is put together here.  Without
x-axis tilt the sections are the volume.  With it, the section of every line is made once, over the heights where the turned volume
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
from tiltflow.reconstruct.stretched_lines import Section

Sink = Callable[[int, NDArray[Any]], None]
"""Receives the first row y0 and a slab of sections `(rows, nz, nx)`, which it may keep; their top (greatest z) is row 0, as in
`_full_rec.mrc`."""

GREYS: Mapping[int, tuple[type[np.generic], int, int]] = {
    0: (np.uint8, 0, 255),
    1: (np.int16, -32768, 32767),
    2: (np.float32, 0, 0),
}
"""MRC mode to the type of a voxel, and the least and the greatest integer."""

_SLAB_BYTES = 48 << 20
"""Of the sections of a slab as real numbers."""
_MOST_ROWS = 48
"""Sections of a slab.  Their rows of one height are written at once, which costs half as much as with 16 sections."""


class Clock:
    """CPU seconds by phase, of the thread that asks."""

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
    """The volume, and the section of every line that it is made from.

    Attributes
    ----------
    ny
        Lines of the views, and sections of the volume.
    section
        Of the volume.
    pitch_deg
        Pitch of the specimen about x that the volume does away with.
    """

    ny: int
    section: Section
    pitch_deg: float = 0.0

    @cached_property
    def cosine(self) -> float:
        """Of the pitch."""
        return float(np.cos(np.deg2rad(self.pitch_deg)))

    @cached_property
    def sine(self) -> float:
        """Of the pitch."""
        return float(np.sin(np.deg2rad(self.pitch_deg)))

    @cached_property
    def line_nz(self) -> int:
        """Rows of the section of a line."""
        if self.pitch_deg == 0:
            return self.section.nz
        return int(np.ceil(self.section.nz / self.cosine + 2 * abs(self.sine / self.cosine))) + 2

    @cached_property
    def tops(self) -> NDArray[np.float64]:
        """Height of the first row of the section of each line, `(ny,)`, in step with the rows of the volume."""
        if self.pitch_deg == 0:
            return np.full(self.ny, self.section.z_first)
        y = np.arange(self.ny) + 0.5 - self.ny / 2
        highest = (self.section.z_first + y * self.sine + abs(self.sine)) / self.cosine
        return np.asarray(self.section.z_first + np.ceil(highest - self.section.z_first))

    @cached_property
    def whole(self) -> Section:
        """A section that holds those of all lines."""
        top, bottom = float(self.tops.max()), float(self.tops.min()) - (self.line_nz - 1)
        nz = round(top - bottom) + 1
        return Section(self.section.nx, nz, self.section.x_centre, (top + bottom) / 2)

    def line_at(self, row: float, z_row: float) -> float:
        """Return the (fractional) line that the voxel in a row of section `row` lies in."""
        y, z = row + 0.5 - self.ny / 2, self.section.z_first - z_row
        return y * self.cosine - z * self.sine + self.ny / 2 - 0.5

    def lines_of(self, row0: int, row1: int) -> tuple[int, int]:
        """Return the first and one past the last line that sections `row0..row1` of the volume are made from."""
        at = [self.line_at(row, z) for row in (row0, row1 - 1) for z in (0, self.section.nz - 1)]
        first = min(max(int(np.floor(min(at))), 0), self.ny - 1)
        return first, max(min(int(np.floor(max(at))) + 2, self.ny), first + 1)


class SectionMaker(Protocol):
    """Makes the sections of lines."""

    @property
    def outside(self) -> float:
        """Grey value of what no view sees."""

    def sections(self, y0: int, tops: NDArray[np.float64], clock: Clock) -> Iterator[NDArray[np.float32]]:
        """Yield the section `(line_nz, nx)` of each line from y0 on, in order; `tops` are the heights of their first rows.

        The array is used again for the next one.
        """


@dataclass(frozen=True, slots=True)
class Assembly:
    """Numbers of a volume that was put together: grey values before rounding, and CPU seconds by phase."""

    minimum: float
    maximum: float
    mean: float
    seconds: Mapping[str, float]


def assemble(
    maker: SectionMaker,
    grid: VolumeGrid,
    mode: int,
    sink: Sink,
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> Assembly:
    """Make the volume and hand it to `sink`, slab by slab in the order of y."""
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
    return Assembly(low, high, total / (grid.ny * grid.section.nz * grid.section.nx), seconds)


def _add(seconds: dict[str, float], spent: Mapping[str, float]) -> None:
    for phase, elapsed in spent.items():
        seconds[phase] = seconds.get(phase, 0.0) + elapsed


class _Slab:
    """Sections of the volume in the making."""

    def __init__(self, grid: VolumeGrid, mode: int, y0: int, y1: int) -> None:
        dtype, self._least, self._most = GREYS[mode]
        self.y0 = y0
        # Rows of one height lie together, as they do in the volume once y and z are exchanged, so that they are written as they are.
        self._heights = np.empty((grid.section.nz, y1 - y0, grid.section.nx), dtype)
        self.greys = self._heights.transpose(1, 0, 2)
        self._low, self._high = np.full(grid.section.nx, np.inf, np.float32), np.full(grid.section.nx, -np.inf, np.float32)
        self._sums = np.zeros((y1 - y0, grid.section.nx), np.float32)
        self.spent: dict[str, float] = {}

    def put(self, j: int, section: NDArray[np.float32]) -> None:
        """Round a section into its place."""
        columns = self._low, self._high, self._sums[j]
        if self.greys.dtype == np.float32:
            self.greys[j] = section
            statistics(section, *columns)
        else:
            round_into(section, self._least, self._most, *columns, j, self._heights)

    def statistics(self) -> tuple[float, float, float]:
        """Return the least, the greatest and the sum of the grey values before rounding."""
        return float(self._low.min()), float(self._high.max()), float(self._sums.sum(dtype=np.float64))


def slab_rows(nz: int, nx: int) -> int:
    """Return how many sections of `(nz, nx)` voxels make a slab."""
    return int(np.clip(_SLAB_BYTES // (4 * nz * nx), 1, _MOST_ROWS))


def _blocks(ny: int, nz: int, nx: int) -> list[tuple[int, int]]:
    rows = slab_rows(nz, nx)
    return [(y0, min(y0 + rows, ny)) for y0 in range(0, ny, rows)]


def _level_slabs(
    maker: SectionMaker, grid: VolumeGrid, begin: Callable[[int, int], _Slab], threads: int, _seconds: dict[str, float]
) -> Iterator[_Slab]:
    def make(block: tuple[int, int]) -> _Slab:
        slab, clock = begin(*block), Clock()
        for j, section in enumerate(maker.sections(block[0], grid.tops[slice(*block)], clock)):
            slab.put(j, section)
            clock.lap("round")
        slab.spent = clock.spent
        return slab

    yield from map_threads(make, _blocks(grid.ny, grid.section.nz, grid.section.nx), threads)


def _turned_slabs(
    maker: SectionMaker, grid: VolumeGrid, begin: Callable[[int, int], _Slab], threads: int, seconds: dict[str, float]
) -> Iterator[_Slab]:
    """Yield slabs of the turned volume; the sections of lines are kept for as long as it needs them."""
    blocks = _blocks(grid.ny, grid.line_nz, grid.section.nx)

    def make_lines(block: tuple[int, int]) -> tuple[int, list[NDArray[np.float32]], dict[str, float]]:
        clock = Clock()
        kept = []
        for section in maker.sections(block[0], grid.tops[slice(*block)], clock):
            kept.append(section.copy())
            clock.lap("turn")
        return block[0], kept, clock.spent

    def windows() -> Iterator[tuple[tuple[int, int], dict[int, NDArray[np.float32]]]]:
        lines: dict[int, NDArray[np.float32]] = {}
        waiting = iter(blocks)
        block = next(waiting, None)
        for y0, sections, spent in map_threads(make_lines, blocks, threads):
            _add(seconds, spent)
            lines.update(enumerate(sections, y0))
            while block is not None:
                first, last = grid.lines_of(*block)
                if last - 1 not in lines:
                    break
                yield block, {y: lines[y] for y in range(first, last)}
                lines = {y: section for y, section in lines.items() if y >= first}
                block = next(waiting, None)

    def turn(window: tuple[tuple[int, int], dict[int, NDArray[np.float32]]]) -> _Slab:
        block, lines = window
        slab, clock = begin(*block), Clock()
        section = np.empty((grid.section.nz, grid.section.nx), np.float32)
        for row in range(*block):
            _turn(grid, row, lines, np.float32(maker.outside), section)
            clock.lap("turn")
            slab.put(row - block[0], section)
            clock.lap("round")
        slab.spent = clock.spent
        return slab

    yield from map_threads(turn, windows(), threads)


def _turn(
    grid: VolumeGrid, row: int, lines: Mapping[int, NDArray[np.float32]], outside: np.float32, out: NDArray[np.float32]
) -> None:
    """Interpolate one section of the turned volume between those of lines."""
    at = grid.line_at(row, 0) + grid.sine * np.arange(grid.section.nz)
    y = row + 0.5 - grid.ny / 2
    height = y * grid.sine + (grid.section.z_first - np.arange(grid.section.nz)) * grid.cosine
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
