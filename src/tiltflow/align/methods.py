"""Each method of alignment, from a common start to an alignment with its evidence.

Gold beads and patches are tracked and solved by the same bundle adjustment; views are matched with projections; or the coarse alignment
is kept.  Which method is used is decided in :mod:`tiltflow.align.fallback`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.beads import BeadParams, FoundBeads, find_beads, track_beads
from tiltflow.align.beads import trust_warnings as bead_warnings
from tiltflow.align.bundle import Solution, SolveParams, solve
from tiltflow.align.coarse import CoarseParams, CoarseResult, align_coarse
from tiltflow.align.patches import PatchParams, track_patches
from tiltflow.align.patches.views_ahead import PatchViews
from tiltflow.align.piece_weights import StitchedPieces
from tiltflow.align.projection import RefineParams, RefineResult, refine_by_projection
from tiltflow.align.projection import trust_warnings as match_warnings
from tiltflow.align.projection.uncertainty import unrecognised
from tiltflow.model import Alignment, Evidence, PieceShifts, Progress, Stack, Tracks
from tiltflow.observer import Observer, StageObserver

Floats = NDArray[np.float64]

Method = Literal["gold", "patches", "projection", "coarse"]
"""How views are aligned: by gold beads, by patches of texture, by matching with projections (markerless), or coarsely."""
METHODS: tuple[Method, ...] = ("gold", "patches", "projection", "coarse")
"""The methods in the order in which they are fallen back to: the most accurate first."""
_FEWEST_HEIGHTS = 5
"""Tracks from which on one may be called far from the others."""
_WILD, _WILD_FIELD, _SD_OF_MEDIAN = 6.0, 0.25, 1.4826
"""A height is wild beyond so many robust standard deviations and beyond this fraction of the field's smaller side (thick sections are a
fifth of it); and the ratio of the standard deviation to the median deviation of normal errors."""
_LEVEL, _SURFACE = 0.05, 0.2
"""Heights that differ by less than this fraction of the field's smaller side are one level, and a surface of the specimen is a level with
this share of all tracks, and two at least: wild ones do not agree with each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignParams:
    """How a series is aligned.

    Attributes
    ----------
    method
        The method that is tried first.
    fallback
        Whether the methods after it are tried while a result cannot be trusted.
    trust_limit_px
        Error, raw pixels, beyond which an alignment is not trusted.  One pixel: what blurs by less cannot be seen in a tomogram
        at full resolution, and verdicts call an alignment poor beyond it.
    gold_nm
        Diameter of the gold beads, nm; :attr:`beads` has its diameter set from it.
    coarse, beads, patches, refine, solve
        Parameters of each method, and of the bundle adjustment that beads and patches share.
    """

    method: Method = "gold"
    fallback: bool = True
    trust_limit_px: float = 1.0
    gold_nm: float = 10.0
    coarse: CoarseParams = field(default_factory=CoarseParams)
    beads: BeadParams = field(default_factory=lambda: BeadParams(diameter_px=1.0))
    patches: PatchParams = field(default_factory=PatchParams)
    refine: RefineParams = field(default_factory=RefineParams)
    solve: SolveParams = field(default_factory=SolveParams)


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """What every method starts from.  Views that the coarse alignment does not recognise are not `included`.

    `pieces` says how the views were stitched, if they are those of a montage.  `beads` gives what is found of the beads in every view
    that may be used, for the method that tracks them, and raises what :func:`beads_of` does; `patch_views` are the views that patches
    are cut from, if they are read already.
    """

    stack: Stack
    tilt_deg: Floats
    pixel_size_angstrom: float
    included: NDArray[np.bool_]
    coarse: CoarseResult
    params: AlignParams
    threads: int
    pieces: StitchedPieces | None = None
    beads: Callable[[Progress], FoundBeads] | None = None
    patch_views: PatchViews | None = None


