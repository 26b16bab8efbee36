"""The work of the engines on a series: the one that was chosen and, where the policy hands over, a second one.

The second engine works in a folder of its own, so that what the first made stands until it is known whose alignment is better.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

from tiltflow import describe
from tiltflow.engines.base import Engine, EngineJob
from tiltflow.engines.handover import second_is_better, successor, why_hand_over
from tiltflow.engines.plan import check_room
from tiltflow.engines.registry import choose_engine
from tiltflow.errors import EngineError, TiltflowError
from tiltflow.model import Alignment, Reconstruction, TiltSeries
from tiltflow.pipeline.job import Job
from tiltflow.pipeline.step_book import ENGINE, ENGINE_NUMBER, frames_key
from tiltflow.recipe.engine_rules import AUTO, BEST, all_engines
from tiltflow.record import AlignmentEntry, EngineAttemptEntry, EngineEntry, Recorder, Steps
from tiltflow.report.checks import alignment_checks
from tiltflow.work import Trust

_log = logging.getLogger(__name__)

SECOND_FOLDER = "second-engine"
"""In the work folder: where a second engine works."""
GEOMETRY_FILES = (".xf", ".tlt", ".xtilt")
"""Kept under the engine's name when the alignment of another is used."""


@dataclass(frozen=True, slots=True, eq=False)
class _Attempt:
    """The work of one engine: its result, or why it failed."""

    engine: Engine
    work: EngineJob
    result: Reconstruction | None = None
    failure: TiltflowError | None = None

    @property
    def alignment(self) -> Alignment | None:
        return self.result.alignment if self.result is not None else None

    def entry(self, *, used: bool) -> EngineAttemptEntry:
        """Return what the record keeps of it."""
        found = self.alignment
        return EngineAttemptEntry(
            name=self.engine.name,
            version=self.engine.version,
            outcome="failed" if self.failure is not None else "used" if used else "not used",
            said=str(self.failure or ""),
            error_px=found.evidence.error_px if found is not None else None,
        )


def align_and_reconstruct(job: Job, series: TiltSeries, recorder: Recorder, steps: Steps, source: str) -> Reconstruction:
    """Let the engine of the recipe align and reconstruct a series and, where it fails or does it poorly, the fallback engine.

    Parameters
    ----------
    steps
        The steps of the work: what is up to date is taken over.
    source
        Key of the input.

    Raises
    ------
    TiltflowError
        With the reason, if no engine has a result.
    """
    engine, reason = choose_engine(job.recipe.engine)
    second = successor(job.recipe.engine, engine.name, job.recipe.fallback_engine)
    if engine.step_numbers and second is None:
        attempt = _attempt(job, series, recorder, engine, reason, job.workdir, (steps, source))
        if attempt.result is None:
            raise attempt.failure or EngineError("there is no result")
        return attempt.result
    asked = _asked(job, series, engine, second)
    if recorder.record.given_files:
        asked["files"] = [file.sha256 for file in recorder.record.given_files]
    frames = frames_key(recorder.record.frame_stacks)
    step = steps.begin(ENGINE, ENGINE_NUMBER, (source, frames) if frames else (source,), asked)
    if step.kept is not None:
        step.bring(job.workdir)
        path = partial(_file, job)
        return Reconstruction(path("_ali.mrc"), path("_rec.mrc"), path(".xf"), path(".tlt"))
    result = _by_one_or_two(job, series, recorder, engine, reason, second)
    files = [result.aligned, result.volume, result.transforms, result.tilts]
    others = [*(_file(job, suffix) for suffix in _OTHER_FILES), *sorted(job.workdir.glob("*.log"))]
    found = recorder.record.model_dump(mode="json", include=_FOUND, exclude_none=True)
    steps.made(step, {path.name: path for path in (*files, *(path for path in others if path.is_file()))}, found)
    return result


def align_only(job: Job, series: TiltSeries, recorder: Recorder, steps: Steps, source: str) -> Alignment:
    """Let an engine that can align without reconstructing do so; parameters as of :func:`align_and_reconstruct`.

    Raises
    ------
    TiltflowError
        With the reason, if there is no alignment.
    """
    engine, reason = choose_engine(job.recipe.engine)
    if not engine.step_numbers and job.recipe.engine in (AUTO, BEST):
        able = [each for each in all_engines() if each.step_numbers and each.available()]
        engine, reason = cast("Engine", able[0]), f"the work of {engine.title} is one step; {able[0].available()}"
    work = _prepare(job, series, recorder, engine, reason, job.workdir)
    return engine.align(replace(work, steps=steps, source_key=source))


