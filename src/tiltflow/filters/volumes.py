"""Volumes that are read and written block by block: files, arrays, and scratch space on the disk.

:class:`tiltflow.formats.mrc.MrcFile` is a :class:`VolumeSource` and :class:`tiltflow.formats.mrc.MrcWriter` a :class:`VolumeSink`;
:func:`filtered_file` opens one of each.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tiltflow.errors import FormatError, ParameterError, ResourceError
from tiltflow.formats.mrc import MrcFile, MrcWriter, open_mrc, render_label

MEMORY_BYTES = 512 << 20
"""Memory for the blocks that are worked on at once, if nothing else is asked for: half of the gigabyte that a volume may take."""


class NotFiniteError(ParameterError):
    """A volume holds values that are not finite, which a filter would spread."""


class VolumeSource(Protocol):
    """A volume that is read in blocks, from several threads."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(nz, ny, nx)`."""

    def read_block(self, sections: slice = ..., rows: slice = ...) -> NDArray[Any]:
        """Return rows of sections, `(sections, rows, nx)`, in an array that the caller may change."""


class VolumeSink(Protocol):
    """A volume that is written in blocks, in any order and from several threads."""

    def write_block(self, block: NDArray[Any], *, z: int = 0, y: int = 0) -> None:
        """Write `(k, m, nx)` at sections `z` to `z + k` and rows `y` to `y + m`."""


class ArrayVolume:
    """An array `(nz, ny, nx)` that is read and written in blocks."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(nz, ny, nx)`."""
        nz, ny, nx = self.array.shape
        return nz, ny, nx

    def read_block(self, sections: slice = slice(None), rows: slice = slice(None)) -> NDArray[Any]:
        """Return rows of sections, in an array of their own."""
        return self.array[sections, rows].copy()

    def write_block(self, block: NDArray[Any], *, z: int = 0, y: int = 0) -> None:
        """Write a block."""
        self.array[z : z + len(block), y : y + block.shape[1]] = block


class ScratchVolume:
    """A volume in a nameless file, which is gone when it is closed and when its process ends, however that ends.

    Parameters
    ----------
    folder
        Where there is room for it.
    shape
        `(nz, ny, nx)`.
    dtype
        Type of the voxels.

    Raises
    ------
    ResourceError
        If the folder cannot be written to or has too little room, here or while it is written.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int], dtype: DTypeLike) -> None:
        self.folder, self.shape, self.dtype = folder, shape, np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize
        try:
            free = shutil.disk_usage(folder).free
            if free < size:
                raise ResourceError(
                    f"{folder}: {size / 1e9:.3g} GB of scratch are needed and {free / 1e9:.3g} GB are free; name another folder"
                )
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  it lives as long as the volume
        except OSError as error:
            if isinstance(error, ResourceError):
                raise
            raise ResourceError(f"{folder}: no scratch file can be made in it: {error.strerror}; name another folder") from error

    def read_block(self, sections: slice = slice(None), rows: slice = slice(None)) -> NDArray[Any]:
        """Return rows of sections; what was not written is 0."""
        zs, ys = range(self.shape[0])[sections], range(self.shape[1])[rows]
        block = np.zeros((len(zs), len(ys), self.shape[2]), self.dtype)
        for piece, offset in self._pieces(block, zs.start, ys.start):
            buffer = piece.reshape(-1).view(np.uint8).data
            while buffer and (count := os.preadv(self._file.fileno(), [buffer], offset)):
                buffer, offset = buffer[count:], offset + count
        return block

    def write_block(self, block: NDArray[Any], *, z: int = 0, y: int = 0) -> None:
        """Write a block."""
        try:
            for piece, offset in self._pieces(np.ascontiguousarray(block, self.dtype), z, y):
                buffer = piece.reshape(-1).view(np.uint8).data
                while buffer:
                    count = os.pwrite(self._file.fileno(), buffer, offset)
                    buffer, offset = buffer[count:], offset + count
        except OSError as error:
            raise ResourceError(
                f"{self.folder}: writing scratch failed: {error.strerror}; make room or name another folder"
            ) from error

    def _pieces(self, block: NDArray[Any], z: int, y: int) -> list[tuple[NDArray[Any], int]]:
        """Return the parts of a block that lie together in the file, with their places."""
        _, ny, nx = self.shape
        if block.shape[1] == ny:
            return [(block, z * ny * nx * block.itemsize)]
        return [(section, ((z + k) * ny + y) * nx * block.itemsize) for k, section in enumerate(block)]

    def close(self) -> None:
        """Give the room back."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


@contextmanager
def filtered_file(
    source: str | os.PathLike[str], target: str | os.PathLike[str], done: str, dtype: DTypeLike
) -> Iterator[tuple[MrcFile, MrcWriter]]:
    """Provide the volume in an MRC file, and the file of what a filter makes of it: that appears when it is complete.

    Parameters
    ----------
    source, target
        The files; pixel size, origin and labels of the first are those of the second.
    done
        What was done, in words, for a label of the second.
    dtype
        Type of the voxels written (:class:`tiltflow.formats.mrc.MrcWriter`).

    Raises
    ------
    LocationError, FormatError
        If the source cannot be read, or holds voxels that are not finite.
    ResourceError
        If the place of the target has too little room.
    """
    with open_mrc(source) as volume:
        header = volume.header
        with MrcWriter(
            target,
            volume.shape,
            dtype,
            pixel_size_angstrom=header.pixel_size_angstrom,
            labels=(*header.labels, render_label(f"tiltflow: {done}")),
            origin=header.origin,
        ) as out:
            try:
                yield volume, out
            except NotFiniteError as error:
                raise FormatError(f"{volume.path}: {error}") from error
