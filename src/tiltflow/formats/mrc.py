"""MRC files: read and written without ever holding a whole file in memory.

Reading: modes 0 (bytes, signed or not by IMOD's stamp), 1, 2, 6 and 12, either byte order, with or without an extended
header.

>>> with open_mrc("series.st") as stack:      # doctest: +SKIP
...     stack.header.pixel_size_angstrom
...     view = stack[20]

`MrcFile` is a :class:`tiltflow.model.ImageStack`: `stack[i]` reads one view into an array of its own.  `stack.data` maps the
whole file instead; pages touched through it count as resident memory until the system reclaims them.

:func:`open_mrc_series` also asks the pixels of a tilt series whether integers stored as signed are counts that lost their sign
(:mod:`tiltflow.formats.wrapped`); results and volumes are read as their header says.

Writing: :class:`MrcWriter` (:mod:`tiltflow.formats.mrcwriter`).
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tiltflow.errors import FormatError
from tiltflow.formats.file_state import State, state_of
from tiltflow.formats.mrcheader import HEADER_BYTES, MrcHeader, read_header
from tiltflow.formats.mrcwriter import MrcWriter, convert, render_label
from tiltflow.formats.wrapped import Reading, Sign, sign_of
from tiltflow.model import Acquisition, Problem

__all__ = ["MrcFile", "MrcHeader", "MrcWriter", "convert", "open_mrc", "open_mrc_series", "read_header", "render_label"]


def open_mrc(path: str | os.PathLike[str]) -> MrcFile:
    """Return an MRC file opened for reading.

    Raises
    ------
    LocationError, FormatError
        As :func:`read_header`.
    """
    return MrcFile(path)


def open_mrc_series(path: str | os.PathLike[str]) -> MrcFile:
    """Return the MRC file of a tilt series opened for reading, its integers with the sign that their pixels have.

    Raises
    ------
    LocationError, FormatError
        As :func:`read_header`; also if it cannot be told whether 16-bit numbers have a sign.
    """
    stack = MrcFile(path)
    header = stack.header
    asked = header.mode == 1 or (header.mode == 0 and header.dtype.kind == "i" and not header.is_stamped)
    if asked:
        reading = _sign_in(stack.path, state_of(stack.path))
        if _is_unsigned(reading, header):
            stack.read_unsigned(reading.negative)
    return stack


_SAMPLED_VIEWS, _SAMPLED_BANDS, _SAMPLED_ROWS = 256, 3, 8
"""Views of which pixels are looked at, and in each, bands and rows of a band."""
_REMEMBERED = 256
"""Files whose sample a process remembers: a run opens its stack half a dozen times."""


@lru_cache(_REMEMBERED)
def _sign_in(path: Path, _state: State) -> Reading:
    """Return what a sample of the pixels of a file says about their sign, while it stays in a state."""
    stack = MrcFile(path)
    try:
        return sign_of(_sample(stack))
    finally:
        stack.close()


def _sample(stack: MrcFile) -> Iterator[NDArray[Any]]:
    nz, ny, _ = stack.shape
    views = np.unique(np.linspace(0, nz - 1, min(nz, _SAMPLED_VIEWS)).round().astype(int))
    starts = np.unique(((np.arange(_SAMPLED_BANDS) + 0.5) / _SAMPLED_BANDS * ny - _SAMPLED_ROWS / 2).clip(0).astype(int))
    for view in map(int, views):
        for start in map(int, starts):
            yield stack.read_block(slice(view, view + 1), slice(start, min(start + _SAMPLED_ROWS, ny)))[0]


def _is_unsigned(reading: Reading, header: MrcHeader) -> bool:
    if reading.sign is Sign.UNKNOWN and header.mode == 1:
        raise FormatError(
            f"{header.path}: neighbouring pixels differ by the whole range of 16-bit numbers, {reading.jumps} times in a sample, and "
            f"{reading.jumps_unsigned} times if read without a sign: counts above 32767 may have become negative. Store them as unsigned "
            f"(mode 6) or as reals (mode 2)"
        )
    return reading.sign is Sign.UNSIGNED or (reading.sign is Sign.UNKNOWN and reading.jumps > 2 * reading.jumps_unsigned)


class MrcFile:
    """An MRC file opened for reading, one view at a time; a :class:`tiltflow.model.ImageStack`."""

    reads_anew = True
    """What is read belongs to the reader, who may change it."""

    container = "MRC"
    header_name = "header"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.header = read_header(path)
        self.path = self.header.path
        self._remarks: tuple[Problem, ...] = ()
        self._descriptor = os.open(self.path, os.O_RDONLY)
        self._closer = weakref.finalize(self, os.close, self._descriptor)

    @property
    def is_as_stored(self) -> bool:
        """Whether other programs read the same images from the file: neither its pixels nor its header had to be mended."""
        return not self._remarks and not self.header.lost_bytes

    def read_unsigned(self, negative: float) -> None:
        """Read integers without a sign from now on; `negative` is the part of the pixels that this makes bright, for the remark."""
        bits = 8 * self.header.dtype.itemsize
        self.header = replace(self.header, dtype=np.dtype(self.header.dtype.str.replace("i", "u")))
        message = (
            f"{100 * negative:.3g} % of the pixels are negative as stored, and lie beside the brightest ones: they are counts above "
            f"{2 ** (bits - 1) - 1} stored as signed numbers, and are read without a sign (unsigned, {bits} bits)"
        )
        self._remarks = (Problem(message, str(self.path)),)

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
        """Whether its pixels lost their sign, its axes are permuted, and there is more or less in it than its header accounts for."""
        return (*self._remarks, *self._permuted(), *self._lost_header(), *self._surplus())

    def _permuted(self) -> tuple[Problem, ...]:
        order = self.header.axis_order
        if sorted(order) != [1, 2, 3] or order == (1, 2, 3):  # programs that do not know the field leave zeros
            return ()
        axes = ", ".join("xyz"[axis - 1] for axis in order)
        message = (
            f"the header says that columns, rows and sections are {axes}; they are read as x, y and view, as IMOD does: check that the "
            f"pictures are not turned on their side"
        )
        return (Problem(message, str(self.path)),)

    def _lost_header(self) -> tuple[Problem, ...]:
        lost = self.header.lost_bytes
        message = (
            f"the extended header of {lost} bytes is not in the file, which is short by just that: a program left it out; the images are "
            f"read from byte {HEADER_BYTES}"
        )
        return (Problem(message, str(self.path)),) if lost else ()

    def _surplus(self) -> tuple[Problem, ...]:
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