def place_coarsely(
    stack: Stack,
    tilts: Floats,
    axis_angle_deg: float,
    included: NDArray[np.bool_],
    params: AlignParams,
    observer: Observer,
    threads: int,
    *,
    axis_told: bool = True,
) -> CoarseResult:
    """Return the coarse alignment, which every method starts from."""
    with observer.stage("coarse alignment") as notes:
        result = align_coarse(
            stack,
            tilts,
            axis_angle_deg,
            included,
            params.coarse,
            axis_told=axis_told,
            threads=threads,
            progress=notes.progress,
        )
        notes.number("axis_angle", result.axis_angle_deg, "deg")
        notes.number("axis_angle_from_data", result.axis_angle_from_data_deg, "deg")
        if axis_told:
            notes.number("axis_angle_nominal", result.axis_angle_nominal_deg, "deg")
        notes.number("median_correlation", float(np.nanmedian(result.correlation)))
        for text in result.notes:
            notes.warn(text)
    return result


def beads_of(
    stack: Stack,
    tilts: Floats,
    pixel_size_angstrom: float,
    included: NDArray[np.bool_],
    params: AlignParams,
    threads: int,
    progress: Progress,
) -> FoundBeads:
    """Return what is found of the beads without knowing how the views lie, so that it can be looked for beside the coarse alignment.

    Raises
    ------
    StageError
        If there can be no beads of that diameter.
    """
    return find_beads(stack, tilts, included, _bead_params(params, pixel_size_angstrom), threads=threads, progress=progress)


def _bead_params(params: AlignParams, pixel_size_angstrom: float) -> BeadParams:
    return replace(params.beads, diameter_px=params.gold_nm * 10 / pixel_size_angstrom)


