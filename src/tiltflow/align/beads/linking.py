"""Spots of all views joined into tracks: those that move like points of one rigid specimen.

No spot is followed by searching near its last position.  A spot of one view is a ray through the specimen; for each depth along the
ray the views are counted that have a spot where the point would be seen, and chance does not give many.  The tracks found so near
zero tilt give a geometry, which predicts them in the next views outward.  The geometry of all views then predicts every bead in every
view, recovers lost positions, and finds beads that were missed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow import geometry
from tiltflow.align.beads.cameras import Cameras, cameras_of_solution, cameras_of_transforms
from tiltflow.align.beads.registration import chain_views, follow_views
from tiltflow.align.beads.spot_field import SearchLimits, SpotField
from tiltflow.align.bundle import SolveParams, solve
from tiltflow.errors import StageError
from tiltflow.kernels import bead_links as kernel
from tiltflow.model import Tracks

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_WINDOW_DEG = 25.0
"""Tilts up to which the first tracks are made: within it errors of axis and tilt move a bead by less than `SpotField.loose`."""
_WINDOW_VIEWS = 9
"""Views in that window at least."""
_SEED_VIEWS, _SEED_STEP = 3, 3
"""Views nearest zero tilt whose spots begin the first tracks; later every third view."""
_LEAST_SEEDS = 3
"""First tracks below which they are made again with a wider tolerance."""
_LEAST_SHARE = 0.5
"""Share of the views whose field a track is in that must have a spot for it.  Chance seldom gives more where spots are few; a bead is
missing where it overlaps with others."""
_LEAST_VIEWS = 5
"""Views that a track must have spots in."""
_LOST_SHARE = 0.4
"""Share of its tracks below which a view is registered again."""
_VIEWS_A_STEP = 10
"""Views by which the geometry is extended outward at a time."""
_LEAST_NEIGHBOURS, _MOST_NEIGHBOURS = 4, 8
"""Positions that a local drift is the median of at least, and the nearest tracks that it is taken from."""
_DEPTH_STEP, _LEAST_DEPTH_STEP_PX = 0.5, 0.5
_DEPTHS = 16, 1000
"""Step between depths of a ray as a part of the tolerance, and at least, raw pixels; and the bounds of the number of depths."""
_POINTS_SWEPT = 256
"""Points whose depths are swept at a time, which bounds memory."""
_DOUBLE = 0.5
"""Tracks whose points are nearer than this, diameters, are the same bead."""

_RIGID = SolveParams(
    rotation="one", tilt="fixed", magnification="fixed", restrict=False, leave_out=False, adapt=False, robust=False
)
_FREE = SolveParams(leave_out=False, adapt=False)


@dataclass(frozen=True, slots=True, eq=False)
class Links:
    """Tracks of spots.

    Attributes
    ----------
    spot
        `(tracks, views)`: index of a spot, -1 where there is none.
    points
        `(tracks, 3)`.
    cameras
        The geometry they were found with.
    """

    spot: Ints
    points: Floats
    cameras: Cameras


def link(field: SpotField, start_transforms: Floats, limits: SearchLimits) -> Links:
    """Return the tracks of the spots of a field.

    Parameters
    ----------
    field
        The spots of all views.
    start_transforms
        The coarse alignment, `(views, 2, 3)`, raw to aligned.
    limits
        How far beads may be from their expected positions, raw pixels.
    """
    start = chain_views(field, start_transforms, limits)
    cameras = cameras_of_transforms(start, field.tilt_deg)
    outward = field.outward
    near = int((np.abs(field.tilt_deg[outward] - field.tilt_deg[outward[0]]) <= _WINDOW_DEG).sum())
    window = outward[: max(near, min(_WINDOW_VIEWS, len(outward)))]
    spot = _first_tracks(field, cameras, window, limits)
    if len(spot) >= 2:
        spot, cameras = _grow(field, spot, cameras, start, window, limits)
        spot, cameras = _complete(field, spot, cameras, start, limits)
    return Links(spot, cameras.locate(field.positions(spot), limits.depth), cameras)


def _first_tracks(field: SpotField, cameras: Cameras, window: Ints, limits: SearchLimits) -> Ints:
    """Return tracks through the views near zero tilt."""
    none = np.full((0, len(field.tilt_deg)), -1, np.int64)
    spot = none
    for tolerance in (field.loose, max(limits.search, field.loose)):
        spot = _add_seeds(field, cameras, window[:_SEED_VIEWS], window, none, limits, tolerance)
        if len(spot) >= _LEAST_SEEDS:
            break
    return spot


def _grow(
    field: SpotField, spot: Ints, cameras: Cameras, start: Floats, window: Ints, limits: SearchLimits
) -> tuple[Ints, Cameras]:
    """Return the tracks and the geometry, extended outward from the first views some at a time."""
    outward = field.outward
    known = len(window)
    cameras = _solved(field, spot, cameras, start, window, _RIGID)
    while known < len(outward):
        new = outward[known : known + _VIEWS_A_STEP]
        known += len(new)
        points = cameras.locate(field.positions(spot), limits.depth)
        cameras = follow_views(field, cameras, points, new, limits)
        spot = assign(field, cameras.project(points), outward[:known], field.loose)
        cameras = _solved(field, spot, cameras, start, outward[:known], _RIGID)
    return spot, cameras


def _complete(field: SpotField, spot: Ints, cameras: Cameras, start: Floats, limits: SearchLimits) -> tuple[Ints, Cameras]:
    """Return the tracks and the geometry with lost positions recovered, and with the beads that were missed."""
    outward = field.outward
    for tolerance in (field.loose, field.tight):
        spot = _again(field, spot, cameras, limits, tolerance)
        spot = _find_lost_views(field, cameras, spot, limits)
        spot = _drop_poor(field, cameras, spot, limits)
        if len(spot) < 2:
            return spot, cameras
        cameras = _solved(field, spot, cameras, start, outward, _FREE)
        spot = _add_seeds(field, cameras, outward[::_SEED_STEP], outward, spot, limits, tolerance)
    return _drop_poor(field, cameras, _again(field, spot, cameras, limits, field.tight), limits), cameras


def _solved(field: SpotField, spot: Ints, cameras: Cameras, start: Floats, views: Ints, params: SolveParams) -> Cameras:
    """Return the cameras with those of `views` solved, and the others relative to them as in the start."""
    included = np.zeros(len(field.tilt_deg), bool)
    included[views] = True
    axis = float(np.median(geometry.axis_angles(start)))
    tracks = Tracks(field.positions(spot) + field.centre, "bead")
    try:
        solution = solve(tracks, field.tilt_deg, axis, params, image_shape=field.shape, included=included, start=start)
    except StageError:
        return cameras
    return cameras_of_solution(solution)


def _again(field: SpotField, spot: Ints, cameras: Cameras, limits: SearchLimits, tolerance: float) -> Ints:
    """Return the tracks with the spots of every view assigned again, from the tracks' points."""
    xy = field.positions(spot)
    points = cameras.locate(xy, limits.depth)
    seen = cameras.project(points)
    return assign(field, seen + local_drift(xy, seen, points, field.tilt_deg, limits.area), field.outward, tolerance)


