"""The policy of an alignment: which method comes next, what is trusted, and whose result is used.

Coarse alignment always comes first.  The method asked for follows: gold beads, patches, or the matching of views with projections.
While the result raises a trust warning (too few beads, too large a leave-out error, ...) the next of :data:`METHODS` is tried.
The result without trust warnings and with the smallest estimated error is used; every attempt is kept in the evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.align.beads import BeadParams, track_beads
from tiltflow.align.beads import trust_warnings as bead_warnings
from tiltflow.align.bundle import Solution, SolveParams, solve
from tiltflow.align.coarse import CoarseParams, CoarseResult, align_coarse
from tiltflow.align.cross_check import AXIS_SD_DEG, axis_error_px, distance_px
from tiltflow.align.patches import PatchParams, track_patches
from tiltflow.align.projection import RefineParams, refine_by_projection
from tiltflow.align.projection import trust_warnings as match_warnings
from tiltflow.align.projection.uncertainty import unrecognised
from tiltflow.errors import ParameterError, StageError
from tiltflow.model import Alignment, Evidence, Stack, Tracks
from tiltflow.observer import SILENT, Observer, StageObserver
from tiltflow.preprocess.offset import without_offset

Floats = NDArray[np.float64]

Method = Literal["gold", "patches", "projection", "coarse"]
"""How views are aligned: by gold beads, by patches of texture, by matching with projections (markerless), or coarsely."""

_FEWEST_HEIGHTS = 5
"""Tracks from which on one may be called far from the others."""
_WILD, _WILD_FIELD, _SD_OF_MEDIAN = 6.0, 0.25, 1.4826
"""A height is wild beyond so many robust standard deviations and beyond this fraction of the field's smaller side (thick sections are a
fifth of it); and the ratio of the standard deviation to the median deviation of normal errors."""
_CHECKED_THICKNESS = 0.2
"""Thickness of the specimen over which alignments are compared, as a fraction of the field's smaller side: that of a thick section."""
METHODS: tuple[Method, ...] = ("gold", "patches", "projection", "coarse")
"""The methods in the order in which they are fallen back to: the most accurate first."""


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
class _Start:
    """What every method starts from."""

    stack: Stack
    tilt_deg: Floats
    pixel_size_angstrom: float
    included: NDArray[np.bool_]
    coarse: CoarseResult
    params: AlignParams
    threads: int