def _gold(start: Start, notes: StageObserver) -> Alignment:
    """Track gold beads, and solve for the geometry that their positions determine.

    Beads may place a view that the coarse alignment does not recognise.
    """
    included = start.included.copy()
    included[list(start.coarse.lost)] = True
    start = replace(start, included=included)
    result = track_beads(
        start.stack,
        start.coarse.transforms,
        start.tilt_deg,
        start.included,
        _bead_params(start.params, start.pixel_size_angstrom),
        found=start.beads,
        threads=start.threads,
        progress=notes.progress,
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
    without_beads = {int(view): "holds too few beads to be placed" for view in np.flatnonzero(start.included & ~included)}
    if without_beads:
        notes.warn(f"left out, as too few beads are seen there to place it: {listed(sorted(without_beads))}")
    found = _solved(replace(start, included=included), "gold", result.tracks, start.params.solve, notes)
    # A patch drifts by more than the alignment is off, so that a leave-out error warns where beads are tracked only.
    warnings = (
        *bead_warnings(result, included),
        *leave_out_warnings(found.evidence.leave_out_px, start.params.trust_limit_px),
    )
    evidence = replace(
        found.evidence,
        trust_warnings=warnings,
        excluded_views=without_beads,
        rejected=dict(result.rejected),
        positions_expected=int(result.expected[:, included].sum()),
    )
    return replace(found, evidence=evidence)


def _patches(start: Start, notes: StageObserver) -> Alignment:
    """Track patches of texture, and solve for the geometry that all of them determine together."""
    result = track_patches(
        start.stack,
        start.coarse.transforms,
        start.tilt_deg,
        start.params.patches,
        included=start.included,
        in_place=start.coarse.lattice is not None,
        views=start.patch_views,
        threads=start.threads,
        progress=notes.progress,
    )
    notes.number("median_correlation", float(np.nanmedian(result.correlation)))
    notes.number("error_limit", result.error_limit_px, "px")
    for text in result.notes:
        notes.note(text)
    found = _solved(start, "patches", result.tracks, replace(start.params.solve, tilt_drift=False, weight_whole_tracks=True), notes)
    # The solution takes the likelihood at its word; the patches left out in turn do not, but know nothing of pieces.
    placement_px = found.pieces.error_px if found.pieces else 0.0
    jackknife_px, limit_px = (float(np.hypot(each, placement_px)) for each in (result.error_px, result.error_limit_px))
    error_px = max(jackknife_px, found.evidence.error_px or 0.0)
    if start.coarse.place_doubt:
        return _doubted(found, start.coarse.place_doubt)
    warnings = patch_warnings(jackknife_px, limit_px, start.params.trust_limit_px)
    return replace(found, evidence=replace(found.evidence, error_px=error_px, trust_warnings=warnings))


def _projection(start: Start, notes: StageObserver) -> Alignment:
    """Match every view with the projection that the others predict of it."""
    result, lost = _matched(start, notes)
    start = replace(start, included=start.included & ~np.isnan(result.recognised))
    notes.number("iterations", result.iterations)
    for text in result.notes:
        notes.note(text)
    notes.number("recognised", float(np.nanmedian(result.recognised)), "sd")
    used = start.included
    change_deg = (result.tilt_deg - start.tilt_deg)[used]
    warnings = match_warnings(result.recognised[used], result.error_px, change_deg, start.params.trust_limit_px)
    # Of views that may be anywhere no estimate of the error counts.
    error_px = None if unrecognised(result.recognised[used]) else _claimed(result.error_px, start)
    found = Alignment(
        transforms=result.transforms,
        tilt_deg=result.tilt_deg,
        included=start.included,
        method="projection",
        evidence=Evidence(
            error_px=error_px,
            trust_warnings=warnings,
            axis_angle_from_data_deg=result.axis_angle_deg,
            correlation_per_view=tuple(result.correlation.tolist()),
            excluded_views=lost,
            notes=result.notes,
        ),
    )
    return _doubted(found, start.coarse.place_doubt) if start.coarse.place_doubt else found


def _claimed(error_px: float, start: Start) -> float:
    """Return an error with that of the placement of pieces, which a method without tracks neither sees nor corrects."""
    return error_px if start.pieces is None else start.pieces.claimed_error(error_px, start.included)


def _doubted(found: Alignment, doubt: str) -> Alignment:
    """Return an alignment without an estimate of its error, and with a doubt first among its trust warnings."""
    return replace(found, evidence=replace(found.evidence, error_px=None, trust_warnings=(doubt, *found.evidence.trust_warnings)))


def _matched(start: Start, notes: StageObserver) -> tuple[RefineResult, dict[int, str]]:
    """Return the views matched with their projections, without those that are recognised nowhere, and the reasons for these."""

    def matched(included: NDArray[np.bool_]) -> RefineResult:
        return refine_by_projection(
            start.stack,
            start.coarse.transforms,
            start.tilt_deg,
            start.coarse.axis_angle_deg,
            included,
            start.params.refine,
            threads=start.threads,
            progress=notes.progress,
        )

    result = matched(start.included)
    if start.coarse.lattice is not None or not result.lost:  # the peaks of a lattice are no higher than others
        return result, {}
    lost = dict(result.lost)
    notes.warn("left out, as " + "; ".join(f"view {view + 1} {reason}" for view, reason in lost.items()))
    included = start.included.copy()
    included[list(lost)] = False
    return matched(included), lost


def _coarse_only(start: Start, notes: StageObserver) -> Alignment:
    """Keep the coarse alignment, whose error is not measured."""
    notes.note("the coarse alignment is used as it is")
    return Alignment(
        transforms=start.coarse.transforms,
        tilt_deg=start.tilt_deg.copy(),
        included=start.included,
        method="coarse",
        evidence=Evidence(
            trust_warnings=("it is the coarse alignment alone, whose error is not measured",),
            axis_angle_from_data_deg=start.coarse.axis_angle_from_data_deg,
            correlation_per_view=tuple(start.coarse.correlation.tolist()),
        ),
    )


BY_METHOD: Mapping[Method, Callable[[Start, StageObserver], Alignment]] = {
    "gold": _gold,
    "patches": _patches,
    "projection": _projection,
    "coarse": _coarse_only,
}
"""What carries each method out."""


def _solved(start: Start, method: Method, tracks: Tracks, params: SolveParams, notes: StageObserver) -> Alignment:
    shape = (start.stack.shape[1], start.stack.shape[2])

    def solved(kept: Tracks) -> Solution:
        axis = start.coarse.axis_angle_deg
        return solve(kept, start.tilt_deg, axis, params, image_shape=shape, included=start.included, pieces=start.pieces)

    solution, tracks = solve_without_wild(tracks, solved, shape, notes)
    for text in solution.evidence.notes:
        notes.note(text)
    if solution.slope:
        notes.warn(solution.slope)
    if start.pieces is not None and solution.pieces is not None:
        tracks = _stitched_anew(tracks, start.pieces, solution.pieces, notes)
    evidence = replace(solution.evidence, error_px=solution.evidence.error_px or solution.evidence.leave_out_px)
    return replace(solution.alignment(method), evidence=evidence, tracks=tracks, track_weights=solution.weights)


def _stitched_anew(tracks: Tracks, pieces: StitchedPieces, shifts: PieceShifts, notes: StageObserver) -> Tracks:
    """Return tracks as they are seen once the pieces are moved by their shifts; what was found is told."""
    for text in shifts.notes:
        notes.note(text)
    for text in shifts.warnings:
        notes.warn(text)
    notes.number("placement_error", shifts.error_px, "px")
    size = None if tracks.size_px is None else tracks.size_px[:, None]
    return replace(tracks, xy=pieces.corrected_positions(tracks.xy, shifts, size))


def solve_without_wild(
    tracks: Tracks, solved: Callable[[Tracks], Solution], image_shape: tuple[int, int], notes: StageObserver | None
) -> tuple[Solution, Tracks]:
    """Return a bundle adjustment and its tracks without those that lie where no specimen can be (:func:`wild_heights`).

    Parameters
    ----------
    tracks
        All tracks; where some are wild, the others are solved once more.
    solved
        Returns the bundle adjustment of the tracks that it is given.
    image_shape
        `(ny, nx)` of the raw views.
    notes
        Hears how many tracks were left out.
    """
    solution = solved(tracks)
    wild = wild_heights(solution.points[:, 2], image_shape)
    if not wild.any():
        return solution, tracks
    if notes is not None:
        notes.note(f"left out, as they lie far above or below the others: {int(wild.sum())} of {len(wild)} tracks")
    kept = tracks.without(wild)
    return solved(kept), kept


def wild_heights(heights: Floats, image_shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the tracks, `(tracks,)`, that lie where no specimen can be: far from the others, and more than a quarter of the field.

    Such a track has a long lever on the tilts, which bend until it fits, so that its residual does not give it away.  Tracks that share
    a level with others lie on a surface, although more may lie on the other one.
    """
    known = ~np.isnan(heights)
    if known.sum() < _FEWEST_HEIGHTS:
        return np.zeros(len(heights), bool)
    away = np.abs(heights - np.median(heights[known]))
    spread = _SD_OF_MEDIAN * float(np.median(away[known]))
    level = (np.abs(heights[:, None] - heights) < _LEVEL * min(image_shape)).sum(axis=1)
    lonely = level < max(2, _SURFACE * known.sum())
    return np.asarray(known & lonely & (away > max(_WILD * spread, _WILD_FIELD * min(image_shape))))


def leave_out_warnings(leave_out_px: float | None, limit_px: float) -> tuple[str, ...]:
    """Return a trust warning if the leave-out error is known and beyond a limit, raw pixels.

    >>> leave_out_warnings(1.31, 1.0)
    ('the leave-out error is 1.31 px, more than 1 px',)
    >>> leave_out_warnings(0.4, 1.0)
    ()
    """
    if leave_out_px is None or not leave_out_px > limit_px:
        return ()
    return (f"the leave-out error is {leave_out_px:.2f} px, more than {limit_px:g} px",)


def patch_warnings(error_px: float, error_limit_px: float, limit_px: float) -> tuple[str, ...]:
    """Return a trust warning if the error of an alignment by patches may exceed a limit, raw pixels.

    Parameters
    ----------
    error_px, error_limit_px
        Estimated error, and the upper end of its confidence interval (:mod:`tiltflow.align.patches.jackknife`).
    """
    if error_limit_px <= limit_px:
        return ()
    estimate = f"patches estimate the alignment error at {error_px:.2f} px and cannot exclude {error_limit_px:.2f} px"
    return (f"{estimate}: more than {limit_px:g} px",)


def listed(views: Sequence[int]) -> str:
    """Return views, counted from 0 and in order, as ranges counted from 1.

    >>> listed([2, 6, 7, 8])
    'view 3, views 7-9'
    """
    return ", ".join(f"view {first + 1}" if first == last else f"views {first + 1}-{last + 1}" for first, last in _ranges(views))


def _ranges(views: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last of every run of consecutive numbers."""
    first = last = None
    for view in views:
        if last is not None and view == last + 1:
            last = view
            continue
        if first is not None and last is not None:
            yield first, last
        first = last = view
    if first is not None and last is not None:
        yield first, last
