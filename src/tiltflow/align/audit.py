"""The audit of an alignment that another program made: its error, measured as tiltflow measures that of its own.

The alignment is compared with a reference that is made independently of it from the same images or points.  With D the root mean
square distance by which the two place a point differently, after each point is moved to its best position, and e the estimated error
of the reference,

    error^2 = D^2 + e^2

because the error of an efficient estimate is not correlated with the difference from a less efficient one (Hausman 1978,
doi:10.2307/1913827).  D and e are taken over the field and over the depth of the features that were tracked, as in
:mod:`tiltflow.align.bundle.expected_error`; without tracks over the specimen, as in :mod:`tiltflow.align.projection.uncertainty`.

The first of these references that can be had is used:

* Gold beads, measured anew in the images, if the alignment rests on gold or it is not known what it rests on.  The points of the other
  program do not suffice: their errors can be common to all beads of a view (0.08 px in a recorded run of beadtrack), and no adjustment
  of the points can see a common shift.
* The points that the other program tracked, in tiltflow's bundle adjustment.
* Without such points, patches that are tracked for the audit; their tilt axis is far better than that of projection matching
  (:mod:`tiltflow.align.cross_check`).
* The views, matched with their projections (:mod:`tiltflow.align.projection`).

As in tiltflow's own alignments, parts of views that something opaque covers are not compared.

IMOD has no counterpart; the leave-out error of its version 5 is that of its own points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow import geometry
from tiltflow.align.beads import BeadParams, track_beads
from tiltflow.align.beads import trust_warnings as bead_warnings
from tiltflow.align.bundle import Solution, SolveParams, project_solution, solve
from tiltflow.align.bundle.expected_error import field_points
from tiltflow.align.methods import leave_out_warnings, patch_warnings, solve_without_wild
from tiltflow.align.patches import PatchParams, track_patches
from tiltflow.align.points import left_over, seen_by
from tiltflow.align.projection import RefineParams, refine_by_projection
from tiltflow.align.projection import trust_warnings as match_warnings
from tiltflow.align.projection.uncertainty import specimen_points
from tiltflow.errors import StageError
from tiltflow.model import Alignment, Evidence, Stack, Tracks
from tiltflow.observer import SILENT, Observer, StageObserver
from tiltflow.preprocess.offset import without_offset
from tiltflow.preprocess.opaque_parts import without_opaque_parts

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_MAY_REST_ON_GOLD = ("gold", "given")
"""Methods whose alignments gold is looked for; how a given alignment was made is not known, and any gold there is measures it best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditParams:
    """How an alignment is audited.

    Attributes
    ----------
    gold_nm
        Diameter of the gold beads, nm; 0 where there are none.
    trust_limit_px
        Error, raw pixels, beyond which an alignment is not trusted.
    beads, patches, solve, refine
        Parameters of bead and patch tracking, of the bundle adjustment, and of the matching with projections.
    """

    gold_nm: float = 0.0
    trust_limit_px: float = 1.0
    beads: BeadParams = field(default_factory=lambda: BeadParams(diameter_px=1.0))
    patches: PatchParams = field(default_factory=PatchParams)
    solve: SolveParams = field(default_factory=SolveParams)
    refine: RefineParams = field(default_factory=RefineParams)


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """What is audited, and by what."""

    stack: Stack
    alignment: Alignment
    tilt_deg: Floats
    axis_angle_deg: float
    pixel_size_angstrom: float
    params: AuditParams
    tracks: Tracks | None
    notes: StageObserver
    threads: int

    @property
    def image_shape(self) -> tuple[int, int]:
        return self.stack.shape[1], self.stack.shape[2]

    @property
    def centre(self) -> Floats:
        return np.array(self.image_shape[::-1]) / 2

    def solved(self, tracks: Tracks, notes: StageObserver | None) -> tuple[Solution, Tracks]:
        """Return the bundle adjustment of all tracks but wild ones, with the origin of the audited alignment, and those tracks."""

        def solved(kept: Tracks) -> Solution:
            return solve(
                kept,
                self.tilt_deg,
                self.axis_angle_deg,
                self.params.solve,
                image_shape=self.image_shape,
                included=self.alignment.included,
                start=self.alignment.transforms,
            )

        return solve_without_wild(tracks, solved, self.image_shape, notes)


@dataclass(frozen=True, slots=True, eq=False)
class _Reference:
    """Where it sees points of the specimen, `(points, views, 2)` raw pixels from the image centre, its estimated error, and its name."""

    seen: Floats
    error_px: float
    name: str


