"""Rejection of tracks that are not gold or do not move with the rest, and the trust warnings of those that remain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow import geometry
from tiltflow.align.beads.bead_views import BeadViews
from tiltflow.align.beads.cameras import cameras_of_solution
from tiltflow.align.beads.measurement import TrackSet
from tiltflow.align.beads.params import MOVING, BeadParams, BeadResult
from tiltflow.align.bundle import LocalParams, SolveParams, solve
from tiltflow.model import Tracks

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_LEAST_VIEWS, _LEAST_SHARE = 5, 0.65
"""Views in which a track must be measured, and the share of those in which it is expected."""
_LEAST_CONTRAST = 18.0
"""Least median contrast of gold.  Simulated gold, down to 5 electrons a pixel, and a real series in ice have contrasts above 23, spots
of the specimen up to 17."""
_ALIKE = 0.7
"""Least amplitude, relative to the tracks of that contrast, of others that are gold with them: beads of one size differ by less, also
where a camera or a file saturates, while the contrast of all falls in a thick, crowded specimen."""
_FAINT, _APART = 0.4, 2.0
"""Least amplitude of gold relative to the strong tracks.  The strongest tracks set the scale when their median is more than the second
number times that of all."""
_TOP, _FEWEST_TOP = 4, 3
"""The strongest tracks are this part of all, and at least so many."""
_MANY, _SEVERAL = 12, 6
"""Tracks above which stretch and skew are solved for, and above which residuals get robust weights."""
_LOOSE_OF_MANY, _LOOSE_OF_FEW, _FAR = 2.5, 4.0, 6.0
"""A track moves by itself whose mean residual exceeds the median track's by this factor, for many tracks and for few; a position is off
the rigid body whose residual exceeds its track's, or its own standard deviation, by the third."""
_LEAST_LOOSE, _LEAST_FAR = 0.03, 0.05
"""Residuals that are always allowed, diameters, for tracks and for positions."""
_BENT = 2.0
"""Factor on these limits when local areas are asked for: the rigid body fits a specimen that bends less well."""
_AT_A_TIME = 10
"""One in so many tracks is rejected at a time, as one bad track increases the residuals of its neighbours."""
_CYCLES = 6
"""Most rounds of solving and rejecting."""
_WEIGHTS = (0.05, 5.0)
"""Bounds of the weight of a position, the typical one having 1."""
_MEDIAN_OF_SQUARED_DISTANCE = 1.386
"""Median of the squared length of a two-dimensional normal vector of unit variance per coordinate, 2 ln 2."""
_FEW, _COMPLETE, _LOST = 4, 0.8, 0.2
"""Trust warnings: fewer beads, a smaller share of expected positions that were measured, a larger share of views with too few beads."""


def reject_tracks(series: BeadViews, track_set: TrackSet, params: BeadParams) -> TrackSet:
    """Return the tracks that are gold and move like one rigid body, or with their area of it, with the geometry solved from them."""
    seen = np.isfinite(track_set.sigma).sum(axis=1)
    track_set = track_set.keep(seen >= _LEAST_VIEWS, "seen in too few views")
    seen = np.isfinite(track_set.sigma).sum(axis=1)
    track_set = track_set.keep(seen >= _LEAST_SHARE * track_set.expected.sum(axis=1), "missing in many views")
    track_set = track_set.keep(dense_tracks(track_set.contrast, track_set.amplitude, params.fewest), "no denser than the specimen")
    track_set = track_set.keep(~faint_tracks(track_set.amplitude), "fainter than the other beads")
    for _ in range(_CYCLES):
        if len(track_set.points) < max(params.fewest, 2):
            break
        track_set = _solved(series, track_set, params.areas)
        loose, far = _misfits(track_set, params.diameter_px, 1.0 if params.areas is None else _BENT)
        if not loose.any() and not far.any():
            break
        track_set = track_set.drop(far, "off the rigid body").keep(~loose, MOVING)
    return track_set


def dense_tracks(contrast: Floats, amplitude: Floats, fewest: int) -> Bools:
    """Return the tracks that are denser than the specimen, `(tracks,)`, from contrast and amplitude of every position, `(tracks, views)`.

    Where at least `fewest` are so by themselves, those are too that look like them: beads are of one kind, and no limit cuts it in two.
    """
    dense = _median(contrast, axis=1) >= _LEAST_CONTRAST
    if dense.sum() < fewest:
        return np.asarray(dense)
    scale = _median(amplitude[dense], axis=0)
    return np.asarray(dense | (_median(amplitude / scale, axis=1) >= _ALIKE))