def align_views(
    stack: Stack,
    tilt_deg: ArrayLike,
    axis_angle_deg: float,
    pixel_size_angstrom: float,
    params: AlignParams | None = None,
    *,
    excluded: Mapping[int, str] | None = None,
    name: str = "the series",
    observer: Observer = SILENT,
    threads: int = 1,
) -> Alignment:
    """Return the alignment of a series by the method asked for, or by the next one whose result can be trusted.

    Parameters
    ----------
    stack
        The views, `(view, y, x)`, first row at the bottom, x-ray hits repaired.
    tilt_deg
        Nominal tilt of each view, degrees, `(views,)`.
    axis_angle_deg
        Nominal angle of the tilt axis from y, degrees, counter-clockwise positive.
    pixel_size_angstrom
        Size of a raw pixel, Å.
    params
        What is asked for.
    excluded
        Views that take no part, counted from 0, with the reason.
    name
        What messages call the series.
    observer
        Hears of every stage and every warning.
    threads
        Threads to use.

    Returns
    -------
    Alignment
        With its evidence: residuals, leave-out error, estimated error, trust warnings, and the figures of every attempt.

    Raises
    ------
    StageError
        If the method asked for fails and there is no fallback, or if every method fails.
    ParameterError
        If there is no such method.
    """
    params = params or AlignParams()
    excluded = dict(excluded or {})
    methods = methods_to_try(params.method, fallback=params.fallback)
    tilts, stack = np.asarray(tilt_deg, float), without_offset(stack)
    included = np.ones(stack.shape[0], bool)
    included[list(excluded)] = False
    coarse = _coarse(stack, tilts, axis_angle_deg, included, params, observer, threads)
    start = _Start(stack, tilts, pixel_size_angstrom, included, coarse, params, threads)
    attempts: list[Alignment] = []
    log: list[dict[str, Any]] = []
    for method in methods:
        try:
            with observer.stage(f"align: {method}") as notes:
                found = _BY_METHOD[method](start, notes)
                _note(notes, found.evidence)
        except (StageError, np.linalg.LinAlgError) as error:
            why = str(error) if isinstance(error, StageError) else f"the images hold too little information for it ({error})"
            if not params.fallback:
                raise StageError(f"{name}: alignment by {method} failed: {why}") from error
            observer.warn(f"alignment by {method} is not possible: {why}")
            log.append({"method": method, "failed": why})
            continue
        if method == "projection":
            patches = next((each for each in attempts if each.method == "patches"), None)
            tried = patches is not None or any(each["method"] == "patches" for each in log)
            made = None if tried else _patches_to_check(start, observer)
            with observer.stage("check of the axis") as notes:
                found = check_by_patches(found, patches or made, stack.shape[1:], params.trust_limit_px, notes)
            if made is not None and params.fallback:
                attempts.append(made)
                log.append(_logged(made))
            if found.evidence.error_px is None:
                attempts = [_without_error(each) for each in attempts]
        attempts.append(found)
        log.append(_logged(found))
        if not found.evidence.trust_warnings:
            break
        observer.warn(f"alignment by {method} cannot be trusted: {'; '.join(found.evidence.trust_warnings)}")
    best = best_attempt(attempts)
    if best.method != params.method:
        observer.warn(f"aligned by {best.method} instead of {params.method}, as the fallback methods allow")
    evidence = replace(
        best.evidence,
        attempts=tuple(log),
        axis_angle_nominal_deg=axis_angle_deg,
        excluded_views=_reasons(best, excluded),
    )
    return replace(best, evidence=_with_shifts(evidence, best))


def _logged(found: Alignment) -> dict[str, Any]:
    return {"method": found.method, **_figures(found.evidence), "trust_warnings": list(found.evidence.trust_warnings)}


def _without_error(attempt: Alignment) -> Alignment:
    """Return an attempt that cannot be trusted without its error, where matching with projections does not recognise the views either."""
    if attempt.method != "patches" or not attempt.evidence.trust_warnings:
        return attempt
    return replace(attempt, evidence=replace(attempt.evidence, error_px=None))


def _patches_to_check(start: _Start, observer: Observer) -> Alignment | None:
    """Return an alignment by patches that a markerless one is measured by; None where patches cannot be tracked."""
    try:
        with observer.stage("align: patches to check") as notes:
            return _BY_METHOD["patches"](start, notes)
    except (StageError, np.linalg.LinAlgError) as error:
        observer.warn(f"the tilt axis of the markerless alignment is not confirmed by patches: {error}")
        return None


def check_by_patches(
    found: Alignment, patches: Alignment | None, image_shape: tuple[int, ...], limit_px: float, notes: StageObserver
) -> Alignment:
    """Return a markerless alignment with the error that patches measure; without patches, with that of an uncertain tilt axis.

    Parameters
    ----------
    found
        The alignment.
    patches
        Another of the same series, by patches; one with trust warnings measures nothing.
    image_shape
        `(ny, nx)` of the raw views.
    limit_px
        Largest error without a warning, raw pixels.
    notes
        Hears of the distance and of the reason.
    """
    own_px, thickness = found.evidence.error_px, _CHECKED_THICKNESS * min(image_shape)
    shape = (image_shape[0], image_shape[1])
    if own_px is None or np.isnan(own_px):
        return found
    theirs_px = patches.evidence.error_px if patches is not None and not patches.evidence.trust_warnings else None
    if patches is None or theirs_px is None:
        error_px = float(np.hypot(own_px, axis_error_px(found, shape, thickness)))
        said = f"no patches confirm the tilt axis, which may be off by {AXIS_SD_DEG:g} degrees"
    else:
        apart = distance_px(found, patches, shape, thickness)
        error_px = float(np.hypot(apart, theirs_px))
        notes.number("distance_from_patches", apart, "px")
        said = f"patches measure its error: it is {apart:.2f} px from them, and their own error is {theirs_px:.2f} px"
    notes.note(said)
    warnings = found.evidence.trust_warnings
    if error_px > limit_px >= own_px:
        warnings = (*warnings, f"{said}: {error_px:.2f} px in all, more than {limit_px:g} px")
    evidence = replace(found.evidence, error_px=error_px, trust_warnings=warnings, notes=(*found.evidence.notes, said))
    return replace(found, evidence=evidence)


