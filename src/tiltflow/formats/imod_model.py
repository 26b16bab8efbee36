"""IMOD models of tracked points, `.fid`: one object, a contour for each track, a point for each view where it was seen.

Binary and big-endian, in chunks: `IMODV1.2` and the header of the model, `OBJT`, a `CONT` for each contour, `MINX`, `IEOF`.  Points are
pixels of the stack, the centre of the first one at 0.5, and the number of the view, counted from 0.  `MINX` gives pixel size and origin
of the stack: without it IMOD's programs take the points for those of a stack whose pixel is 1 Å.

Source: https://bio3d.colorado.edu/imod/doc/binspec.html
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MODEL_NAME, _OBJECT_NAME = 128, 64
_MODEL_FLAGS = 0x3800  # as IMOD's own programs write them for a model of points on images
_OPEN_CONTOURS, _USE_VALUE = 1 << 3, 1 << 12
_NANOMETRES = -9
_CIRCLE_PX = 5


@dataclass(frozen=True, slots=True)
class StackFrame:
    """The stack that a model belongs to.

    Attributes
    ----------
    shape
        `(views, ny, nx)`.
    pixel_size_angstrom
        Size of a pixel.
    origin_angstrom
        Origin in its header.
    """

    shape: tuple[int, int, int]
    pixel_size_angstrom: float
    origin_angstrom: tuple[float, float, float] = (0.0, 0.0, 0.0)


def render_point_model(contours: Sequence[NDArray[np.float64]], stack: StackFrame) -> bytes:
    """Return a model of tracks, each `(points, 3)`: x, y in pixels from the corner of the stack, and the view from 0."""
    parts = [b"IMODV1.2", _model_header(stack), b"OBJT", _object_header(len(contours))]
    for points in contours:
        parts += [b"CONT", struct.pack(">iIii", len(points), 0, 0, 0), np.asarray(points, ">f4").tobytes()]
    size = stack.pixel_size_angstrom
    frame = struct.pack(">18f", 1, 1, 1, *[0] * 6, size, size, size, *stack.origin_angstrom, 0, 0, 0)
    return b"".join([*parts, b"MINX", struct.pack(">i", len(frame)), frame, b"IEOF"])


def _model_header(stack: StackFrame) -> bytes:
    views, ny, nx = stack.shape
    return (
        b"tiltflow".ljust(_MODEL_NAME, b"\0")
        + struct.pack(">4iI4i", nx, ny, views, 1, _MODEL_FLAGS, 1, 2, 0, 255)
        + struct.pack(">6f", 0, 0, 0, 1, 1, 1)
        + struct.pack(">5i", 0, -1, -1, 3, 128)
        + struct.pack(">f2i3f", 1, _NANOMETRES, 0, 0, 0, 0)
    )


def _object_header(contours: int) -> bytes:
    return (
        b"\0" * (_OBJECT_NAME + 64)
        + struct.pack(">iI2i", contours, _OPEN_CONTOURS | _USE_VALUE, 0, 1)
        + struct.pack(">3fi", 0, 1, 0, _CIRCLE_PX)
        + struct.pack(">8B", 1, 3, 1, 1, 0, 0, 0, 0)
        + struct.pack(">2i", 0, 0)
    )
