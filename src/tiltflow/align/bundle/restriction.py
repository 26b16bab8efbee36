"""Fewer variables when the tracks do not determine them, in the order of IMOD's restrictalign.

The rule counts as tiltalign does: measurements are two a point; unknowns are the view parameters, three for every track but one,
and two for every view but one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tiltflow.align.bundle.params import SolveParams

_ENOUGH_TRACKS = 20
"""Tracks from which on nothing is restricted: with all variables free, 20 tracks have more than six measurements per unknown."""
_ENOUGH_FOR_PRIORS = 4
"""Tracks from which on the priors are estimated instead: three points of a view fit any rotation, tilt and magnification."""


def count_unknowns(params: SolveParams, tracks: int, views: int) -> int:
    """Return the unknowns of tiltalign's log: view parameters + 3 (tracks - 1) + 2 (views - 1)."""
    rotation = {"fixed": 0, "one": 1, "each": views, "grouped": _nodes(views, params.rotation_group)}[params.rotation]
    tilt = {"fixed": 0, "each": views - 1, "grouped": _nodes(views, params.tilt_group) - 1}[params.tilt]
    magnification = {"fixed": 0, "each": views - 1, "grouped": _nodes(views, params.magnification_group) - 1}[params.magnification]
    stretch = _nodes(views, params.stretch_group) - 1 if params.stretch else 0
    skew = _nodes(views, params.skew_group) - 1 if params.skew else 0
    return rotation + tilt + magnification + stretch + skew + 3 * (tracks - 1) + 2 * (views - 1)


def restrict(params: SolveParams, tracks: int, views: int, points: int) -> tuple[SolveParams, tuple[str, ...]]:
    """Return parameters with as many variables as the points determine, and a sentence that names the steps taken."""
    if not params.restrict or tracks >= _ENOUGH_TRACKS:
        return params, ()
    before = 2 * points / count_unknowns(params, tracks, views)
    if before >= params.minimum_measurement_ratio:
        return params, ()
    few = f"{tracks} tracks carry {before:.2f} measurements per unknown where {params.minimum_measurement_ratio} are needed"
    if params.adapt and tracks >= _ENOUGH_FOR_PRIORS:
        return params, (f"{few}: priors estimated from the tracks hold the variables, instead of grouping them",)
    notes = []
    for sentence, applies, change in _STEPS:
        if 2 * points / count_unknowns(params, tracks, views) >= params.target_measurement_ratio:
            break
        if applies(params):
            params = change(params)
            notes.append(sentence.format(params=params))
    ratio = 2 * points / count_unknowns(params, tracks, views)
    return params, (f"{few}: {', '.join(notes)}; now {ratio:.2f}",)


def _nodes(views: int, group: int) -> int:
    return max(round((views - 1) / group), 1) + 1


_STEPS: tuple[tuple[str, Callable[[SolveParams], bool], Callable[[SolveParams], SolveParams]], ...] = (
    ("stretch and skew left out", lambda p: p.stretch or p.skew, lambda p: replace(p, stretch=False, skew=False)),
    ("rotations grouped by {params.rotation_group}", lambda p: p.rotation == "each", lambda p: replace(p, rotation="grouped")),
    (
        "magnifications grouped by {params.magnification_group}",
        lambda p: p.magnification == "each",
        lambda p: replace(p, magnification="grouped"),
    ),
    ("tilts fixed", lambda p: p.tilt != "fixed", lambda p: replace(p, tilt="fixed")),
    ("one rotation for all views", lambda p: p.rotation in {"each", "grouped"}, lambda p: replace(p, rotation="one")),
    ("magnifications fixed", lambda p: p.magnification != "fixed", lambda p: replace(p, magnification="fixed")),
)
