"""TIFF files as tilt series: SerialEM's, ImageJ's, and plain pages one after the other.

The first row of a TIFF is the top of the picture, and that of a view its bottom (:mod:`tiltflow.geometry`), so every page is flipped
vertically as it is read, as IMOD's programs do: otherwise the axis angle would have the wrong sign and the specimen would be mirrored.

Supported are grey pages of one size with integers or real numbers, in files of either byte order, BigTIFF among them, compressed or not.
Integers of 32 bits and reals of 64 become reals of 32 bits, as in IMOD's `tif2mrc`; ImageJ, which has no signed 16-bit
integers, stores them with an offset of 32768, which is subtracted.

Everything else is refused with what was found: colours, pyramids, several channels, pages that differ, EER movies,
truncated files.  tifffile decodes the pages; the chain of pages is followed here first, as tifffile ends a broken one early.

The pixel size is that of the OME-XML, of ImageJ's scale, or of the tags for the resolution; the title lines are those of the
description.  Sources: TIFF 6.0, the BigTIFF proposal, ImageJ's `TiffEncoder`, the OME-TIFF specification.
"""

from __future__ import annotations

import os
import re
import struct
import weakref
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from math import prod
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self, cast
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from tiltflow.errors import FormatError, LocationError, TiltflowError
from tiltflow.model import Acquisition, Problem

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

_DTYPES = {name: name for name in ("int8", "uint8", "int16", "uint16", "float16", "float32")} | dict.fromkeys(
    ("int32", "uint32", "float64"), "float32"
)
"""Type of a page to that of the array it is read into."""

_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT, _ORIENTATION = 282, 283, 296, 274
_TOP_FIRST, _BOTTOM_FIRST = 1, 4
_WHITE_IS_ZERO, _PALETTE = 0, 3
_REDUCED_IMAGE = 1
_EER = (65000, 65001, 65002)

_RESOLUTION_ANGSTROM = {2: 2.54e8, 3: 1e8}
"""Ångström in the inch and the centimetre, by the tag of the unit; 1 is no unit."""
_ANGSTROM = {"pm": 0.01, "å": 1.0, "angstrom": 1.0, "nm": 10.0, "nanometer": 10.0, "mm": 1e7, "cm": 1e8, "m": 1e10}
_ANGSTROM |= dict.fromkeys(("um", "μm", "micron", "micrometer"), 1e4)
_GREATEST_PIXEL_ANGSTROM = 1e4
"""A larger pixel, beyond a micrometre, is the resolution of a screen or printer and not of an electron microscope."""

_OME_PIXELS = re.compile(r"<(?:\w+:)?Pixels\b[^>]*>")
_ATTRIBUTE = re.compile(r"""(\w+)\s*=\s*["']([^"']*)["']""")


def open_tiff(path: str | os.PathLike[str]) -> TiffStack:
    """Return a TIFF file opened for reading.

    Raises
    ------
    LocationError
        The file cannot be opened.
    FormatError
        It is damaged, or holds something else than grey images of one size.
    """
    return TiffStack(Path(path))


