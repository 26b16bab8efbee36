"""MRC files: images in, volumes out, without ever holding a whole file in memory.

Reading: modes 0 (bytes, signed or not by IMOD's stamp), 1, 2, 6 and 12, either byte order, with or without an extended
header.  The record of the header and the types of the modes are mrcfile's; its own `open` is not used, because a file
that is wrong must be refused with the reason, and bytes that IMOD stamped unsigned must not come out negative.

>>> with open_mrc("series.st") as stack:      # doctest: +SKIP
...     stack.header.pixel_size_angstrom
...     view = stack[20]

`MrcFile` is a :class:`tiltflow.model.Stack`: `stack[i]` reads one view into an array of its own.  `stack.data` maps the
whole file instead; pages touched through it count as resident memory until the system wants them back.

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
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE
from numpy.typing import ArrayLike, DTypeLike, NDArray

from tiltflow.errors import FormatError, LocationError, ParameterError, ResourceError
from tiltflow.formats.extended import ExtendedHeader, decode_extended, render_serialem_tilts

ByteOrder = Literal["<", ">"]

HEADER_BYTES = 1024
IMOD_STAMP = 1146047817
"""'IMOD', at byte 152 of the header; bit 0 of the flags at 156 then says that bytes are signed."""

_SIGNED_BYTES, _RMS_NOT_COMPUTED = 1, 8
_DTYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_MODES = {"i1": 0, "u1": 0, "i2": 1, "f4": 2, "u2": 6, "f2": 12}
_REFUSED_MODES = {
    3: "complex integers (a transform)",
    4: "complex numbers (a Fourier transform)",
    16: "RGB colours",
    101: "4-bit pixels",
}
_OTHER_FILES = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "BigTIFF or EER",
    b"\x89HDF": "HDF5",
    b"\x1f\x8b": "gzip-compressed",
    b"BZh": "bzip2-compressed",
    b"PK\x03\x04": "ZIP",
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"SIMPLE": "FITS",
}


@dataclass(frozen=True, slots=True, eq=False)
class MrcHeader:
    """What the header of an MRC file says.

    Attributes
    ----------
    path
        The file.
    shape
        `(nz, ny, nx)`.
    dtype
        Type of a voxel with the byte order of the file.
    mode
        MRC mode.
    pixel_size_angstrom
        Size of a voxel along x, y, z; 0 where the header gives none.
    origin
        As stored, x, y, z.
    labels
        Title lines, without the blanks at their ends.
    minimum, maximum, mean
        As stored; whoever wrote the file may have left them wrong.
    extended
        What the extended header tells, None when there is none or its kind is unknown.
    is_volume
        Whether the file says that its sections make a volume (space group 1) and not a stack of images.
    data_offset
        Byte at which the first voxel is.
    surplus_bytes
        Bytes after the last voxel that the header accounts for.
    """

    path: Path
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    mode: int
    pixel_size_angstrom: tuple[float, float, float]
    origin: tuple[float, float, float]
    labels: tuple[str, ...]
    minimum: float
    maximum: float
    mean: float
    extended: ExtendedHeader | None
    is_volume: bool
    data_offset: int
    surplus_bytes: int

    @property
    def section_bytes(self) -> int:
        """Bytes of one section."""
        return self.shape[1] * self.shape[2] * self.dtype.itemsize


def read_header(path: str | os.PathLike[str]) -> MrcHeader:
    """Return the header of an MRC file, once it is certain that the file holds the voxels it promises.

    Raises
    ------
    LocationError
        The file cannot be opened.
    FormatError
        It is not an MRC file, or not of a kind that holds images, or shorter than its header says.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            raw = file.read(HEADER_BYTES)
            size = os.fstat(file.fileno()).st_size
            order = _byte_order(raw, size, path)
            record = np.frombuffer(raw, HEADER_DTYPE.newbyteorder(order))[0]
            extended_raw = file.read(max(0, min(int(record["nsymbt"]), size)))
    except OSError as error:
        raise LocationError(f"{path}: cannot be read: {error.strerror or error}") from error
    return _interpret(path, size, order, raw, extended_raw)


