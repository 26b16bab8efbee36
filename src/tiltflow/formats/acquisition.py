"""When the views were taken, and what exposure the specimen had received before each, from the `.mdoc` beside the stack."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiltflow.errors import InputError
from tiltflow.formats.disagreements import compare_tilts, places_of
from tiltflow.formats.mdoc import Mdoc, read_mdoc

_TIMES = ("%d-%b-%y %H:%M:%S", "%d-%b-%Y %H:%M:%S", "%Y-%m-%d %H:%M:%S")
"""How SerialEM and others write `DateTime`."""


def exposure_before_each_view(stack: Path, tilt_deg: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the exposure before each view, `(views,)`, electrons per square ångström; None where the `.mdoc` does not tell.

    It is `PriorRecordDose`, or the sum of `ExposureDose` over the views with an earlier `DateTime`.  An `.mdoc` that lists the views of
    the nominal tilts `tilt_deg`, `(views,)`, in another order is matched by angle.
    """
    mdoc = _mdoc_of(stack, len(tilt_deg))
    if mdoc is None:
        return None
    before = _before_each_section(mdoc)
    places = places_of(tilt_deg, mdoc.tilt_deg)
    in_order = places is None or compare_tilts(tilt_deg, -mdoc.tilt_deg) is None
    return before if before is None or in_order else before[places]


def order_of_sections(mdoc: Mdoc) -> tuple[NDArray[np.int64], str] | None:
    """Return the sections of an `.mdoc` in the order in which they were taken, counted from 0, and the field that tells it.

    The field is `PriorRecordDose` or `DateTime`; None where neither has another value in each section.
    """
    prior = _prior(mdoc)
    if prior is not None and len(set(prior)) == len(prior):
        return np.argsort(prior), "PriorRecordDose"
    known = [time for view in mdoc.views if (time := _time(view.acquired)) is not None]
    if len(set(known)) < len(mdoc.views):
        return None
    return np.argsort(np.array(known, "datetime64[us]")), "DateTime"


def exposure_before_sections(mdoc: Mdoc) -> tuple[NDArray[np.float64], str] | None:
    """Return the exposure before each section of an `.mdoc`, `(views,)`, electrons per square ångström, and the field that tells it."""
    prior, exposure, order = _prior(mdoc), mdoc.exposure, order_of_sections(mdoc)
    if prior is not None:
        return prior, "PriorRecordDose"
    if exposure is None or order is None:
        return None
    before = np.empty_like(exposure)
    before[order[0]] = np.cumsum(exposure[order[0]]) - exposure[order[0]]
    return before, f"ExposureDose in the order of {order[1]}"


def _prior(mdoc: Mdoc) -> NDArray[np.float64] | None:
    prior = [view.prior_exposure for view in mdoc.views]
    known = [value for value in prior if value is not None]
    return np.array(known) if len(known) == len(prior) and any(known) else None


def _before_each_section(mdoc: Mdoc) -> NDArray[np.float64] | None:
    found = exposure_before_sections(mdoc)
    return None if found is None else found[0]


def acquisition_order(exposure_before: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the place of each view in the order of acquisition, `(views,)`, counted from 1."""
    return np.argsort(np.argsort(exposure_before, kind="stable"), kind="stable") + 1


def _mdoc_of(stack: Path, views: int) -> Mdoc | None:
    for path in (Path(f"{stack}.mdoc"), stack.with_suffix(".mdoc")):
        if path.is_file():
            try:
                mdoc = read_mdoc(path)
            except InputError:
                return None  # reading the series has said so
            return mdoc if len(mdoc.views) == views else None
    return None


def _time(text: str | None) -> datetime | None:
    for form in _TIMES:
        try:
            return datetime.strptime(" ".join((text or "").split()), form)  # noqa: DTZ007  the clock of one microscope
        except ValueError:
            continue
    return None
