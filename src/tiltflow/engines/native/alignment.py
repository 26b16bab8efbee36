"""From raw views to an alignment that can be trusted, or to the best one with its trust warnings.

Coarse alignment always comes first.  The method asked for follows: gold, patches, or projection matching.  If its result has trust
warnings (too few beads, too large a leave-out error), the next method is tried; every attempt is recorded with its figures and the
best is used.  A site can switch these fallback methods off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.beads import track_beads
from tiltflow.align.beads import trust_warnings as bead_warnings
from tiltflow.align.bundle import solve
from tiltflow.align.coarse.placement import CoarseResult, align_coarse
from tiltflow.align.patches import track_patches
from tiltflow.align.projection.refinement import refine_by_projection
from tiltflow.align.projection.uncertainty import trust_warnings as match_warnings
from tiltflow.engines.base import EngineJob
from tiltflow.engines.native.alignment_files import write_tracks
from tiltflow.errors import StageError
from tiltflow.model import Alignment, Evidence, Stack, Tracks
from tiltflow.record import StageNotes

METHODS = ("gold", "patches", "projection", "coarse")
"""The methods, the most accurate first."""


@dataclass(frozen=True, slots=True, eq=False)
class _Start:
    """The views, and the coarse alignment that every method starts from."""

    stack: Stack
    included: NDArray[np.bool_]
    coarse: CoarseResult


def align_series(job: EngineJob, stack: Stack, excluded: Mapping[int, str]) -> Alignment:
    """Return the alignment of a series by the method that the recipe asks for, or by the next one that can be trusted.

    Parameters
    ----------
    job
        Series, recipe, site and recorder.
    stack
        Raw views, `(views, ny, nx)`, x-ray hits repaired.
    excluded
        Reason for every view that takes no part, counted from 0.

    Raises
    ------
    StageError
        If the method asked for fails and fallback methods are switched off.
    """
    included = np.ones(stack.shape[0], bool)
    included[list(excluded)] = False
    start = _Start(stack, included, _coarse(job, stack, included))
    attempts: list[Alignment] = []
    log: list[dict[str, Any]] = []
    for method in _rungs(job):
        try:
            with job.recorder.stage(f"align: {method}") as notes:
                found = _METHODS[method](job, start, notes)
                _note(notes, found.evidence)
        except (StageError, np.linalg.LinAlgError) as error:
            why = str(error) if isinstance(error, StageError) else f"the images do not determine the solution ({error})"
            if not job.recipe.fallback:
                raise StageError(f"{job.series.path.name}: alignment by {method} failed: {why}") from error
            job.recorder.warn(f"alignment by {method} is not possible: {why}")
            log.append({"method": method, "failed": why})
            continue
        attempts.append(found)
        log.append({"method": method, **_figures(found.evidence), "trust_warnings": list(found.evidence.trust_warnings)})
        if not found.evidence.trust_warnings:
            break
        job.recorder.warn(f"alignment by {method} has trust warnings: {'; '.join(found.evidence.trust_warnings)}")
    best = min(attempts, key=_rank)
    if best.method != job.recipe.method:
        job.recorder.warn(f"aligned by {best.method} instead of {job.recipe.method}, as a fallback")
    evidence = replace(
        best.evidence,
        attempts=tuple(log),
        axis_angle_nominal_deg=job.series.axis_angle_deg,
        excluded_views=_reasons(best, excluded),
    )
    return replace(best, evidence=_with_shifts(evidence, best))


def _reasons(alignment: Alignment, excluded: Mapping[int, str]) -> dict[int, str]:
    """Return the reason for every view that the alignment excludes."""
    reasons = {**excluded, **alignment.evidence.excluded_views}
    return {int(view): reasons.get(int(view), "has no tracked points") for view in np.flatnonzero(~alignment.included)}


def _rungs(job: EngineJob) -> tuple[str, ...]:
    asked = METHODS.index(job.recipe.method)
    return METHODS[asked:] if job.recipe.fallback else METHODS[asked : asked + 1]


def _rank(alignment: Alignment) -> tuple[bool, float]:
    error = alignment.evidence.error_px
    return bool(alignment.evidence.trust_warnings), np.inf if error is None or np.isnan(error) else error


def _coarse(job: EngineJob, stack: Stack, included: NDArray[np.bool_]) -> CoarseResult:
    with job.recorder.stage("coarse alignment") as notes:
        result = align_coarse(
            stack,
            job.series.tilt_deg,
            job.series.axis_angle_deg,
            included,
            job.recipe.coarse,
            threads=job.site.threads,
            progress=job.stage_progress("coarse alignment"),
        )
        notes.number("axis_angle", result.axis_angle_deg, "deg")
        notes.number("axis_angle_from_data", result.axis_angle_from_data_deg, "deg")
        notes.number("axis_angle_nominal", result.axis_angle_nominal_deg, "deg")
        notes.number("median_correlation", float(np.nanmedian(result.correlation)))
        for text in result.notes:
            notes.warn(text)
    return result


def _gold(job: EngineJob, start: _Start, notes: StageNotes) -> Alignment:
    """Track gold beads and solve for the geometry from their positions."""
    diameter_px = job.recipe.gold_nm * 10 / job.series.pixel_size_angstrom
    result = track_beads(
        start.stack,
        start.coarse.transforms,
        job.series.tilt_deg,
        start.included,
        replace(job.recipe.beads, diameter_px=diameter_px),
        threads=job.site.threads,
        progress=job.stage_progress("tracking beads"),
    )
    notes.number("bead_diameter", result.diameter_px, "px")
    notes.number("bead_seeds", result.seeds)
    notes.number("positions_found_again", result.found_again)
    notes.number("completeness", result.completeness)
    for text in result.notes:
        notes.note(text)
    for what, counts in (("tracks", result.rejected), ("positions", result.dropped)):
        if any(counts.values()):
            notes.note(f"{what} left out: {', '.join(f'{count} {reason}' for reason, count in counts.items() if count)}")
    included = start.included & result.placed
    adrift = {int(view): "holds too few beads to be placed" for view in np.flatnonzero(start.included & ~included)}
    if adrift:
        notes.warn(f"left out, as too few beads are seen there to place it: {_listed(sorted(adrift))}")
    found = _solved(job, replace(start, included=included), "gold", result.tracks, bead_warnings(result, included), notes)
    return replace(found, evidence=replace(found.evidence, excluded_views=adrift, rejected=dict(result.rejected)))


def _listed(views: Sequence[int]) -> str:
    """Return views, counted from 0 and in order, as ranges counted from 1: `view 3, views 7-9`."""
    runs: list[list[int]] = []
    for view in views:
        if runs and view == runs[-1][-1] + 1:
            runs[-1].append(view)
        else:
            runs.append([view])
    return ", ".join(f"view {run[0] + 1}" if len(run) == 1 else f"views {run[0] + 1}-{run[-1] + 1}" for run in runs)


def _patches(job: EngineJob, start: _Start, notes: StageNotes) -> Alignment:
    """Track patches of texture and solve for the geometry from their positions."""
    result = track_patches(
        start.stack,
        start.coarse.transforms,
        job.series.tilt_deg,
        job.recipe.patches,
        included=start.included,
        threads=job.site.threads,
        progress=job.stage_progress("tracking patches"),
    )
    notes.number("median_correlation", float(np.nanmedian(result.correlation)))
    notes.number("error_limit", result.error_limit_px, "px")
    for text in result.notes:
        notes.note(text)
    trust_warnings: tuple[str, ...] = ()
    if result.error_limit_px > job.recipe.trust_limit_px:
        estimate = f"the estimated error is {result.error_px:.2f} px, with an upper limit of {result.error_limit_px:.2f} px"
        trust_warnings = (f"{estimate}: more than {job.recipe.trust_limit_px:g} px",)
    found = _solved(job, start, "patches", result.tracks, trust_warnings, notes)
    # The error of the solution rests on the likelihood alone; that of the tracking is a jackknife over patches.
    error_px = max(result.error_px, found.evidence.error_px or 0.0)
    return replace(found, evidence=replace(found.evidence, error_px=error_px))


def _solved(
    job: EngineJob, start: _Start, method: str, tracks: Tracks, trust_warnings: tuple[str, ...], notes: StageNotes
) -> Alignment:
    params = job.recipe.solve if method == "gold" else replace(job.recipe.solve, weight_whole_tracks=True)
    solution = solve(
        tracks,
        job.series.tilt_deg,
        start.coarse.axis_angle_deg,
        params,
        image_shape=(start.stack.shape[1], start.stack.shape[2]),
        included=start.included,
    )
    write_tracks(job.path("_fid.txt"), tracks, solution.weights > 0)
    for text in solution.evidence.notes:
        notes.note(text)
    evidence = solution.evidence
    leave_out = evidence.leave_out_px
    # A patch drifts by more than the alignment is off, so that its leave-out error is no measure; its tracker has its own.
    if method == "gold" and leave_out is not None and leave_out > job.recipe.trust_limit_px:
        trust_warnings = (
            *trust_warnings,
            f"the leave-out error is {leave_out:.2f} px, more than {job.recipe.trust_limit_px:g} px",
        )
    return replace(
        solution.alignment(method),
        evidence=replace(evidence, trust_warnings=trust_warnings, error_px=evidence.error_px or leave_out),
    )


def _projection(job: EngineJob, start: _Start, notes: StageNotes) -> Alignment:
    """Match every view with its prediction from the others."""
    result = refine_by_projection(
        start.stack,
        start.coarse.transforms,
        job.series.tilt_deg,
        start.coarse.axis_angle_deg,
        start.included,
        job.recipe.refine,
        threads=job.site.threads,
        progress=job.stage_progress("matching projections"),
    )
    notes.number("iterations", result.iterations)
    for text in result.notes:
        notes.note(text)
    notes.number("recognised", float(np.nanmedian(result.recognised)), "sd")
    used = start.included
    change_deg = (result.tilt_deg - job.series.tilt_deg)[used]
    trust_warnings = match_warnings(result.recognised[used], result.error_px, change_deg, job.recipe.trust_limit_px)
    return Alignment(
        transforms=result.transforms,
        tilt_deg=result.tilt_deg,
        included=start.included,
        method="projection",
        evidence=Evidence(
            error_px=result.error_px,
            trust_warnings=trust_warnings,
            axis_angle_from_data_deg=result.axis_angle_deg,
            correlation_per_view=tuple(result.correlation.tolist()),
            notes=result.notes,
        ),
    )


def _coarse_only(job: EngineJob, start: _Start, notes: StageNotes) -> Alignment:
    """Return the coarse alignment, whose error is unknown."""
    notes.note("the coarse alignment is used unchanged")
    return Alignment(
        transforms=start.coarse.transforms,
        tilt_deg=np.array(job.series.tilt_deg),
        included=start.included,
        method="coarse",
        evidence=Evidence(
            trust_warnings=("it is the coarse alignment alone, whose error is not measured",),
            axis_angle_from_data_deg=start.coarse.axis_angle_from_data_deg,
            correlation_per_view=tuple(start.coarse.correlation.tolist()),
        ),
    )


_METHODS: dict[str, Callable[[EngineJob, _Start, StageNotes], Alignment]] = {
    "gold": _gold,
    "patches": _patches,
    "projection": _projection,
    "coarse": _coarse_only,
}


def _figures(evidence: Evidence) -> dict[str, Any]:
    """Return the scalar values of the evidence that are known."""
    return {name: value for name, value in asdict(evidence).items() if isinstance(value, (int, float)) and not np.isnan(value)}


def _note(notes: StageNotes, evidence: Evidence) -> None:
    for name, value in _figures(evidence).items():
        stem, _, unit = name.rpartition("_")
        notes.number(stem if unit in {"px", "deg"} else name, value, unit if unit in {"px", "deg"} else "")


def _with_shifts(evidence: Evidence, alignment: Alignment) -> Evidence:
    """Add the shifts of the views: a view with a large shift shows a field that has little in common with the others."""
    shifts = np.hypot(*alignment.transforms[alignment.included, :, 2].T)
    return replace(evidence, shift_rms_px=float(np.sqrt(np.mean(shifts**2))), shift_max_px=float(shifts.max()))
