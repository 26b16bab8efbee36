"""Writing of MRC files piece by piece, so that :func:`mrcfile.validate` finds nothing wrong with them.

:class:`MrcWriter` takes sections in order, or blocks of rows in any order and from several threads, converts to the type of the file
as IMOD does (`floor(x + 0.5)`, clamped) and fills in the header at the end.  The file appears under its name only when it is complete.

The header is MRC2014's with IMOD's stamp.  Its minimum, maximum and mean are those of the stored voxels, where IMOD's programs give
those from before the rounding.  IMOD's origin has the opposite sign of MRC2014's (ChimeraX): bit 2 of the flags behind the stamp
says that the one stored is MRC2014's, so that both place a volume rightly.

Sources: MRC2014 (10.1016/j.jsb.2015.04.002) and IMOD's description of the format.
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

from tiltflow.errors import ParameterError, ResourceError
from tiltflow.formats.extended import render_serialem_tilts
from tiltflow.formats.mrcheader import HEADER_BYTES, IMOD_STAMP, ORIGIN_OF_MRC2014, RMS_NOT_COMPUTED, SIGNED_BYTES
from tiltflow.formats.reserve import reserve

_MODES = {"i1": 0, "u1": 0, "i2": 1, "f4": 2, "u2": 6, "f2": 12}

_UNKNOWN = (0.0, -1.0, -2.0)
"""Minimum, maximum and mean as MRC2014 marks them unknown.  So they are for unsigned bytes above 127, which MRC2014, whose bytes are
signed, has as negative numbers: none would be right for both."""

_PIECE = 1 << 18
"""Voxels that are converted at once: 1 MB of real numbers fits the second-level cache of a core, and threads hold the lock of the
interpreter for a small part of the time."""


def render_label(text: str, when: datetime | None = None) -> str:
    """Return a title line in IMOD's form: 56 characters of text, then the local date and time, now unless `when` is given.

    >>> render_label("tiltflow: aligned stack", datetime(2026, 11, 22, 11, 50, 1))[50:]
    '      22-Nov-26  11:50:01'
    """
    return f"{text:<56.56}{when or datetime.now().astimezone():%d-%b-%y  %H:%M:%S}"


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
        Title lines; blank ones are left out, and of more than ten the first nine and the last are kept.
    origin
        x, y, z in Å, as IMOD shows it: the position of the coordinates' origin from the first voxel, minus that of MRC2014.
    is_stack
        Whether the sections are separate images and not planes of a volume.
    tilt_deg
        Tilt of each section, for an extended header as SerialEM writes it.

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
        given = tuple(label for label in labels if label.strip())
        self._labels = given if len(given) <= 10 else (*given[:9], given[-1])
        self._origin = origin
        self._is_stack = is_stack
        self._extended = b"" if tilt_deg is None else render_serialem_tilts(np.asarray(tilt_deg, float))
        self._offset = HEADER_BYTES + len(self._extended)
        self._voxels = int(np.prod(shape, dtype=np.int64))
        self._next = 0
        self._statistics: tuple[float, float, float] | None = None
        self._moments = _Moments()
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
            piece = convert(piece, self.dtype)
            moments.add(piece)
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
        """Give the header's statistics instead of those of what was written; they must be those of the voxels as stored."""
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
        if self._mapped:
            moments = _Moments()
            for section in self.data:
                moments.add(section)
        minimum, maximum, mean = moments.result()
        if self.dtype == np.uint8 and maximum > np.iinfo(np.int8).max:
            return _UNKNOWN
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
        record["origin"] = tuple(0.0 - along for along in self._origin)  # without a minus before 0
        record["map"], record["machst"] = b"MAP ", (0x44, 0x44, 0, 0)
        record["rms"] = -1
        record["nlabl"] = len(self._labels)
        for place, label in enumerate(self._labels):
            record["label"][place] = f"{label:<80.80}".encode("ascii", "replace")
        raw = bytearray(record.tobytes())
        if self._extended:
            struct.pack_into("<hh", raw, 128, 2, 1)
        # IMOD sets the bit of signed bytes in files of every mode; only unsigned bytes go without.
        flags = RMS_NOT_COMPUTED | ORIGIN_OF_MRC2014 | (0 if self.dtype == np.uint8 else SIGNED_BYTES)
        struct.pack_into("<ii", raw, 152, IMOD_STAMP, flags)
        return bytes(raw)


def convert(values: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """Return values in another type, as IMOD stores them: to integers `floor(x + 0.5)`, clamped; NaN becomes 0.

    >>> convert(np.array([-0.5, 0.5, 40000.0, np.nan]), np.int16)
    array([    0,     1, 32767,     0], dtype=int16)
    """
    kind = np.dtype(dtype)
    if kind.kind not in "iu" or values.dtype == kind or not values.size:
        return np.asarray(values, kind)
    limits = np.iinfo(kind)
    # A minimum of NaN is not at least anything.
    fits = limits.min <= float(values.min()) and float(values.max()) <= limits.max
    if values.dtype.kind != "f":
        return np.asarray(values if fits else np.clip(values, limits.min, limits.max), kind)
    wide = values.dtype if values.dtype.itemsize > 2 else np.dtype(np.float32)
    rounded = np.add(values, wide.type(0.5), dtype=wide)
    np.floor(rounded, out=rounded)
    if not fits:
        np.clip(rounded, limits.min, limits.max, out=rounded)
        np.nan_to_num(rounded, copy=False)
    return np.asarray(rounded, kind)


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

    def add(self, values: NDArray[Any]) -> None:
        """Add values."""
        low, high = float(values.min()), float(values.max())
        self.seen += values.size
        if np.isfinite(low) and np.isfinite(high):
            self._count(values, low, high)
        elif (finite := values[np.isfinite(values)]).size:
            self._count(finite, float(finite.min()), float(finite.max()))

    def _count(self, values: NDArray[Any], low: float, high: float) -> None:
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        # A mean near 0 is wrong by more than the validator allows if rows are added up in float32.
        self.total += float(values.sum(dtype=np.float64 if values.dtype.kind == "f" else np.int64))
        self.count += values.size

    def merge(self, other: _Moments) -> None:
        self.minimum, self.maximum = min(self.minimum, other.minimum), max(self.maximum, other.maximum)
        self.total, self.count, self.seen = self.total + other.total, self.count + other.count, self.seen + other.seen

    def result(self) -> tuple[float, float, float]:
        return (self.minimum, self.maximum, self.total / self.count) if self.count else (0.0, 0.0, 0.0)


def _discard(descriptor: int, partial: Path) -> None:
    os.close(descriptor)
    partial.unlink(missing_ok=True)
