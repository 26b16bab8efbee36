"""Whether the sections of a stack are pieces of a montage: which of three sources tells it, and what holds for a whole view.

Piece coordinates are looked for in `B.pl`, in the extended header of SerialEM and in the `.mdoc`, in that order; a file beside the stack
was put there by a person.  They make a montage if they give sections more than one corner.  SerialEM numbers the pieces of ordinary
series too, all at the corner 0 0, and that is no montage.  A `B.pl` with one corner says that a stack is none, whatever the others say.

Of a montage, angles, exposures and all else are counted by views: the values of a section become those of its view, of which the first
section in the file speaks for all.  The exposure of a view is that of one piece, since every spot of the specimen is exposed once but
for the overlaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiltflow.errors import FormatError, MissingValueError, ParameterError
from tiltflow.formats.mdoc import Mdoc
from tiltflow.formats.piece_lists import ENDING, read_piece_list
from tiltflow.formats.sources import Absent, Found, Sources, choose, count_of
from tiltflow.model import Acquisition
from tiltflow.piece_grid import PieceGrid

MONTAGE = "setupset.copyarg.montage"
_OPTION = f"montage (--montage, {MONTAGE})"
_ONE_CORNER = "all sections have the same corner"
_MOST_EMPTY = 8
"""Places of a grid without a piece, for each piece that there is: more are coordinates of something else."""
_SAME_TILT_DEG = 1.0
"""Difference of tilt angles of the pieces of a view that a stage may show; neighbouring views are further apart."""

Coordinates = NDArray[np.int64]


def find_montage(sources: Sources, asked: bool | None) -> str:
    """Make the sources speak of views if the sections of the stack are pieces, and return where that was read; empty if they are not.

    Parameters
    ----------
    sources
        The stack and what lies beside it; :attr:`Sources.montage` is set, and its values of sections become values of views.
    asked
        Whether a person says that it is a montage; None if that is not said.

    Raises
    ------
    FormatError
        The best source that has coordinates does not fit the stack, or its coordinates are no grid.
    MissingValueError
        It should be a montage, and no source has coordinates.
    ParameterError
        It should be none, and a source has coordinates of pieces.
    """
    readings: list[Found[PieceGrid] | Absent] = []
    for read in (_listed, _in_header, _in_mdoc):
        needed = asked is not False and not any(isinstance(reading, Found) for reading in readings)
        readings.append(read(sources, needed))
    found = choose(sources, "piece coordinates", readings, _unlike, describe_grid)
    if found is None or found.value.pieces == 1:
        if asked:
            raise MissingValueError(_no_pieces(sources, readings))
        if found is None:
            _report_signs(sources, asked)
        return ""
    if asked is False:
        raise ParameterError(_is_montage(sources, found))
    _report_missing_pieces(sources, found)
    _count_views(sources, found.value, readings)
    return found.where


def describe_grid(grid: PieceGrid) -> str:
    """Return a grid in words.

    >>> describe_grid(PieceGrid.of_sections([(0, 0, 0), (224, 0, 0)], (256, 256)))
    '1 view of 2 x 1 pieces of 256 x 256 pixels'
    """
    ny, nx = grid.piece_shape
    return f"{count_of(grid.views, 'view')} of {grid.columns} x {grid.rows} pieces of {nx} x {ny} pixels"


def hint_of_pieces(sections: int, values: int, path: Path) -> str:
    """Return the end of a message on a stack with more sections than values, where it may be a montage; empty where it cannot.

    >>> hint_of_pieces(84, 21, Path("B.st"))
    '; 84 sections and 21 angles: if each view is a montage of 4 pieces, give B.pl with a line x y z for each section'
    """
    if not 0 < values < sections or sections % values:
        return ""
    return (
        f"; {sections} sections and {values} angles: if each view is a montage of {sections // values} pieces, give "
        f"{path.with_suffix(ENDING).name} with a line x y z for each section"
    )


def _listed(sources: Sources, needed: bool) -> Found[PieceGrid] | Absent:
    path = sources.path.with_suffix(ENDING)
    if not path.is_file():
        return Absent(path.name, "no such file")
    try:
        coordinates = _one_a_section(sources, path)
    except FormatError as error:
        if needed:
            raise
        sources.report(str(error), path)
        return Absent(path.name, "does not fit")
    return _as_grid(sources, coordinates, path.name, needed)


def _one_a_section(sources: Sources, path: Path) -> Coordinates:
    coordinates = read_piece_list(path)
    if len(coordinates) != sources.sections:
        raise FormatError(
            f"{path}: has {count_of(len(coordinates), 'line')}, but {sources.path.name} has {count_of(sources.sections, 'section')}; "
            "write a line x y z for each section, or remove the file"
        )
    return coordinates


def _in_header(sources: Sources, needed: bool) -> Found[PieceGrid] | Absent:
    coordinates = sources.extended.piece_coordinates if sources.extended else None
    if coordinates is None:
        return Absent(sources.extended_name, "without piece coordinates" if sources.extended else "none")
    return _of_sections(sources, coordinates, sources.extended_name, needed)


def _in_mdoc(sources: Sources, needed: bool) -> Found[PieceGrid] | Absent:
    if sources.mdoc is None:
        return Absent(sources.mdoc_name, sources.mdoc_reason)
    pieces = [view.piece for view in sources.mdoc.views]
    known = [piece for piece in pieces if piece is not None]
    if len(known) < len(pieces):
        if len({piece[:2] for piece in known}) > 1:
            sources.report(f"PieceCoordinates in {len(known)} of {len(pieces)} sections only; not used", sources.mdoc_name)
        return Absent(sources.mdoc_name, f"no PieceCoordinates in {len(pieces) - len(known)} of {len(pieces)} sections")
    return _of_sections(sources, np.array(known, np.int64), sources.mdoc_name, needed)


def _of_sections(sources: Sources, coordinates: Coordinates, where: str, needed: bool) -> Found[PieceGrid] | Absent:
    if len(coordinates) != sources.sections:
        reason = f"piece coordinates of {count_of(len(coordinates), 'section')} for {sources.sections}"
        if _corners(coordinates) > 1:
            sources.report(f"{reason}; not used", where)
        return Absent(where, reason)
    return _as_grid(sources, coordinates, where, needed)


def _as_grid(sources: Sources, coordinates: Coordinates, where: str, needed: bool) -> Found[PieceGrid] | Absent:
    if _corners(coordinates) < 2 and where != sources.path.with_suffix(ENDING).name:
        return Absent(where, _ONE_CORNER)
    try:
        _require_dense(coordinates)
        grid = PieceGrid.of_sections(coordinates, sources.stack.shape[1:])
    except FormatError as error:
        listed = sources.path.with_suffix(ENDING)
        beside = listed if where == listed.name else sources.path
        remedy = "correct it" if where == listed.name else f"write the right ones into {listed.name}, a line x y z for each section"
        message = f"{beside}: piece coordinates ({where}): {error}; {remedy}"
        if needed:
            raise FormatError(message) from error
        sources.report(message, where)
        return Absent(where, "no grid")
    numbers = np.unique(coordinates[:, 2])
    if np.ptp(numbers) + 1 > len(numbers):
        missing = int(np.setdiff1d(numbers + 1, numbers)[0])
        sources.report(f"no piece belongs to view z = {missing}: the views behind it move up, {len(numbers)} in all", where)
    return Found(grid, where)


def _corners(coordinates: Coordinates) -> int:
    return len(np.unique(coordinates[:, :2], axis=0))


def _require_dense(coordinates: Coordinates) -> None:
    """Raise unless the pieces fill a good part of the grid that they span, which is made in memory."""
    places = len(np.unique(coordinates[:, 2]))
    for axis in (0, 1):
        steps = np.diff(np.unique(coordinates[:, axis]))
        if len(steps) and (steps % steps.min()).any():
            return  # no grid at all, which PieceGrid says better
        places *= int(steps.sum() // steps.min()) + 1 if len(steps) else 1
    if places > (_MOST_EMPTY + 1) * len(coordinates):
        raise FormatError(
            f"they are on no regular grid, as one through them has {places} places in all views for {len(coordinates)} pieces; those "
            "that an acquisition program has aligned are not meant here, but those before"
        )


def _unlike(used: PieceGrid, other: Found[PieceGrid]) -> str | None:
    found = other.value
    if (used.columns, used.rows, used.views) != (found.columns, found.rows, found.views):
        return "make another grid"
    if not np.array_equal(used.section, found.section):
        return "put sections elsewhere"
    return None if np.array_equal(used.corner_px, found.corner_px) else "have other distances between the pieces"


def _is_montage(sources: Sources, found: Found[PieceGrid]) -> str:
    return (
        f"{sources.path}: is it a montage? {_OPTION} is 0, but its {sources.sections} sections have the coordinates of pieces "
        f"({found.where}), each view of which should become one image. If so, leave montage out or set it to 1; if every section is a "
        f"view after all, give {sources.path.with_suffix(ENDING).name} with a line 0 0 z for each, z being its number from 0"
    )


def _no_pieces(sources: Sources, readings: Sequence[Found[PieceGrid] | Absent]) -> str:
    tried = "; ".join(f"{each.where}: {each.reason if isinstance(each, Absent) else _ONE_CORNER}" for each in readings)
    return (
        f"{sources.path}: {_OPTION} is 1, but nothing tells which of its {count_of(sources.sections, 'section')} is which piece. Tried "
        f"{tried}. Put the coordinates into {sources.path.with_suffix(ENDING).name}, a line x y z for each section (corner in pixels and "
        f"number of the view), or leave montage out if every section is a view"
    )


def _report_signs(sources: Sources, asked: bool | None) -> None:
    """Report what looks like a montage without piece coordinates, unless a person has said that it is none."""
    if asked is False:
        return
    listed = sources.path.with_suffix(ENDING).name
    if sources.mdoc is not None and sources.mdoc.montage and len(sources.mdoc.views) == sources.sections:
        message = (
            f"it says Montage = 1, but has no piece coordinates that differ: every section is taken as a view; if they are pieces, give "
            f"{listed}, else set montage to 0"
        )
        _doubt(sources, message, sources.mdoc_name)
        return
    for where, angles in _angles(sources):
        run = _run_length(angles)
        if run > 1:
            views = sources.sections // run
            message = (
                f"the angles repeat in runs of {run}, as those of the pieces of a montage do: {sources.sections} sections and {views} "
                f"angles. If each view is a montage of {run} pieces, give {listed}; if not, set montage to 0"
            )
            _doubt(sources, message, where)
            return


def _doubt(sources: Sources, message: str, where: str) -> None:
    sources.report(message, where)
    sources.doubt("tilt_deg", f"{message} ({where})")


def _angles(sources: Sources) -> list[tuple[str, NDArray[np.float64]]]:
    found = []
    if sources.mdoc is not None:
        found.append((sources.mdoc_name, sources.mdoc.tilt_deg))
    if sources.extended is not None and sources.extended.tilt_deg is not None:
        found.append((sources.extended_name, sources.extended.tilt_deg))
    return [(where, angles) for where, angles in found if len(angles) == sources.sections]


def _run_length(angles: NDArray[np.float64]) -> int:
    """Return the length of the runs of equal angles if all are as long and there are several; else 1."""
    ends = np.flatnonzero(np.diff(angles) != 0) + 1
    lengths = np.unique(np.diff([0, *ends, len(angles)]))
    return int(lengths[0]) if len(lengths) == 1 and len(ends) else 1


def _report_missing_pieces(sources: Sources, found: Found[PieceGrid]) -> None:
    grid = found.value
    lacking = np.flatnonzero(~grid.taken.all(axis=1))
    if len(lacking):
        several = ", ".join(str(view + 1) for view in lacking[:8].tolist()) + ", ..." * (len(lacking) > 8)
        lost = grid.views * grid.pieces - grid.sections
        sources.report(f"{count_of(lost, 'piece')} of {grid.views * grid.pieces} are missing, in view {several}", found.where)


def _count_views(sources: Sources, grid: PieceGrid, readings: Sequence[Found[PieceGrid] | Absent]) -> None:
    """Replace values of sections by those of views: by a source's own piece coordinates where they make as many views."""
    own = {each.where: each.value for each in readings if isinstance(each, Found) and each.value.views == grid.views}
    header, listed = (own.get(where, grid) for where in (sources.extended_name, sources.mdoc_name))
    for where, angles in _angles(sources):
        _report_unlike_tilts(sources, listed if where == sources.mdoc_name else header, where, angles)
    sources.montage = grid
    if sources.stack.acquisition is not None:
        sources.of_views = _acquisition_of_views(sources.stack.acquisition, header)
    if sources.mdoc is not None and len(sources.mdoc.views) == grid.sections:
        sources.mdoc = _mdoc_of_views(sources, sources.mdoc, listed)


