"""Aligned views of a montage: every piece goes straight into the aligned frame, so that it is interpolated once.

What :mod:`tiltflow.reconstruct.aligned_stack` does for views taken in one piece, as IMOD's `blend.com` does in place of `newst.com`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike

from tiltflow.errors import ParameterError
from tiltflow.model import Image, Progress
from tiltflow.parallel import map_views
from tiltflow.preprocess.montage.blend import StitchedViews, blend_view


def align_pieces(
    views: StitchedViews,
    transforms: ArrayLike,
    *,
    binning: int,
    out_shape: tuple[int, int],
    then: Callable[[int, Image], Image] | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> Iterator[Image]:
    """Yield the aligned views, in the order of tilts as the grid has them.

    Parameters
    ----------
    views
        The pieces, and where they lie; the pieces of one view a thread are in memory.
    transforms
        `(views, 2, 3)`, frame to aligned, unbinned pixels (:mod:`tiltflow.geometry`).
    binning
        Pixels of a piece averaged into one, along x and y.
    out_shape
        `(ny, nx)` of the aligned views.
    then
        Makes of the number of a view, from 0, and its aligned image the one that is yielded, in the same thread.
    threads
        Views transformed at the same time.
    progress
        Called with the fraction done.

    Yields
    ------
    Image
        `(ny, nx)`, float32.

    Raises
    ------
    ParameterError
        If there is not one transform for each view, or one cannot be inverted.
    """
    matrices = np.asarray(transforms, float)
    if matrices.shape != (views.shape[0], 2, 3):
        raise ParameterError(
            f"transforms of shape {matrices.shape} for a montage of {views.shape[0]} views: there must be one (2, 3) matrix a view"
        )

    def one(view: int) -> Image:
        image = blend_view(
            views.pieces, views.grid, views.offsets, view, transform=matrices[view], out_shape=out_shape, binning=binning
        ).image
        return image if then is None else then(view, image)

    return map_views(one, views.shape[0], threads, progress)