def open_mrc(path: str | os.PathLike[str]) -> MrcFile:
    """Return an MRC file opened for reading; see :func:`read_header` for what is refused."""
    return MrcFile(path)


class MrcFile:
    """An MRC file opened for reading, one view at a time; usable as a :class:`tiltflow.model.Stack` from several threads."""

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

    @cached_property
    def data(self) -> np.memmap[Any, np.dtype[Any]]:
        """The voxels, `(nz, ny, nx)`, mapped read-only, in the byte order of the file."""
        return np.memmap(self.path, self.header.dtype, "r", self.header.data_offset, self.header.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, view: int, /) -> NDArray[Any]:
        index = range(self.shape[0])[view]
        return self.read_block(slice(index, index + 1))[0]

    def read_block(self, sections: slice = slice(None), rows: slice = slice(None)) -> NDArray[Any]:
        """Return rows of sections, `(sections, rows, nx)`, in an array of its own.

        Steps are not supported: both slices take what lies together.
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
                    f"{self.path}: ends at byte {offset} although it was longer when it was opened; is it still being written?"
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
    """Write an MRC file as it comes, in bounded memory.

    Parameters
    ----------
    path
        The file to make.  Until the end it has a hidden name beside it; after an exception nothing is left.
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
        Whether the sections are images of their own and not planes of a volume.
    tilt_deg
        Tilt of each section, for an extended header as SerialEM writes it.

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
        self._labels = tuple(labels) if len(labels) <= 10 else (*labels[:9], labels[-1])
        self._origin = origin
        self._is_stack = is_stack
        self._extended = b"" if tilt_deg is None else render_serialem_tilts(np.asarray(tilt_deg, float))
        self._offset = HEADER_BYTES + len(self._extended)
        self._next = 0
        self._statistics: tuple[float, float, float] | None = None
        self._moments = _Moments()
        self._mapped = False
        self._partial = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.partial")
        self._descriptor = self._create()
        self._closer = weakref.finalize(self, _discard, self._descriptor, self._partial)

    def _create(self) -> int:
        try:
            descriptor = os.open(self._partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            os.ftruncate(descriptor, self._offset + int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize)
        except OSError as error:
            raise ResourceError(f"{self.path}: cannot be written: {error.strerror}") from error
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
        """Append one section `(ny, nx)` or several `(k, ny, nx)`."""
        block = sections[None] if sections.ndim == 2 else sections
        if block.ndim != 3 or block.shape[1:] != self.shape[1:]:
            raise ValueError(f"{self.path}: sections of {self.shape[1:]} expected, an array {sections.shape} given")
        self.write_block(block, z=self._next)
        self._next += len(block)

    def write_block(self, block: NDArray[Any], *, z: int = 0, y: int = 0) -> None:
        """Write `(k, m, nx)` at sections `z` to `z + k` and rows `y` to `y + m`; threads may call this at once."""
        nz, ny, nx = self.shape
        if block.ndim != 3 or block.shape[2] != nx or not (0 <= z <= nz - len(block) and 0 <= y <= ny - block.shape[1]):
            raise ValueError(f"{self.path}: a block {block.shape} at section {z}, row {y} does not fit a file {self.shape}")
        moments = _Moments()
        for section, index in zip(block, range(z, z + len(block)), strict=True):
            moments.add(section)
            voxels = np.ascontiguousarray(convert(section, self.dtype))
            self._put(voxels.data.cast("B"), self._offset + ((index * ny + y) * nx) * self.dtype.itemsize)
        self._moments.merge(moments)

    def set_statistics(self, minimum: float, maximum: float, mean: float) -> None:
        """Give the header's statistics instead of those of what was written."""
        self._statistics = (minimum, maximum, mean)

    def close(self) -> None:
        """Finish the header and give the file its name."""
        if not self._closer.alive:
            return
        voxels = int(np.prod(self.shape, dtype=np.int64))
        if not self._mapped and self._moments.seen != voxels:
            self.discard()
            raise ValueError(f"{self.path}: {self._moments.seen} of {voxels} voxels were written; the file is not kept")
        if self._mapped:
            self.data.flush()
        self._put(memoryview(self._header() + self._extended), 0)
        self._closer.detach()
        os.close(self._descriptor)
        self._partial.replace(self.path)

    def discard(self) -> None:
        """Give up: remove what was written."""
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
            raise ResourceError(f"{self.path}: writing failed at byte {offset}: {error.strerror}; is the disk full?") from error

    def _final_statistics(self) -> tuple[float, float, float]:
        if self._statistics is not None:
            return self._statistics
        moments = self._moments
        if self._mapped:
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
        flags = _RMS_NOT_COMPUTED | (0 if self.dtype == np.uint8 else _SIGNED_BYTES)
        struct.pack_into("<ii", raw, 152, IMOD_STAMP, flags)
        return bytes(raw)


def convert(values: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """Return values in another type, as IMOD stores them: to integers `floor(x + 0.5)`, clamped; NaN becomes 0.

    >>> convert(np.array([-0.5, 0.5, 40000.0, np.nan]), np.int16)
    array([    0,     1, 32767,     0], dtype=int16)
    """
    dtype = np.dtype(dtype)
    if dtype.kind not in "iu" or values.dtype == dtype:
        return np.asarray(values, dtype)
    limits = np.iinfo(dtype)
    if values.dtype.kind in "iu":
        return np.asarray(np.clip(values, limits.min, limits.max), dtype)
    work = values + values.dtype.type(0.5)
    np.floor(work, out=work)
    np.clip(work, limits.min, limits.max, out=work)
    np.nan_to_num(work, copy=False)
    return np.asarray(work, dtype)


class _Moments:
    """Minimum, maximum and mean of what went by, without what is not finite."""

    def __init__(self) -> None:
        self.seen = self.count = 0
        self.minimum, self.maximum, self.total = np.inf, -np.inf, 0.0
        self._lock = threading.Lock()

    def add(self, values: NDArray[Any]) -> None:
        self.seen += values.size
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            values = values[np.isfinite(values)]
            if not values.size:
                return
            low, high = float(values.min()), float(values.max())
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        self.total += float(values.sum(dtype=np.float64))
        self.count += values.size

    def merge(self, other: _Moments) -> None:
        with self._lock:
            self.minimum, self.maximum = min(self.minimum, other.minimum), max(self.maximum, other.maximum)
            self.total, self.count, self.seen = self.total + other.total, self.count + other.count, self.seen + other.seen

    def result(self) -> tuple[float, float, float]:
        return (self.minimum, self.maximum, self.total / self.count) if self.count else (0.0, 0.0, 0.0)


def _discard(descriptor: int, partial: Path) -> None:
    os.close(descriptor)
    partial.unlink(missing_ok=True)


def _byte_order(raw: bytes, size: int, path: Path) -> ByteOrder:
    """Return `<` or `>`: the stamp's if the header makes sense that way, else the one in which it does."""
    if size == 0:
        raise FormatError(f"{path}: is empty (0 bytes); copy it again from the microscope")
    for magic, name in _OTHER_FILES.items():
        if raw.startswith(magic):
            raise FormatError(f"{path}: is a {name} file, not MRC; convert or unpack it first")
    if len(raw) < HEADER_BYTES:
        raise FormatError(f"{path}: has {size} bytes, and the header of an MRC file alone takes {HEADER_BYTES}; copy it again")
    orders: tuple[ByteOrder, ByteOrder] = (">", "<") if raw[212] == 0x11 else ("<", ">")
    sensible = [order for order in orders if _sensible(raw, order)]
    fitting = [order for order in sensible if _expected_bytes(raw, order) <= size]
    if fitting or sensible:
        return (fitting or sensible)[0]
    if _is_text(raw):
        raise FormatError(
            f"{path}: is a text file, beginning {raw[:40].decode(errors='replace')!r}, not MRC; give the file with the images"
        )
    nx, ny, nz, mode = struct.unpack_from(f"{orders[0]}4i", raw)
    raise FormatError(
        f"{path}: is not an MRC file of images: the header gives {nx} x {ny} x {nz} pixels of mode {mode}"
        f"{_reason(mode)}; known are modes 0, 1, 2, 6 and 12"
    )


def _sensible(raw: bytes, order: ByteOrder) -> bool:
    nx, ny, nz, mode = struct.unpack_from(f"{order}4i", raw)
    return min(nx, ny, nz) > 0 and (mode in _DTYPES or mode in _REFUSED_MODES)


def _expected_bytes(raw: bytes, order: ByteOrder) -> int:
    nx, ny, nz, mode = struct.unpack_from(f"{order}4i", raw)
    (nsymbt,) = struct.unpack_from(f"{order}i", raw, 92)
    return HEADER_BYTES + max(int(nsymbt), 0) + int(nx) * int(ny) * int(nz) * np.dtype(_DTYPES.get(mode, "u1")).itemsize


def _is_text(raw: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\n\r\f" for byte in raw)


def _reason(mode: int) -> str:
    return f", which are {_REFUSED_MODES[mode]}" if mode in _REFUSED_MODES else ""


def _interpret(path: Path, size: int, order: ByteOrder, raw: bytes, extended_raw: bytes) -> MrcHeader:
    record = np.frombuffer(raw, HEADER_DTYPE.newbyteorder(order))[0]
    shape = (int(record["nz"]), int(record["ny"]), int(record["nx"]))
    mode, nsymbt = int(record["mode"]), int(record["nsymbt"])
    if mode in _REFUSED_MODES:
        raise FormatError(f"{path}: has mode {mode}{_reason(mode)}; known are modes 0, 1, 2, 6 and 12: give the images themselves")
    if nsymbt < 0:
        raise FormatError(f"{path}: the header gives {nsymbt} bytes for the extended header; the file is damaged, copy it again")
    minimum, maximum, mean = (float(record[name]) for name in ("dmin", "dmax", "dmean"))
    dtype = np.dtype(_DTYPES[mode]).newbyteorder(order)
    stamp, flags = struct.unpack_from(f"{order}ii", raw, 152)
    signed = bool(flags & _SIGNED_BYTES) if stamp == IMOD_STAMP else not maximum > 127
    if mode == 0 and not signed:
        dtype = np.dtype(np.uint8)
    offset = HEADER_BYTES + nsymbt
    surplus = size - _expected_bytes(raw, order)
    if surplus < 0:
        raise FormatError(_too_short(path, shape, dtype, offset, size))
    nint, nreal = struct.unpack_from(f"{order}hh", raw, 128)
    cell, grid = record["cella"].tolist(), (int(record["mx"]), int(record["my"]), int(record["mz"]))
    x, y, z = (length / n if n > 0 and np.isfinite(length) and length > 0 else 0.0 for length, n in zip(cell, grid, strict=True))
    return MrcHeader(
        path=path,
        shape=shape,
        dtype=dtype,
        mode=mode,
        pixel_size_angstrom=(x, y, z),
        origin=record["origin"].tolist(),
        labels=_labels(record),
        minimum=minimum,
        maximum=maximum,
        mean=mean,
        extended=decode_extended(
            extended_raw, kind=bytes(raw[104:108]), sections=shape[0], byte_order=order, nint=nint, nreal=nreal
        )
        if extended_raw
        else None,
        is_volume=int(record["ispg"]) == 1,
        data_offset=offset,
        surplus_bytes=surplus,
    )


def _too_short(path: Path, shape: tuple[int, int, int], dtype: np.dtype[Any], offset: int, size: int) -> str:
    nz, ny, nx = shape
    section = ny * nx * dtype.itemsize
    whole = max(0, (size - offset) // section)
    advice = "copy it again, or correct the header" if whole else "the header is wrong or the file is cut off: copy it again"
    return (
        f"{path}: is shorter than its header says: {nx} x {ny} x {nz} voxels of {dtype.name} after {offset} bytes of header need "
        f"{offset + nz * section} bytes, found {size} ({whole} whole sections of {nz}); {advice}"
    )


def _labels(record: np.void) -> tuple[str, ...]:
    count = min(max(int(record["nlabl"]), 0), 10)
    lines = (bytes(line).replace(b"\0", b" ").decode("latin-1").rstrip() for line in record["label"][:count])
    return tuple(lines)
