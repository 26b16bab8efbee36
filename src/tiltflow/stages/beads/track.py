"""Tracks of the beads through all views: survey, detect, link, measure, solve, measure again, judge."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow import geometry
from tiltflow.errors import ParameterError, StageError
from tiltflow.kernels import beads as kernel
from tiltflow.model import Image, Progress, Stack, Tracks
from tiltflow.parallel import map_threads
from tiltflow.stages.beads.cameras import Cameras, cameras_of_solution
from tiltflow.stages.beads.centre import Centres, EyeMaker, measure
from tiltflow.stages.beads.detect import (
    Grid,
    Spots,
    find_spots,
    fine_power,
    make_grid,
    matched_filter,
    noise_spectrum,
    read_view,
    respond,
    transform_view,
)
from tiltflow.stages.beads.link import Field, Links, link, make_field
from tiltflow.stages.beads.record import BeadParams, BeadResult
from tiltflow.stages.beads.select import faint_tracks, split_surfaces, spread_out
from tiltflow.stages.beads.survey import RING, Look, profile_of_rings, survey
from tiltflow.stages.solve import SolveParams, solve

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_WORKING_DIAMETER = 10.0
_LEAST_DIAMETER = 3.0
_SURVEY_VIEWS = 3
_LEAST_Z = 4.5
_ANCHOR_STEP = 3
_OVERLAP = 0.9
_FEW, _FEW_IN_VIEW, _COMPLETE = 5, 3, 0.8
_LEAST_VIEWS = 5
_LEAST_SHARE = 0.65
_ENOUGH, _ENOUGH_TO_VOTE = 12, 6
_LOOSE, _LOOSE_OF_FEW, _FAR = 2.5, 4.0, 6.0
_JUDGE_CYCLES = 6
_TEMPLATE_VIEWS = 7
_SHARE_OF_TIME = (0.05, 0.6, 0.7)
_SOLVE = SolveParams(leave_out=False)


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
    series = _series(stack, start_transforms, tilt_deg, included, params)
    tell = progress or (lambda _: None)
    look = _survey(series, params, threads)
    tell(_SHARE_OF_TIME[0])
    spots, noises = _detect_all(
        series, look, threads, lambda f: tell(_SHARE_OF_TIME[0] + f * (_SHARE_OF_TIME[1] - _SHARE_OF_TIME[0]))
    )
    field = make_field(
        [s.xy * series.binning for s in spots], series.tilt_deg, series.included, series.shape, look.diameter * series.binning
    )
    links = link(field, series.start, _depth(series, params), _search(series, params))
    tell(_SHARE_OF_TIME[2])
    _expect_gold(len(links.points), params, "spots that move like points of one specimen", spots)
    work = _Work.of_links(field, links)
    for turn in range(max(params.rounds, 1)):
        work = _measure_all(series, look, noises, spots, work, threads, params)
        work = _judge(series, work, params)
        _expect_gold(len(work.points), params, "tracks of beads that are alike and move as one", spots)
        tell(_SHARE_OF_TIME[2] + (1 - _SHARE_OF_TIME[2]) * (turn + 1) / max(params.rounds, 1))
    return _result(series, look, spots, links, work, params)


@dataclass(frozen=True, slots=True, eq=False)
class _Series:
    """The views and what is known of them; `binning` makes a bead about ten working pixels wide."""

    stack: Stack
    shape: tuple[int, int]
    tilt_deg: Floats
    included: Bools
    start: Floats
    binning: int
    grid: Grid
    diameter: float

    @property
    def views(self) -> list[int]:
        """The views that take part, the least tilted first."""
        usable = np.flatnonzero(self.included)
        return [int(v) for v in usable[np.argsort(np.abs(self.tilt_deg[usable]), kind="stable")]]

    def read(self, view: int) -> Image:
        """Return a view in working pixels."""
        return read_view(self.stack, view, self.binning)


def _series(stack: Stack, start: ArrayLike, tilt_deg: ArrayLike, included: ArrayLike, params: BeadParams) -> _Series:
    views, ny, nx = stack.shape
    transforms, tilts, use = np.asarray(start, float), np.asarray(tilt_deg, float), np.asarray(included, bool)
    if transforms.shape != (views, 2, 3) or tilts.shape != (views,) or use.shape != (views,):
        raise ParameterError(
            f"{views} views, but transforms of shape {transforms.shape}, {tilts.size} angles and {use.size} marks of views to use"
        )
    if not _LEAST_DIAMETER <= params.diameter_px <= min(ny, nx) / 8:
        raise StageError(
            f"Beads of {params.diameter_px:.1f} px cannot be tracked in views of {nx} x {ny}: a bead must be at least "
            f"{_LEAST_DIAMETER:g} px wide and at most an eighth of the view. Check the bead's diameter and the pixel size"
        )
    if use.sum() < 3:
        raise StageError(f"{use.sum()} views take part: tracking needs at least three")
    binning = max(int(params.diameter_px // _WORKING_DIAMETER), 1)
    working = (ny // binning, nx // binning)
    diameter = params.diameter_px / binning
    return _Series(stack, (ny, nx), tilts, use, transforms, binning, make_grid(working, diameter), diameter)


def _depth(series: _Series, params: BeadParams) -> float:
    return params.thickness_px or 0.5 * min(series.shape)


def _search(series: _Series, params: BeadParams) -> float:
    return params.search_px or max(params.diameter_px, 0.02 * max(series.shape))


def _survey(series: _Series, params: BeadParams, threads: int) -> Look:
    return survey(
        series.stack,
        series.views[:_SURVEY_VIEWS],
        series.grid,
        binning=series.binning,
        diameter=series.diameter,
        light=params.light,
        adjust_size=params.adjust_size,
        count=max(params.target_number, 8),
        threads=threads,
    )


def _expect_gold(found: int, params: BeadParams, what: str, spots: list[Spots]) -> None:
    if found >= params.fewest:
        return
    typical = int(np.median([len(s) for s in spots if len(s)] or [0]))
    raise StageError(
        f"No gold was found that could carry an alignment: {found} {what}, at least {params.fewest} are needed "
        f"({typical} bead-like spots in a typical view). Check the diameter of the beads, {params.diameter_px:.1f} px, or align by "
        "patches"
    )


def _detect_all(series: _Series, look: Look, threads: int, tell: Progress) -> tuple[list[Spots], list[Floats]]:
    """Return the spots and the noise spectrum of each view; no spots of the views that take no part.

    The noise is measured in every third view, in order of tilt; its level in all.
    """
    spots = [Spots(np.empty((0, 2)), np.empty(0), np.empty(0))] * len(series.tilt_deg)
    noises = [look.noise] * len(series.tilt_deg)
    ordered = np.flatnonzero(series.included)[np.argsort(series.tilt_deg[series.included], kind="stable")]
    anchors = ordered[_ANCHOR_STEP // 2 :: _ANCHOR_STEP]
    done = 0
    levels: dict[int, float] = {}
    for view, (found, noise, level) in zip(
        anchors, map_threads(lambda view: _detect_anchor(series.read(view), look, series.grid), anchors, threads), strict=True
    ):
        spots[view], noises[view], levels[view] = found, noise, level
        done += 1
        tell(done / len(ordered))

    def detect(view: int) -> tuple[Spots, Floats]:
        nearest = anchors[np.argmin(np.abs(series.tilt_deg[anchors] - series.tilt_deg[view]))]
        spectrum = transform_view(series.read(view), series.grid)
        noise = noises[nearest] * (fine_power(spectrum, series.grid) / levels[nearest])
        return _filtered(spectrum, noise, look, series.grid), noise

    others = np.setdiff1d(ordered, anchors)
    for view, (found, noise) in zip(others, map_threads(detect, others, threads), strict=True):
        spots[view], noises[view] = found, noise
        done += 1
        tell(done / len(ordered))
    return spots, noises


def _detect_anchor(image: Image, look: Look, grid: Grid) -> tuple[Spots, Floats, float]:
    """Return the spots of a view, its noise spectrum and level: once with the noise of the survey, then with the view's own."""
    spectrum = transform_view(image, grid)
    spots = _filtered(spectrum, look.noise, look, grid)
    beads = spots.xy[spots.z > 0.3 * np.mean(spots.z[:5])] if len(spots) else spots.xy
    noise = noise_spectrum(image, grid, beads, 0.8 * look.diameter)
    return _filtered(spectrum, noise, look, grid), noise, fine_power(spectrum, grid)


