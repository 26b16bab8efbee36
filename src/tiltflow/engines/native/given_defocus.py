"""A defocus that another program found, in place of an estimate: which of its rows belongs to which view, its frame and its hand.

IMOD's files are of the aligned stack.  Those of the others are of raw views, so that directions are turned by minus the angle of the
tilt axis.  A hand belongs to the tilts of the file, and to the end of the tilt axis that these are counted about: it changes its sign
where ours run the other way, and where our axis points the other way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiltflow import geometry
from tiltflow.align.foreign import ODD_DEG, apart_deg, views_of_tilts
from tiltflow.align.foreign import hand as sign_of_tilts
from tiltflow.checksum import sha256_of
from tiltflow.ctf.model import Astigmatism
from tiltflow.errors import FormatError, LocationError
from tiltflow.formats.defocus import DefocusTable
from tiltflow.formats.find_defocus import defocus_files, read_given_defocus
from tiltflow.model import Alignment, TiltSeries

Floats = NDArray[np.float64]

_BY_TILT = ("Warp", "RELION")
"""Programs whose rows are those of the tilts, and not of the sections of a stack."""
_QUARTER_TURN_DEG = 90.0
_WORTH_SAYING_DEG = 5.0
_WORTH_SAYING_NM = 30.0
_FAR_DEG = 10.0
"""Tilt between a view and the nearest one that a file names from which on its defocus is little more than a guess: fits of groups of
views, as ctfplotter makes them, begin every 5 to 10 degrees, and overlap."""
_MOST_BEYOND = 0.5
"""Part of the views that may lie beyond all that a file names."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class GivenDefocus:
    """What a file says of a series.

    Attributes
    ----------
    program
        Who writes such files.
    defocus_nm
        `(views,)`.
    astigmatism
        Mean of all views, in the aligned view.
    phase_shift_deg
        Mean of all views.
    hand
        Sign of the gradient for the tilts of the alignment; None where the file does not tell.
    remarks
        What one value for all views leaves out.
    doubts
        Which views the file hardly tells anything of.
    """

    program: str
    defocus_nm: Floats
    astigmatism: Astigmatism
    phase_shift_deg: float
    hand: int | None
    remarks: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


def checksums_of_defocus(file: str, name: str) -> tuple[str, ...]:
    """Return what tells one given defocus from another: the SHA-256 of every file that it depends on; none where none is given.

    Raises
    ------
    LocationError, FormatError, MissingValueError
        If a file cannot be read.
    """
    if not file:
        return ()
    try:
        return tuple(sha256_of(path) for path in defocus_files(Path(file), name))
    except OSError as error:
        raise LocationError(f"{error.filename or file}: cannot be read: {error.strerror}") from error


def given_defocus(path: Path, series: TiltSeries, alignment: Alignment) -> GivenDefocus:
    """Return the defocus of a series from a file.

    Raises
    ------
    LocationError, FormatError, MissingValueError
        If it cannot be read, or does not fit the series.
    """
    table, each, sign = _fitting(path, series)
    axis = float(np.median(geometry.axis_angles(alignment.transforms)[alignment.included]))
    double = np.deg2rad(2 * each.astigmatism_deg)
    along, across = (float(np.mean(each.astigmatism_nm * part)) for part in (np.cos(double), np.sin(double)))
    mean = Astigmatism(float(np.hypot(along, across)), float(np.rad2deg(np.arctan2(across, along)) / 2) % 180)
    return GivenDefocus(
        program=table.program,
        defocus_nm=each.defocus_nm,
        astigmatism=mean if table.program == "IMOD" else mean.turned(-axis),
        phase_shift_deg=float(np.mean(each.phase_shift_deg)),
        hand=_hand(table, sign * sign_of_tilts(alignment.tilt_deg, series.tilt_deg), axis),
        remarks=tuple(_left_out(each, mean)),
        doubts=tuple(_far_views(table, path, series)),
    )


def check_given_defocus(path: Path, series: TiltSeries) -> None:
    """Read a file of defocus and compare it with the series, as :func:`given_defocus` does before there is an alignment.

    Raises
    ------
    LocationError, FormatError, MissingValueError
        If it cannot be read, or does not fit the series.
    """
    _fitting(path, series)


def _fitting(path: Path, series: TiltSeries) -> tuple[DefocusTable, DefocusTable, float]:
    """Return the table whose rows are those of the views of a series, one with a row for each view, and the sign of its tilts."""
    table = read_given_defocus(path, series.name)
    table, sign = _of_tilts(table, path, series) if table.program in _BY_TILT else _of_sections(table, path, series)
    try:
        each = table.per_view(series.tilt_deg)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error
    _check_coverage(table, path, series)
    return table, each, sign


def _named_views(table: DefocusTable) -> NDArray[np.int64]:
    """Return the views that the rows of a table hold, counted from 0; none where its only row holds for all."""
    if len(table.views) == 1:
        return np.empty(0, np.int64)
    return np.unique(np.concatenate([np.arange(first, last + 1) for first, last in table.views]))


