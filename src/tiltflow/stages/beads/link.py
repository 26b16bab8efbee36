"""Spots of all views joined into tracks: those that move like points of one rigid specimen.

No spot is followed by looking for it near its last position.  A spot of one view is a ray through the specimen; for each depth
along the ray the other views say whether they have a spot where it would be seen, and chance does not say so in many views.  The
tracks found so near zero tilt give a geometry, which finds them in the next views outward, each of which is first put right by the
shift that most tracks agree on, so that a view which the coarse alignment placed wrongly does no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow import geometry
from tiltflow.errors import StageError
from tiltflow.kernels import beads as kernel
from tiltflow.model import Tracks
from tiltflow.stages.beads.cameras import Cameras, cameras_of_solution, cameras_of_transforms
from tiltflow.stages.solve import SolveParams, solve

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_WINDOW_DEG = 25.0
_WINDOW_VIEWS = 9
_SEED_VIEWS = 3
_SEED_STEP = 3
_LEAST_SHARE = 0.5
_LEAST_VIEWS = 5
_LOST_SHARE = 0.4
_VIEWS_A_STEP = 5
_WIDER, _WIDEST = 4.0, 0.25
_MOST_PAIRS = 8_000

_RIGID = SolveParams(
    rotation="one", tilt="fixed", magnification="fixed", restrict=False, leave_out=False, adapt=False, robust=False
)
_FREE = SolveParams(leave_out=False, adapt=False)


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """The spots of a series and where they were seen.

    Attributes
    ----------
    xy
        All spots, `(spots, 2)`, raw pixels from the centre of their view.
    first
        `(views + 1,)`: the spots of view v are `first[v]:first[v + 1]`.
    tilt_deg, included
        `(views,)`.
    shape
        `(ny, nx)` of a view.
    diameter
        Of a bead, raw pixels.
    """

    xy: Floats
    first: Ints
    tilt_deg: Floats
    included: NDArray[np.bool_]
    shape: tuple[int, int]
    diameter: float

    @property
    def half(self) -> Floats:
        """How far from the centre a bead can be seen, x and y."""
        return np.array(self.shape[::-1]) / 2 - self.diameter / 2

    def of(self, view: int) -> slice:
        """Return where the spots of a view are."""
        return slice(int(self.first[view]), int(self.first[view + 1]))


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


def make_field(
    xy: Sequence[Floats], tilt_deg: Floats, included: NDArray[np.bool_], shape: tuple[int, int], diameter: float
) -> Field:
    """Return the field of spots `(n, 2)` of each view, raw pixels from its corner."""
    first = np.concatenate([[0], np.cumsum([len(p) for p in xy])]).astype(np.int64)
    centred = np.concatenate([np.reshape(p, (-1, 2)) for p in xy]) - np.array(shape[::-1]) / 2
    return Field(np.ascontiguousarray(centred), first, tilt_deg, included, shape, diameter)


def link(field: Field, start_transforms: Floats, depth_px: float, search_px: float) -> Links:
    """Return the tracks; `depth_px` is the thickness that beads may spread over, `search_px` how far off the start may be."""
    usable = np.flatnonzero(field.included)
    outward = usable[np.argsort(np.abs(field.tilt_deg[usable]), kind="stable")]
    loose, tight = max(0.4 * field.diameter, 2.0), max(0.15 * field.diameter, 1.0)
    start = _chain(field, start_transforms, outward, depth_px, search_px)
    cameras = cameras_of_transforms(start, field.tilt_deg)
    within = np.abs(field.tilt_deg[outward] - field.tilt_deg[outward[0]]) <= _WINDOW_DEG
    window = outward[: max(int(within.sum()), min(_WINDOW_VIEWS, len(outward)))]
    free = np.ones(len(field.xy), bool)
    spot = np.full((0, len(field.tilt_deg)), -1, np.int64)
    spot = _seed(field, cameras, outward[:_SEED_VIEWS], window, free, spot, depth_px, loose)
    if len(spot) < 2:
        return Links(spot, np.zeros((len(spot), 3)), cameras)
    cameras = _solve(field, spot, cameras, start, window, _RIGID)
    known = window
    while len(known) < len(outward):
        new = outward[len(known) : len(known) + 2 * _VIEWS_A_STEP]
        points = cameras.locate(_positions(field, spot), depth_px)
        cameras = _follow(field, cameras, points, new, search_px, loose)
        known = outward[: len(known) + len(new)]
        spot = assign(field, cameras, points, known, loose)
        cameras = _solve(field, spot, cameras, start, known, _RIGID)
    for tolerance in (loose, tight):
        points = cameras.locate(_positions(field, spot), depth_px)
        spot = assign(field, cameras, points, outward, tolerance)
        spot = _find_lost_views(field, cameras, points, spot, search_px, loose)
        spot = _drop_poor(field, cameras, spot, depth_px)
        if len(spot) < 2:
            break
        cameras = _solve(field, spot, cameras, start, outward, _FREE)
        free = np.ones(len(field.xy), bool)
        free[spot[spot >= 0]] = False
        spot = _seed(field, cameras, outward[::_SEED_STEP], outward, free, spot, depth_px, tolerance)
    spot = assign(field, cameras, cameras.locate(_positions(field, spot), depth_px), outward, tight)
    spot = _drop_poor(field, cameras, spot, depth_px)
    return Links(spot, cameras.locate(_positions(field, spot), depth_px), cameras)


def _positions(field: Field, spot: Ints) -> Floats:
    """Return `(tracks, views, 2)`, NaN where there is no spot."""
    return np.where((spot >= 0)[..., None], field.xy[spot], np.nan)


def _solve(field: Field, spot: Ints, cameras: Cameras, start: Floats, views: Ints, params: SolveParams) -> Cameras:
    """Return the cameras with those of `views` solved, and the others placed relative to them as the start has them."""
    xy = _positions(field, spot) + np.array(field.shape[::-1]) / 2
    included = np.zeros(len(field.tilt_deg), bool)
    included[views] = True
    axis = float(np.median(geometry.axis_angles(start)))
    try:
        solution = solve(Tracks(xy, "bead"), field.tilt_deg, axis, params, image_shape=field.shape, included=included, start=start)
    except StageError:
        return cameras
    return cameras_of_solution(solution)


def _chain(field: Field, start: Floats, outward: Ints, depth_px: float, search_px: float) -> Floats:
    """Return the start with the shift of each view put right by that of its inner neighbour, spots taken to lie at depth 0."""
    cameras = cameras_of_transforms(start, field.tilt_deg)
    shifts = cameras.shifts.copy()
    for n, view in enumerate(outward[1:], start=1):
        inner = outward[:n]
        side = int(inner[np.argmin(np.abs(field.tilt_deg[inner] - field.tilt_deg[view]))])
        shifts[view] += shifts[side] - cameras.shifts[side]
        base, step = Cameras(cameras.matrices, shifts).ray(side, field.xy[field.of(side)])
        spread = 0.25 * depth_px * float(np.hypot(*step[view]))
        tolerance = max(0.2 * field.diameter, spread, 1.5)
        found = agreed_shift(field, base[:, view], int(view), (search_px + spread, *_wider(field, search_px)), tolerance)
        if found is not None:
            shifts[view] += found
    chained = start.copy()
    chained[..., 2] = -np.einsum("vij,vj->vi", start[..., :2], shifts)
    return chained


def agreed_shift(field: Field, predicted: Floats, view: int, reaches_px: Sequence[float], tolerance: float) -> Floats | None:
    """Return the shift that carries most predictions `(n, 2)` onto spots of a view, None when chance would do as well.

    It is looked for within each of `reaches_px` in turn.
    """
    spots = field.xy[field.of(view)]
    for reach in reaches_px:
        inside = predicted[(np.abs(predicted) < field.half + reach).all(axis=1)]
        differences = spots[None] - inside[:, None]
        owner, target = np.nonzero((differences**2).sum(axis=-1) <= reach**2)
        close = np.ascontiguousarray(differences[owner, target])
        if len(close) > _MOST_PAIRS:
            continue
        best, votes = kernel.densest(close, owner, len(inside), tolerance)
        # The best of many places to look is found by chance more often than any one of them.
        chance = len(inside) * len(spots) * np.pi * tolerance**2 / (4 * field.half.prod())
        likely = min(len(inside), len(spots))
        if votes >= 3 and votes > chance + 4 * np.sqrt(chance) and votes >= 0.4 * likely:
            near = ((close - close[best]) ** 2).sum(axis=-1) <= tolerance**2
            return np.asarray(np.median(close[near], axis=0))
    return None


def _wider(field: Field, search_px: float) -> tuple[float, float]:
    """Return how far to look when nothing is found nearby."""
    return _WIDER * search_px, max(_WIDEST * min(field.shape), _WIDER * search_px)


def _follow(field: Field, cameras: Cameras, points: Floats, views: Ints, search_px: float, tolerance: float) -> Cameras:
    """Return the cameras with the shifts of `views` put right by what most tracks agree on."""
    shifts = cameras.shifts.copy()
    seen = cameras.project(points)
    moved: dict[int, Floats] = {}
    for view in views:
        side = [v for v in moved if field.tilt_deg[v] * field.tilt_deg[view] > 0]
        offset = moved[side[-1]] if side else np.zeros(2)
        found = agreed_shift(field, seen[:, view] + offset, int(view), (search_px, *_wider(field, search_px)), tolerance)
        moved[int(view)] = offset + found if found is not None else offset
        shifts[view] += moved[int(view)]
    return Cameras(cameras.matrices, shifts)


def _find_lost_views(field: Field, cameras: Cameras, points: Floats, spot: Ints, search_px: float, tolerance: float) -> Ints:
    """Return `spot` with the views placed again that hold few of the tracks they should."""
    seen = cameras.project(points)
    inside = (np.abs(seen) < field.half).all(axis=-1)
    share = (spot >= 0).sum(axis=0) / np.maximum(inside.sum(axis=0), 1)
    lost = np.flatnonzero(field.included & (share < _LOST_SHARE))
    if not len(lost):
        return spot
    again = assign(field, _follow(field, cameras, points, lost, search_px, tolerance), points, lost, tolerance)
    better = (again[:, lost] >= 0).sum(axis=0) > (spot[:, lost] >= 0).sum(axis=0)
    return np.where(np.isin(np.arange(spot.shape[1]), lost[better]), again, spot)


def assign(field: Field, cameras: Cameras, points: Floats, views: Ints, tolerance: float) -> Ints:
    """Return `(tracks, views)` the spot nearest to where each point is seen, no spot to two points, nearest pairs first."""
    spot = np.full((len(points), len(field.tilt_deg)), -1, np.int64)
    seen = cameras.project(points)
    for view in views:
        spots = field.xy[field.of(int(view))]
        distance2 = ((spots[None] - seen[:, view, None]) ** 2).sum(axis=-1)
        track, target = np.nonzero(distance2 <= tolerance**2)
        order = np.argsort(distance2[track, target], kind="stable")
        taken_track, taken_spot = np.zeros(len(points), bool), np.zeros(len(spots), bool)
        for t, s in zip(track[order], target[order], strict=True):
            if not taken_track[t] and not taken_spot[s]:
                taken_track[t] = taken_spot[s] = True
                spot[t, view] = field.first[view] + s
    return spot


def _seed(
    field: Field,
    cameras: Cameras,
    seed_views: Ints,
    views: Ints,
    free: NDArray[np.bool_],
    spot: Ints,
    depth_px: float,
    tolerance: float,
) -> Ints:
    """Return `spot` with the tracks added that free spots of `seed_views` begin, the best supported first."""
    depths = np.linspace(-depth_px / 2, depth_px / 2, int(np.clip(depth_px / max(0.5 * tolerance, 0.5), 16, 600)))
    proposals: list[tuple[float, float, int, Floats]] = []
    for view in seed_views:
        members = np.arange(field.first[view], field.first[view + 1])
        members = members[free[members]]
        base, step = cameras.ray(int(view), field.xy[members])
        for n, member in enumerate(members):
            hits, possible = np.zeros(len(depths), np.int32), np.zeros(len(depths), np.int32)
            kernel.sweep_depth(base[n], step, field.half, field.xy, field.first, free, views, depths, tolerance, hits, possible)
            gain = hits - _LEAST_SHARE * possible
            best = np.flatnonzero(gain == gain.max())
            k = int(best[len(best) // 2])
            if hits[k] >= _LEAST_VIEWS and gain[k] >= 0:
                proposals.append((float(gain[k]), -float(possible[k]), int(member), base[n] + depths[k] * step))
    rows = []
    for _, _, member, seen in sorted(proposals, key=lambda p: p[:2], reverse=True):
        if not free[member]:
            continue
        row = _gather(field, seen, views, free, tolerance)
        row = _gather(field, cameras.project(cameras.locate(_positions(field, row[None]), depth_px))[0], views, free, tolerance)
        inside = (np.abs(seen[views]) < field.half).all(axis=1).sum()
        if (row >= 0).sum() >= max(_LEAST_VIEWS, _LEAST_SHARE * inside):
            free[row[row >= 0]] = False
            rows.append(row)
    return np.concatenate([spot, np.array(rows)]) if rows else spot


def _gather(field: Field, seen: Floats, views: Ints, free: NDArray[np.bool_], tolerance: float) -> Ints:
    """Return the free spot nearest to where one point is seen in each of `views`, `(views,)`."""
    row = np.full(len(field.tilt_deg), -1, np.int64)
    for view in views:
        members = field.of(int(view))
        distance2 = ((field.xy[members] - seen[view]) ** 2).sum(axis=-1)
        distance2[~free[members]] = np.inf
        if len(distance2) and distance2.min() <= tolerance**2:
            row[view] = field.first[view] + int(distance2.argmin())
    return row


def _drop_poor(field: Field, cameras: Cameras, spot: Ints, depth_px: float) -> Ints:
    """Return the tracks that have a spot in enough of the views whose field they are in, without doubles."""
    points = cameras.locate(_positions(field, spot), depth_px)
    seen = cameras.project(points)
    inside = (np.abs(seen) < field.half).all(axis=-1) & field.included
    found = (spot >= 0).sum(axis=1)
    good = found >= np.maximum(_LEAST_VIEWS, _LEAST_SHARE * inside.sum(axis=1))
    order = np.argsort(-found, kind="stable")
    for n, track in enumerate(order):
        better = order[:n][good[order[:n]]]
        if len(better) and (np.linalg.norm(points[better] - points[track], axis=1) < 0.5 * field.diameter).any():
            good[track] = False
    return np.asarray(spot[good])