class TiffStack:
    """The pages of a TIFF file as views; a :class:`tiltflow.model.ImageStack`."""

    def __init__(self, path: Path) -> None:
        from tifffile import TiffFile  # half a second, which a folder of MRC files does not need

        self.path = path
        directories = _count_directories(path)
        with _damage_reported(f"{path}: the tags of its pages cannot be read"):
            self._file, self._process = TiffFile(path), os.getpid()
            self._closer = weakref.finalize(self, self._file.close)
            with ExitStack() as unless_read:
                unless_read.callback(self.close)
                self._file.filehandle.set_lock(True)
                self._pages = cast("list[TiffPage]", list(self._file.pages))
                self._read_tags(directories)
                unless_read.pop_all()

    def _read_tags(self, directories: int) -> None:
        if len(self._pages) != directories:
            raise FormatError(f"{self.path}: only {len(self._pages)} of its {directories} pages can be read; copy the file again")
        first, described = self._pages[0], _describe(self._file)
        for number, page in enumerate(self._pages, start=1):
            _check_page(self.path, number, page, first)
        views = _count_views(self.path, described, self._pages, self._file.filehandle.size)
        self._one_directory = views > len(self._pages)
        self._offset_16 = _has_offset(described, first)
        orientation = int(first.tags.valueof(_ORIENTATION, _TOP_FIRST))
        self._top_first = orientation == _TOP_FIRST
        stored = "int16" if self._offset_16 else str(first.dtype)
        self.dtype: np.dtype[Any] = np.dtype(_DTYPES[stored])
        self.shape: tuple[int, int, int] = (views, *cast("tuple[int, int]", first.shape))
        self.labels = _labels(self._file)
        writer = _writer(self._file, self.labels)
        self.container = f"{'BigTIFF' if self._file.is_bigtiff else 'TIFF'}{f' ({writer})' if writer else ''}"
        self.header_name = "TIFF header"
        self.pixel_size_angstrom = _pixel_size(self._file, described)
        self.acquisition: Acquisition | None = None
        self.problems = tuple(Problem(text, str(self.path)) for text in self._oddities(described))

    def _oddities(self, described: Mapping[str, Any]) -> Iterator[str]:
        if not self._top_first:
            yield "its tag Orientation says that the first row is the bottom, so its pages are not flipped"
        if self._pages[0].photometric == _WHITE_IS_ZERO:
            yield "its tag PhotometricInterpretation says that 0 is white; the grey values are not inverted"
        if "c0" in described and not self._offset_16:
            yield "ImageJ's calibration of its grey values is not applied; the stored numbers are used"

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, view: int, /) -> NDArray[Any]:
        index = range(self.shape[0])[view]
        with _damage_reported(f"{self.path}: view {index + 1} cannot be read"):
            image = self._read(index)
        if self._offset_16:
            image = (np.asarray(image, np.uint16) ^ 0x8000).view(np.int16)
        return np.ascontiguousarray(image[::-1] if self._top_first else image, self.dtype)

    def _read(self, index: int) -> NDArray[Any]:
        if self._process != os.getpid():
            self._open_again()
        if not self._one_directory:
            return self._pages[index].asarray(maxworkers=1)
        page, handle = self._pages[0], self._file.filehandle
        with handle.lock:
            flat = handle.read_array(
                np.dtype(page.dtype).newbyteorder(self._file.byteorder), page.size, page.dataoffsets[0] + index * page.nbytes
            )
        return flat.reshape(page.shape)

    def _open_again(self) -> None:
        """Open the file for this process alone: one that was copied shares the place in the file with the other."""
        handle = self._file.filehandle
        with handle.lock:
            if self._process != os.getpid():
                handle.close()
                handle.open()
                self._process = os.getpid()

    def close(self) -> None:
        """Close the file; images that were read stay valid."""
        self._closer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


_OF_DAMAGE = (
    *(ValueError, RuntimeError, OSError, LookupError, TypeError, AttributeError, ArithmeticError),
    *(AssertionError, struct.error, zlib.error),
)
"""What tifffile and its decoders raise on damaged bytes."""


@contextmanager
def _damage_reported(what: str) -> Iterator[None]:
    """Raise what tifffile and its decoders raise on damaged bytes as a :class:`FormatError`."""
    try:
        yield
    except TiltflowError:
        raise
    except _OF_DAMAGE as error:
        raise FormatError(f"{what} ({error}); copy the file again") from error


def _count_directories(path: Path) -> int:
    """Return the number of pages, after a check that the chain of their directories is complete."""
    try:
        with path.open("rb") as file:
            return sum(1 for _ in _follow_chain(file, path, os.fstat(file.fileno()).st_size))
    except OSError as error:
        raise LocationError(f"{path}: cannot be read: {error.strerror or error}") from error


