"""The worst seam of a montage as two pictures: pieces as written, and as stitched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tiltflow.model import Image
from tiltflow.piece_grid import ABSENT
from tiltflow.preprocess.montage.blend import StitchedViews

_ALONG_PX, _ACROSS_PX = 320, 160
"""Most pixels of the pictures along the seam and across it."""


@dataclass(frozen=True, slots=True, eq=False)
class Seam:
    """A seam, `(ny, nx)` pixels of the frame: with its pieces where they were written, and stitched; and which it is, in words."""

    written: Image
    stitched: Image
    sentence: str


def worst_seam(views: StitchedViews) -> Seam | None:
    """Return the seam whose edge disagrees most with the solution, in its standard errors; None where no edge was measured."""
    grid, edges = views.grid, views.offsets.edges
    known = np.isfinite(edges.error_px) & (edges.error_px > 0)
    if not known.any():
        return None
    # The standard error of the solution and the disagreement of the edge: what of the two is larger is what may be seen.
    doubt = np.where(known, np.hypot(edges.error_px, np.nan_to_num(edges.loop_error_px)), -1.0)
    view, number = (int(at) for at in np.unravel_index(int(np.argmax(doubt)), doubt.shape))
    edge = grid.edges[number]
    corner, size = grid.corner_px + grid.margin_px, np.array(grid.piece_shape[::-1])
    low, high = corner[edge.upper], corner[edge.lower] + size
    middle = (low + high) // 2
    reach = np.array([_ALONG_PX, _ALONG_PX]) // 2
    reach[edge.axis] = _ACROSS_PX // 2
    frame = np.array(grid.frame_shape[::-1])
    first, last = np.maximum(middle - reach, 0), np.minimum(middle + reach, frame)
    area = slice(int(first[1]), int(last[1])), slice(int(first[0]), int(last[0]))
    written = _as_written(views, view, (edge.lower, edge.upper))[area]
    what = (
        f"pieces {edge.lower + 1} and {edge.upper + 1} of view {view + 1}: "
        f"measured to {edges.error_px[view, number]:.2f} px, {edges.loop_error_px[view, number]:.2f} px from the solution"
    )
    return Seam(np.ascontiguousarray(written), np.ascontiguousarray(views[view][area]), what)


def _as_written(views: StitchedViews, view: int, pieces: tuple[int, int]) -> Image:
    """Return the frame of a view with two pieces at their written places, the second on top, and the mean of both elsewhere."""
    grid, (ny, nx) = views.grid, views.grid.piece_shape
    frame = np.full(grid.frame_shape, np.nan, np.float32)
    for piece in pieces:
        section = int(grid.section[view, piece])
        if section != ABSENT:
            x, y = grid.corner_px[piece] + grid.margin_px
            frame[y : y + ny, x : x + nx] = views.pieces[section]
    return np.asarray(np.nan_to_num(frame, nan=float(np.nanmean(frame))), np.float32)
