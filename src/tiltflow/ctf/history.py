"""The exposure that the specimen had received when each view was taken, and where that is known from.

The commonest mistake of weighting by exposure is a wrong order of the views, which a result does not show.  So the order is believed only
where something tells it: the numbers before each view, the times, or a scheme that the user states.  The order of the file is taken only
if weighting is asked for whatever is known, and then said.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.ctf.exposure import exposures_at_views
from tiltflow.ctf.requests import ExposureRequest
from tiltflow.errors import FormatError, ParameterError
from tiltflow.formats.exposures import read_exposures
from tiltflow.model import TiltSeries

Floats = NDArray[np.float64]

BIDIRECTIONAL = "comparam.mtffilter.mtffilter.BidirectionalNumViews"
_MOST_APART, _FEWEST_PLACES = 0.1, 2.0
"""Places, as part of the views and in views, by which a stated order is on average from the one that was told where it is another one: a
dose-symmetric order in groups of five differs from one in single steps by two, a bidirectional one of 41 views by ten."""
_IN_FILE_ORDER = "the order of the file: nothing tells when each view was taken"


@dataclass(frozen=True, slots=True, eq=False)
class ExposureHistory:
    """What the specimen had received.

    Attributes
    ----------
    each
        Exposure of each view, electrons per square ångström, `(views,)`.
    before
        What came before it, `(views,)`.
    order
        The views in the order in which they were taken, counted from 0, `(views,)`.
    source
        Where exposures and order are from, in words.
    assumed
        Whether the order is only assumed.
    doubt
        What the series tells against an order that is stated; empty where it agrees, or tells none.
    """

    each: Floats
    before: Floats
    order: NDArray[np.int64]
    source: str
    assumed: bool = False
    doubt: str = ""

    @property
    def at_views(self) -> Floats:
        """The exposure at the middle of each view, `(views,)`."""
        return self.before + self.each / 2


def exposure_history(series: TiltSeries, asked: ExposureRequest) -> ExposureHistory | str:
    """Return the exposures of a series, or in words why they are not known.

    Raises
    ------
    LocationError, FormatError
        If the file of exposures cannot be read, or does not fit the series.
    ParameterError
        If the first branch of a bidirectional series has more views than there are.
    """
    views = series.shape[0]
    if asked.file:
        return _from_file(Path(asked.file), asked.columns, views, asked.initial)
    if asked.scheme == "bidirectional" and asked.first_views > views:
        raise ParameterError(
            f"{BIDIRECTIONAL} = {asked.first_views}: {series.path.name} has {views} views; give the number of views of its first branch"
        )
    if asked.each is not None:
        each, where = np.full(views, asked.each), f"{asked.each:g} electrons per square ångström for each view, as stated"
    elif series.exposure is not None:
        each, where = series.exposure, series.provenance.get("exposure", "given by the caller")
    elif series.exposure_before is not None:
        each = _own_from_before(series.exposure_before)
        where = f"differences of {series.provenance.get('exposure_before', 'what came before')}"
    else:
        return "no source gives the exposures: state that of a view (comparam.mtffilter.mtffilter.FixedImageDose)"
    if asked.scheme == "told" and series.exposure_before is not None and asked.each is None:
        before = series.exposure_before + asked.initial
        order = np.argsort(before, kind="stable")
        return ExposureHistory(each, before, order, f"{where}; before each: {series.provenance.get('exposure_before', 'given')}")
    told, how = _order(series, asked)
    if told is None and asked.weight != "yes":
        return f"nothing tells the order in which the views were taken: state it (setupset.copyarg.dosesym, {BIDIRECTIONAL})"
    order = np.arange(views) if told is None else told
    at = exposures_at_views(each, order) - each / 2 + asked.initial
    return ExposureHistory(each, at, order, f"{where}, in {how}", assumed=told is None, doubt=_contradiction(series, asked, order))


def _order(series: TiltSeries, asked: ExposureRequest) -> tuple[NDArray[np.int64] | None, str]:
    """Return the views in the order of acquisition, None if nothing tells it, and how that is known."""
    if asked.scheme == "dose-symmetric":
        return dose_symmetric_order(series.tilt_deg), "dose-symmetric order, as stated, which is right to within two views"
    if asked.scheme == "bidirectional":
        first = asked.first_views
        return bidirectional_order(series.shape[0], first), f"bidirectional order from view {first}, as stated"
    if series.acquired is not None:
        return series.acquired, f"the order of {series.provenance.get('acquired', 'acquisition, as given')}"
    return None, _IN_FILE_ORDER


def _contradiction(series: TiltSeries, asked: ExposureRequest, order: NDArray[np.int64]) -> str:
    """Return in words that the series tells another order than the scheme that is stated; empty where it does not."""
    known, source = series.acquired, "acquired"
    if known is None and series.exposure_before is not None:
        known, source = np.argsort(series.exposure_before, kind="stable"), "exposure_before"
    if asked.scheme == "told" or known is None:
        return ""
    views = len(order)
    places = np.empty((2, views))
    places[0, known] = places[1, order] = np.arange(views)
    apart = float(np.abs(places[0] - places[1]).mean())
    if apart <= max(_FEWEST_PLACES, _MOST_APART * views):
        return ""
    told = series.provenance.get(source, "the acquisition, as given")
    return f"the {asked.scheme} order that is stated is not that of {told}: views are {apart:.0f} places apart on average"


def dose_symmetric_order(tilt_deg: ArrayLike) -> NDArray[np.int64]:
    """Return the views by their distance from the least tilt (Hagen 2017, doi:10.1016/j.jsb.2016.06.007), the positive side first.

    >>> dose_symmetric_order([-6, -3, 0, 3, 6])
    array([2, 3, 1, 4, 0])
    """
    tilt = np.asarray(tilt_deg, float)
    start = tilt[np.argmin(np.abs(tilt))]
    return np.lexsort((-tilt, np.round(np.abs(tilt - start), 3)))


def bidirectional_order(views: int, first: int) -> NDArray[np.int64]:
    """Return the views of a series in order of tilt that was taken from view `first`, counted from 1, down, and then up from the next.

    >>> bidirectional_order(5, 3)
    array([2, 1, 0, 3, 4])
    """
    return np.concatenate([np.arange(first)[::-1], np.arange(first, views)])


def _own_from_before(before: Floats) -> Floats:
    """Return the exposure of each view from what came before each; the last one is taken to be like the others."""
    order = np.argsort(before, kind="stable")
    own = np.empty_like(before)
    steps = np.diff(before[order])
    own[order[:-1]] = steps
    own[order[-1]] = np.median(steps) if steps.size else 0.0
    return own


def _from_file(path: Path, columns: int, views: int, initial: float) -> ExposureHistory:
    numbers = read_exposures(path, views, 1 if columns == 1 else 2)
    if columns == 1:
        each, order = numbers[:, 0], np.arange(views)
        before = exposures_at_views(each, order) - each / 2 + initial
        return ExposureHistory(each, before, order, f"{path.name}, in the order of its lines", assumed=True)
    before = numbers[:, 0] + initial
    each = numbers[:, 1] if columns == 2 else numbers[:, 1] - numbers[:, 0]
    if (each < 0).any():
        raise FormatError(f"{path}: what came after view {int(np.argmin(each)) + 1} is less than what came before it")
    return ExposureHistory(each, before, np.argsort(before, kind="stable"), path.name)
