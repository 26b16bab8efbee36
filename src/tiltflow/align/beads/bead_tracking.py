"""Tracks of the beads through all views: bead model, scan, link, measure, solve, measure again, reject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.align.beads.bead_model import BeadModel, measure_bead_model
from tiltflow.align.beads.bead_views import BeadViews, make_bead_views, search_limits
from tiltflow.align.beads.detection import Spots
from tiltflow.align.beads.linking import link
from tiltflow.align.beads.measurement import TrackSet, begin, measure
from tiltflow.align.beads.params import BeadParams, BeadResult
from tiltflow.align.beads.rejection import position_weights, reject_tracks
from tiltflow.align.beads.selection import split_surfaces, spread_out
from tiltflow.align.beads.spot_field import make_spot_field
from tiltflow.align.beads.spot_scan import scan
from tiltflow.errors import StageError
from tiltflow.model import Progress, Stack, Tracks

Floats = NDArray[np.float64]

_SURVEYED, _SCANNED, _LINKED = 0.1, 0.6, 0.75
_SETTLED_PX = 0.01
_OTHER_SIZE = 0.15


def track_beads(
    stack: Stack,
    start_transforms: ArrayLike,
    tilt_deg: ArrayLike,
    included: ArrayLike,
    params: BeadParams,
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> BeadResult:
    """Return where the beads are in every view.

    Parameters
    ----------
    stack
        Raw views with x-rays removed, `(views, ny, nx)`.
    start_transforms
        `(views, 2, 3)` from the coarse alignment; off by some pixels, and by a few degrees in the axis.
    tilt_deg
        `(views,)`.
    included
        Views that take part, `(views,)`; no bead is looked for in the others.
    params
        How to look.
    threads
        Views that are worked at the same time.
    progress
        Told the fraction done.

    Raises
    ------
    StageError
        When these data hold no gold that could carry an alignment; the message says what was found instead.
    """
    tell = progress or (lambda _: None)
    series = make_bead_views(stack, start_transforms, tilt_deg, included, params)
    model = measure_bead_model(series, params, threads)
    tell(_SURVEYED)
    spots, noises = scan(series, model, threads, lambda share: tell(_SURVEYED + share * (_SCANNED - _SURVEYED)))
    diameter = model.diameter * series.binning
    field = make_spot_field([s.xy * series.binning for s in spots], series.tilt_deg, series.included, series.shape, diameter)
    links = link(field, series.start, search_limits(series, params))
    _expect_gold(len(links.points), params, spots, {})
    tell(_LINKED)
    work = begin(field, links)
    for turn in range(params.rounds):
        before = work
        work = reject_tracks(series, measure(series, model, noises, spots, work, params, threads), params)
        _expect_gold(len(work.points), params, spots, work.rejected)
        tell(_LINKED + (1 - _LINKED) * (turn + 1) / params.rounds)
        if _settled(before, work):
            break
    return _result(series, model, spots, len(links.points), work, params)


def _expect_gold(found: int, params: BeadParams, spots: Sequence[Spots], rejected: Mapping[str, int]) -> None:
    if found >= params.fewest:
        return
    typical = int(np.median([len(s) for s in spots if len(s)] or [0]))
    others = "; ".join(f"{count} more were {reason}" for reason, count in rejected.items())
    raise StageError(
        f"No gold was found that could carry an alignment: of {typical} bead-like spots in a typical view {found} move through the "
        f"views as beads do{' (' + others + ')' if others else ''}, at least {params.fewest} are needed. Check the diameter of the "
        f"beads, {params.diameter_px:.1f} px, or align by patches"
    )


def _settled(before: TrackSet, after: TrackSet) -> bool:
    """Return whether measuring once more would change next to nothing."""
    if before.template is None or before.xy.shape != after.xy.shape:
        return False
    if (np.isnan(before.xy) != np.isnan(after.xy)).any():
        return False
    return bool(np.nanmax(np.abs(before.xy - after.xy)) < _SETTLED_PX)


def _result(
    series: BeadViews, model: BeadModel, spots: Sequence[Spots], seeds: int, work: TrackSet, params: BeadParams
) -> BeadResult:
    diameter = model.diameter * series.binning
    surface = split_surfaces(work.points, 2 * diameter) if params.two_surfaces else np.zeros(len(work.points), np.int8)
    seen = np.isfinite(work.sigma)
    quality = seen.sum(axis=1) / np.nanmean(work.sigma, axis=1)
    most = params.most if params.most is not None else max(4 * params.target_number, 100)
    kept = spread_out(work.points, surface, quality, most)
    rejected = dict(work.rejected)
    if len(kept) < len(work.points):
        rejected["more than are needed"] = len(work.points) - len(kept)
    return BeadResult(
        tracks=Tracks(work.xy[kept], "bead", position_weights(work.sigma, work.residual)[kept]),
        diameter_px=diameter,
        light=model.sign > 0,
        sigma_px=work.sigma[kept],
        amplitude=work.amplitude[kept],
        expected=work.expected[kept],
        residual_px=work.residual[kept],
        positions=work.points[kept],
        surface=surface[kept],
        views_used=series.included.copy(),
        candidates=np.array([len(s) for s in spots], np.int64),
        seeds=seeds,
        found_again=int((seen & ~work.linked)[kept].sum()),
        rejected=rejected,
        dropped=dict(work.dropped),
        notes=_notes(len(kept), surface, diameter, params),
    )


def _notes(count: int, surface: NDArray[np.int8], diameter: float, params: BeadParams) -> tuple[str, ...]:
    notes = []
    if abs(diameter / params.diameter_px - 1) > _OTHER_SIZE:
        notes.append(f"the beads are {diameter:.1f} px wide, not {params.diameter_px:.1f} px as given; the former was used")
    if params.two_surfaces and not surface.any():
        notes.append("beads were looked for on two surfaces, and lie on one")
    if count < params.target_number:
        notes.append(f"{count} beads were tracked, fewer than the {params.target_number} wanted")
    return tuple(notes)
