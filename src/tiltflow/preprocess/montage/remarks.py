"""What is unusual about the pieces of a montage, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tiltflow.piece_grid import PieceGrid

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_NAMED = 4
"""Places that are named; of more the number is told."""
_JUMP_SD, _JUMP_PX = 6.0, 3.0
"""A piece is told to have jumped from so many standard deviations of the views, and pixels, on."""
_FAINT = 0.25
"""Usual correlation of overlaps below which they are called faint: gray levels are mostly noise then."""


def remarks(
    grid: PieceGrid,
    *,
    blank: Flags,
    expected_only: Flags,
    doubted: Flags,
    misplaced_px: Floats,
    away_px: Floats,
    deviation_px: float,
    error_px: Floats,
    correlation: Floats,
    faint: list[int],
) -> tuple[str, ...]:
    """Return sentences about missing, blank and jumped pieces, doubted overlaps, and faint ones.

    Parameters
    ----------
    grid
        The pieces.
    blank, expected_only, away_px, error_px
        `(views, pieces)`: which show nothing, which lie where the other views expect them, how far they are from there, and how well
        they are placed.
    doubted, misplaced_px, correlation
        `(views, edges)`: which overlaps are doubted, how far they are from the solution, and how they correlate.
    deviation_px
        Standard deviation of views from what all share.
    faint
        Edges that tell nothing in any view.
    """
    return (
        *_missing(grid),
        *_blank(blank, error_px),
        *_alone(expected_only & ~blank & grid.taken, error_px),
        *_jumped(away_px, max(_JUMP_SD * deviation_px, _JUMP_PX), grid.taken & ~expected_only),
        *_doubted(grid, doubted, misplaced_px),
        *_faint(correlation, error_px),
        *_untold(grid, faint, error_px),
    )


def _missing(grid: PieceGrid) -> Iterator[str]:
    if places := _named(~grid.taken):
        yield f"not taken: {places}; the hole is filled with the mean of the view"


def _blank(blank: Flags, error_px: Floats) -> Iterator[str]:
    if places := _named(blank):
        within = float(error_px[blank].max())
        yield f"blank, as behind a bar of the grid: {places}; placed where the other views expect it, within {within:.2g} px"


def _alone(alone: Flags, error_px: Floats) -> Iterator[str]:
    if places := _named(alone):
        within = float(error_px[alone].max())
        yield f"no overlap could be matched: {places}; placed where the other views expect it, within {within:.2g} px"


def _jumped(away_px: Floats, limit: float, known: Flags) -> Iterator[str]:
    jumped = known & (away_px > limit)
    if places := _named(jumped):
        yield f"far from where the other views expect it, and believed: {places} ({float(away_px[jumped].max()):.3g} px)"


def _doubted(grid: PieceGrid, doubted: Flags, misplaced_px: Floats) -> Iterator[str]:
    if places := _named(doubted, [f"pieces {edge.lower + 1} and {edge.upper + 1}" for edge in grid.edges]):
        worst = float(misplaced_px[doubted].max())
        yield f"overlaps not believed, as the others contradict them: {places} (by up to {worst:.3g} px)"


def _faint(correlation: Floats, error_px: Floats) -> Iterator[str]:
    found = correlation[np.isfinite(correlation)]
    if found.size and (usual := float(np.median(found))) < _FAINT:
        yield f"the overlaps are faint (correlation {usual:.2f}): pieces are placed within {float(np.sqrt(np.mean(error_px**2))):.2g} px"


def _untold(grid: PieceGrid, faint: list[int], error_px: Floats) -> Iterator[str]:
    if faint:
        edges = ", ".join(f"{grid.edges[number].lower + 1} and {grid.edges[number].upper + 1}" for number in sorted(faint)[:_NAMED])
        yield (
            f"the overlaps of pieces {edges} show too little, in all views together, to tell how these lie from one another: they are "
            f"left as written, which may be {float(np.sqrt(np.mean(error_px**2))):.2g} px off"
        )


def _named(flags: Flags, names: list[str] | None = None) -> str:
    """Return where flags `(views, pieces)` are set, in words."""
    places = np.argwhere(flags)
    words = [f"{names[k] if names else f'piece {k + 1}'} of view {v + 1}" for v, k in places[:_NAMED]]
    more = len(places) - len(words)
    return ", ".join(words) + (f" and {more} more" if more else "")