def _filtered(spectrum: NDArray[np.complex64], noise: Floats, look: Look, grid: Grid) -> Spots:
    filter_ = matched_filter(look.sign * look.profile, noise, grid)
    return find_spots(respond(spectrum, filter_, grid), filter_.energy, look.diameter, _LEAST_Z, 0.6 * look.diameter)


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """Tracks in the making; positions are raw pixels from the corner.

    `expected` `(tracks, views)` says where a bead should be seen, in the field and alone, and `linked` which positions were there
    before the model told where to look; `template` holds a profile for each view once there are centres to average beads about.
    """

    xy: Floats
    amplitude: Floats
    sigma: Floats
    expected: Bools
    linked: Bools
    points: Floats
    cameras: Cameras
    residual: Floats
    template: tuple[Floats, ...] | None
    rejected: dict[str, int]
    dropped: dict[str, int]

    @classmethod
    def of_links(cls, field: Field, links: Links) -> _Work:
        """Return the tracks as they were linked, not yet measured."""
        xy = np.where((links.spot >= 0)[..., None], field.xy[links.spot] + np.array(field.shape[::-1]) / 2, np.nan)
        empty = np.full(xy.shape[:2], np.nan)
        return cls(xy, empty, empty, links.spot >= 0, links.spot >= 0, links.points, links.cameras, empty, None, {}, {})