def faint_tracks(amplitude: Floats) -> Bools:
    """Return the tracks that are too faint for gold, `(tracks,)`, from the amplitude of every position, `(tracks, views)`.

    Gold is the densest material present: the stronger half of the tracks sets the scale, view by view.  Ribosomes, droplets of stain
    and crossings of filaments are spots too, and some of them move rigidly, but have lower amplitudes.
    """
    if not len(amplitude):
        return np.zeros(0, bool)
    typical = _median(amplitude, axis=1)
    bound = float(np.nanmedian(typical))
    # Where faint spots are the majority, the strongest few set the scale.
    top = np.sort(typical[np.isfinite(typical)])[::-1]
    few = max(len(top) // _TOP, _FEWEST_TOP)
    if len(top) > few and np.median(top[:few]) > _APART * bound:
        bound = float(top[few - 1])
    scale = _median(amplitude[typical >= bound], axis=0)
    return np.asarray(~(_median(amplitude / scale, axis=1) >= _FAINT))


def _median(values: Floats, axis: int) -> Floats:
    """Return the median of what is not NaN; NaN where there is nothing else."""
    some = np.isfinite(values).any(axis=axis)
    filled = np.where(np.expand_dims(some, axis), values, 0.0)
    return np.where(some, np.nanmedian(filled, axis=axis), np.nan)


def _misfits(track_set: TrackSet, diameter: float, slack: float) -> tuple[Bools, Bools]:
    """Return the worst of the tracks that move by themselves, `(tracks,)`, and single positions far off, `(tracks, views)`."""
    count = len(track_set.points)
    scatter = np.nanmean(track_set.residual, axis=1)
    typical = float(np.median(scatter))
    limit = slack * np.maximum(typical * (_LOOSE_OF_MANY if count > _MANY else _LOOSE_OF_FEW), _LEAST_LOOSE * diameter)
    limit = np.maximum(limit, _LOOSE_OF_FEW * np.nanmean(track_set.sigma, axis=1))
    worst = np.argsort(-scatter)[: max(count // _AT_A_TIME, 1)]
    loose = np.isin(np.arange(count), worst) & (scatter > limit)
    far_off = slack * _FAR * np.fmax(np.maximum(typical, scatter)[:, None], track_set.sigma)
    return loose, (track_set.residual > np.maximum(far_off, _LEAST_FAR * diameter)) & ~loose[:, None]


def _solved(series: BeadViews, track_set: TrackSet, areas: LocalParams | None) -> TrackSet:
    """Return the tracks with the geometry solved from them and their residuals, with local areas if these are wanted."""
    axis = float(np.median(geometry.axis_angles(series.start)))
    count = len(track_set.points)
    # With few tracks robust weights are unstable: they may follow either half of the tracks of a view.
    many = count > _MANY
    params = SolveParams(leave_out=False, stretch=many, skew=many, robust=count > _SEVERAL, local=areas)
    tracks = Tracks(track_set.xy, "bead", position_weights(track_set.sigma, track_set.residual))
    solution = solve(tracks, series.tilt_deg, axis, params, image_shape=series.shape, included=series.included, start=series.start)
    residual = np.hypot(*np.moveaxis(solution.residuals, -1, 0))
    return replace(track_set, points=solution.points, cameras=cameras_of_solution(solution), residual=residual)


def position_weights(sigma: Floats, residual: Floats) -> Floats:
    """Return weights of positions, `(tracks, views)`, 1 for the typical one, from their standard deviations and the residuals.

    The variance of the residuals beyond the noise (beads that are not round, a specimen that moves) is taken to be common to all.
    """
    known = np.isfinite(sigma)
    variance = np.where(known, sigma, 1.0) ** 2
    noise2 = float(np.median(variance[known])) if known.any() else 1.0
    seen = residual[np.isfinite(residual) & known]
    beyond2 = max(float(np.median(seen**2)) / _MEDIAN_OF_SQUARED_DISTANCE - noise2, 0.0) if len(seen) else 0.0
    return np.where(known, np.clip((noise2 + beyond2) / (variance + beyond2), *_WEIGHTS), 0.0)


def trust_warnings(result: BeadResult, included: ArrayLike | None = None) -> tuple[str, ...]:
    """Return the trust warnings of tracks of gold, none when they are sound.

    `included` `(views,)` are the views that are aligned by them; by default all that beads were looked for in, although those that
    are not `result.placed` should be excluded.
    """
    reasons = []
    count = len(result.tracks.xy)
    if count < _FEW:
        reasons.append(f"{count} beads alone carry the alignment")
    if (moving := result.rejected.get(MOVING, 0)) > count:
        reasons.append(
            f"{moving} beads do not move like the {count} that carry the alignment: the specimen may bend during the series, which local "
            "alignments (--local-alignments 1) would follow"
        )
    if result.completeness < _COMPLETE:
        reasons.append(f"{1 - result.completeness:.0%} of the expected positions of beads hold no bead: the spots may not be gold")
    use = result.views_used if included is None else np.asarray(included, bool)
    adrift = np.flatnonzero(use & ~result.placed)
    lost = np.flatnonzero(result.views_used & ~result.placed)
    if len(adrift):
        reasons.append(f"too few beads are seen in {len(adrift)} of the views to place them, from view {adrift[0]} to {adrift[-1]}")
    elif len(lost) > _LOST * result.views_used.sum():
        reasons.append(f"too few beads are seen in {len(lost)} of the {result.views_used.sum()} views to place them")
    return tuple(reasons)