def _report_unlike_tilts(sources: Sources, grid: PieceGrid, where: str, angles: NDArray[np.float64]) -> None:
    first = angles[grid.first_section]
    off = np.abs(angles - first[grid.view_of_section])
    if np.isfinite(off).all() and off.max() > _SAME_TILT_DEG:
        section = int(off.argmax())
        view = int(grid.view_of_section[section])
        sources.report(
            f"the pieces of view {view + 1} have tilts that differ by {off[section]:.2f} degrees: that of its first piece, "
            f"{first[view]:.2f}, is used; is z of the piece coordinates the number of the view?",
            where,
        )


def _acquisition_of_views(written: Acquisition, grid: PieceGrid) -> Acquisition:
    def first(values: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
        return values[grid.first_section] if values is not None and len(values) == grid.sections else values

    return replace(written, tilt_deg=first(written.tilt_deg), exposure=first(written.exposure))


def _mdoc_of_views(sources: Sources, mdoc: Mdoc, grid: PieceGrid) -> Mdoc:
    """Return an `.mdoc` with a section a view; an earlier dose that counts the pieces of a view one after another is left out."""
    prior = [view.prior_exposure for view in mdoc.views]
    rises = any(prior[section] != prior[grid.first_section[view]] for section, view in enumerate(grid.view_of_section.tolist()))
    if rises and any(prior):
        sources.report(
            "PriorRecordDose rises from piece to piece of a view, and so counts what other places of the specimen received; not used",
            sources.mdoc_name,
        )
    views = [replace(mdoc.views[section], z=view) for view, section in enumerate(grid.first_section.tolist())]
    return replace(mdoc, views=tuple(replace(view, prior_exposure=None) if rises else view for view in views))