def _follow_chain(file: BinaryIO, path: Path, size: int) -> Iterator[int]:
    if size == 0:
        raise FormatError(f"{path}: is empty (0 bytes); copy it again from the microscope")
    start = file.read(4)
    order, version = {b"II": "<", b"MM": ">"}.get(start[:2]), start[2:]
    if order is None or version not in (b"*\0", b"\0*", b"+\0", b"\0+"):
        raise FormatError(f"{path}: is not a TIFF file: it begins with {start!r}; give the file with the images")
    big = b"+" in version
    count_type, entry_bytes, offset_type = ("Q", 20, "Q") if big else ("H", 12, "I")
    seen: set[int] = set()

    def number(kind: str, at: int, what: str) -> int:
        file.seek(at)
        raw = file.read(struct.calcsize(kind))
        if len(raw) < struct.calcsize(kind):
            raise FormatError(
                f"{path}: is cut off: {what} should be at byte {at}, the file has {size} bytes ({len(seen)} whole pages); copy it again"
            )
        return int(struct.unpack(f"{order}{kind}", raw)[0])

    offset = number(offset_type, 8 if big else 4, "where the first page is")
    while offset:
        entries = number(count_type, offset, f"the directory of page {len(seen) + 1}")
        if offset in seen:
            raise FormatError(f"{path}: is damaged: after page {len(seen)} its pages begin again; copy it again")
        after = offset + struct.calcsize(f"={count_type}") + entries * entry_bytes
        following = number(offset_type, after, f"the end of the directory of page {len(seen) + 1}")
        seen.add(offset)
        yield offset
        offset = following
    if not seen:
        raise FormatError(f"{path}: has no pages ({size} bytes); copy it again from the microscope")


def _check_page(path: Path, number: int, page: TiffPage, first: TiffPage) -> None:
    """Refuse a page that cannot be a view of the same tilt series as the first."""
    where = f"{path}: page {number}"
    if int(page.compression) in _EER:
        raise FormatError(
            f"{where} holds the electrons of an EER movie (compression {int(page.compression)}); sum its frames first"
        )
    if page.samplesperpixel > 1 or page.photometric == _PALETTE:
        samples = f"{page.samplesperpixel} sample{'s' if page.samplesperpixel > 1 else ''} a pixel"
        raise FormatError(
            f"{where} is in colour ({getattr(page.photometric, 'name', page.photometric)}, {samples}); save it as grey values"
        )
    if page.subifds or page.subfiletype & _REDUCED_IMAGE:
        found = f"{len(page.subifds)} smaller copies of it" if page.subifds else "a smaller copy of another"
        raise FormatError(f"{where} belongs to a pyramid ({found}); save the images of full size alone")
    if str(page.dtype) not in _DTYPES or len(page.shape) != 2:
        raise FormatError(
            f"{where} holds {page.dtype or f'{page.bitspersample}-bit numbers'} in the shape {page.shape}; an image has rows and columns "
            f"of {', '.join(_DTYPES)}"
        )
    if (page.shape, page.dtype) != (first.shape, first.dtype):
        raise FormatError(f"{where} is {_size(page)}, page 1 {_size(first)}; the views of a series are of one size and type")
    orientation = int(page.tags.valueof(_ORIENTATION, _TOP_FIRST))
    if orientation not in (_TOP_FIRST, _BOTTOM_FIRST):
        raise FormatError(f"{where} is mirrored or turned (tag Orientation {orientation}); save it the right way up (1)")
    _check_data(where, page)


def _check_data(where: str, page: TiffPage) -> None:
    if not page.dataoffsets or not all(page.dataoffsets) or not all(page.databytecounts):
        raise FormatError(f"{where} has no data, or lacks a part of them; copy the file again, or acquire the series to its end")
    end = max(offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False))
    size = page.parent.filehandle.size
    if end > size:
        raise FormatError(f"{where} is cut off: its data reach to byte {end}, and the file has {size} bytes; copy it again")


def _size(page: TiffPage) -> str:
    return f"{page.shape[1]} x {page.shape[0]} pixels of {page.dtype}"


def _describe(file: TiffFile) -> Mapping[str, Any]:
    """Return the entries of the description, named as its writer names them: channels, slices, frames and the scale."""
    if file.is_imagej:
        return file.imagej_metadata or {}
    if file.is_ome and (pixels := _OME_PIXELS.search(file.pages.first.description)):
        return dict(_ATTRIBUTE.findall(pixels[0]))
    if file.is_shaped and file.shaped_metadata:
        return file.shaped_metadata[0]
    return {}


