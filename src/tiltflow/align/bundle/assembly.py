"""From the adjustment to the solution: the origin, views without points, transforms, and the evidence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tiltflow import geometry
from tiltflow.align.bundle.adjustment import BundleFit
from tiltflow.align.bundle.bead_surfaces import Surfaces, fit_surfaces
from tiltflow.align.bundle.local_fit import LocalFit, fit_areas
from tiltflow.align.bundle.normal_equations import Geometry
from tiltflow.align.bundle.params import SolveParams
from tiltflow.align.bundle.problem import BundleProblem
from tiltflow.align.bundle.restriction import count_unknowns
from tiltflow.align.bundle.solution import Solution
from tiltflow.align.bundle.variables import MAGNIFICATION, ROTATION, SHIFT_X, SHIFT_Y, SKEW, STRETCH, TILT
from tiltflow.model import Evidence, LocalAlignment

Floats = NDArray[np.float64]

_SHIFTS = [SHIFT_X, SHIFT_Y]
_CARRYING_WEIGHT = 0.3
"""Mean weight of a track's positions from which on its height counts for the origin: a wild track keeps the few positions that fit its
own point (a seventh of them in a trial)."""
_USED_WEIGHT = 0.1
"""Mean weight of a track's positions from which on it counts as used in the evidence."""


def assemble_solution(problem: BundleProblem, fit: BundleFit, params: SolveParams, notes: tuple[str, ...]) -> Solution:
    """Return the solution over all tracks and views."""
    carries = _carrying(fit.weights, problem.observations.seen)
    scaled = _normalise_scale(fit.geometry)
    surfaces = fit_surfaces(scaled.points[carries], params.surfaces)
    pitch_deg = surfaces.pitch_deg if surfaces.levels else 0.0
    normalised = _place_origin(scaled, problem, params, carries, pitch_deg)
    views = _all_views(normalised.views, problem)
    transforms, aligned_tilt, y_per_z = aligning(views)
    pick = np.ix_(problem.track, problem.view)
    shape = (problem.tracks, len(problem.tilt_deg))
    found, sentence = fit_areas(problem, fit, normalised, params)
    points, weights = np.full((problem.tracks, 3), np.nan), np.zeros(shape)
    points[problem.track] = normalised.points
    residuals = np.full((*shape, 2), np.nan)
    seen = problem.observations.seen[..., None]
    if found is None:
        weights[pick], residuals[pick] = fit.weights, np.where(seen, normalised.residual(problem.observations), np.nan)
    else:
        weights[pick], residuals[pick] = found.weights, np.where(seen, found.residual, np.nan)
    included = np.zeros(shape[1], bool)
    included[problem.view] = True
    height = _levelled(normalised.points[carries], pitch_deg)
    if not surfaces.levels:
        error = "unknown" if np.isinf(surfaces.pitch_error_deg) else f"{surfaces.pitch_error_deg:.1f} degrees"
        found_pitch = f"the points give a tilt about x of {surfaces.pitch_deg:.1f} degrees, whose standard error is {error}"
        notes = (
            *notes,
            f"{found_pitch}: 0 is taken; positioning (runtime.Positioning.any.sampleType) levels the specimen by the volume",
        )
    if len(surfaces.heights) > params.surfaces:
        notes = (*notes, "the points lie on two surfaces, although one was to be analysed: two planes were fitted")
    evidence = _evidence(problem, fit, residuals, weights, views, params, (*notes, sentence) if sentence else notes)
    if surfaces.levels:
        evidence = replace(evidence, x_axis_tilt_error_deg=surfaces.pitch_error_deg)
    if found is not None:
        # Of the same positions, so that the two can be compared.
        rigid = fit.geometry.residual(problem.observations)
        evidence = replace(
            evidence,
            leave_out_px=found.leave_out_px,
            error_px=found.error_px,
            global_leave_out_px=evidence.leave_out_px,
            global_residual_mean_px=float(np.hypot(rigid[..., 0], rigid[..., 1])[found.weights > 0].mean()),
        )
    return Solution(
        image_shape=problem.image_shape,
        included=included,
        rotation_deg=np.rad2deg(views[:, ROTATION]),
        tilt_deg=np.rad2deg(views[:, TILT]),
        magnification=np.exp(views[:, MAGNIFICATION]),
        stretch=views[:, STRETCH],
        skew_deg=np.rad2deg(views[:, SKEW]),
        shift_px=views[:, _SHIFTS],
        aligned_tilt_deg=aligned_tilt,
        y_per_z=y_per_z,
        transforms=transforms,
        points=points,
        residuals=residuals,
        weights=weights,
        tilt_offset_deg=surfaces.tilt_offset_deg,
        slope=_slope(surfaces, problem.crowding),
        pitch_deg=pitch_deg,
        z_range_px=(float(height.min()), float(height.max())),
        evidence=evidence,
        local=None if found is None else _local(found, problem, views),
    )


