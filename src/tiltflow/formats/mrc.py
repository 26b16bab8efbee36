"""MRC files: read and written without ever holding a whole file in memory.

Reading: modes 0 (bytes, signed or not by IMOD's stamp), 1, 2, 6 and 12, either byte order, with or without an extended
header.

>>> with open_mrc("series.st") as stack:      # doctest: +SKIP
...     stack.header.pixel_size_angstrom
...     view = stack[20]

`MrcFile` is a :class:`tiltflow.model.ImageStack`: `stack[i]` reads one view into an array of its own.  `stack.data` maps the
whole file instead; pages touched through it count as resident memory until the system reclaims them.

Writing: :class:`MrcWriter` takes sections in order, or blocks of rows in any order and from several threads, converts to
the type of the file as IMOD does (`floor(x + 0.5)`, clamped) and fills in the header's statistics at the end.  The file
appears under its name only when it is complete.
"""

from __future__ import annotations

import os
import secrets
import struct
import threading
import weakref
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE
from numpy.typing import ArrayLike, DTypeLike, NDArray

from tiltflow.errors import FormatError, ParameterError, ResourceError
from tiltflow.formats.extended import render_serialem_tilts
from tiltflow.formats.mrcheader import HEADER_BYTES, IMOD_STAMP, RMS_NOT_COMPUTED, SIGNED_BYTES, MrcHeader, read_header
from tiltflow.formats.reserve import reserve
from tiltflow.model import Acquisition, Problem

__all__ = ["MrcFile", "MrcHeader", "MrcWriter", "convert", "open_mrc", "read_header", "render_label"]

_MODES = {"i1": 0, "u1": 0, "i2": 1, "f4": 2, "u2": 6, "f2": 12}

_PIECE = 1 << 18
"""Voxels that are converted at once: 1 MB of real numbers fits the second-level cache of a core, and threads hold the lock of the
interpreter for a small part of the time."""


def open_mrc(path: str | os.PathLike[str]) -> MrcFile:
    """Return an MRC file opened for reading.

    Raises
    ------
    LocationError, FormatError
        As :func:`read_header`.
    """
    return MrcFile(path)


