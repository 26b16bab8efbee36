"""The views of a series, whatever the sections of its stack are: opened in one place, by all that works on views."""

from __future__ import annotations

import numpy as np

from tiltflow.errors import UnsupportedError
from tiltflow.formats.stacks import open_stack
from tiltflow.model import Image, ImageStack, Stack, TiltSeries
from tiltflow.piece_grid import ABSENT, PieceGrid


def open_views(series: TiltSeries) -> ImageStack:
    """Return the raw views of a series opened for reading, `(view, y, x)` of the shape of the series.

    Raises
    ------
    LocationError, FormatError
        If the stack cannot be read.
    UnsupportedError
        If the views are in pieces.
    """
    refuse_pieces(series)
    return open_stack(series.path)


def refuse_pieces(series: TiltSeries) -> None:
    """Refuse a montage, whose pieces are not made into views here.

    Raises
    ------
    UnsupportedError
        If the views are in pieces.
    """
    if series.montage is not None:
        raise UnsupportedError(
            f"{series.path.name} is a montage, whose pieces only IMOD stitches: run with --engine imod, or blend it first (blendmont)"
        )


def place_pieces(stack: Stack, grid: PieceGrid, view: int) -> Image:
    """Return the frame of a view with its pieces where they were written to be, `(ny, nx)`: a picture of it, not more.

    Where pieces overlap, the last one is seen; where there is none, the mean of the others.
    """
    ny, nx = grid.piece_shape
    frame = np.full(grid.frame_shape, np.nan, np.float32)
    for (x, y), section in zip(grid.corner_px + grid.margin_px, grid.section[view], strict=True):
        if section != ABSENT:
            frame[y : y + ny, x : x + nx] = stack[int(section)]
    return np.asarray(np.nan_to_num(frame, nan=float(np.nanmean(frame))), np.float32)