def _carrying(weights: Floats, seen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the tracks that the solution rests on, `(tracks,)`: a rejected one may lie anywhere, and must not move the specimen."""
    carries = weights.sum(axis=1) > _CARRYING_WEIGHT * np.maximum(seen.sum(axis=1), 1)
    return np.asarray(carries if carries.any() else weights.any(axis=1))


def _local(found: LocalFit, problem: BundleProblem, views: Floats) -> LocalAlignment:
    """Return the areas as corrections of the global alignment, for all views."""
    order = problem.view[np.argsort(problem.rank)]
    changes = found.changes[:, np.argsort(problem.rank)]
    transforms, tilt, _ = aligning(views)
    out = np.empty((len(changes), *transforms.shape))
    delta = np.empty((len(changes), len(views)))
    for area, change in enumerate(changes):
        every = [np.interp(problem.tilt_deg, problem.tilt_deg[order], values) for values in change.T]
        forward, local_tilt, _ = aligning(views + np.stack(every, axis=1))
        out[area], delta[area] = geometry.compose(geometry.invert(transforms), forward), local_tilt - tilt
    return LocalAlignment(found.areas.centres, found.areas.grid, out, delta, found.areas.members.sum(axis=1))


def aligning(views: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the alignment of each view: transforms `(views, 2, 3)`, the tilts, degrees, at which to back-project, and y per z.

    A view is seen at ((1 + stretch) c x + s z, y + skew x) = K (c' x + s' z, y + p z), with tan t' = s / ((1 + stretch) c),
    K taking (c', 0) to ((1 + stretch) c, skew) and (0, 1) to itself, and p what is left over.
    """
    c, s = np.cos(views[:, TILT]), np.sin(views[:, TILT])
    wide = (1 + views[:, STRETCH]) * c
    tilt = np.arctan2(s, wide)
    across, shear = np.hypot(wide, s), views[:, SKEW] / np.cos(tilt)
    change = np.zeros((len(views), 2, 2))
    change[:, 0, 0], change[:, 1, 0], change[:, 1, 1] = across, shear, 1.0
    turn = np.stack([geometry.rotation(angle) for angle in np.rad2deg(views[:, ROTATION])])
    forward = np.exp(views[:, MAGNIFICATION])[:, None, None] * (turn @ change)
    transforms = geometry.invert(geometry.transform(forward, views[:, _SHIFTS]))
    return transforms, np.rad2deg(tilt), -shear * np.sin(tilt)


def _slope(surfaces: Surfaces, crowding: float) -> str:
    """Return a sentence on the slope across the tilt axis where the points lie slanted; else nothing."""
    if not surfaces.slanted(crowding):
        return ""
    offset, error = surfaces.tilt_offset_deg, np.sqrt(crowding) * surfaces.tilt_error_deg
    return (
        f"the points lie in a plane that slopes by {abs(offset):.1f} +- {error:.1f} degrees across the tilt axis: the specimen lies "
        "slanted in the volume unless positioning (runtime.Positioning.any.sampleType) or "
        f"comparam.tilt.tilt.OFFSET = {offset:.1f} levels it"
    )


def _normalise_scale(fitted: Geometry) -> Geometry:
    """Return the same fit with a mean magnification of 1."""
    mean = fitted.views[:, MAGNIFICATION].mean()
    views = fitted.views.copy()
    views[:, MAGNIFICATION] -= mean
    return Geometry(views, fitted.points * np.exp(mean))


def _levelled(points: Floats, pitch_deg: float) -> Floats:
    """Return the heights of points `(n, 3)` in the volume that is levelled by their pitch, `(n,)`."""
    pitch = np.deg2rad(pitch_deg)
    return np.asarray(points[:, 2] * np.cos(pitch) - points[:, 1] * np.sin(pitch))


def _place_origin(
    fitted: Geometry, problem: BundleProblem, params: SolveParams, carries: NDArray[np.bool_], pitch_deg: float
) -> Geometry:
    """Move the specimen so that its origin is seen where the start puts it.

    Without a start, the raw view nearest zero tilt stays in place, and the range of heights of the points that carry weight is
    centred in the volume that is levelled by their pitch.
    """
    jacobians = fitted.point_jacobians()
    shifts = fitted.views[:, _SHIFTS]
    move = np.zeros(3)
    if problem.start is not None:
        wanted = geometry.invert(problem.start[problem.view])[..., 2]
        move[:] = np.linalg.lstsq(jacobians.reshape(-1, 3), (wanted - shifts).ravel(), rcond=None)[0]
    else:
        flattest = int(np.argmin(np.abs(fitted.views[:, TILT])))
        for _ in range(2):
            target = -shifts[flattest] - jacobians[flattest, :, 2] * move[2]
            move[:2] = np.linalg.solve(jacobians[flattest, :, :2], target)
            height = _levelled(fitted.points[carries] - move, pitch_deg)
            move[2] += 0.5 * (height.min() + height.max()) / np.cos(np.deg2rad(pitch_deg))
        move[:2] = np.linalg.solve(jacobians[flattest, :, :2], -shifts[flattest] - jacobians[flattest, :, 2] * move[2])
    move[2] -= params.z_shift_px
    views = fitted.views.copy()
    views[:, _SHIFTS] += jacobians @ move
    return Geometry(views, fitted.points - move)


def _all_views(views: Floats, problem: BundleProblem) -> Floats:
    """Return `(all views, 7)`: what was not solved is interpolated in tilt, as a change from the nominal or from the start."""
    nominal = np.zeros((len(problem.tilt_deg), views.shape[1]))
    nominal[:, TILT] = np.deg2rad(problem.tilt_deg)
    if problem.start is not None:
        nominal[:, _SHIFTS] = geometry.invert(problem.start)[..., 2]
    order = problem.view[np.argsort(problem.rank)]
    change = views[np.argsort(problem.rank)] - nominal[order]
    out = np.stack(
        [n + np.interp(problem.tilt_deg, problem.tilt_deg[order], c) for n, c in zip(nominal.T, change.T, strict=True)], axis=1
    )
    out[problem.view] = views
    return out


def _evidence(
    problem: BundleProblem,
    fit: BundleFit,
    residuals: Floats,
    weights: Floats,
    views: Floats,
    params: SolveParams,
    notes: tuple[str, ...],
) -> Evidence:
    length = np.hypot(residuals[..., 0], residuals[..., 1])
    seen = ~np.isnan(length)
    # What the fit has rejected is not aligned by it, and would say nothing of what is.
    used = seen & (weights > 0)
    per_view = [float(np.mean(column[u])) if u.any() else float("nan") for column, u in zip(length.T, used.T, strict=True)]
    left_out = None
    if fit.left_out is not None:
        distance = np.hypot(fit.left_out.residual[..., 0], fit.left_out.residual[..., 1])
        known = ~np.isnan(distance)
        left_out = float(np.average(distance[known], weights=fit.weights[known]))
    good = weights.sum(axis=1) > _USED_WEIGHT * np.maximum(seen.sum(axis=1), 1)
    tracks, kept = int(good.sum()), used.sum(axis=0)
    flattest = problem.view[np.argmin(np.abs(problem.used_tilt_deg))]
    corner = np.array(problem.image_shape[::-1]) / 2
    place = problem.observations.xy[:, np.searchsorted(problem.view, flattest)] + corner
    vectors = np.column_stack([place, -residuals[problem.track, flattest]])[used[problem.track, flattest]]
    shift = np.hypot(*views[:, _SHIFTS].T)
    return Evidence(
        residual_mean_px=float(length[used].mean()),
        residual_sd_px=float(length[used].std()),
        residual_weighted_mean_px=float(np.average(length[used], weights=weights[used])),
        leave_out_px=left_out,
        residual_per_view_px=tuple(per_view),
        residual_vectors_px=tuple((float(x), float(y), float(dx), float(dy)) for x, y, dx, dy in vectors),
        positions_used=int(used.sum()),
        positions_rejected=int(seen.sum() - used.sum()),
        positions_per_view=tuple(int(n) for n in kept),
        positions_lost_per_view=tuple(int(n) for n in tracks - np.minimum(kept, tracks)),
        measurements=2 * int(seen.sum()),
        unknowns=count_unknowns(params, len(problem.track), len(problem.view)),
        tracks_used=tracks,
        tracks_rejected=problem.tracks - tracks,
        error_px=None if fit.error_px is None else float(np.hypot(fit.error_px, fit.motion_px)),
        shift_rms_px=float(np.sqrt(np.mean(shift**2))),
        shift_max_px=float(shift.max()),
        axis_angle_nominal_deg=problem.axis_angle_deg,
        axis_angle_from_data_deg=float(np.rad2deg(views[:, ROTATION].mean())),
        axis_angle_error_deg=None if fit.axis_error is None else float(np.rad2deg(fit.axis_error)),
        notes=(*problem.notes, *notes, *fit.notes),
    )
