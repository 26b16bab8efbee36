"""The tilt angles of a stack: which of five sources has them, and whether the others agree.

The order of the sources and the reasons for it are stated in :mod:`tiltflow.formats.series`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiltflow.errors import FormatError, MissingValueError, ParameterError
from tiltflow.formats.disagreements import REFINED_TILT_TOLERANCE_DEG, TILT_TOLERANCE_DEG, compare_tilts, places_of
from tiltflow.formats.montages import hint_of_pieces
from tiltflow.formats.piece_lists import ENDING as PIECE_LIST
from tiltflow.formats.sources import Absent, Found, Sources, choose, count_of
from tiltflow.formats.stacks import open_stack
from tiltflow.formats.tilts import read_tilts_of
from tiltflow.formats.view_order import Order, order_of_views
from tiltflow.geometry import edge_on
from tiltflow.piece_grid import ABSENT

FIRSTINC = "directive setupset.copyarg.firstinc"

Angles = NDArray[np.float64]


def find_tilt_angles(
    sources: Sources, *, first_increment: tuple[float | None, float | None], use_rawtlt: bool, ask_images: bool = True
) -> Found[Angles]:
    """Return the tilt of each view, `(views,)`, degrees, and a sentence that says where it was found.

    Parameters
    ----------
    first_increment
        Tilt of the first view and the step between views by directive; None, None without one.
    use_rawtlt
        Whether a directive asks for `B.rawtlt`.
    ask_images
        Whether the images are read to tell the order of the views where no header does.

    Raises
    ------
    MissingValueError
        No source has usable angles.
    FormatError
        `B.rawtlt` is the best source there is and does not fit.
    ParameterError
        The directive is incomplete.
    """
    directive = _directive(sources, *first_increment)
    rawtlt = _rawtlt(sources, needed=isinstance(directive, Absent), asked=use_rawtlt)
    header = _extended_tilts(sources)
    recorded = _mdoc_and_header(_mdoc_tilts(sources), header)
    readings = [directive, rawtlt, *recorded, _tlt(sources)]
    chosen = choose(sources, "tilt angles", readings, _unlike_tilts, _show_tilts)
    if chosen is None:
        tried = "; ".join(f"{reading.where}: {reading.reason}" for reading in readings if isinstance(reading, Absent))
        raise MissingValueError(
            f"{sources.path}: no tilt angles for {count_of(sources.views, 'view')}. Tried {tried}. Put them into "
            f"{sources.path.with_suffix('.rawtlt').name}, one a line, or give first and increment by setupset.copyarg.firstinc"
            f"{_or_pieces(sources)}"
        )
    if ask_images and not isinstance(header, Found):
        chosen = _in_order_of_views(sources, chosen)
    steepest = float(np.abs(chosen.value).max())
    if steepest > 90:
        sources.report(
            f"tilt angles reach {steepest:.2f} degrees; more than 90 is plausible for a needle that is turned all round only, check them",
            chosen.where,
        )
    if (steep := np.flatnonzero(edge_on(chosen.value))).size:
        named = ", ".join(f"{view + 1} ({chosen.value[view]:.1f}°)" for view in steep)
        sources.report(
            f"views too near to 90 degrees to be stretched to zero tilt are left out of an alignment: view {named}",
            chosen.where,
        )
    return chosen


def mdoc_places(sources: Sources, tilt_deg: Angles) -> NDArray[np.intp] | None:
    """Return the section of the `.mdoc` that belongs to each view, `(views,)`, None if the sections are in the order of the views.

    The order of the extended header comes before that of the angles in use, which a person may have given the other sign.
    """
    if sources.mdoc is None or len(sources.mdoc.views) != sources.views:
        return None
    sections, header = sources.mdoc.tilt_deg, sources.extended.tilt_deg if sources.extended else None
    if header is not None and len(header) == sources.views and (places := places_of(header, sections)) is not None:
        return places
    places = places_of(tilt_deg, sections)
    return None if places is None or compare_tilts(tilt_deg, -sections) is None else places


def _mdoc_and_header(
    mdoc: Found[Angles] | Absent, header: Found[Angles] | Absent
) -> tuple[Found[Angles] | Absent, Found[Angles] | Absent]:
    """Return the two in the order in which they are to be believed: the header first if the `.mdoc` has its angles in another order."""
    if isinstance(mdoc, Found) and isinstance(header, Found) and places_of(header.value, mdoc.value) is not None:
        return header, mdoc
    return mdoc, header


def _in_order_of_views(sources: Sources, chosen: Found[Angles]) -> Found[Angles]:
    """Return angles that are not sorted, and that no header of the stack confirms, in the order that the images have.

    Only the order of an `.mdoc` is put right: it lists views as acquired, while a person who writes a `.rawtlt` knows the stack.
    """
    steps = np.diff(chosen.value)
    if not ((steps > 0).any() and (steps < 0).any()):
        return chosen
    with open_stack(sources.path) as stack:
        seen = order_of_views((stack[section] for section in _one_a_view(sources)), chosen.value)
    of_mdoc = sources.mdoc is not None and chosen.where.startswith(sources.mdoc_name)
    found = (
        f"correlation of likeness and closeness in tilt {seen.by_tilt:.2f} for views sorted by tilt, {seen.listed:.2f} as listed"
    )
    rawtlt = sources.path.with_suffix(".rawtlt").name
    if seen.order is Order.SORTED and of_mdoc:
        sources.report(
            "it lists the views in the order of acquisition, but those of the stack are sorted by tilt, as the likeness of neighbours "
            f"shows ({found}): the angles are used in rising order, and exposures matched by angle. If the stack begins at the "
            f"highest tilt, put its angles into {rawtlt}",
            sources.mdoc_name,
        )
        return Found(np.sort(chosen.value), f"{chosen.where}; sorted by tilt, as the images are")
    if seen.order is Order.SORTED:
        message = "the angles are not in the order of the views, which look sorted by tilt: the alignment may be wrong"
    elif seen.order is Order.UNKNOWN and of_mdoc:
        message = (
            "whether the views are in the order of acquisition, as the .mdoc lists them, or sorted by tilt, neither a header nor the "
            "images tell: the alignment may be wrong"
        )
    else:
        return chosen
    sources.report(f"{message} ({found}); put the angles in the order of the stack into {rawtlt}", chosen.where.split(",")[0])
    sources.doubt("tilt_deg", message)
    return chosen


def _one_a_view(sources: Sources) -> list[int]:
    """Return a section of each view; of a montage, the same piece of all, where it was taken."""
    if sources.montage is None:
        return list(range(sources.views))
    piece = int(sources.montage.taken.sum(axis=0).argmax())
    column = sources.montage.section[:, piece]
    return [int(section) for section in np.where(column != ABSENT, column, sources.montage.first_section)]


def _directive(sources: Sources, first: float | None, step: float | None) -> Found[Angles] | Absent:
    if first is None and step is None:
        return Absent(FIRSTINC, "not given")
    if first is None or step is None:
        raise ParameterError(
            f"{FIRSTINC}: takes the first tilt and the increment, and one is missing (first {first}, increment {step})"
        )
    if step == 0 and sources.views > 1:
        raise ParameterError(
            f"{FIRSTINC}: an increment of 0 gives all {sources.views} views the same tilt; give the step in degrees"
        )
    return Found(np.asarray(first + step * np.arange(sources.views), np.float64), FIRSTINC)


def _rawtlt(sources: Sources, *, needed: bool, asked: bool) -> Found[Angles] | Absent:
    """Read `B.rawtlt`; while no better source has angles, one that does not fit is an error."""
    path = sources.path.with_suffix(".rawtlt")
    reading: Found[Angles] | Absent = Absent(path.name, "no such file")
    if path.is_file():
        try:
            reading = _usable_rawtlt(sources, path)
        except FormatError as error:
            if needed:
                raise
            sources.report(str(error), path)
            reading = Absent(path.name, "does not fit")
    if needed and asked and isinstance(reading, Absent):
        raise MissingValueError(
            f"{path}: {reading.reason}, and setupset.copyarg.userawtlt asks for its angles; correct the file or remove the directive"
        )
    return reading


def _usable_rawtlt(sources: Sources, path: Path) -> Found[Angles] | Absent:
    angles, column = read_tilts_of(path, sources.views)
    if len(angles) != sources.views:
        raise FormatError(
            f"{path}: has {count_of(len(angles), 'angle')}, but {sources.path.name} has {count_of(sources.views, 'view')}; "
            f"write one angle a view or remove the file{_if_pieces(sources, len(angles))}"
        )
    return _usable(sources, _named(path, column), angles)


def _if_pieces(sources: Sources, angles: int) -> str:
    return hint_of_pieces(sources.sections, angles, sources.path) if sources.montage is None else ""


def _or_pieces(sources: Sources) -> str:
    listed = sources.path.with_suffix(PIECE_LIST).name
    return f"; if the sections are pieces of a montage, give {listed} as well" if sources.montage is None else ""


def _named(path: Path, column: str) -> str:
    return f"{path.name} ({column})" if column else path.name


def _mdoc_tilts(sources: Sources) -> Found[Angles] | Absent:
    if sources.mdoc is None:
        return Absent(sources.mdoc_name, sources.mdoc_reason)
    without = [view.z for view in sources.mdoc.views if view.tilt_deg is None]
    if without:
        several = ", ".join(map(str, without[:5])) + ", ..." * (len(without) > 5)
        return Absent(
            sources.mdoc_name,
            f"no TiltAngle in {len(without)} of {len(sources.mdoc.views)} sections (ZValue {several})" + sources.mdoc.cut,
        )
    return _usable(sources, sources.mdoc_name, sources.mdoc.tilt_deg)


def _extended_tilts(sources: Sources) -> Found[Angles] | Absent:
    if sources.extended is None:
        return Absent(sources.extended_name, "none")
    if not sources.extended.kind:
        return Absent(sources.extended_name, "of an unknown kind")
    if sources.extended.tilt_deg is None:
        return Absent(sources.extended_name, "without tilt angles")
    return _usable(sources, sources.extended_name, sources.extended.tilt_deg)


def _tlt(sources: Sources) -> Found[Angles] | Absent:
    path = sources.path.with_suffix(".tlt")
    if not path.is_file():
        return Absent(path.name, "no such file")
    try:
        angles, column = read_tilts_of(path, sources.views)
        return _usable(sources, _named(path, column), angles)
    except FormatError as error:
        sources.report(str(error), path)
        return Absent(path.name, "could not be understood")


def _usable(sources: Sources, where: str, angles: Angles) -> Found[Angles] | Absent:
    if len(angles) != sources.views:
        reason = f"{count_of(len(angles), 'angle')} for {count_of(sources.views, 'view')}"
        sources.report(f"{reason}; not used", where)
        return Absent(where, reason)
    if sources.views > 1 and np.ptp(angles) == 0:
        return Absent(where, f"all {len(angles)} angles are {angles[0]:.2f}")
    return Found(angles, where)


def _unlike_tilts(used: Angles, other: Found[Angles]) -> str | None:
    refined = ".tlt" in other.where
    return compare_tilts(used, other.value, REFINED_TILT_TOLERANCE_DEG if refined else TILT_TOLERANCE_DEG)


def _show_tilts(angles: Angles) -> str:
    return f"{count_of(len(angles), 'angle')} from {angles[0]:.2f} to {angles[-1]:.2f}"
