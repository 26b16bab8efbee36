"""From raw views to an alignment that can be trusted, or to the best there is with the reasons for doubt.

Coarse alignment always comes first.  The method asked for follows: gold, patches, or matching views with projections of the
others.  When it cannot be trusted (too few beads, too large an error on points it has not seen), the next one down the ladder is
tried; every attempt is recorded with its figures and the best is used.  A site can switch the ladder off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiltflow.engines.alignment_files import write_tracks
from tiltflow.engines.base import EngineJob
from tiltflow.errors import StageError
from tiltflow.model import Alignment, Evidence, Stack
from tiltflow.record import StageNotes
from tiltflow.stages.beads import doubts as bead_doubts
from tiltflow.stages.beads import track_beads
from tiltflow.stages.coarse import CoarseResult, align_coarse
from tiltflow.stages.patches import track_patches
from tiltflow.stages.refine import refine_by_projection
from tiltflow.stages.solve import Solution, solve

LADDER = ("gold", "patches", "projection", "coarse")
"""The methods, the most accurate first."""

_COARSE_ERROR_PX = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class _Start:
    """What every method starts from."""

    stack: Stack
    included: NDArray[np.bool_]
    coarse: CoarseResult


def align_series(job: EngineJob, stack: Stack, included: NDArray[np.bool_]) -> Alignment:
    """Return the alignment of a series by the method that the recipe asks for, or by the next one that can be trusted.

    Raises
    ------
    StageError
        If the method asked for fails and the ladder is switched off.
    """
    start = _Start(stack, included, _coarse(job, stack, included))
    attempts: list[Alignment] = []
    log: list[dict[str, Any]] = []
    for method in _rungs(job):
        try:
            with job.recorder.stage(f"align: {method}") as notes:
                found = _METHODS[method](job, start, notes)
                _note(notes, found.evidence)
        except StageError as error:
            if not job.recipe.ladder:
                raise
            job.recorder.warn(f"alignment by {method} is not possible: {error}")
            log.append({"method": method, "failed": str(error)})
            continue
        attempts.append(found)
        log.append({"method": method, **_figures(found.evidence), "doubts": list(found.evidence.doubts)})
        if not found.evidence.doubts:
            break
        job.recorder.warn(f"alignment by {method} is in doubt: {'; '.join(found.evidence.doubts)}")
    best = min(attempts, key=_rank)
    if best.method != job.recipe.method:
        job.recorder.warn(f"aligned by {best.method} instead of {job.recipe.method}, as the ladder has it")
    evidence = replace(best.evidence, attempts=tuple(log), axis_angle_nominal_deg=job.series.axis_angle_deg)
    return replace(best, evidence=_with_shifts(evidence, best))


def _rungs(job: EngineJob) -> tuple[str, ...]:
    asked = LADDER.index(job.recipe.method)
    return LADDER[asked:] if job.recipe.ladder else LADDER[asked : asked + 1]


def _rank(alignment: Alignment) -> tuple[bool, float]:
    error = alignment.evidence.error_px
    return bool(alignment.evidence.doubts), np.inf if error is None or np.isnan(error) else error


def _coarse(job: EngineJob, stack: Stack, included: NDArray[np.bool_]) -> CoarseResult:
    with job.recorder.stage("coarse alignment") as notes:
        result = align_coarse(
            stack,
            job.series.tilt_deg,
            job.series.axis_angle_deg,
            included,
            job.recipe.coarse,
            threads=job.site.threads,
            progress=lambda fraction: job.progress("coarse alignment", fraction),
        )
        notes.number("axis_angle", result.axis_angle_deg, "deg")
        notes.number("axis_angle_from_data", result.axis_angle_from_data_deg, "deg")
        notes.number("axis_angle_nominal", result.axis_angle_nominal_deg, "deg")
        notes.number("median_correlation", float(np.nanmedian(result.correlation)))
        for text in result.notes:
            notes.warn(text)
    return result
