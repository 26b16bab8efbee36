"""The alignment that another program made, as an alignment of a tilt series: which of its rows belongs to which view, and its audit.

Rows belong to views by the section that the file names, or else by their order where there is one for each view, or else by their
tilts.  A tilt series has no tilt twice, so that the nearest nominal tilt names the view, if the two agree to less than half a
step; they may do so with the opposite sign, as programs differ in it (:func:`views_of_rows`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow import geometry
from tiltflow.align.audit import AuditParams, audit_alignment
from tiltflow.errors import FormatError, StageError
from tiltflow.formats.foreign_alignment import ForeignAlignment
from tiltflow.model import Alignment, Evidence, Stack, TiltSeries, Tracks
from tiltflow.observer import Observer, StageObserver

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

METHOD = "given"
"""The method of such an alignment, as it is called in records."""

_SAME_STEP = 0.45
"""How far a tilt may be from the nominal tilt of its view, in steps of the series: below a half, so that no other view is nearer."""
ODD_DEG = 15.0
"""Tilts that differ from the nominal ones by more, besides a common offset, belong to another series or another order of the views."""


def given_alignment(found: ForeignAlignment, series: TiltSeries, notes: StageObserver) -> Alignment:
    """Return the alignment of a series, one row a view; views that it does not name are left out.

    Parameters
    ----------
    found
        As read from the files.
    series
        The tilt series.
    notes
        Hears what was taken from where, and what is odd.

    Raises
    ------
    FormatError
        If it is of images of another size or number, or its rows cannot be assigned to views.
    """
    _check_size(found, series)
    rows = views_of_rows(found, series, notes)
    views = series.shape[0]
    sign = hand(found.tilt_deg, series.tilt_deg[rows])
    if sign < 0:
        notes.warn(
            f"{found.path.name}: its tilts have the opposite sign of those of {series.path.name}; they are used as they are, and the "
            f"volume is that of {found.program}, mirrored along z compared with one by the tilts of the stack"
        )
    _check_tilts(found, sign * series.tilt_deg[rows])
    used = np.zeros(views, bool)
    used[rows] = found.used
    used[[view for view in found.left_out if view < views]] = False
    if not used.any():
        raise FormatError(f"{found.path}: leaves out every view of {series.path.name}")
    nearest = _nearest_rows(rows, sign * series.tilt_deg)
    local = found.local
    if local is not None:
        local = replace(local, transforms=local.transforms[:, nearest], delta_tilt_deg=local.delta_tilt_deg[:, nearest])
    tilts = sign * series.tilt_deg
    tilts[rows] = found.tilt_deg
    alignment = Alignment(
        transforms=found.transforms[nearest],
        tilt_deg=tilts,
        included=used & series.included,
        method=METHOD,
        x_axis_tilt_deg=0.0 - found.x_tilt_deg,
        local=local,
    )
    _describe(found, alignment, used, notes)
    reasons = {int(view): f"is left out by the alignment of {found.program}" for view in np.flatnonzero(~used)}
    reasons |= {int(view): "is left out by the request" for view in np.flatnonzero(~series.included & used)}
    return replace(
        alignment,
        evidence=Evidence(
            excluded_views=reasons,
            axis_angle_nominal_deg=series.axis_angle_deg if series.axis_is_told else None,
            axis_angle_from_data_deg=geometry.common_axis_angle(alignment.transforms[used]),
            notes=(f"made by {found.program}, read from {', '.join(path.name for path in found.files)}",),
        ),
    )


def leave_out(alignment: Alignment, excluded: dict[int, str]) -> Alignment:
    """Return an alignment without views, counted from 0, with the reason for each.

    Raises
    ------
    StageError
        If no view is left.
    """
    included = alignment.included.copy()
    included[list(excluded)] = False
    if not included.any():
        raise StageError("no view is left: those that the given alignment uses are unusable or left out by the request")
    reasons = {**excluded, **alignment.evidence.excluded_views}
    return replace(alignment, included=included, evidence=replace(alignment.evidence, excluded_views=reasons))


def audit_given(
    stack: Stack,
    alignment: Alignment,
    series: TiltSeries,
    params: AuditParams,
    *,
    tracks: Tracks | None = None,
    observer: Observer,
    threads: int = 1,
) -> Alignment:
    """Return a given alignment with the evidence that the images hold for and against it (:mod:`tiltflow.align.audit`).

    The nominal tilts are taken in the sign of the alignment, and its own angle of the tilt axis: a header may not know it.
    """
    used = alignment.included
    sign = hand(alignment.tilt_deg[used], series.tilt_deg[used])
    return audit_alignment(
        stack,
        alignment,
        sign * series.tilt_deg,
        geometry.common_axis_angle(alignment.transforms[used]),
        series.pixel_size_angstrom,
        params,
        tracks=tracks,
        observer=observer,
        threads=threads,
    )


def views_of_rows(found: ForeignAlignment, series: TiltSeries, notes: StageObserver | None = None) -> Ints:
    """Return the view, counted from 0, that each row belongs to.

    Raises
    ------
    FormatError
        If the file does not say and the tilts do not either.
    """
    if found.section is not None:
        return _by_section(found, found.section, series.shape[0])
    theirs = found.tilt_deg if found.nominal_deg is None else found.nominal_deg
    return views_of_tilts(
        found.path, theirs, series, are_nominal=found.nominal_deg is not None, left_out=found.left_out, notes=notes
    )


def views_of_tilts(
    path: Path,
    tilt_deg: Floats,
    series: TiltSeries,
    *,
    are_nominal: bool,
    left_out: Sequence[int] = (),
    notes: StageObserver | None = None,
) -> Ints:
    """Return the view, counted from 0, that each row of a file belongs to by its tilt.

    Parameters
    ----------
    path
        The file, for what is said of it.
    tilt_deg
        Tilt of each row.
    are_nominal
        Whether these are nominal tilts, which have the sign of those of the stack, whatever the order of the rows, or refined ones.
    left_out
        Views that the file says it leaves out.

    Raises
    ------
    FormatError
        If the tilts do not tell.
    """
    views, count = series.shape[0], len(tilt_deg)
    by_sign = _nearest_views(tilt_deg, series.tilt_deg) if are_nominal else None
    if by_sign is not None:
        return _told(by_sign, path, series, notes)
    if count == views and apart_deg(tilt_deg, series.tilt_deg) <= ODD_DEG:
        return np.arange(views)
    for kept in (np.setdiff1d(np.arange(views), np.array(left_out, np.int64)), np.flatnonzero(series.included)):
        if count == len(kept) < views and apart_deg(tilt_deg, series.tilt_deg[kept]) <= ODD_DEG:
            return np.asarray(kept, np.int64)
    by_tilt = _by_tilt(tilt_deg, series.tilt_deg)
    if by_tilt is None and count != views:
        raise FormatError(
            f"{path}: has {count} views, and {series.path.name} has {views}; which views are missing cannot be told from "
            f"the tilts, {_range(tilt_deg)} in the file and {_range(series.tilt_deg)} in the stack: give one line a view of the stack"
        )
    return np.arange(views) if by_tilt is None else _told(by_tilt, path, series, notes)


def _told(rows: Ints, path: Path, series: TiltSeries, notes: StageObserver | None) -> Ints:
    """Return the views of rows, and say if these are in another order than the stack."""
    if notes is not None and len(rows) == series.shape[0] and (np.diff(rows) < 0).any():
        notes.warn(
            f"{path.name}: its views are in another order than those of {series.path.name}; they are assigned by their tilts"
        )
    return rows


def hand(tilt_deg: ArrayLike, nominal_deg: ArrayLike) -> float:
    """Return 1 where tilts run as the nominal ones do, and -1 where they run the other way.

    >>> hand([58, 1, -61], [-60, 0, 60])
    -1.0
    """
    tilts, nominal = np.asarray(tilt_deg, float), np.asarray(nominal_deg, float)
    return -1.0 if float((tilts - tilts.mean()) @ (nominal - nominal.mean())) < 0 else 1.0


def apart_deg(tilt_deg: Floats, nominal_deg: Floats) -> float:
    """Return how far tilts are from the nominal ones at most, in either sign and besides a common offset, degrees.

    >>> apart_deg(np.array([58.0, 1.0, -61.0]), np.array([-60.0, 0.0, 60.0]))
    2.0
    """
    differences = hand(tilt_deg, nominal_deg) * tilt_deg - nominal_deg
    return float(np.abs(differences - np.median(differences)).max())


def _check_size(found: ForeignAlignment, series: TiltSeries) -> None:
    views, ny, nx = series.shape
    if found.image_size is not None and found.image_size != (nx, ny):
        raise FormatError(
            f"{found.path}: is of views of {found.image_size[0]} x {found.image_size[1]} pixels, and {series.path.name} has "
            f"{nx} x {ny}; its shifts are pixels of that stack, so give that stack"
        )
    if found.views is not None and found.views != views:
        raise FormatError(
            f"{found.path}: is of a stack of {found.views} views, and {series.path.name} has {views}; give that stack"
        )
    if len(found.tilt_deg) > views:
        raise FormatError(
            f"{found.path}: has {len(found.tilt_deg)} views, and {series.path.name} has {views}; it belongs to another stack"
        )
    if found.left_out and max(found.left_out) >= views:
        raise FormatError(f"{found.path}: leaves out view {max(found.left_out) + 1}, and {series.path.name} has {views} views")


def _by_section(found: ForeignAlignment, section: Ints, views: int) -> Ints:
    if section.min() < 0 or section.max() >= views or len(set(section.tolist())) != len(section):
        raise FormatError(
            f"{found.path}: names the sections {section.min() + 1} to {section.max() + 1}, some of them twice or beyond "
            f"the {views} views of the stack; it belongs to another stack"
        )
    return section


def _by_tilt(tilts: Floats, nominal: Floats) -> Ints | None:
    """Return the view with the nearest nominal tilt for each row; None where that is not one view a row.

    A symmetric series may fit with either sign.  Then the one that keeps the order of the stack is right; if none does, they do not
    tell.
    """
    fits = [views for sign in (1.0, -1.0) if (views := _nearest_views(sign * tilts, nominal)) is not None]
    ordered = [views for views in fits if (np.diff(views) > 0).all()]
    if ordered:
        return ordered[0]
    return fits[0] if len(fits) == 1 else None


def _nearest_views(tilts: Floats, nominal: Floats) -> Ints | None:
    if len(nominal) < 2:
        return None
    limit = _SAME_STEP * float(np.median(np.diff(np.sort(nominal))))
    apart = np.abs(tilts[:, None] - nominal)
    nearest = apart.argmin(axis=1)
    unique = len(set(nearest.tolist())) == len(tilts) and apart.min(axis=1).max() <= limit
    return np.asarray(nearest, np.int64) if unique else None


def _check_tilts(found: ForeignAlignment, nominal: Floats) -> None:
    if (off := apart_deg(found.tilt_deg, nominal)) > ODD_DEG:
        raise FormatError(
            f"{found.path}: its tilts, {_range(found.tilt_deg)}, are up to {off:.1f} degrees from the nominal ones, {_range(nominal)}, "
            f"besides an offset: it belongs to another series, or its views are in another order"
        )


def _nearest_rows(rows: Ints, nominal: Floats) -> Ints:
    """Return the row of each view; for views without one that of the nearest tilt."""
    apart = np.abs(nominal[:, None] - nominal[rows])
    return np.asarray(apart.argmin(axis=1), np.int64)


def _range(tilts: Floats) -> str:
    return f"{tilts[0]:.1f} to {tilts[-1]:.1f}"


def _describe(found: ForeignAlignment, alignment: Alignment, used: NDArray[np.bool_], notes: StageObserver) -> None:
    notes.note(f"the alignment of {found.program} from {', '.join(str(path) for path in found.files)}")
    notes.number("views_given", len(found.tilt_deg))
    notes.number("views_left_out", int((~used).sum()))
    notes.number("axis_angle", geometry.common_axis_angle(alignment.transforms[used]), "deg")
    notes.number("x_axis_tilt", alignment.x_axis_tilt_deg, "deg")
    notes.number("largest_shift", float(np.linalg.norm(alignment.transforms[used][..., 2], axis=1).max()), "px")
    if alignment.local is not None:
        notes.number("local_areas", len(alignment.local.centre_px))
    for text in found.notes:
        notes.warn(text)
