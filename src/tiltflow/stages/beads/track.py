"""Tracks of the beads through all views."""

from __future__ import annotations

from numpy.typing import ArrayLike, NDArray
import numpy as np

from tiltflow.errors import StageError
from tiltflow.model import Progress, Stack
from tiltflow.stages.beads.record import BeadParams, BeadResult


def track_beads(
    stack: Stack,
    start_transforms: ArrayLike,
    tilt_deg: ArrayLike,
    included: ArrayLike,
    params: BeadParams,
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> BeadResult:
    """Return where the beads are in every view.

    Parameters
    ----------
    stack
        Raw views with x-rays removed, `(views, ny, nx)`.
    start_transforms
        `(views, 2, 3)` from the coarse alignment; off by some pixels, and by a few degrees in the axis.
    tilt_deg
        `(views,)`.
    included
        Views that take part, `(views,)`; no bead is looked for in the others.
    params
        How to look.
    threads
        Views that are worked at the same time.
    progress
        Told the fraction done.

    Raises
    ------
    StageError
        When these data hold no gold that could carry an alignment; the message says what was found instead.
    """
    raise StageError("bead tracking has landed in part: it cannot track yet")


def doubts(result: BeadResult) -> tuple[str, ...]:
    """Return the reasons not to trust these tracks, none when they are sound."""
    return ()
