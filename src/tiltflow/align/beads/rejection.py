"""What is gold, and what moves with it: tracks and positions thrown out, and the reasons to doubt the rest."""

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
# Simulated gold, down to 5 electrons a pixel, and a real series in ice have contrasts above 24, spots of the specimen up to 17.
_LEAST_CONTRAST = 18.0
_FAINT, _APART = 0.4, 2.0
_MANY, _SEVERAL = 12, 6
_LOOSE_OF_MANY, _LOOSE_OF_FEW, _FAR = 2.5, 4.0, 6.0
_LEAST_LOOSE, _LEAST_FAR = 0.03, 0.05
_BENT = 2.0
"""How much farther off tracks may be when the specimen is expected to bend."""

_CYCLES = 6
_WEIGHTS = (0.05, 5.0)
_MEDIAN_OF_SQUARED_DISTANCE = 1.386
_FEW, _COMPLETE, _LOST = 4, 0.8, 0.2


def reject_tracks(series: BeadViews, work: TrackSet, params: BeadParams) -> TrackSet:
    """Return the tracks that are gold and move like one rigid body, or with their area of it, with the geometry that they tell."""
    seen = np.isfinite(work.sigma).sum(axis=1)
    work = work.keep(seen >= _LEAST_VIEWS, "seen in too few views")
    seen = np.isfinite(work.sigma).sum(axis=1)
    work = work.keep(seen >= _LEAST_SHARE * work.expected.sum(axis=1), "missing in many views")
    work = work.keep(_median(work.contrast, axis=1) >= _LEAST_CONTRAST, "no denser than the specimen")
    work = work.keep(~faint_tracks(work.amplitude), "fainter than the other beads")
    for _ in range(_CYCLES):
        if len(work.points) < max(params.fewest, 2):
            break
        work = _solved(series, work, params.areas)
        loose, far = _misfits(work, params.diameter_px, 1.0 if params.areas is None else _BENT)
        if not loose.any() and not far.any():
            break
        work = work.drop(far, "off the rigid body").keep(~loose, MOVING)
    return work


def faint_tracks(amplitude: Floats) -> Bools:
    """Return the tracks that are too faint for gold, `(tracks,)`, from the amplitude of every position, `(tracks, views)`.

    Gold is the densest thing there is: the strong half of the tracks sets the scale, view by view.  Ribosomes, droplets of stain
    and crossings of filaments are spots too, and some of them move rigidly, but they stay below it.
    """
    if not len(amplitude):
        return np.zeros(0, bool)
    typical = _median(amplitude, axis=1)
    bound = float(np.nanmedian(typical))
    # A crowd of faint spots must not set the scale: the strongest few do when they stand apart.
    top = np.sort(typical[np.isfinite(typical)])[::-1]
    few = max(len(top) // 4, 3)
    if len(top) > few and np.median(top[:few]) > _APART * bound:
        bound = float(top[few - 1])
    scale = _median(amplitude[typical >= bound], axis=0)
    return np.asarray(~(_median(amplitude / scale, axis=1) >= _FAINT))


def _median(values: Floats, axis: int) -> Floats:
    """Return the median of what is not NaN; NaN where there is nothing else."""
    some = np.isfinite(values).any(axis=axis)
    filled = np.where(np.expand_dims(some, axis), values, 0.0)
    return np.where(some, np.nanmedian(filled, axis=axis), np.nan)


def _misfits(work: TrackSet, diameter: float, patience: float) -> tuple[Bools, Bools]:
    """Return the tracks that move by themselves, `(tracks,)`, and single positions far off, `(tracks, views)`.

    Only the worst tracks at a time, as one bad track spoils the residuals of its neighbours.
    """
    count = len(work.points)
    scatter = np.nanmean(work.residual, axis=1)
    typical = float(np.median(scatter))
    limit = patience * np.maximum(typical * (_LOOSE_OF_MANY if count > _MANY else _LOOSE_OF_FEW), _LEAST_LOOSE * diameter)
    limit = np.maximum(limit, _LOOSE_OF_FEW * np.nanmean(work.sigma, axis=1))
    worst = np.argsort(-scatter)[: max(count // 10, 1)]
    loose = np.isin(np.arange(count), worst) & (scatter > limit)
    far_off = patience * _FAR * np.fmax(np.maximum(typical, scatter)[:, None], work.sigma)
    return loose, (work.residual > np.maximum(far_off, _LEAST_FAR * diameter)) & ~loose[:, None]


def _solved(series: BeadViews, work: TrackSet, areas: LocalParams | None) -> TrackSet:
    """Return the tracks with the geometry that they tell, and what it leaves of them, with local areas if these are wanted."""
    axis = float(np.median(geometry.axis_angles(series.start)))
    count = len(work.points)
    # Among few tracks robust weights pick sides: whichever half of a view agrees with itself.
    many = count > _MANY
    params = SolveParams(leave_out=False, stretch=many, skew=many, robust=count > _SEVERAL, local=areas)
    tracks = Tracks(work.xy, "bead", position_weights(work.sigma, work.residual))
    solution = solve(tracks, series.tilt_deg, axis, params, image_shape=series.shape, included=series.included, start=series.start)
    residual = np.hypot(*np.moveaxis(solution.residuals, -1, 0))
    return replace(work, points=solution.points, cameras=cameras_of_solution(solution), residual=residual)


def position_weights(sigma: Floats, residual: Floats) -> Floats:
    """Return weights of positions, 1 for the typical one, from their standard deviation and from what else makes residuals.

    What residuals have beyond the noise (beads that are not round, a specimen that moves) is common to all.
    """
    known = np.isfinite(sigma)
    variance = np.where(known, sigma, 1.0) ** 2
    noise2 = float(np.median(variance[known])) if known.any() else 1.0
    seen = residual[np.isfinite(residual) & known]
    beyond2 = max(float(np.median(seen**2)) / _MEDIAN_OF_SQUARED_DISTANCE - noise2, 0.0) if len(seen) else 0.0
    return np.where(known, np.clip((noise2 + beyond2) / (variance + beyond2), *_WEIGHTS), 0.0)


def trust_warnings(result: BeadResult, included: ArrayLike | None = None) -> tuple[str, ...]:
    """Return the reasons not to trust these tracks, none when they are sound.

    `included` `(views,)` are the views that are aligned by them; by default all that beads were looked for in, although those that
    are not `result.placed` had better be left out.
    """
    reasons = []
    count = len(result.tracks.xy)
    if count < _FEW:
        reasons.append(f"{count} beads alone carry the alignment")
    if (moving := result.rejected.get(MOVING, 0)) > count:
        reasons.append(
            f"{moving} beads do not move like the {count} that the alignment rests on: the specimen may bend while it is looked at, "
            "which local alignments (--local-alignments 1) would follow"
        )
    if result.completeness < _COMPLETE:
        reasons.append(
            f"in {1 - result.completeness:.0%} of the places where a bead should be seen there is none: the spots may not be gold"
        )
    use = result.views_used if included is None else np.asarray(included, bool)
    adrift = np.flatnonzero(use & ~result.placed)
    lost = np.flatnonzero(result.views_used & ~result.placed)
    if len(adrift):
        reasons.append(f"too few beads are seen in {len(adrift)} of the views to place them, from view {adrift[0]} to {adrift[-1]}")
    elif len(lost) > _LOST * result.views_used.sum():
        reasons.append(f"too few beads are seen in {len(lost)} of the {result.views_used.sum()} views to place them")
    return tuple(reasons)