def audit_alignment(
    stack: Stack,
    alignment: Alignment,
    tilt_deg: ArrayLike,
    axis_angle_deg: float,
    pixel_size_angstrom: float,
    params: AuditParams | None = None,
    *,
    tracks: Tracks | None = None,
    observer: Observer = SILENT,
    threads: int = 1,
) -> Alignment:
    """Return an alignment with the evidence that tiltflow's own methods find for it and against it.

    Parameters
    ----------
    stack
        Raw views, `(view, y, x)`, x-ray hits repaired.
    alignment
        Transforms, tilts and method; figures that its evidence holds already are kept.
    tilt_deg
        Nominal tilts, `(views,)`, degrees.
    axis_angle_deg
        Nominal angle of the tilt axis from y, degrees, counter-clockwise positive.
    pixel_size_angstrom
        Size of a raw pixel, Å.
    params
        How to audit it.
    tracks
        The points that it was computed from, if they are known.
    observer
        Hears of the stage, its figures and remarks.
    threads
        Threads to use.

    Returns
    -------
    Alignment
        With `error_px`, its estimated error, and trust warnings; with tracks also the leave-out error, residuals and counts.  Where
        nothing can measure the error, it is None and a trust warning gives the reasons.

    Raises
    ------
    ParameterError
        If tilts, transforms and views do not match.
    """
    with observer.stage("audit") as notes:
        views = without_opaque_parts(without_offset(stack), alignment.included, threads=threads)
        if views.remark:
            notes.note(views.remark)
        case = _Case(
            views,
            alignment,
            np.asarray(tilt_deg, float),
            axis_angle_deg,
            pixel_size_angstrom,
            params or AuditParams(),
            tracks,
            notes,
            threads,
        )
        evidence = alignment.evidence if tracks is None else _with_tracks(case, tracks)
        return replace(alignment, evidence=_measured(case, evidence), tracks=tracks)


def _measured(case: _Case, evidence: Evidence) -> Evidence:
    """Return the evidence with the error by the first reference that can be had."""
    reasons = []
    for refer in _references(case):
        try:
            return _with_error(case, evidence, refer(case))
        except (StageError, np.linalg.LinAlgError) as error:
            case.notes.note(f"not audited that way: {error}")
            reasons.append(str(error))
    unknown = f"nothing measures its error: {'; '.join(reasons)}"
    return replace(evidence, trust_warnings=(*evidence.trust_warnings, unknown))


def _references(case: _Case) -> Iterator[Callable[[_Case], _Reference]]:
    """Yield the references in the order in which they are tried."""
    if case.alignment.method in _MAY_REST_ON_GOLD and case.params.gold_nm > 0:
        yield _beads
    if case.tracks is not None:
        yield _points
    else:
        yield _patches
    yield _projections


def _with_error(case: _Case, evidence: Evidence, reference: _Reference) -> Evidence:
    used = case.alignment.included
    distance = np.sqrt(np.mean(left_over(case.alignment, reference.seen)[:, used] ** 2, axis=(0, 1)).sum())
    error, limit = float(np.hypot(distance, reference.error_px)), case.params.trust_limit_px
    case.notes.number("distance_from_reference", float(distance), "px")
    case.notes.number("reference_error", reference.error_px, "px")
    case.notes.note(
        f"audited by {reference.name}: the alignment differs from them by {distance:.2f} px, and their own error is "
        f"{reference.error_px:.2f} px"
    )
    warnings = evidence.trust_warnings
    if error > limit:
        warnings = (*warnings, f"measured by {reference.name} it is off by {error:.2f} px, more than {limit:g} px")
    return replace(evidence, error_px=error, trust_warnings=warnings, notes=(*evidence.notes, f"audited by {reference.name}"))


