"""A quick look at a view of a montage, before its pieces are found."""

from __future__ import annotations

import numpy as np

from tiltflow.model import Image, Stack
from tiltflow.piece_grid import ABSENT, PieceGrid


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