def _count_views(path: Path, described: Mapping[str, Any], pages: list[TiffPage], size: int) -> int:
    """Return the number of views, after a check that only one axis is longer than 1 and that no image is missing."""
    axes = {name: int(described[name]) for name in ("channels", "slices", "frames", "SizeC", "SizeZ", "SizeT") if name in described}
    if "shape" in described:
        axes = {f"axis {axis + 1}": int(length) for axis, length in enumerate(described["shape"][:-2])}
    long = {name: length for name, length in axes.items() if length > 1}
    if len(long) > 1:
        found = " and ".join(f"{length} {name}" for name, length in long.items())
        raise FormatError(f"{path}: has {found}, and a tilt series has one image a tilt; save one of them as a stack")
    views = prod(axes.values()) if axes else int(described.get("images", len(pages)))
    if views == len(pages):
        return views
    page = pages[0]
    if len(pages) > 1 or "ImageJ" not in described or not page.is_contiguous:
        raise FormatError(f"{path}: says it has {views} images, and has {len(pages)} pages; copy it again, or save it as a stack")
    # Beyond 4 GB ImageJ writes one directory, and the images one after the other.
    needed = page.dataoffsets[0] + views * page.nbytes
    if needed > size:
        whole = (size - page.dataoffsets[0]) // page.nbytes
        raise FormatError(
            f"{path}: is cut off: {views} images need {needed} bytes, found {size} ({whole} whole images); copy it again"
        )
    return views


def _has_offset(described: Mapping[str, Any], page: TiffPage) -> bool:
    """Whether ImageJ stored signed 16-bit integers with an offset: its linear calibration by -32768 and 1 says so."""
    calibration = tuple(described.get(name) for name in ("cf", "c0", "c1"))
    return str(page.dtype) == "uint16" and calibration == (0, -32768, 1)


def _labels(file: TiffFile) -> tuple[str, ...]:
    """Return the title lines of a description in plain text."""
    if file.is_imagej or file.is_ome or file.is_shaped:
        return ()
    lines = ("".join(c if c.isprintable() else " " for c in line).rstrip() for line in file.pages.first.description.splitlines())
    return tuple(line for line in lines if line)[:10]


def _writer(file: TiffFile, labels: tuple[str, ...]) -> str:
    if file.is_imagej:
        return "ImageJ"
    if file.is_ome:
        return "OME"
    return "SerialEM" if any("serialem" in label.lower() for label in labels) else ""


def _pixel_size(file: TiffFile, described: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the pixel size along x and y, Å, from OME-XML, ImageJ's scale or the tags; None if it is not plausible."""
    if file.is_ome:
        x, y = (
            _number(described.get(f"PhysicalSize{axis}"))
            * _ANGSTROM.get(_unit(described.get(f"PhysicalSize{axis}Unit", "um")), 0.0)
            for axis in "XY"
        )
    else:
        tags = file.pages.first.tags
        unit = _RESOLUTION_ANGSTROM.get(int(tags.valueof(_RESOLUTION_UNIT, 1)), 0.0)
        if file.is_imagej:
            unit = _ANGSTROM.get(_unit(described.get("unit", "")), unit)
        x, y = (unit * _pixels_to_unit(tags.valueof(code)) for code in (_X_RESOLUTION, _Y_RESOLUTION))
    if not 0.01 < x < _GREATEST_PIXEL_ANGSTROM:
        return None
    return (x, y if 0.01 < y < _GREATEST_PIXEL_ANGSTROM else x)


def _unit(name: object) -> str:
    r"""Return a unit as the table has it; ImageJ writes the sign for micro as an escape.

    >>> _unit("µm"), _unit(r"\u00B5m"), _unit("Microns")
    ('μm', 'μm', 'micron')
    """
    return normalize("NFKC", str(name).replace(r"\u00B5", "µ")).strip().lower().removesuffix("s")


def _number(text: object) -> float:
    try:
        return float(str(text))
    except ValueError:
        return 0.0


def _pixels_to_unit(resolution: object) -> float:
    """Return the units per pixel from a tag's fraction of pixels per unit; 0 where it gives none."""
    match resolution:
        case (int(pixels), int(units)) if pixels > 0 and units > 0:
            return units / pixels
    return 0.0