def _measure_all(
    series: _Series, look: Look, noises: list[Floats], spots: list[Spots], work: _Work, threads: int, params: BeadParams
) -> _Work:
    """Measure every bead in every view whose field it is in, and average the beads of each view."""
    scale, centre = series.binning, np.array(series.shape[::-1]) / 2
    predicted = (work.cameras.project(work.points) + centre) / scale
    expected = np.where(np.isnan(work.xy), predicted, work.xy / scale)
    limit = max(0.2 * look.diameter, 1.5)
    make_eye = EyeMaker.of(series.grid, look.diameter)

    def look_at(view: int) -> tuple[Centres, Floats] | None:
        if not series.included[view]:
            return None
        image = series.read(view)
        profile = work.template[view] if work.template else look.profile
        eye = make_eye(profile, noises[view])
        start = expected[:, view]
        strong = spots[view].xy[spots[view].z > 0.5 * np.median(spots[view].z)] if len(spots[view]) else np.empty((0, 2))
        others = strong[_nearest(strong, start) > 0.7 * look.diameter]
        centres = measure(image, start, others, eye, look.sign, limit)
        everyone = np.concatenate([np.where(np.isfinite(centres.xy), centres.xy, start), others])
        overlapped = _nearest(everyone[: len(start)], everyone, among=True) < _OVERLAP * look.diameter
        return replace(centres, z=np.where(overlapped, -1.0, centres.z)), _rings(image, centres, everyone, look)

    size = work.xy.shape[:2]
    xy, amplitude, sigma = np.full((*size, 2), np.nan), np.full(size, np.nan), np.full(size, np.nan)
    alone = np.zeros(size, bool)
    rings = np.zeros((size[1], 3, int(np.ceil(2 * look.diameter / RING)) + 1))
    dropped = {"two beads overlap": 0, "no bead where it should be seen": 0}
    for view, answer in enumerate(map_threads(look_at, range(size[1]), threads)):
        if answer is None:
            continue
        centres, rings[view] = answer
        seen = np.isfinite(centres.z) & (centres.z >= _LEAST_Z)
        inside = _inside(predicted[:, view] * scale, series.shape, params, look.diameter * scale)
        seen &= inside
        alone[:, view] = inside & (centres.z != -1.0)
        dropped["two beads overlap"] += int((inside & ~alone[:, view]).sum())
        dropped["no bead where it should be seen"] += int((alone[:, view] & ~seen).sum())
        xy[seen, view] = centres.xy[seen] * scale
        amplitude[seen, view], sigma[seen, view] = centres.amplitude[seen], centres.sigma[seen] * scale
    return replace(
        work, xy=xy, amplitude=amplitude, sigma=sigma, expected=alone, template=_templates(rings, series, look), dropped=dropped
    )