def local_drift(xy: Floats, predicted: Floats, points: Floats, tilt_deg: Floats, area_px: float | None) -> Floats:
    """Return the displacement from the rigid body that tracks share with their neighbours, `(tracks, views, 2)`, raw pixels.

    It is the median over the nearest tracks within half of `area_px`, and over a view and the two next to it in tilt; 0 where there
    are too few, or where `area_px` is None.  Sections warp in the beam, by several pixels at worst.
    """
    drift = np.zeros_like(predicted)
    if area_px is None or len(points) < _LEAST_NEIGHBOURS:
        return drift
    residual = xy - predicted
    order = np.argsort(tilt_deg, kind="stable")
    padded = np.pad(residual[:, order], ((0, 0), (1, 1), (0, 0)), constant_values=np.nan)
    beside = np.stack([padded[:, :-2], padded[:, 1:-1], padded[:, 2:]], axis=1)
    distance, nearest = scipy.spatial.cKDTree(points[:, :2]).query(points[:, :2], k=_MOST_NEIGHBOURS)
    for track, near in enumerate(distance <= area_px / 2):
        if not near.any():
            continue
        # NaN sorts last.
        sample = np.sort(beside[nearest[track, near]].reshape(-1, *predicted.shape[1:]), axis=0)
        known = np.isfinite(sample[..., 0]).sum(axis=0)
        counted = np.flatnonzero(known >= _LEAST_NEIGHBOURS)
        lower, upper = sample[(known[counted] - 1) // 2, counted], sample[known[counted] // 2, counted]
        drift[track, order[counted]] = (lower + upper) / 2
    return drift


def assign(field: SpotField, expected: Floats, views: Ints, tolerance: float) -> Ints:
    """Return `(tracks, views)` the spot nearest to where each track is expected, no spot to two tracks, nearest pairs first."""
    spot = np.full(expected.shape[:2], -1, np.int64)
    for view in views:
        track, target, distance = field.pairs(expected[:, view], int(view), tolerance)
        order = np.argsort(distance, kind="stable")
        free = np.ones(field.trees[view].n, bool)
        for t, s in zip(track[order], target[order], strict=True):
            if spot[t, view] < 0 and free[s]:
                free[s] = False
                spot[t, view] = field.first[view] + s
    return spot


def _find_lost_views(field: SpotField, cameras: Cameras, spot: Ints, limits: SearchLimits) -> Ints:
    """Return the tracks with the views registered again that have spots for few of the tracks in their field."""
    points = cameras.locate(field.positions(spot), limits.depth)
    inside = field.inside(cameras.project(points))
    share = (spot >= 0).sum(axis=0) / np.maximum(inside.sum(axis=0), 1)
    lost = field.outward[share[field.outward] < _LOST_SHARE]
    if not len(lost):
        return spot
    again = assign(field, follow_views(field, cameras, points, lost, limits).project(points), lost, field.loose)
    better = lost[(again[:, lost] >= 0).sum(axis=0) > (spot[:, lost] >= 0).sum(axis=0)]
    return np.where(np.isin(np.arange(spot.shape[1]), better), again, spot)


def _add_seeds(
    field: SpotField, cameras: Cameras, seed_views: Ints, views: Ints, spot: Ints, limits: SearchLimits, tolerance: float
) -> Ints:
    """Return the tracks with those added that free spots of `seed_views` begin, the best supported first."""
    free = np.ones(len(field.xy), bool)
    free[spot[spot >= 0]] = False
    steps = int(np.clip(2 * limits.depth / max(_DEPTH_STEP * tolerance, _LEAST_DEPTH_STEP_PX), *_DEPTHS))
    # Depth 0 is where most beads are, which may be either surface.
    depths = np.linspace(-limits.depth, limits.depth, steps)
    proposals: list[tuple[float, float, int, Floats]] = []
    for view in seed_views:
        candidates = np.arange(field.first[view], field.first[view + 1])
        candidates = candidates[free[candidates]]
        order, across, normal = _order_across(field, cameras.ray(int(view), np.empty((0, 2)))[1])
        in_order = field.xy[order], field.first, free[order], across, normal
        for begin in range(0, len(candidates), _POINTS_SWEPT):
            members = candidates[begin : begin + _POINTS_SWEPT]
            base, step = cameras.ray(int(view), field.xy[members])
            hits, possible = np.zeros((2, len(members), steps), np.int32)
            kernel.sweep_depths(base, step, field.half, *in_order, views, depths, tolerance, hits, possible)
            gain = hits - _LEAST_SHARE * possible
            most = gain.max(axis=1)
            for n in np.flatnonzero(most >= 0):
                best = np.flatnonzero(gain[n] == most[n])
                k = int(best[len(best) // 2])
                if hits[n, k] >= _LEAST_VIEWS:
                    proposals.append((float(most[n]), -float(possible[n, k]), int(members[n]), base[n] + depths[k] * step))
    rows = []
    for _, _, member, seen in sorted(proposals, key=lambda p: p[:2], reverse=True):
        if not free[member]:
            continue
        row = _gather(field, seen, views, free, tolerance)
        point = cameras.locate(field.positions(row[None]), limits.depth)
        row = _gather(field, cameras.project(point)[0], views, free, tolerance)
        inside = (np.abs(seen[views]) < field.half).all(axis=1).sum()
        if (row >= 0).sum() >= max(_LEAST_VIEWS, _LEAST_SHARE * inside):
            free[row[row >= 0]] = False
            rows.append(row)
    return np.concatenate([spot, np.array(rows)]) if rows else spot


def _order_across(field: SpotField, step: Floats) -> tuple[Ints, Floats, Floats]:
    """Return the spots of each view in their order across the direction in which points move with depth.

    Parameters
    ----------
    step
        Move in each view by a unit of depth, `(views, 2)`.

    Returns
    -------
    order, across, normal
        Of the spots, their distances along the normal in this order, both `(spots,)`, and the normal in each view, `(views, 2)`.
    """
    length = np.hypot(*step.T)[:, None]
    normal = np.where(length > 0, np.stack([-step[:, 1], step[:, 0]], axis=1) / np.where(length > 0, length, 1), [0.0, 1.0])
    view = np.repeat(np.arange(len(step)), np.diff(field.first))
    across = np.einsum("ni,ni->n", field.xy, normal[view])
    order = np.lexsort((across, view))
    return order, across[order], normal


def _gather(field: SpotField, seen: Floats, views: Ints, free: Bools, tolerance: float) -> Ints:
    """Return the free spot nearest to where one point is seen in each of `views`, `(views,)`."""
    row = np.full(len(field.tilt_deg), -1, np.int64)
    for view in views:
        near = field.first[view] + np.array(field.trees[view].query_ball_point(seen[view], tolerance, return_sorted=True), np.int64)
        near = near[free[near]]
        if len(near):
            row[view] = near[((field.xy[near] - seen[view]) ** 2).sum(axis=-1).argmin()]
    return row


def _drop_poor(field: SpotField, cameras: Cameras, spot: Ints, limits: SearchLimits) -> Ints:
    """Return the tracks that have a spot in enough of the views whose field they are in, without doubles."""
    points = cameras.locate(field.positions(spot), limits.depth)
    found = (spot >= 0).sum(axis=1)
    good = found >= np.maximum(_LEAST_VIEWS, _LEAST_SHARE * field.inside(cameras.project(points)).sum(axis=1))
    doubles = scipy.spatial.cKDTree(points).query_ball_point(points, _DOUBLE * field.diameter)
    better = np.zeros(len(spot), bool)
    for track in np.argsort(-found, kind="stable"):
        better[track] = good[track] and not better[doubles[track]].any()
    return np.asarray(spot[better])
