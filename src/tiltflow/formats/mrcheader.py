"""The header of an MRC file: 1024 bytes, checked against the size and content of the file.

The record itself and the types behind the modes are mrcfile's.  Its `open` is not used, because a damaged file must be
refused with the reason, a wrong stamp of the byte order must not matter, and bytes that IMOD stamped as unsigned must
not come out negative.  Sources: MRC2014 (10.1016/j.jsb.2015.04.002) and IMOD's description of the format.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from tiltflow.errors import FormatError, LocationError
from tiltflow.formats.extended import decode_extended
from tiltflow.model import Acquisition

ByteOrder = Literal["<", ">"]

HEADER_BYTES = 1024
_LARGEST_EXTENDED_BYTES = 16 << 20
"""What is read of an extended header: those of microscopes have less than 1 kB a view."""
IMOD_STAMP = 1146047817
"""'IMOD', at byte 152 of the header; bit 0 of the flags at 156 then says that bytes are signed."""

SIGNED_BYTES, ORIGIN_OF_MRC2014, RMS_NOT_COMPUTED = 1, 4, 8
"""Bits of the flags at byte 156, valid only with the stamp."""

_DTYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
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


_TEXT_PART = 0.8
"""Fraction of printable ASCII in the first bytes of a text file; the rest are the letters of other alphabets."""


@dataclass(frozen=True, slots=True, eq=False)
class MrcHeader:
    """The contents of the header of an MRC file.

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
        x, y, z in Å, as IMOD shows it: as stored in IMOD's own files, with the opposite sign where the file has no stamp of IMOD's or its
        flags say that the origin is MRC2014's.
    labels
        Title lines, without the blanks at their ends.
    minimum, maximum, mean
        As stored; some programs leave them wrong.
    extended
        Contents of the extended header; None when there is none or its kind is unknown.
    is_volume
        Whether the file is declared a volume (space group 1) and not a stack of images.
    data_offset
        Byte at which the first voxel begins.
    surplus_bytes
        Bytes beyond the last voxel of the size in the header.
    lost_bytes
        Bytes of an extended header that the header promises and the file lacks; 0 if it is whole.
    is_stamped
        Whether IMOD's stamp says if bytes are signed.
    axis_order
        Which axis of the specimen runs along columns, rows and sections: (1, 2, 3) for x, y, z.
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
    extended: Acquisition | None
    is_volume: bool
    data_offset: int
    surplus_bytes: int
    lost_bytes: int = 0
    is_stamped: bool = False
    axis_order: tuple[int, int, int] = (1, 2, 3)

    @property
    def section_bytes(self) -> int:
        """Bytes of one section."""
        return self.shape[1] * self.shape[2] * self.dtype.itemsize


def read_header(path: str | os.PathLike[str]) -> MrcHeader:
    """Return the header of an MRC file, after a check that the file is long enough for its voxels.

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
            extended_raw = file.read(max(0, min(int(record["nsymbt"]), _LARGEST_EXTENDED_BYTES)))
    except OSError as error:
        raise LocationError(f"{path}: cannot be read: {error.strerror or error}") from error
    return _interpret(path, size, order, raw, extended_raw)


def count_views(path: Path) -> tuple[int, int]:
    """Return how many sections the header of an MRC file announces, and how many of them the file holds whole.

    Raises
    ------
    LocationError
        The file cannot be opened.
    FormatError
        It has no header that makes sense, or none yet.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(HEADER_BYTES)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise LocationError(f"{path}: cannot be read: {error.strerror or error}") from error
    order = _byte_order(raw, size, path)
    (announced,), nsymbt = struct.unpack_from(f"{order}i", raw, 8), max(0, *struct.unpack_from(f"{order}i", raw, 92))
    needed = _expected_bytes(raw, order)
    if size >= needed or size == needed - nsymbt:  # read_header takes a file without its extended header as well
        return announced, announced
    offset = HEADER_BYTES + nsymbt
    return announced, max(0, size - offset) // ((needed - offset) // announced)


def _byte_order(raw: bytes, size: int, path: Path) -> ByteOrder:
    """Return `<` or `>`: the stamp's if the header makes sense that way, else the one in which it does."""
    if size == 0:
        raise FormatError(f"{path}: is empty (0 bytes); copy it again from the microscope")
    for magic, name in _OTHER_FILES.items():
        if raw.startswith(magic):
            raise FormatError(f"{path}: is a {name} file, not MRC; convert or unpack it first")
    if _is_text(raw):
        words = " ".join(raw[:40].decode(errors="replace").split())
        raise FormatError(f"{path}: is a text file, beginning {words!r}, not MRC; give the file with the images")
    if len(raw) < HEADER_BYTES:
        raise FormatError(f"{path}: has {size} bytes, and the header of an MRC file alone takes {HEADER_BYTES}; copy it again")
    orders: tuple[ByteOrder, ByteOrder] = (">", "<") if raw[212] == 0x11 else ("<", ">")
    sensible = [order for order in orders if _sensible(raw, order)]
    fitting = [order for order in sensible if _expected_bytes(raw, order) <= size]
    if fitting or sensible:
        return (fitting or sensible)[0]
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
    """Return whether bytes are text in any usual encoding: no control characters, and mostly ASCII."""
    printable = sum(32 <= byte < 127 or byte in b"\t\n\r\f" for byte in raw)
    return printable > _TEXT_PART * len(raw) and not any(byte < 32 and byte not in b"\t\n\r\f" for byte in raw)


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
    signed = bool(flags & SIGNED_BYTES) if stamp == IMOD_STAMP else not maximum > 127
    if mode == 0 and not signed:
        dtype = np.dtype(np.uint8)
    surplus = size - _expected_bytes(raw, order)
    lost = nsymbt if surplus == -nsymbt else 0
    if lost:
        nsymbt, surplus, extended_raw = 0, 0, b""
    offset = HEADER_BYTES + nsymbt
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
        origin=_origin(record, of_imod=stamp == IMOD_STAMP and not flags & ORIGIN_OF_MRC2014),
        labels=_labels(record),
        minimum=minimum,
        maximum=maximum,
        mean=mean,
        extended=decode_extended(
            extended_raw,
            kind=bytes(raw[104:108]),
            sections=shape[0],
            byte_order=order,
            nint=nint,
            nreal=nreal,
            labels=_labels(record),
        )
        if extended_raw
        else None,
        is_volume=int(record["ispg"]) == 1,
        data_offset=offset,
        surplus_bytes=surplus,
        lost_bytes=lost,
        is_stamped=stamp == IMOD_STAMP,
        axis_order=(int(record["mapc"]), int(record["mapr"]), int(record["maps"])),
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


def _origin(record: np.void, *, of_imod: bool) -> tuple[float, float, float]:
    x, y, z = (float(along) if of_imod else 0.0 - float(along) for along in record["origin"].tolist())
    return x, y, z


def _labels(record: np.void) -> tuple[str, ...]:
    count = min(max(int(record["nlabl"]), 0), 10)
    lines = (bytes(line).replace(b"\0", b" ").decode("latin-1").rstrip() for line in record["label"][:count])
    return tuple(lines)
