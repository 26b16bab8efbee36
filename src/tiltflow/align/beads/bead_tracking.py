"""Tracks of the beads through all views: bead model, detection, linking, measurement, solution, rejection."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.align.beads.bead_model import BeadModel, measure_bead_model
from tiltflow.align.beads.bead_views import BeadViews, make_bead_views, search_limits
from tiltflow.align.beads.detection import NO_SPOTS, Spots
from tiltflow.align.beads.linking import link
from tiltflow.align.beads.measurement import TrackSet, begin, measure
from tiltflow.align.beads.params import BeadParams, BeadResult
from tiltflow.align.beads.rejection import position_weights, reject_tracks
from tiltflow.align.beads.selection import split_surfaces, spread_out
from tiltflow.align.beads.spot_field import make_spot_field
from tiltflow.align.beads.spot_scan import scan
from tiltflow.errors import StageError
from tiltflow.freed_memory import give_back_freed_memory
from tiltflow.model import Progress, Stack, Tracks

Floats = NDArray[np.float64]

_MODELLED = 0.25
_FOUND, _LINKED = 0.6, 0.75
"""Progress of the finding after the bead model; that of all after the finding and after linking: about their shares of the time."""
_SETTLED_PX = 0.01
"""The rounds end when no position moves by more, raw pixels: below the error of a centre, a few hundredths of a pixel."""
_OTHER_SIZE = 0.15
"""Relative difference of the measured diameter from the given one from which on a note says so."""
_PER_TARGET, _MOST = 4, 100
"""Tracks kept at most: this many per bead wanted, and at least so many in all (:class:`BeadParams`, `most`)."""
_SURFACE_GAP = 2.0
"""Least distance of two surfaces, bead diameters: beads on one carbon film may lie on either side of it."""


@dataclass(frozen=True, slots=True, eq=False)
class FoundBeads:
    """What is found of the beads without knowing how the views lie: their appearance, and the spots and noise of each view."""

    model: BeadModel
    spots: list[Spots]
    noises: list[Floats]


def find_beads(
    stack: Stack,
    tilt_deg: ArrayLike,
    included: ArrayLike,
    params: BeadParams,
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> FoundBeads:
    """Find the beads of each view by itself, which needs no coarse alignment; parameters and errors as of :func:`track_beads`."""
    tell = progress or (lambda _: None)
    unplaced = np.tile(np.eye(2, 3), (stack.shape[0], 1, 1))
    series = make_bead_views(stack, unplaced, tilt_deg, included, params)
    model = measure_bead_model(series, params, threads)
    tell(_MODELLED)
    return FoundBeads(model, *scan(series, model, threads, lambda share: tell(_MODELLED + share * (1 - _MODELLED))))


def track_beads(
    stack: Stack,
    start_transforms: ArrayLike,
    tilt_deg: ArrayLike,
    included: ArrayLike,
    params: BeadParams,
    *,
    found: Callable[[Progress], FoundBeads] | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> BeadResult:
    """Track gold beads through the views.

    Parameters
    ----------
    stack
        Raw views with x-rays removed, `(views, ny, nx)`.
    start_transforms
        `(views, 2, 3)`, raw to aligned, from the coarse alignment; errors of some pixels, and of a few degrees in the axis, are allowed.
    tilt_deg
        Nominal tilts, `(views,)`.
    included
        Views that take part, `(views,)`; no beads are looked for in the others.
    params
        Diameter and number of the beads, and limits.
    found
        Gives what :func:`find_beads` has found of the same views, or waits for it; None to find it here.
    threads
        Views worked on at the same time.
    progress
        Called with the fraction done.

    Returns
    -------
    BeadResult
        Positions in raw pixels with their standard deviations, and what was rejected.

    Raises
    ------
    ParameterError
        If transforms, angles or inclusions do not match the stack.
    StageError
        If no gold that could carry an alignment is found, the diameter does not fit the views, or fewer than three views are included.
    """
    tell = progress or (lambda _: None)

    def find(progress: Progress) -> FoundBeads:
        return find_beads(stack, tilt_deg, included, params, threads=threads, progress=progress)

    beads = (found or find)(lambda share: tell(share * _FOUND))
    model, noises = beads.model, beads.noises
    series = make_bead_views(stack, start_transforms, tilt_deg, included, params)
    spots = [each if used else NO_SPOTS for each, used in zip(beads.spots, series.included, strict=True)]
    diameter = model.diameter * series.binning
    field = make_spot_field([s.xy * series.binning for s in spots], series.tilt_deg, series.included, series.shape, diameter)
    links = link(field, series.start, search_limits(series, params))
    _expect_gold(len(links.points), params, spots, {})
    tell(_LINKED)
    track_set = begin(field, links)
    give_back_freed_memory()
    for turn in range(params.rounds):
        measured = measure(series, model, noises, spots, track_set, params, threads)
        if settled := _settled(track_set, measured):
            track_set = measured
        else:
            track_set = reject_tracks(series, measured, params)
            _expect_gold(len(track_set.points), params, spots, track_set.rejected)
        tell(_LINKED + (1 - _LINKED) * (turn + 1) / params.rounds)
        if settled:
            break
    return _result(series, model, spots, len(links.points), track_set, params)


def _expect_gold(found: int, params: BeadParams, spots: Sequence[Spots], rejected: Mapping[str, int]) -> None:
    if found >= params.fewest:
        return
    typical = int(np.median([len(s) for s in spots if len(s)] or [0]))
    asked = (
        ""
        if params.light is None
        else f", and LightBeads, which says that they are {'lighter' if params.light else 'darker'} than the rest"
    )
    others = "; ".join(f"{count} more were {reason}" for reason, count in rejected.items())
    raise StageError(
        f"No gold was found that could carry an alignment: of {typical} bead-like spots in a typical view {found} move through the "
        f"views as beads do{' (' + others + ')' if others else ''}, at least {params.fewest} are needed. Check the diameter of the "
        f"beads, {params.diameter_px:.1f} px{asked}, or align by patches"
    )


def _settled(before: TrackSet, after: TrackSet) -> bool:
    """Return whether positions measured anew are those that the tracks were solved from."""
    if before.template is None or before.xy.shape != after.xy.shape:
        return False
    if (np.isnan(before.xy) != np.isnan(after.xy)).any():
        return False
    return bool(np.nanmax(np.abs(before.xy - after.xy)) < _SETTLED_PX)


def _result(
    series: BeadViews, model: BeadModel, spots: Sequence[Spots], seeds: int, track_set: TrackSet, params: BeadParams
) -> BeadResult:
    diameter = model.diameter * series.binning
    surface = (
        split_surfaces(track_set.points, _SURFACE_GAP * diameter)
        if params.two_surfaces
        else np.zeros(len(track_set.points), np.int8)
    )
    seen = np.isfinite(track_set.sigma)
    quality = seen.sum(axis=1) / np.nanmean(track_set.sigma, axis=1)
    most = params.most if params.most is not None else max(_PER_TARGET * params.target_number, _MOST)
    kept = spread_out(track_set.points, surface, quality, most)
    rejected = dict(track_set.rejected)
    if len(kept) < len(track_set.points):
        rejected["more than are needed"] = len(track_set.points) - len(kept)
    return BeadResult(
        tracks=Tracks(track_set.xy[kept], "bead", position_weights(track_set.sigma, track_set.residual)[kept]),
        diameter_px=diameter,
        light=model.sign > 0,
        sigma_px=track_set.sigma[kept],
        amplitude=track_set.amplitude[kept],
        expected=track_set.expected[kept],
        residual_px=track_set.residual[kept],
        positions=track_set.points[kept],
        surface=surface[kept],
        views_used=series.included.copy(),
        candidates=np.array([len(s) for s in spots], np.int64),
        seeds=seeds,
        found_again=int((seen & ~track_set.linked)[kept].sum()),
        rejected=rejected,
        dropped=dict(track_set.dropped),
        notes=_notes(len(kept), surface, diameter, model.sign > 0, params),
    )


def _notes(count: int, surface: NDArray[np.int8], diameter: float, light: bool, params: BeadParams) -> tuple[str, ...]:
    notes = []
    if light:
        notes.append("the beads are lighter than their surroundings, as in dark-field and inverted images")
    if abs(diameter / params.diameter_px - 1) > _OTHER_SIZE:
        notes.append(
            f"the measured bead diameter, {diameter:.1f} px, differs from the given {params.diameter_px:.1f} px and was used"
        )
    if params.two_surfaces and not surface.any():
        notes.append("beads on two surfaces were expected, but all lie on one")
    if count < params.target_number:
        notes.append(f"{count} beads were tracked, fewer than the {params.target_number} wanted")
    return tuple(notes)
