"""The views that patches are cut from, read before it is known where they lie, beside the coarse alignment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.patches.params import PatchParams
from tiltflow.align.patches.patch_layout import lay_out_patches
from tiltflow.align.patches.patch_views import Level, read_views, room_for_views
from tiltflow.beside import beside, can_copy, left_of, shared_array
from tiltflow.model import Progress, Stack


@dataclass(frozen=True, slots=True, eq=False)
class PatchViews:
    """The views that take part, which are `included` `(views,)`, from the finest to the coarsest resolution."""

    included: NDArray[np.bool_]
    levels: list[Level]


def read_patch_views(
    stack: Stack,
    included: NDArray[np.bool_],
    params: PatchParams,
    threads: int,
    room: Sequence[NDArray[np.float32]] | None = None,
) -> PatchViews:
    """Return the views for patches of a series, in the `room` given for their images."""
    window_px = min(lay_out_patches(params, (int(stack.shape[1]), int(stack.shape[2]))).size_px)
    return PatchViews(included, read_views(stack, included, params, window_px, threads, room))


@contextmanager
def views_read_beside(
    stack: Stack, included: NDArray[np.bool_], params: PatchParams, threads: int
) -> Iterator[Callable[[], PatchViews | None]]:
    """Read the views beside a `with` block, and give what waits for them; for None where nothing can be done beside it.

    The images are put where both processes see them.
    """
    if threads < 2 or not can_copy():
        yield lambda: None
        return
    room = room_for_views(stack, included, params, shared_array)

    def read(_progress: Progress) -> list[Level]:
        found = read_patch_views(stack, included, params, left_of(threads), room)
        return [replace(level, images=level.images[:0]) for level in found.levels]

    def waited_for() -> PatchViews:
        levels = found(lambda _fraction: None)
        return PatchViews(included, [replace(level, images=images) for level, images in zip(levels, room, strict=True)])

    with beside(read, threads=threads) as found:
        yield waited_for