_OTHER_FILES = (
    ".adoc",
    ".xtilt",
    "_align.json",
    "_local.json",
    "_fid.txt",
    "_montage.npz",
    ".defocus",
    "_rec_even.mrc",
    "_rec_odd.mrc",
    "_deconv.mrc",
    "_nad.mrc",
)
_FOUND = {"engine", "engine_attempts", "recipe", "alignment", "halves", "ctf", "exposure", "montage"}


def _file(job: Job, suffix: str) -> Path:
    return job.workdir / f"{job.name}{suffix}"


def _asked(job: Job, series: TiltSeries, engine: Engine, second: Engine | None) -> dict[str, object]:
    """Return all that the work of engines depends on beside the input."""
    return {
        "recipe": job.recipe.for_series(series.pixel_size_angstrom).digest,
        "engines": [[each.name, each.version if not each.step_numbers else each.step_numbers] for each in (engine, second) if each],
        "options": {
            option.name: job.site.engine_options.get(option.name, option.default) for option in engine.options if option.decides
        },
        "thresholds": job.site.thresholds if second is not None else None,
    }


def _by_one_or_two(
    job: Job, series: TiltSeries, recorder: Recorder, engine: Engine, reason: str, successor_: Engine | None
) -> Reconstruction:
    first = _attempt(job, series, recorder, engine, reason, job.workdir)
    second = _second(job, series, recorder, first, successor_)
    used = first if second is None else _better(job, recorder, first, second)
    if used.result is None:
        raise _no_result(first, second) if second is not None else first.failure or EngineError("there is no result")
    if used.alignment is not None:
        used.work.note_alignment(used.alignment)
    return used.result


def _attempt(
    job: Job,
    series: TiltSeries,
    recorder: Recorder,
    engine: Engine,
    reason: str,
    folder: Path,
    kept: tuple[Steps, str] | None = None,
) -> _Attempt:
    """Return the work of an engine; a failure after it has begun is kept.

    Raises
    ------
    TiltflowError
        If the engine cannot begin.
    """
    work = _prepare(job, series, recorder, engine, reason, folder)
    if kept is not None:
        work = replace(work, steps=kept[0], source_key=kept[1])
    try:
        return _Attempt(engine, work, engine.reconstruct(work))
    except TiltflowError as error:
        return _Attempt(engine, work, failure=error)


def _prepare(job: Job, series: TiltSeries, recorder: Recorder, engine: Engine, reason: str, folder: Path) -> EngineJob:
    """Record the engine and its recipe, and the memory, disk space and time that the work needs; refuse what cannot be done here."""
    with recorder.stage("check"):
        recorder.record.engine = EngineEntry(name=engine.name, version=engine.version, reason=reason)
        _log.info("%s: engine %s, because %s", job.name, engine.name, reason)
        recipe = job.recipe.for_engine(engine.name).for_series(series.pixel_size_angstrom)
        frames = frames_key(recorder.record.frame_stacks)
        work = EngineJob(series, recipe, job.site, folder, recorder, frames_key=frames)
        recorder.record.recipe = describe.recipe(recipe, requested=job.recipe)
        if recipe.source.follows_pixel_size:
            _log.info("%s: trackingBinning of %s is %d for these pixels", job.name, recipe.source.name, recipe.tracking_binning)
        for problem in recipe.report.problems:
            recorder.warn(f"{problem.message} ({problem.where})")
        engine.check(work)
    with recorder.stage("plan") as notes:
        plan = engine.plan(series, recipe, job.site.threads, keep_volumes=job.keep_volumes)
        for name, size in (("memory", plan.memory), ("scratch", plan.scratch), ("results", plan.results)):
            notes.number(name, size, "bytes")
        notes.number("time", round(plan.seconds), "s")
        if plan.fallback_seconds:
            notes.number("time_with_fallback", round(plan.seconds + plan.fallback_seconds), "s")
        _log.info("%s: needs %s", job.name, plan)
        check_room(plan, series.path.name, job.workdir, job.output)
    return work