def methods_to_try(asked: str, *, fallback: bool) -> tuple[Method, ...]:
    """Return the methods in the order in which they are tried.

    Raises
    ------
    ParameterError
        If there is no such method.

    >>> methods_to_try("patches", fallback=True)
    ('patches', 'projection', 'coarse')
    >>> methods_to_try("patches", fallback=False)
    ('patches',)
    """
    if asked not in METHODS:
        raise ParameterError(f"There is no alignment method {asked!r}: choose {', '.join(METHODS[:-1])} or {METHODS[-1]}")
    first = METHODS.index(asked)
    return METHODS[first:] if fallback else METHODS[first : first + 1]


def best_attempt(attempts: Sequence[Alignment]) -> Alignment:
    """Return the alignment to use: any without trust warnings before any with, then the smallest estimated error.

    An attempt whose error is not known (None or NaN) comes after those whose error is; of equals the earlier one is taken, as
    methods are tried in the order of their accuracy.

    Raises
    ------
    StageError
        If there is no attempt.
    """
    if not attempts:
        raise StageError("No method could align the views: see the warnings above for the reason of each")

    def rank(alignment: Alignment) -> tuple[bool, float]:
        error = alignment.evidence.error_px
        return bool(alignment.evidence.trust_warnings), np.inf if error is None or np.isnan(error) else error

    return min(attempts, key=rank)


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


def _reasons(alignment: Alignment, excluded: Mapping[int, str]) -> dict[int, str]:
    """Return why each view that the alignment leaves out takes no part."""
    reasons = {**excluded, **alignment.evidence.excluded_views}
    return {int(view): reasons.get(int(view), "holds nothing that was tracked") for view in np.flatnonzero(~alignment.included)}


def _coarse(
    stack: Stack,
    tilts: Floats,
    axis_angle_deg: float,
    included: NDArray[np.bool_],
    params: AlignParams,
    observer: Observer,
    threads: int,
) -> CoarseResult:
    with observer.stage("coarse alignment") as notes:
        result = align_coarse(stack, tilts, axis_angle_deg, included, params.coarse, threads=threads, progress=notes.progress)
        notes.number("axis_angle", result.axis_angle_deg, "deg")
        notes.number("axis_angle_from_data", result.axis_angle_from_data_deg, "deg")
        notes.number("axis_angle_nominal", result.axis_angle_nominal_deg, "deg")
        notes.number("median_correlation", float(np.nanmedian(result.correlation)))
        for text in result.notes:
            notes.warn(text)
    return result


