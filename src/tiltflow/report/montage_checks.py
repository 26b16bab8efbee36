"""The checks of a montage: how well its pieces are placed, and which of them nothing placed."""

from __future__ import annotations

from collections.abc import Iterator

from tiltflow.record import MontageEntry, SeriesRecord
from tiltflow.report.check import Check, falling, told
from tiltflow.work import Quantity, Thresholds, Trust

_MOST_DOUBTED = 0.05
"""Share of the edges that others may contradict: more than a wrong edge in twenty are not chance (none of 84 in simulated series)."""
_MOST_NAMED = 4


def montage_checks(record: SeriesRecord, limits: Thresholds) -> Iterator[Check]:
    """Yield how well the pieces of a montage are placed; nothing where views were taken in one piece."""
    entry = record.montage
    if entry is None:
        return
    level = falling(entry.error_px, limits.error_good_px, limits.error_poor_px)
    text = f"good up to {limits.error_good_px:g} px, poor above {limits.error_poor_px:g} px"
    said = (
        f"the pieces of the montage are placed to {entry.error_px:.2f} px by their overlaps, "
        f"{entry.moved_px:.1f} px from where they were written"
    )
    yield Check("stitching error", level, said, text, Quantity(entry.error_px, "px"))
    if entry.leave_out_px is not None:
        before, after = entry.leave_out_px
        done = "were placed anew by" if entry.moved_by_tracks else "were left where their overlaps place them, as that suits"
        yield told(
            "pieces by tracks", f"the pieces {done} the tracks: leave-out error {before:.2f} px without, {after:.2f} px with that"
        )
    share = entry.edges_doubted / max(entry.edges_measured, 1)
    if entry.edges_doubted:
        level = Trust.DOUBTFUL if share > _MOST_DOUBTED else Trust.GOOD
        said = f"{entry.edges_doubted} of {entry.edges_measured} overlaps contradict the others, and count for little"
        yield Check("overlaps doubted", level, said, f"good up to {_MOST_DOUBTED:.0%}", Quantity(entry.edges_doubted))
    yield from _unplaced(entry)


def _unplaced(entry: MontageEntry) -> Iterator[Check]:
    """Yield the pieces that were not taken, show nothing, or that no overlap places."""
    if entry.pieces_missing:
        yield told("pieces missing", f"{_named(entry.pieces_missing)} never taken: filled with the mean of the view")
    if entry.pieces_blank:
        yield told("pieces blank", f"{_named(entry.pieces_blank)} blank, as on a grid bar, and placed by the other views")
    expected = [each for each in entry.pieces_expected if each not in entry.pieces_blank]
    if expected:
        yield Check(
            "pieces expected", Trust.DOUBTFUL, f"{_named(expected)} placed by the other views alone, for want of a clear overlap"
        )
    if entry.pieces_doubted:
        said = f"{_named(entry.pieces_doubted)} seen elsewhere by the tracks than by its overlaps"
        yield Check("pieces doubted", Trust.DOUBTFUL, said)


def _named(pieces: list[tuple[int, int]]) -> str:
    """Return pieces in words, and the verb that fits their number."""
    shown = ", ".join(f"{piece} of view {view}" for view, piece in pieces[:_MOST_NAMED])
    more = f" and {len(pieces) - _MOST_NAMED} more" if len(pieces) > _MOST_NAMED else ""
    return f"piece {shown} is" if len(pieces) == 1 else f"pieces {shown}{more} are"