def _inside(xy: Floats, shape: tuple[int, int], params: BeadParams, diameter: float) -> Bools:
    border = params.border_px if params.border_px is not None else 0.65 * diameter
    return np.asarray(((xy > border) & (xy < np.array(shape[::-1]) - border)).all(axis=-1))


def _nearest(xy: Floats, others: Floats, *, among: bool = False) -> Floats:
    """Return the distance from each point to the nearest of `others`; with `among` these begin with the points themselves."""
    if not len(xy) or not len(others):
        return np.full(len(xy), np.inf)
    distance = np.hypot(*np.moveaxis(xy[:, None] - others[None], -1, 0))
    distance[np.isnan(distance)] = np.inf
    if among:
        distance[np.arange(len(xy)), np.arange(len(xy))] = np.inf
    return np.asarray(distance.min(axis=1))


def _rings(image: Image, centres: Centres, everyone: Floats, look: Look) -> Floats:
    """Return sums, squares and counts over rings about the lone beads of a view, `(3, rings)`."""
    reach = 2 * look.diameter
    out = np.zeros((3, int(np.ceil(reach / RING)) + 1))
    lone = np.isfinite(centres.xy[:, 0]) & (centres.z > _LEAST_Z)
    lone &= _nearest(centres.xy, everyone, among=True) > 2.2 * look.diameter
    for x, y in centres.xy[lone]:
        kernel.add_to_rings(image, x, y, float(look.sign), reach, RING, out[0], out[1], out[2])
    return out


def _templates(rings: Floats, series: _Series, look: Look) -> tuple[Floats, ...]:
    """Return a profile for each view, from the views nearest in tilt."""
    order = np.argsort(series.tilt_deg, kind="stable")
    out: list[Floats] = [look.profile] * len(order)
    half = _TEMPLATE_VIEWS // 2
    for n, view in enumerate(order):
        first = min(max(n - half, 0), max(len(order) - _TEMPLATE_VIEWS, 0))
        group = order[first : first + _TEMPLATE_VIEWS]
        out[view] = profile_of_rings(rings[group].sum(axis=0), look.diameter)
    return tuple(out)