def _with_tracks(case: _Case, tracks: Tracks) -> Evidence:
    """Return the evidence with the figures of the points: residuals under the alignment, and the leave-out error of an adjustment."""
    evidence, used = case.alignment.evidence, case.alignment.included
    apart = left_over(case.alignment, tracks.xy - case.centre)
    length = np.hypot(apart[..., 0], apart[..., 1])
    seen = ~np.isnan(length)
    if not seen.any():
        return evidence
    flattest = int(np.argmin(np.where(used, np.abs(case.alignment.tilt_deg), np.inf)))
    shown = seen[:, flattest]
    backward = geometry.invert(case.alignment.transforms[flattest])[:, :2]
    vectors = np.column_stack([tracks.xy[shown, flattest], -apart[shown, flattest] @ backward.T])
    counts = seen.sum(axis=0)
    per_view = [float(column[there].mean()) if there.any() else np.nan for column, there in zip(length.T, seen.T, strict=True)]
    evidence = replace(
        evidence,
        residual_mean_px=evidence.residual_mean_px if evidence.residual_mean_px is not None else float(length[seen].mean()),
        residual_per_view_px=tuple(per_view),
        residual_vectors_px=tuple((float(x), float(y), float(dx), float(dy)) for x, y, dx, dy in vectors),
        positions_per_view=tuple(int(n) for n in counts),
        positions_lost_per_view=tuple(int(n) for n in len(tracks.xy) - counts),
        tracks_used=int(seen.any(axis=1).sum()),
    )
    try:
        solution, _ = case.solved(tracks, case.notes)
    except (StageError, np.linalg.LinAlgError):
        return evidence
    leave_out = solution.evidence.leave_out_px
    warnings = leave_out_warnings(leave_out, case.params.trust_limit_px)
    return replace(evidence, leave_out_px=leave_out, trust_warnings=(*evidence.trust_warnings, *warnings))


def _beads(case: _Case) -> _Reference:
    """Measure gold beads anew, starting from the alignment.

    Raises
    ------
    StageError
        If no gold is found, or too little to be trusted.
    """
    params, included = case.params, case.alignment.included
    result = track_beads(
        case.stack,
        case.alignment.transforms,
        case.alignment.tilt_deg,
        included,
        replace(params.beads, diameter_px=params.gold_nm * 10 / case.pixel_size_angstrom),
        threads=case.threads,
        progress=case.notes.progress,
    )
    if warnings := bead_warnings(result, included & result.placed):
        raise StageError(f"gold measured anew cannot be trusted: {'; '.join(warnings)}")
    return _of_tracks(case, result.tracks, "{} beads measured anew")


def _points(case: _Case) -> _Reference:
    """Adjust the points that the other program tracked.

    Raises
    ------
    StageError
        If they are too few.
    """
    if case.tracks is None:
        raise StageError("its points are not known")
    return _of_tracks(case, case.tracks, f"the {{}} {case.tracks.kind} tracks that it was made from")


def _patches(case: _Case) -> _Reference:
    """Track patches, starting from the alignment.

    Raises
    ------
    StageError
        If there are none, or their own error may exceed the limit.
    """
    result = track_patches(
        case.stack,
        case.alignment.transforms,
        case.alignment.tilt_deg,
        case.params.patches,
        included=case.alignment.included,
        threads=case.threads,
        progress=case.notes.progress,
    )
    if warnings := patch_warnings(result.error_px, result.error_limit_px, case.params.trust_limit_px):
        raise StageError("; ".join(warnings))
    params = replace(case.params, solve=replace(case.params.solve, weight_whole_tracks=True))
    reference = _of_tracks(replace(case, params=params), result.tracks, "{} patches of our own")
    return replace(reference, error_px=max(reference.error_px, result.error_px))


def _of_tracks(case: _Case, tracks: Tracks, named: str) -> _Reference:
    """Return the reference that an adjustment of tracks gives; braces in its name stand for the number of tracks."""
    told_before = tracks is case.tracks
    solution, kept = case.solved(tracks, None if told_before else case.notes)
    name = named.format(len(kept.xy))
    error = solution.evidence.error_px
    if error is None or not np.isfinite(error):
        raise StageError(f"{name} determine no error")
    ny, nx = case.image_shape
    places = field_points(solution.points[solution.used], (nx / 2, ny / 2))
    seen = project_solution(solution, places) - case.centre
    return _Reference(seen, float(error), name)


def _projections(case: _Case) -> _Reference:
    """Match the views with their projections, starting from the alignment.

    Raises
    ------
    StageError
        If the images do not determine the result.
    """
    found, included = case.alignment, case.alignment.included
    result = refine_by_projection(
        case.stack,
        found.transforms,
        found.tilt_deg,
        float(np.mean(geometry.axis_angles(found.transforms[included]))),
        included,
        case.params.refine,
        threads=case.threads,
        progress=case.notes.progress,
    )
    change = (result.tilt_deg - found.tilt_deg)[included]
    if warnings := match_warnings(result.recognised[included], result.error_px, change, np.inf):
        raise StageError(f"matching views with projections cannot be trusted: {'; '.join(warnings)}")
    matched = replace(found, transforms=result.transforms, tilt_deg=result.tilt_deg)
    places = specimen_points(case.image_shape, result.thickness_px)
    return _Reference(seen_by(matched, places), result.error_px, "matching all views with projections")