def _gold(start: _Start, notes: StageObserver) -> Alignment:
    """Track gold beads, and solve for the geometry that their positions determine."""
    diameter_px = start.params.gold_nm * 10 / start.pixel_size_angstrom
    result = track_beads(
        start.stack,
        start.coarse.transforms,
        start.tilt_deg,
        start.included,
        replace(start.params.beads, diameter_px=diameter_px),
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
    return replace(
        found,
        evidence=replace(found.evidence, trust_warnings=warnings, excluded_views=without_beads, rejected=dict(result.rejected)),
    )


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


def _patches(start: _Start, notes: StageObserver) -> Alignment:
    """Track patches of texture, and solve for the geometry that all of them determine together."""
    result = track_patches(
        start.stack,
        start.coarse.transforms,
        start.tilt_deg,
        start.params.patches,
        included=start.included,
        threads=start.threads,
        progress=notes.progress,
    )
    notes.number("median_correlation", float(np.nanmedian(result.correlation)))
    notes.number("error_limit", result.error_limit_px, "px")
    for text in result.notes:
        notes.note(text)
    found = _solved(start, "patches", result.tracks, replace(start.params.solve, weight_whole_tracks=True), notes)
    # The solution takes the likelihood at its word; the patches left out in turn do not.
    error_px = max(result.error_px, found.evidence.error_px or 0.0)
    warnings = patch_warnings(result.error_px, result.error_limit_px, start.params.trust_limit_px)
    return replace(found, evidence=replace(found.evidence, error_px=error_px, trust_warnings=warnings))


def _solved(start: _Start, method: Method, tracks: Tracks, params: SolveParams, notes: StageObserver) -> Alignment:
    shape = (start.stack.shape[1], start.stack.shape[2])

    def solved(kept: Tracks) -> Solution:
        axis = start.coarse.axis_angle_deg
        return solve(kept, start.tilt_deg, axis, params, image_shape=shape, included=start.included)

    solution, tracks = solve_without_wild(tracks, solved, shape, notes)
    for text in solution.evidence.notes:
        notes.note(text)
    evidence = replace(solution.evidence, error_px=solution.evidence.error_px or solution.evidence.leave_out_px)
    return replace(solution.alignment(method), evidence=evidence, tracks=tracks, track_weights=solution.weights)


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

    Such a track has a long lever on the tilts, which bend until it fits, so that its residual does not give it away.
    """
    known = ~np.isnan(heights)
    if known.sum() < _FEWEST_HEIGHTS:
        return np.zeros(len(heights), bool)
    away = np.abs(heights - np.median(heights[known]))
    spread = _SD_OF_MEDIAN * float(np.median(away[known]))
    return np.asarray(known & (away > max(_WILD * spread, _WILD_FIELD * min(image_shape))))


def _projection(start: _Start, notes: StageObserver) -> Alignment:
    """Match every view with the projection that the others predict of it."""
    result = refine_by_projection(
        start.stack,
        start.coarse.transforms,
        start.tilt_deg,
        start.coarse.axis_angle_deg,
        start.included,
        start.params.refine,
        threads=start.threads,
        progress=notes.progress,
    )
    notes.number("iterations", result.iterations)
    for text in result.notes:
        notes.note(text)
    notes.number("recognised", float(np.nanmedian(result.recognised)), "sd")
    used = start.included
    change_deg = (result.tilt_deg - start.tilt_deg)[used]
    warnings = match_warnings(result.recognised[used], result.error_px, change_deg, start.params.trust_limit_px)
    # Of views that may be anywhere no estimate of the error counts.
    error_px = None if unrecognised(result.recognised[used]) else result.error_px
    return Alignment(
        transforms=result.transforms,
        tilt_deg=result.tilt_deg,
        included=start.included,
        method="projection",
        evidence=Evidence(
            error_px=error_px,
            trust_warnings=warnings,
            axis_angle_from_data_deg=result.axis_angle_deg,
            correlation_per_view=tuple(result.correlation.tolist()),
            notes=result.notes,
        ),
    )


def _coarse_only(start: _Start, notes: StageObserver) -> Alignment:
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


_BY_METHOD: Mapping[Method, Callable[[_Start, StageObserver], Alignment]] = {
    "gold": _gold,
    "patches": _patches,
    "projection": _projection,
    "coarse": _coarse_only,
}


def _figures(evidence: Evidence) -> dict[str, Any]:
    """Return the single numbers of the evidence that are known."""
    return {name: value for name, value in asdict(evidence).items() if isinstance(value, (int, float)) and not np.isnan(value)}


def _note(notes: StageObserver, evidence: Evidence) -> None:
    for name, value in _figures(evidence).items():
        stem, _, unit = name.rpartition("_")
        notes.number(stem if unit in {"px", "deg"} else name, value, unit if unit in {"px", "deg"} else "")


def _with_shifts(evidence: Evidence, alignment: Alignment) -> Evidence:
    """Add how far the views were moved: a view that was shifted far has little in common with the others."""
    shifts = np.hypot(*alignment.transforms[alignment.included, :, 2].T)
    return replace(evidence, shift_rms_px=float(np.sqrt(np.mean(shifts**2))), shift_max_px=float(shifts.max()))
