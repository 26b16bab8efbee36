"""Sections that are read block by block: those of a file, and their running mean.

The products are made from :class:`Voxels` (an MRC file whose broken voxels are filled) and :class:`RunningMean` (each section the
mean of five).  Both return float32 blocks of some sections by some rows, so that memory never holds a whole volume, nor
whole sections of a large one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from tiltflow.errors import StageError
from tiltflow.formats.mrc import MrcFile, open_mrc
from tiltflow.kernels import products as kernels
from tiltflow.parallel import map_threads

LARGEST_VOXEL = 1e30
"""Float voxels beyond this count as broken: sums of them leave the range of float32."""

_BLOCK_BYTES = 4 << 20
_BLOCK_SECTIONS = 16


class Block(NamedTuple):
    """Sections `z` .. `z_end` - 1 by rows `y` .. `y_end` - 1 of a volume; `done` is the fraction of the volume up to its end."""

    z: int
    z_end: int
    y: int
    y_end: int
    done: float

    @property
    def sections(self) -> slice:
        """Its sections."""
        return slice(self.z, self.z_end)

    @property
    def rows(self) -> slice:
        """Its rows."""
        return slice(self.y, self.y_end)


class Sections(Protocol):
    """Sections whose blocks can be read from several threads.

    Attributes
    ----------
    shape
        `(nz, ny, nx)`.
    whole
        Whether all values are whole numbers, so that results are rounded.
    """

    @property
    def shape(self) -> tuple[int, int, int]: ...  # noqa: D102 - in the docstring of the class

    @property
    def whole(self) -> bool: ...  # noqa: D102

    def read(self, sections: slice, rows: slice = ..., /) -> NDArray[np.float32]:
        """Return a block, `(sections, rows, nx)`, in an array of its own."""


class Voxels:
    """The voxels of an MRC file as finite numbers.

    In a file of floats, voxels that are not finite or beyond :data:`LARGEST_VOXEL` are replaced by the mean of the others; the
    file is read once at the start to find them.

    Parameters
    ----------
    path
        The file.
    threads
        Threads of that reading.

    Attributes
    ----------
    filled
        Number of voxels that are replaced.

    Raises
    ------
    StageError
        If no voxel is usable.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int = 1) -> None:
        self.file: MrcFile = open_mrc(path)
        self.filled = 0
        self._fill = 0.0
        if not self.whole:
            self._find_broken(threads)

    @property
    def path(self) -> Path:
        """The file."""
        return self.file.path

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(nz, ny, nx)`."""
        return self.file.shape

    @property
    def whole(self) -> bool:
        """Whether the file holds integers."""
        return self.file.dtype.kind in "iu"

    def read(self, sections: slice, rows: slice = slice(None)) -> NDArray[np.float32]:
        """Return a block, `(sections, rows, nx)`, in an array of its own."""
        block = np.asarray(self.file.read_block(sections, rows), np.float32)
        if self.filled:
            kernels.fill_unusable(block, LARGEST_VOXEL, self._fill)
        return block

    def notes(self) -> tuple[str, ...]:
        """Return remarks on replaced voxels."""
        if not self.filled:
            return ()
        count = f"{self.path.name}: {self.filled} voxels are not finite or beyond {LARGEST_VOXEL:g}"
        return (f"{count}; they are replaced by the mean of the others, {self._fill:.6g}",)

    def _find_broken(self, threads: int) -> None:
        def survey(place: Block) -> tuple[int, float]:
            block = np.asarray(self.file.read_block(place.sections, place.rows), np.float32)
            broken: int = kernels.fill_unusable(block, LARGEST_VOXEL, 0.0)
            return broken, float(block.sum(axis=-1, dtype=np.float64).sum())

        found = list(map_threads(survey, blocks(self.shape), threads))
        self.filled = sum(broken for broken, _ in found)
        usable = int(np.prod(self.shape, dtype=np.int64)) - self.filled
        if not usable:
            raise StageError(f"{self.path}: none of its {self.filled} voxels is usable; the reconstruction failed")
        self._fill = sum(total for _, total in found) / usable

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.file.close()


class RunningMean:
    """The mean of every five sections in a row (`clip avg -2d`): section i of it is the mean of i .. i + 4 of the source.

    A source of fewer than five sections has one mean, that of all.

    Parameters
    ----------
    source
        The sections.
    whole
        Whether the means are cut to whole numbers, toward zero, as clip does when it writes integers.
    """

    WINDOW = 5

    def __init__(self, source: Sections, *, whole: bool) -> None:
        nz, ny, nx = source.shape
        self.window = min(self.WINDOW, nz)
        self.shape = (nz - self.window + 1, ny, nx)
        self.whole = whole
        self._source = source

    def read(self, sections: slice, rows: slice = slice(None)) -> NDArray[np.float32]:
        """Return a block, `(sections, rows, nx)`, in an array of its own."""
        first, last, _ = sections.indices(self.shape[0])
        block = self._source.read(slice(first, last + self.window - 1), rows)
        out = np.empty((last - first, *block.shape[1:]), np.float32)
        kernels.running_mean(block, self.window, self.whole, out)
        return out


def blocks(shape: tuple[int, int, int], *, sections: int = _BLOCK_SECTIONS) -> Iterator[Block]:
    """Yield the blocks of a volume, of up to `sections` sections and about 4 MiB of float32."""
    nz, ny, nx = shape
    sections = min(sections, nz)
    rows = max(1, _BLOCK_BYTES // (4 * sections * nx))
    for z in range(0, nz, sections):
        for y in range(0, ny, rows):
            z_end, y_end = min(z + sections, nz), min(y + rows, ny)
            yield Block(z, z_end, y, y_end, (z + (z_end - z) * y_end / ny) / nz)
