"""The policy of an alignment: which method comes next, what is trusted, and whose result is used.

Coarse alignment always comes first.  The method asked for follows: gold beads, patches, or the matching of views with projections.
While the result raises a trust warning (too few beads, too large a leave-out error, ...) the next of the methods is tried
(:data:`tiltflow.align.methods.METHODS`).
The result without trust warnings and with the smallest estimated error is used; every attempt is kept in the evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow import geometry
from tiltflow.align.beads import FoundBeads
from tiltflow.align.coarse import CoarseResult
from tiltflow.align.cross_check import check_by_patches
from tiltflow.align.methods import BY_METHOD, METHODS, AlignParams, Method, Start, beads_of, place_coarsely
from tiltflow.align.patches.views_ahead import views_read_beside
from tiltflow.align.piece_weights import StitchedPieces
from tiltflow.beside import beside, left_of
from tiltflow.errors import ParameterError, StageError
from tiltflow.freed_memory import give_back_freed_memory
from tiltflow.model import Alignment, Evidence, Progress, Stack
from tiltflow.observer import SILENT, HeardStage, Observer, StageObserver
from tiltflow.preprocess.offset import without_offset
from tiltflow.preprocess.opaque_parts import without_opaque_parts

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Failed:
    """A method that could not be carried out, and why."""

    method: Method
    why: str


_SMALL_PX = 1 << 22
"""Pixels of views that are looked at beside the coarse alignment: with 1024 x 1024 that saves a twentieth of a run's time, with
4096 x 4096 nothing, and takes more memory."""
_OF_POOR_VIEWS = (StageError, np.linalg.LinAlgError)
"""What a method raises that the views do not suffice for."""


def align_views(
    stack: Stack,
    tilt_deg: ArrayLike,
    axis_angle_deg: float,
    pixel_size_angstrom: float,
    params: AlignParams | None = None,
    *,
    excluded: Mapping[int, str] | None = None,
    name: str = "the series",
    axis_told: bool = True,
    pieces: StitchedPieces | None = None,
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
    axis_told
        Whether a source gives the angle of the axis; if none does it is looked for all over half a turn.
    pieces
        How the views were stitched, if they are those of a montage.  Beads and patches then correct the places of the pieces
        (`pieces` of the result), and the estimated errors include what is uncertain of them.
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
    tilts, told_deg = np.asarray(tilt_deg, float), axis_angle_deg if axis_told else None
    included = np.ones(stack.shape[0], bool)
    for view in np.flatnonzero(geometry.edge_on(tilts)):
        excluded.setdefault(int(view), f"is tilted by {tilts[view]:g} degrees, too near to 90 to be stretched to zero tilt")
        observer.warn(f"view {view + 1} is left out: it {excluded[int(view)]}")
    included[list(excluded)] = False
    views = without_opaque_parts(without_offset(stack), included, threads=threads)
    if views.remark:
        observer.warn(views.remark)
    # Views are looked at one by one while they are placed, whose threads wait for each other; large ones, for which they do not, later.
    at_once = stack.shape[1] * stack.shape[2] <= _SMALL_PX
    gold, patches = methods[0] == "gold", methods[0] in {"patches", "projection"}
    everything = included.copy()

    def beads(progress: Progress) -> FoundBeads:
        if not at_once:
            give_back_freed_memory()  # large views do not fit between what the placing has left
        lent = left_of(threads) if at_once else threads
        return beads_of(views, tilts, pixel_size_angstrom, everything, params, lent, progress)

    with beside(beads, threads=threads if at_once and gold else 1) as found_beads:
        with views_read_beside(views, everything, params.patches, threads if at_once and patches else 1) as read:
            coarse = place_coarsely(views, tilts, axis_angle_deg, included, params, observer, threads, axis_told=axis_told)
            patch_views = None if coarse.lost else read()  # of fewer views others are read
        included[list(coarse.lost)] = False
        start = Start(views, tilts, pixel_size_angstrom, included, coarse, params, threads, pieces, found_beads, patch_views)
        outcomes = _Attempts(start, observer, name, told_deg).made(methods)
    if coarse.lattice is not None and (doubts := coarse.lattice.doubts()):
        # No method can tell lattice points apart that the correlation does not, so that others are not tried for it.
        observer.warn("; ".join(doubts))
        outcomes = [each if isinstance(each, _Failed) else _doubted(each, doubts) for each in outcomes]
    best = best_attempt([each for each in outcomes if isinstance(each, Alignment)])
    if best.method != params.method:
        observer.warn(f"aligned by {best.method} instead of {params.method}, as the fallback methods allow")
    evidence = replace(
        best.evidence,
        attempts=tuple(_logged(each) for each in outcomes),
        axis_angle_nominal_deg=told_deg,
        trust_warnings=(*best.evidence.trust_warnings, *axis_doubts(best.method, coarse)),
        excluded_views=_reasons(best, {**excluded, **coarse.lost}),
    )
    return replace(best, evidence=_with_shifts(evidence, best))


class _Attempts:
    """The attempts to align a series, by one method after the other.

    Parameters
    ----------
    start
        What every method starts from.
    observer
        Hears of every stage and every warning.
    name
        What messages call the series.
    told_deg
        Angle of the tilt axis that a source tells; None where none does.
    """

    def __init__(self, start: Start, observer: Observer, name: str, told_deg: float | None) -> None:
        self._start = start
        self._observer = observer
        self._name = name
        self._told_deg = told_deg

    def made(self, methods: Sequence[Method]) -> list[Alignment | _Failed]:
        """Return what came of each method, up to the first whose result can be trusted.

        Raises
        ------
        StageError
            If a method fails and there is no fallback.
        """
        outcomes: list[Alignment | _Failed] = []
        for method in methods:
            outcome = self._by_projection(outcomes) if method == "projection" else self._attempt(method)
            outcomes.append(outcome)
            if not (doubt := _doubt(outcome)):
                break
            self._observer.warn(doubt)
        return outcomes

    def _attempt(self, method: Method, start: Start | None = None) -> Alignment | _Failed:
        """Return what comes of a method; `start` if it is to have fewer threads."""
        try:
            with self._observer.stage(f"align: {method}") as notes:
                return self._carried_out(method, notes, start or self._start)
        except _OF_POOR_VIEWS as error:
            if not self._start.params.fallback:
                raise StageError(f"{self._name}: alignment by {method} failed: {_why(error)}") from error
            return _Failed(method, _why(error))

    def _carried_out(self, method: Method, notes: StageObserver, start: Start) -> Alignment:
        found = _against_lattice(BY_METHOD[method](start, notes), start.coarse)
        _note(notes, found.evidence)
        return found

    def _by_projection(self, outcomes: list[Alignment | _Failed]) -> Alignment | _Failed:
        """Return what comes of matching with projections, with the error that patches measure.

        Patches that were not tried before are tracked at the same time, and are among the outcomes then, if there is a fallback.
        """
        patches = next((each for each in outcomes if each.method == "patches"), None)
        if patches is None:
            threads = self._start.threads
            with beside(self._patches, threads=threads) as tracked:
                # Patches take longer, so that they have all threads: each waits for others half of the time.
                outcome = self._attempt("projection", replace(self._start, threads=left_of(threads)))
                if isinstance(outcome, _Failed):
                    return outcome
                patches = self._heard(tracked)
            if doubt := _doubt(patches):
                self._observer.warn(doubt)
            if self._start.params.fallback:
                outcomes.append(patches)
        else:
            outcome = self._attempt("projection")
            if isinstance(outcome, _Failed):
                return outcome
        measure = None if isinstance(patches, _Failed) else patches
        shape, limit_px = self._start.stack.shape[1:], self._start.params.trust_limit_px
        with self._observer.stage("check of the axis") as notes:
            outcome = check_by_patches(outcome, measure, shape, limit_px, notes, self._told_deg)
        if outcome.evidence.error_px is None:
            outcomes[:] = [_without_error(each) for each in outcomes]
        return outcome

    def _patches(self, progress: Progress) -> tuple[Alignment | _Failed, HeardStage]:
        """Return what comes of patches, and what is reported meanwhile."""
        heard = HeardStage(progress)
        try:
            return self._carried_out("patches", heard, self._start), heard
        except _OF_POOR_VIEWS as error:
            return _Failed("patches", _why(error)), heard

    def _heard(self, tracked: Callable[[Progress], tuple[Alignment | _Failed, HeardStage]]) -> Alignment | _Failed:
        """Return what comes of patches, as a stage of its own that takes as long as they are waited for."""
        outcome: Alignment | _Failed
        with suppress(StageError), self._observer.stage("align: patches to check") as notes:
            outcome, heard = tracked(notes.progress)
            heard.tell(notes)
            if isinstance(outcome, _Failed):
                raise StageError(outcome.why)  # so ends a stage that fails
        return outcome


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, StageError) else f"the images hold too little information for it ({error})"


def _logged(outcome: Alignment | _Failed) -> dict[str, Any]:
    if isinstance(outcome, _Failed):
        return {"method": outcome.method, "failed": outcome.why}
    evidence = outcome.evidence
    return {"method": outcome.method, **_figures(evidence), "trust_warnings": list(evidence.trust_warnings)}


def _doubt(outcome: Alignment | _Failed) -> str:
    """Return why the next method is tried; nothing where the result can be trusted."""
    if isinstance(outcome, _Failed):
        return f"alignment by {outcome.method} is not possible: {outcome.why}"
    warnings = outcome.evidence.trust_warnings
    return f"alignment by {outcome.method} cannot be trusted: {'; '.join(warnings)}" if warnings else ""


def _against_lattice(found: Alignment, coarse: CoarseResult) -> Alignment:
    """Return an alignment with a trust warning where it puts views a lattice spacing off."""
    if coarse.lattice is None:
        return found
    wrong = coarse.lattice.contradictions(found.transforms, found.tilt_deg, found.included)
    return _doubted(found, wrong) if wrong else found


def _doubted(found: Alignment, doubts: tuple[str, ...]) -> Alignment:
    """Return an alignment with more trust warnings, and without the errors that they make meaningless: no residual sees a jump."""
    evidence = found.evidence
    return replace(
        found,
        evidence=replace(
            evidence,
            error_px=None,
            leave_out_px=None,
            global_leave_out_px=None,
            trust_warnings=(*evidence.trust_warnings, *doubts),
        ),
    )


def _without_error(outcome: Alignment | _Failed) -> Alignment | _Failed:
    """Return patches that cannot be trusted without their error, where matching with projections does not recognise the views either."""
    if isinstance(outcome, _Failed) or outcome.method != "patches" or not outcome.evidence.trust_warnings:
        return outcome
    return replace(outcome, evidence=replace(outcome.evidence, error_px=None))


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


def axis_doubts(method: str, coarse: CoarseResult) -> tuple[str, ...]:
    """Return the doubt about the tilt axis that is left after an alignment; none where beads determine it."""
    return (coarse.axis_doubt,) if coarse.axis_doubt and method != "gold" else ()


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


def _reasons(alignment: Alignment, excluded: Mapping[int, str]) -> dict[int, str]:
    """Return why each view that the alignment leaves out takes no part."""
    reasons = {**excluded, **alignment.evidence.excluded_views}
    return {int(view): reasons.get(int(view), "holds nothing that was tracked") for view in np.flatnonzero(~alignment.included)}


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
