"""The exposure that the specimen had received before each view, from the `.mdoc` beside the stack."""

from __future__ import annotations

from collections.abc import Sequence
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


def _before_each_section(mdoc: Mdoc) -> NDArray[np.float64] | None:
    prior = [view.prior_exposure for view in mdoc.views]
    if all(value is not None for value in prior) and any(prior):
        return np.array(prior, float)
    times, exposure = [_time(view.acquired) for view in mdoc.views], mdoc.exposure
    known = [time for time in times if time is not None]
    if exposure is None or len(set(known)) < len(mdoc.views):
        return None
    return _accumulated(known, exposure)


def acquisition_order(exposure_before: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the place of each view in the order of acquisition, `(views,)`, counted from 1."""
    return np.argsort(np.argsort(exposure_before, kind="stable"), kind="stable") + 1


def _accumulated(times: Sequence[datetime], exposure: NDArray[np.float64]) -> NDArray[np.float64]:
    order = np.argsort(np.array(times, "datetime64[us]"), kind="stable")
    before = np.empty_like(exposure)
    before[order] = np.cumsum(exposure[order]) - exposure[order]
    return before


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
