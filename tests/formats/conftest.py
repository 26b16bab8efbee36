"""MRC files made byte by byte, so that reading is not tested against our own writing."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.formats.beside import TILTS

MODES = {"i1": 0, "u1": 0, "i2": 1, "f4": 2, "u2": 6, "f2": 12, "c8": 4}
STAMPS = {"<": b"\x44\x44\0\0", ">": b"\x11\x11\0\0"}

MakeMrc = Callable[..., Path]


@pytest.fixture
def make_mrc(tmp_path: Path) -> MakeMrc:
    """Return a function that writes an MRC file and returns its path."""

    def make(
        voxels: NDArray[np.generic],
        name: str = "B.mrc",
        *,
        order: str = "<",
        size: tuple[int, int, int] | None = None,
        mode: int | None = None,
        grid: tuple[int, int, int] | None = None,
        cell: tuple[float, float, float] | None = None,
        minmax: tuple[float, float] | None = None,
        labels: Sequence[str] = (),
        extended: bytes = b"",
        kind: bytes = b"\0\0\0\0",
        nint: int = 0,
        nreal: int = 0,
        machine: bytes | None = None,
        imod_flags: int | None = None,
        space_group: int = 0,
        tail: bytes = b"",
    ) -> Path:
        nz, ny, nx = size or voxels.shape
        mode = MODES[voxels.dtype.str[1:]] if mode is None else mode
        low, high = minmax or (float(voxels.real.min()), float(voxels.real.max()))
        header = bytearray(1024)
        struct.pack_into(f"{order}10i", header, 0, nx, ny, nz, mode, 0, 0, 0, *(grid or (nx, ny, nz)))
        struct.pack_into(f"{order}6f", header, 40, *(cell or (2.5 * nx, 2.5 * ny, 2.5 * nz)), 90, 90, 90)
        struct.pack_into(f"{order}3i3f", header, 64, 1, 2, 3, low, high, float(voxels.real.mean()))
        struct.pack_into(f"{order}2i", header, 88, space_group, len(extended))
        header[104:108] = kind
        struct.pack_into(f"{order}2h", header, 128, nint, nreal)
        if imod_flags is not None:
            struct.pack_into(f"{order}2i", header, 152, 1146047817, imod_flags)
        header[208:216] = b"MAP " + (STAMPS[order] if machine is None else machine)
        struct.pack_into(f"{order}i", header, 220, len(labels))
        for place, label in enumerate(labels):
            header[224 + 80 * place : 304 + 80 * place] = label.ljust(80).encode()
        path = tmp_path / name
        path.write_bytes(bytes(header) + extended + voxels.astype(voxels.dtype.newbyteorder(order)).tobytes() + tail)
        return path

    return make


@pytest.fixture
def images(rng: np.random.Generator) -> NDArray[np.int16]:
    """Five images of 6 x 4 pixels with values of their own."""
    return rng.permutation(np.arange(5 * 6 * 4, dtype=np.int16) - 40).reshape(5, 6, 4)


@pytest.fixture
def make_series(make_mrc: MakeMrc, images: NDArray[np.int16]) -> Callable[..., Path]:
    """Return a function that writes a stack of five views with tilts in a SerialEM header and an axis in a title."""

    def make(tilts: NDArray[np.float64] | None = TILTS, axis: float | None = 12.0, **options: object) -> Path:
        if tilts is not None:
            options |= {"extended": np.rint(tilts * 100).astype("<i2").tobytes(), "kind": b"SERI", "nint": 2, "nreal": 1}
        if axis is not None:
            options |= {"labels": ["SerialEM: test", f"    Tilt axis angle = {axis}, binning = 1"]}
        return make_mrc(images, **options)

    return make