def _check_coverage(table: DefocusTable, path: Path, series: TiltSeries) -> None:
    """Refuse a table that leaves most views beyond its ends, where a defocus only stays the same."""
    named, tilts = _named_views(table), series.tilt_deg
    if not len(named):
        return
    low, high = tilts[named].min(), tilts[named].max()
    beyond = int(np.count_nonzero((tilts < low) | (tilts > high)))
    if beyond > _MOST_BEYOND * len(tilts):
        raise FormatError(
            f"{path}: its {len(table.views)} rows hold views from {low:.0f} to {high:.0f} degrees, and {beyond} of the {len(tilts)} "
            f"views of {series.path.name} lie beyond: it belongs to another series, or is not complete"
        )


def _far_views(table: DefocusTable, path: Path, series: TiltSeries) -> Iterator[str]:
    """Yield which views are far from all that a file names."""
    named, tilts = _named_views(table), series.tilt_deg
    if not len(named):
        return
    away = np.abs(tilts[:, None] - tilts[named]).min(axis=1)
    far = int(np.count_nonzero(series.included & (away > _FAR_DEG)))
    if far:
        yield (
            f"{path.name} has the defocus of {len(named)} of {len(tilts)} views, and {far} {'is' if far == 1 else 'are'} more than "
            f"{_FAR_DEG:g} degrees from any of them (up to {away[series.included].max():.0f}): theirs is read between or beyond its rows"
        )


def _hand(table: DefocusTable, sign: float, axis_deg: float) -> int | None:
    """Return the hand for our tilts; `sign` is -1 where those of the file run the other way."""
    if table.hand is None:
        return None
    turned = table.axis_deg is not None and abs((table.axis_deg - axis_deg + 180) % 360 - 180) > _QUARTER_TURN_DEG
    return round(table.hand * sign * (-1 if turned else 1))


def _of_sections(table: DefocusTable, path: Path, series: TiltSeries) -> tuple[DefocusTable, float]:
    """Check that a table whose rows name views of the stack is of this one; a hand that it tells is for the tilts of the stack."""
    views, rows = series.shape[0], table.views
    if len(rows) == 1:
        return table, 1.0
    if rows.min() < 0 or rows.max() >= views:
        raise FormatError(f"{path}: has the defocus of view {rows.max() + 1}, and {series.path.name} has {views} views: {_OTHER}")
    if table.program != "IMOD":
        if sorted(rows[:, 0].tolist()) != list(range(views)):
            raise FormatError(f"{path}: has {len(rows)} rows, and {series.path.name} has {views} views: it is to have one for each")
        return table, 1.0
    if table.tilt_deg is None:
        return table, 1.0
    theirs, nominal = table.tilt_deg.mean(axis=1), series.tilt_deg[rows].mean(axis=1)
    _check_tilts(theirs, nominal, path, series)
    # With InvertTiltAngles IMOD's fit negates the tilts, which says that the gradient is the other one for those of the stack.
    return (table if sign_of_tilts(theirs, nominal) > 0 else replace(table, hand=-1)), 1.0


_OTHER = "it belongs to another series, or its views are in another order"


def _of_tilts(table: DefocusTable, path: Path, series: TiltSeries) -> tuple[DefocusTable, float]:
    """Return the table with the view of each row, and the sign of its tilts against those of the stack."""
    if table.tilt_deg is None:
        if len(table.views) != series.shape[0]:
            raise FormatError(
                f"{path}: has {len(table.views)} rows without tilts, and {series.path.name} has {series.shape[0]} views"
            )
        return table, 1.0
    tilts = table.tilt_deg[:, 0]
    # Rows of Warp are in the order of the nominal tilts, rising, whatever the sign of its angles.
    nominal = tilts if table.program == "RELION" or tilts[-1] >= tilts[0] else -tilts
    rows = views_of_tilts(path, nominal, series, are_nominal=True)
    _check_tilts(nominal, series.tilt_deg[rows], path, series)
    placed = replace(table, views=np.stack([rows, rows], axis=1))
    return placed, sign_of_tilts(tilts, series.tilt_deg[rows]) if len(tilts) > 1 else 1.0


def _check_tilts(theirs: Floats, nominal: Floats, path: Path, series: TiltSeries) -> None:
    if (worst := apart_deg(theirs, nominal)) > ODD_DEG:
        raise FormatError(
            f"{path}: its tilts are up to {worst:.1f} degrees from those of {series.path.name}, besides an offset: {_OTHER}"
        )


def _left_out(each: DefocusTable, mean: Astigmatism) -> list[str]:
    """Return by how much views differ where one value for all of them is taken."""
    double = np.deg2rad(2 * each.astigmatism_deg) - np.deg2rad(2 * mean.deg)
    apart = np.hypot(each.astigmatism_nm * np.cos(double) - mean.nm, each.astigmatism_nm * np.sin(double)).max()
    phase = float(np.ptp(each.phase_shift_deg))
    told = []
    if apart > _WORTH_SAYING_NM:
        told.append(f"the mean astigmatism of all views is taken, from which that of single ones is up to {apart:.0f} nm away")
    if phase > _WORTH_SAYING_DEG:
        told.append(f"the mean phase shift of all views is taken, which spans {phase:.0f} degrees in the file")
    return told