class MrcFile:
    """An MRC file opened for reading, one view at a time; a :class:`tiltflow.model.ImageStack`."""

    container = "MRC"
    header_name = "header"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.header = read_header(path)
        self.path = self.header.path
        self._descriptor = os.open(self.path, os.O_RDONLY)
        self._closer = weakref.finalize(self, os.close, self._descriptor)

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(nz, ny, nx)`."""
        return self.header.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the arrays that reading returns: that of the file in the byte order of this machine."""
        return self.header.dtype.newbyteorder("=")

    @property
    def pixel_size_angstrom(self) -> tuple[float, float] | None:
        """Size of a voxel along x and y; None where the header gives none."""
        x, y, _ = self.header.pixel_size_angstrom
        return (x, y) if x > 0 else None

    @property
    def labels(self) -> tuple[str, ...]:
        """Title lines of the header."""
        return self.header.labels

    @property
    def acquisition(self) -> Acquisition | None:
        """Contents of the extended header; empty if its kind is unknown."""
        if self.header.extended is None and self.header.data_offset > HEADER_BYTES:
            return Acquisition("")
        return self.header.extended

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Whether there is more in the file than its header accounts for."""
        surplus = self.header.surplus_bytes
        if not surplus:
            return ()
        whole = surplus // self.header.section_bytes
        room = f", room for {whole} more" if whole else ""
        message = f"{surplus} bytes follow the last of the {self.shape[0]} views{room}; they are not read"
        return (Problem(message, str(self.path)),)

    @cached_property
    def data(self) -> np.memmap[Any, np.dtype[Any]]:
        """The voxels, `(nz, ny, nx)`, mapped read-only, in the byte order of the file."""
        return np.memmap(self.path, self.header.dtype, "r", self.header.data_offset, self.header.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, view: int, /) -> NDArray[Any]:
        index = range(self.shape[0])[view]
        image: NDArray[Any] = self.read_block(slice(index, index + 1))[0]
        return image

    def read_block(self, sections: slice = slice(None), rows: slice = slice(None)) -> NDArray[Any]:
        """Return rows of sections, `(sections, rows, nx)`, in an array of its own.

        Both slices are contiguous.

        Raises
        ------
        ValueError
            If a slice has a step.
        FormatError
            If the file became shorter since it was opened.
        """
        nz, ny, nx = self.shape
        zs, ys = range(nz)[sections], range(ny)[rows]
        if zs.step != 1 or ys.step != 1:
            raise ValueError("sections and rows are read in blocks: a slice cannot have a step")
        block = np.empty((len(zs), len(ys), nx), self.header.dtype)
        offset = self.header.data_offset + ys.start * nx * block.itemsize
        if len(ys) == ny:
            self._read(block, offset + zs.start * self.header.section_bytes)
        else:
            for section, z in zip(block, zs, strict=True):
                self._read(section, offset + z * self.header.section_bytes)
        return np.asarray(block, self.dtype)

    def _read(self, out: NDArray[Any], offset: int) -> None:
        buffer = out.reshape(-1).view(np.uint8).data
        while buffer:
            count = os.preadv(self._descriptor, [buffer], offset)
            if count == 0:
                raise FormatError(
                    f"{self.path}: ends before byte {offset}: it became shorter while it was read; run again when it is complete"
                )
            buffer, offset = buffer[count:], offset + count

    def close(self) -> None:
        """Close the file; arrays that were read stay valid."""
        self._closer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def render_label(text: str, when: datetime) -> str:
    """Return a title line in IMOD's form: 56 characters of text, then the date and the time.

    >>> render_label("tiltflow: aligned stack", datetime(2026, 11, 22, 11, 50, 1))[50:]
    '      22-Nov-26  11:50:01'
    """
    return f"{text:<56.56}{when:%d-%b-%y  %H:%M:%S}"


class MrcWriter:
    """Write an MRC file piece by piece, in bounded memory.

    Parameters
    ----------
    path
        The file to make.  Until the end it has a hidden name beside it; after an exception it is removed.
    shape
        `(nz, ny, nx)`.
    dtype
        `int8`, `uint8`, `int16`, `uint16`, `float16` or `float32`.
    pixel_size_angstrom
        One number, or x, y, z.
    labels
        Title lines; of more than ten the first nine and the last are kept.
    origin
        x, y, z, as it is to be stored.
    is_stack
        Whether the sections are separate images and not planes of a volume.
    tilt_deg
        Tilt of each section, for an extended header as SerialEM writes it.
    take_statistics
        Whether the header's statistics are taken of what is written, which costs as much as the writing; otherwise
        :meth:`set_statistics` gives them, or the file is read at the end.

    Raises
    ------
    ParameterError
        If MRC has no such type, or the shape is not that of a volume.
    ResourceError
        If the file cannot be made or the disk is full, here or while it is written.

    Examples
    --------
    >>> with MrcWriter("B_ali.mrc", (41, 512, 512), np.int16, pixel_size_angstrom=10, is_stack=True) as out:  # doctest: +SKIP
    ...     for image in images:
    ...         out.write(image)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        shape: tuple[int, int, int],
        dtype: DTypeLike,
        *,
        pixel_size_angstrom: float | Sequence[float],
        labels: Sequence[str] = (),
        origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
        is_stack: bool = False,
        tilt_deg: ArrayLike | None = None,
        take_statistics: bool = True,
    ) -> None:
        self.path = Path(path)
        self.shape = shape
        self.dtype = np.dtype(dtype).newbyteorder("<")
        if self.dtype.str[1:] not in _MODES:
            raise ParameterError(f"{self.path}: an MRC file cannot hold {self.dtype.name}; choose int8, int16, uint16 or float32")
        if len(shape) != 3 or min(shape) < 1:
            raise ParameterError(f"{self.path}: shape {shape} is not that of a volume (nz, ny, nx) with voxels in it")
        x, y, z = np.broadcast_to(np.asarray(pixel_size_angstrom, float), 3).tolist()
        self._pixel_size = (x, y, z)
        self._labels = tuple(labels) if len(labels) <= 10 else (*labels[:9], labels[-1])
        self._origin = origin
        self._is_stack = is_stack
        self._extended = b"" if tilt_deg is None else render_serialem_tilts(np.asarray(tilt_deg, float))
        self._offset = HEADER_BYTES + len(self._extended)
        self._voxels = int(np.prod(shape, dtype=np.int64))
        self._next = 0
        self._statistics: tuple[float, float, float] | None = None
        self._moments = _Moments()
        self._take_statistics = take_statistics
        self._lock = threading.Lock()
        self._mapped = self._reserved = False
        self._partial = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.partial")
        self._descriptor = self._create()
        self._closer = weakref.finalize(self, _discard, self._descriptor, self._partial)

    def _create(self) -> int:
        try:
            descriptor = os.open(self._partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError as error:
            raise ResourceError(f"{self.path}: cannot be written: {error.strerror}") from error
        try:
            os.ftruncate(descriptor, self._offset + self._voxels * self.dtype.itemsize)
        except OSError as error:
            _discard(descriptor, self._partial)
            raise ResourceError(f"{self.path}: no room for {self._voxels} voxels: {error.strerror}") from error
        return descriptor

    @cached_property
    def data(self) -> np.memmap[Any, np.dtype[Any]]:
        """The voxels, `(nz, ny, nx)`, mapped for writing in the type of the file.

        Nothing is converted or clamped here, and the statistics are taken by reading the file at the end unless
        :meth:`set_statistics` gives them.
        """
        self._mapped = True
        return np.memmap(self._partial, self.dtype, "r+", self._offset, self.shape)

    def write(self, sections: NDArray[Any]) -> None:
        """Append one section `(ny, nx)` or several `(k, ny, nx)`.

        Raises
        ------
        ValueError
            If they are of another size, or more than the file has room for.
        ResourceError
            If the disk is full.
        """
        block = sections[None] if sections.ndim == 2 else sections
        if block.ndim != 3 or block.shape[1:] != self.shape[1:]:
            raise ValueError(f"{self.path}: sections of {self.shape[1:]} expected, an array {sections.shape} given")
        self.write_block(block, z=self._next)
        self._next += len(block)

    def write_block(self, block: NDArray[Any], *, z: int = 0, y: int = 0) -> None:
        """Write `(k, m, nx)` at sections `z` to `z + k` and rows `y` to `y + m`; threads may call this at once.

        Raises
        ------
        ValueError
            If the block does not fit the file.
        ResourceError
            If the disk is full.
        """
        nz, ny, nx = self.shape
        if block.ndim != 3 or block.shape[2] != nx or not (0 <= z <= nz - len(block) and 0 <= y <= ny - block.shape[1]):
            raise ValueError(f"{self.path}: a block {block.shape} at section {z}, row {y} does not fit a file {self.shape}")
        moments = _Moments()
        self._reserve()
        for sections, rows in _pieces(block.shape):
            piece = block[sections, rows]
            if self._take_statistics or piece.dtype != self.dtype:
                low, high = moments.add(piece)
                piece = _convert(piece, self.dtype, low, high)
            else:
                moments.seen += piece.size
            for section, place in zip(piece, range(z + sections.start, nz), strict=False):
                first = (place * ny + y + rows.start) * nx
                self._put(np.ascontiguousarray(section).reshape(-1).view(np.uint8).data, self._offset + first * self.dtype.itemsize)
        with self._lock:
            self._moments.merge(moments)

    def _reserve(self) -> None:
        with self._lock:
            if self._reserved:
                return
            try:
                reserve(self._partial)
            except OSError as error:
                raise ResourceError(f"{self.path}: no room for {self._voxels} voxels: {error.strerror}") from error
            self._reserved = True

    def set_statistics(self, minimum: float, maximum: float, mean: float) -> None:
        """Give the header's statistics instead of those of what was written."""
        self._statistics = (minimum, maximum, mean)

    def close(self) -> None:
        """Finish the header and give the file its name.

        Raises
        ------
        ValueError
            If voxels are missing; the file is not kept.
        ResourceError
            If the disk is full, or the file cannot be renamed.
        """
        if not self._closer.alive:
            return
        if not self._mapped and self._moments.seen != self._voxels:
            self.discard()
            raise ValueError(f"{self.path}: {self._moments.seen} of {self._voxels} voxels were written; the file is not kept")
        if self._mapped:
            self.data.flush()
        try:
            self._put(memoryview(self._header() + self._extended), 0)
            self._name()
        finally:
            self.discard()

    def _name(self) -> None:
        try:
            self._partial.replace(self.path)
        except OSError as error:
            raise ResourceError(f"{self.path}: the finished file cannot be given its name: {error.strerror}") from error

    def discard(self) -> None:
        """Close and remove the incomplete file; do nothing once it is complete."""
        self._closer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def _put(self, buffer: memoryview, offset: int) -> None:
        try:
            while buffer:
                count = os.pwrite(self._descriptor, buffer, offset)
                buffer, offset = buffer[count:], offset + count
        except OSError as error:
            raise ResourceError(f"{self.path}: writing failed at byte {offset}: {error.strerror}") from error

    def _final_statistics(self) -> tuple[float, float, float]:
        if self._statistics is not None:
            return self._statistics
        moments = self._moments
        if self._mapped or not self._take_statistics:
            moments = _Moments()
            for section in self.data:
                moments.add(section)
        minimum, maximum, mean = moments.result()
        if self.dtype.kind in "iu":
            limits = np.iinfo(self.dtype)
            minimum, maximum, mean = np.clip((minimum, maximum, mean), limits.min, limits.max).tolist()
        return minimum, maximum, mean

    def _header(self) -> bytes:
        nz, ny, nx = self.shape
        record = np.zeros((), HEADER_DTYPE.newbyteorder("<"))
        record["nx"], record["ny"], record["nz"] = record["mx"], record["my"], record["mz"] = nx, ny, nz
        record["mode"] = _MODES[self.dtype.str[1:]]
        record["cella"] = tuple(n * size for n, size in zip((nx, ny, nz), self._pixel_size, strict=True))
        record["cellb"] = (90, 90, 90)
        record["mapc"], record["mapr"], record["maps"] = 1, 2, 3
        record["dmin"], record["dmax"], record["dmean"] = self._final_statistics()
        record["ispg"] = 0 if self._is_stack else 1
        record["nsymbt"], record["exttyp"] = len(self._extended), b"SERI" if self._extended else b""
        record["nversion"] = 20140
        record["origin"] = self._origin
        record["map"], record["machst"] = b"MAP ", (0x44, 0x44, 0, 0)
        record["rms"] = -1
        record["nlabl"] = len(self._labels)
        for place, label in enumerate(self._labels):
            record["label"][place] = f"{label:<80.80}".encode("ascii", "replace")
        raw = bytearray(record.tobytes())
        if self._extended:
            struct.pack_into("<hh", raw, 128, 2, 1)
        # IMOD sets the bit of signed bytes in files of every mode; only unsigned bytes go without.
        flags = RMS_NOT_COMPUTED | (0 if self.dtype == np.uint8 else SIGNED_BYTES)
        struct.pack_into("<ii", raw, 152, IMOD_STAMP, flags)
        return bytes(raw)


def convert(values: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """Return values in another type, as IMOD stores them: to integers `floor(x + 0.5)`, clamped; NaN becomes 0.

    >>> convert(np.array([-0.5, 0.5, 40000.0, np.nan]), np.int16)
    array([    0,     1, 32767,     0], dtype=int16)
    """
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    return _convert(values, np.dtype(dtype), low, high)


def _convert(values: NDArray[Any], dtype: np.dtype[Any], low: float, high: float) -> NDArray[Any]:
    """Convert values that lie between two numbers, which are NaN where a value is."""
    if dtype.kind not in "iu" or values.dtype == dtype:
        return np.asarray(values, dtype)
    limits = np.iinfo(dtype)
    fits = limits.min <= low and high <= limits.max
    if values.dtype.kind != "f":
        return np.asarray(values if fits else np.clip(values, limits.min, limits.max), dtype)
    wide = values.dtype if values.dtype.itemsize > 2 else np.dtype(np.float32)
    rounded = np.add(values, wide.type(0.5), dtype=wide)
    np.floor(rounded, out=rounded)
    if not fits:
        np.clip(rounded, limits.min, limits.max, out=rounded)
        np.nan_to_num(rounded, copy=False)
    return np.asarray(rounded, dtype)


def _pieces(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Yield sections and rows that cut a block `(k, m, nx)` into pieces of about the same size."""
    k, m, nx = shape
    sections, rows = max(1, _PIECE // max(1, m * nx)), max(1, _PIECE // max(1, nx))
    for z in range(0, k, sections):
        for y in range(0, m, rows):
            yield slice(z, min(z + sections, k)), slice(y, min(y + rows, m))


class _Moments:
    """Minimum, maximum and mean of the finite values added so far."""

    def __init__(self) -> None:
        self.seen = self.count = 0
        self.minimum, self.maximum, self.total = np.inf, -np.inf, 0.0

    def add(self, values: NDArray[Any]) -> tuple[float, float]:
        """Add values; return their minimum and maximum, NaN if one of them is."""
        low, high = float(values.min()), float(values.max())
        self.seen += values.size
        if np.isfinite(low) and np.isfinite(high):
            self._count(values, low, high)
        elif (finite := values[np.isfinite(values)]).size:
            self._count(finite, float(finite.min()), float(finite.max()))
        return low, high

    def _count(self, values: NDArray[Any], low: float, high: float) -> None:
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        # Along rows in float32, pairwise, then rows in float64: as exact as a header needs and twice as fast.
        row_type = np.float32 if values.dtype == np.float16 else None
        self.total += float(values.sum(axis=-1, dtype=row_type).sum(dtype=np.float64))
        self.count += values.size

    def merge(self, other: _Moments) -> None:
        self.minimum, self.maximum = min(self.minimum, other.minimum), max(self.maximum, other.maximum)
        self.total, self.count, self.seen = self.total + other.total, self.count + other.count, self.seen + other.seen

    def result(self) -> tuple[float, float, float]:
        return (self.minimum, self.maximum, self.total / self.count) if self.count else (0.0, 0.0, 0.0)


def _discard(descriptor: int, partial: Path) -> None:
    os.close(descriptor)
    partial.unlink(missing_ok=True)