def _judge(series: _Series, work: _Work, params: BeadParams) -> _Work:
    """Throw out what is too faint or does not move like one rigid body, and solve for the geometry of the rest."""
    rejected = dict(work.rejected)
    seen = np.isfinite(work.amplitude).sum(axis=1)
    work = _keep(work, seen >= _LEAST_VIEWS, rejected, "seen in too few views")
    seen = np.isfinite(work.amplitude).sum(axis=1)
    work = _keep(work, seen >= _LEAST_SHARE * work.expected.sum(axis=1), rejected, "not there in many views")
    work = _keep(work, ~faint_tracks(work.amplitude), rejected, "too faint for gold")
    for _ in range(_JUDGE_CYCLES):
        if len(work.points) < max(params.fewest, 2):
            break
        work = _solved(series, work)
        count = len(work.points)
        scatter = np.nanmean(work.residual, axis=1)
        typical = float(np.median(scatter))
        limit = np.maximum(typical * (_LOOSE if count > _ENOUGH else _LOOSE_OF_FEW), 0.03 * params.diameter_px)
        limit = np.maximum(limit, _LOOSE_OF_FEW * np.nanmean(work.sigma, axis=1))
        # The worst first: a bad track spoils the residuals of its neighbours.
        worst = np.argsort(-scatter)[: max(count // 10, 1)]
        loose = np.isin(np.arange(count), worst) & (scatter > limit)
        far = work.residual > np.maximum(
            _FAR * np.fmax(np.maximum(typical, scatter)[:, None], work.sigma), 0.05 * params.diameter_px
        )
        far &= ~loose[:, None]
        if not loose.any() and not far.any():
            break
        work.dropped["off the rigid body"] = work.dropped.get("off the rigid body", 0) + int(far.sum())
        xy = np.where(far[..., None], np.nan, work.xy)
        work = replace(work, xy=xy, amplitude=np.where(far, np.nan, work.amplitude), sigma=np.where(far, np.nan, work.sigma))
        work = _keep(work, ~loose, rejected, "do not move with the others")
    return replace(work, rejected=rejected)


def _keep(work: _Work, keep: Bools, rejected: dict[str, int], reason: str) -> _Work:
    if not keep.all():
        rejected[reason] = rejected.get(reason, 0) + int((~keep).sum())
    return replace(
        work,
        xy=work.xy[keep],
        amplitude=work.amplitude[keep],
        sigma=work.sigma[keep],
        expected=work.expected[keep],
        linked=work.linked[keep],
        points=work.points[keep],
        residual=work.residual[keep],
    )


def _solved(series: _Series, work: _Work) -> _Work:
    axis = float(np.median(geometry.axis_angles(series.start)))
    tracks = Tracks(work.xy, "bead", position_weights(work.sigma, work.residual))
    count = len(work.xy)
    # Among few tracks robust weights pick sides: whichever half of a view agrees with itself.
    params = replace(_SOLVE, stretch=count > _ENOUGH, skew=count > _ENOUGH, robust=count > _ENOUGH_TO_VOTE)
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
    beyond2 = max(float(np.median(seen**2)) / 1.386 - noise2, 0.0) if len(seen) else 0.0
    weight = (noise2 + beyond2) / (variance + beyond2)
    return np.where(known, np.clip(weight, 0.05, 5.0), 0.0)


def _result(series: _Series, look: Look, spots: list[Spots], links: Links, work: _Work, params: BeadParams) -> BeadResult:
    diameter = look.diameter * series.binning
    surface = split_surfaces(work.points, 2 * diameter) if params.two_surfaces else np.zeros(len(work.points), np.int8)
    most = params.most if params.most is not None else max(4 * params.target_number, 100)
    seen = np.isfinite(work.sigma)
    quality = seen.sum(axis=1) / np.nanmedian(np.where(seen, work.sigma, np.nan), axis=1)
    keep = spread_out(work.points, surface, quality, most)
    notes = []
    if abs(diameter / params.diameter_px - 1) > 0.15:
        notes.append(f"the beads are {diameter:.1f} px wide, not {params.diameter_px:.1f} px as given; the former was used")
    if params.two_surfaces and not surface.any():
        notes.append("beads were looked for on two surfaces, and lie on one")
    if len(keep) < params.target_number:
        notes.append(f"{len(keep)} beads were tracked, fewer than the {params.target_number} wanted")
    rejected = dict(work.rejected)
    if len(keep) < len(work.points):
        rejected["more than are needed"] = len(work.points) - len(keep)
    return BeadResult(
        tracks=Tracks(work.xy[keep], "bead", position_weights(work.sigma, work.residual)[keep]),
        diameter_px=diameter,
        light=look.sign > 0,
        sigma_px=work.sigma[keep],
        amplitude=work.amplitude[keep],
        expected=work.expected[keep],
        residual_px=work.residual[keep],
        positions=work.points[keep],
        surface=surface[keep],
        candidates=np.array([len(s) for s in spots], np.int64),
        seeds=len(links.points),
        found_again=int((seen & ~work.linked)[keep].sum()),
        rejected=rejected,
        dropped=dict(work.dropped),
        notes=tuple(notes),
    )


def doubts(result: BeadResult) -> tuple[str, ...]:
    """Return the reasons not to trust these tracks, none when they are sound."""
    reasons = []
    count = len(result.tracks.xy)
    if count < _FEW:
        reasons.append(f"{count} beads alone carry the alignment")
    if result.completeness < _COMPLETE:
        reasons.append(
            f"in {1 - result.completeness:.0%} of the places where a bead should be seen there is none: the spots may not be gold"
        )
    thin = np.flatnonzero(result.expected.any(axis=0) & (result.tracks.seen.sum(axis=0) < min(_FEW_IN_VIEW, count)))
    if len(thin):
        reasons.append(f"fewer than {_FEW_IN_VIEW} beads are seen in {len(thin)} views, from view {thin[0]} to {thin[-1]}")
    return tuple(reasons)
