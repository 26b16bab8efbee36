"""Tests of putting slices of lines together into a volume."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import numpy as np
import pytest

from tiltflow.reconstruct.stretched_lines import SliceGrid
from tiltflow.reconstruct.volume_slabs import Clock, VolumeGrid, assemble


class Planes:
    """Slices of a field that is linear in y and z, so that any interpolation between them is exact."""

    outside = -7.0

    def __init__(self, grid: VolumeGrid) -> None:
        self.grid = grid
        self.made: list[int] = []

    def slices(self, y0: int, tops: np.ndarray, clock: Clock) -> Iterator[np.ndarray]:
        for j, top in enumerate(tops):
            self.made.append(y0 + j)
            y = y0 + j + 0.5 - self.grid.ny / 2
            z = top - np.arange(self.grid.line_nz)
            yield np.broadcast_to((3 * y + 2 * z)[:, None], (len(z), self.grid.xz.nx)).astype(np.float32)
            clock.lap("make")


def assembled(grid: VolumeGrid, threads: int = 1) -> tuple[np.ndarray, Planes]:
    maker = Planes(grid)
    slabs: list[np.ndarray] = []
    result = assemble(maker, grid, 2, lambda _, slab: slabs.append(slab), threads=threads)
    out = np.concatenate(slabs)
    assert (result.minimum, result.maximum) == (out.min(), out.max())
    assert result.mean == pytest.approx(out.mean(dtype=float), rel=1e-3, abs=1e-3)
    assert set(result.seconds) >= {"make", "round", "write"}
    return out, maker


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("pitch", [0.0, 3.0, -11.0, 40.0])
def test_the_volume_is_the_field_seen_along_turned_axes(pitch: float, threads: int) -> None:
    grid = VolumeGrid(45, SliceGrid(6, 14, 0.0, 2.5), pitch)
    out, maker = assembled(grid, threads)
    assert out.shape == (45, 14, 6)
    a = np.deg2rad(pitch)
    y = np.arange(45)[:, None] + 0.5 - 22.5
    z = 2.5 + 6.5 - np.arange(14)
    line, height = y * np.cos(a) - z * np.sin(a), y * np.sin(a) + z * np.cos(a)
    seen = np.abs(line) <= 22 - 1e-9
    np.testing.assert_allclose(out[seen], np.repeat((3 * line + 2 * height)[seen][:, None], 6, axis=1), atol=1e-3)
    unseen = np.abs(line) > 22 + 1e-9
    np.testing.assert_array_equal(out[unseen], -7)
    assert sorted(maker.made) == list(range(45))


def test_a_single_line_makes_a_single_section() -> None:
    out, _ = assembled(VolumeGrid(1, SliceGrid(4, 5), 0.0))
    assert out.shape == (1, 5, 4)
    turned, _ = assembled(VolumeGrid(1, SliceGrid(4, 5), 2.0))
    assert turned.shape == (1, 5, 4)


def test_the_sections_of_lines_hold_every_height_that_is_asked_of_them() -> None:
    for pitch in (-20.0, 5.0, 33.0):
        grid = VolumeGrid(60, SliceGrid(3, 21, 0.0, -4.0), pitch)
        rows, z_rows = np.mgrid[:60, :21]
        y, z = rows + 0.5 - 30, grid.xz.z_first - z_rows
        height = y * grid.sine + z * grid.cosine
        at = np.clip(np.floor(grid.line_at(rows, z_rows)).astype(int), 0, 58)
        inside = (grid.line_at(rows, z_rows) >= 0) & (grid.line_at(rows, z_rows) <= 59)
        for line in (at, at + 1):
            index = grid.tops[line] - height
            assert index[inside].min() >= 0
            assert index[inside].max() <= grid.line_nz - 1


def test_slabs_that_are_kept_stay_as_they_were() -> None:
    grid = VolumeGrid(96 * 4, SliceGrid(6, 14))
    kept: list[np.ndarray] = []
    assemble(Planes(grid), grid, 1, lambda _, slab: kept.append(slab[:, ::2]), threads=2)
    assert len(kept) == 8
    y, z = np.arange(384)[:, None] + 0.5 - 192, 6.5 - np.arange(14)[::2]
    np.testing.assert_array_equal(np.concatenate(kept)[..., 0], np.floor(3 * y + 2 * z + 0.5))


def test_the_memory_of_a_slab_is_let_go_before_the_next_is_made() -> None:
    grid = VolumeGrid(96 * 4, SliceGrid(6, 14))
    alive: list[weakref.ref[np.ndarray]] = []

    class Watching(Planes):
        def slices(self, y0: int, tops: np.ndarray, clock: Clock) -> Iterator[np.ndarray]:
            assert not any(slab() is not None for slab in alive)
            return super().slices(y0, tops, clock)

    assemble(Watching(grid), grid, 1, lambda _, slab: alive.append(weakref.ref(slab)))
    assert len(alive) == 8