def _second(job: Job, series: TiltSeries, recorder: Recorder, first: _Attempt, engine: Engine | None) -> _Attempt | None:
    """Return the work of a second engine; None where the policy, or what that engine cannot do, leaves the first alone."""
    if engine is None:
        return None
    failure = None if first.failure is None else str(first.failure)
    against = _against(job, series, first.alignment)
    why = why_hand_over(first.engine.title, failure, against, best=job.recipe.engine == BEST)
    if why is None:
        return None
    folder = job.workdir / SECOND_FOLDER
    folder.mkdir()
    try:
        job.recipe.for_engine(engine.name)
        if failure or against:
            recorder.warn(f"{why}\nTherefore {engine.title} does it")
        return _attempt(job, series, recorder, engine, why, folder)
    except TiltflowError as error:
        recorder.warn(f"{why}\n{engine.title} cannot do it instead: {error}")
        _describe_again(job, recorder, first)
        return None


def _against(job: Job, series: TiltSeries, alignment: Alignment | None) -> str | None:
    """Return what the thresholds of the verdict say against an alignment, if it is poor by them."""
    if alignment is None:
        return None
    found = AlignmentEntry.model_validate(describe.alignment(alignment, series))
    checks = alignment_checks(found, job.site.thresholds, series.pixel_size_angstrom / 10)
    return "; ".join(check.finding for check in checks if check.level is Trust.POOR) or None


def _better(job: Job, recorder: Recorder, first: _Attempt, second: _Attempt) -> _Attempt:
    """Return the attempt whose result is used, with its files in the work folder, and record both."""
    if second.failure is not None and first.failure is None:
        recorder.warn(f"{second.engine.title} failed, so that the result of {first.engine.title} is kept: {second.failure}")
    better = second.result is not None and (first.result is None or second_is_better(first.alignment, second.alignment))
    if better:
        used = second = _adopted(first, second)
    else:
        used = first
        _describe_again(job, recorder, first)
    recorder.record.engine_attempts = [attempt.entry(used=attempt is used) for attempt in (first, second)]
    if first.result is not None and second.result is not None:
        recorder.warn(f"the alignment by {used.engine.title} is used: {_compared(first, second)}")
    recorder.save()
    return used


def _compared(first: _Attempt, second: _Attempt) -> str:
    def error(attempt: _Attempt) -> str:
        found = attempt.alignment.evidence.error_px if attempt.alignment is not None else None
        return "unknown" if found is None else f"{found:.2f} px"

    return f"estimated error {error(first)} by {first.engine.title}, {error(second)} by {second.engine.title}"


def _describe_again(job: Job, recorder: Recorder, first: _Attempt) -> None:
    recorder.record.engine = EngineEntry(name=first.engine.name, version=first.engine.version, reason=_reason(job, first))
    recorder.record.recipe = describe.recipe(first.work.recipe, requested=job.recipe)
    shutil.rmtree(first.work.workdir / SECOND_FOLDER, ignore_errors=True)


def _reason(job: Job, first: _Attempt) -> str:
    return "its alignment is the better one" if first.result is not None else choose_engine(job.recipe.engine)[1]


def _adopted(first: _Attempt, second: _Attempt) -> _Attempt:
    """Return the second attempt, its files moved to the place of the first one's, whose geometry stays under its engine's name."""
    name, folder = second.work.series.name, first.work.workdir
    for suffix in GEOMETRY_FILES:
        if (old := folder / f"{name}{suffix}").is_file():
            old.rename(folder / f"{name}_{first.engine.name}{suffix}")
    for path in second.work.workdir.iterdir():
        path.replace(folder / path.name)
    second.work.workdir.rmdir()
    made = second.result
    if made is None:
        return second
    moved = {part: folder / getattr(made, part).name for part in ("aligned", "volume", "transforms", "tilts")}
    return replace(second, result=Reconstruction(**moved, alignment=made.alignment))


def _no_result(first: _Attempt, second: _Attempt) -> EngineError:
    """Return the error of both engines in one; the lines that the first one's program printed last stay with it."""
    error = EngineError(f"{first.failure}\n{second.engine.title}, which was to do it instead, failed too: {second.failure}")
    error.__cause__ = first.failure.__cause__ if first.failure is not None else None
    return error
