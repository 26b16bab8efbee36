"""The worst seam of a montage as two pictures: pieces as written, and as stitched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tiltflow.model import Image
from tiltflow.preprocess.montage.blend import StitchedViews
from tiltflow.preprocess.montage.quick_look import place_pieces

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
    written = place_pieces(views.pieces, grid, view)[area]
    what = (
        f"pieces {edge.lower + 1} and {edge.upper + 1} of view {view + 1}: "
        f"measured to {edges.error_px[view, number]:.2f} px, {edges.loop_error_px[view, number]:.2f} px from the solution"
    )
    return Seam(np.ascontiguousarray(written), np.ascontiguousarray(views[view][area]), what)
