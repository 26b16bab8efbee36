"""One series, from raw images to published products and their page."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from tiltflow import stopping
from tiltflow.beside import Beside, beside, can_copy
from tiltflow.delivery.body import CALLBACK_NAME
from tiltflow.delivery.cleanup import make_scratch
from tiltflow.delivery.find_series import describe_axes, other_axis
from tiltflow.delivery.names import why_unusable
from tiltflow.disk import new_folders_kept
from tiltflow.errors import LocationError
from tiltflow.freed_memory import give_back_freed_memory, keep_freed_memory
from tiltflow.pipeline.conclusion import complete
from tiltflow.pipeline.exports import complete_exports
from tiltflow.pipeline.failure import outside_of_the_work
from tiltflow.pipeline.job import ALL_PARTS, RECORD_NAME, Job, OnProgress, Part, SeriesProgress, nobody
from tiltflow.pipeline.lock import folder_lock
from tiltflow.pipeline.log import series_log
from tiltflow.pipeline.resume import forget_damaged, look_back
from tiltflow.pipeline.standing import clean, recover, refuse_elsewhere, set_aside
from tiltflow.pipeline.step_loop import StepRunner, work_on
from tiltflow.pipeline.steps import Conclusion, product_step, publish_step, reconstruct_step
from tiltflow.recipe import Recipe
from tiltflow.report import INDEX_NAME, METRICS_NAME
from tiltflow.work import SeriesResult, Site

_KEPT = "already done by this recipe, nothing to do"
RUN_FILES = frozenset({RECORD_NAME, CALLBACK_NAME, INDEX_NAME, METRICS_NAME})
"""What a run writes beside the folders of its series."""
_log = logging.getLogger(__name__)


def process(
    source: Path,
    recipe: Recipe,
    site: Site,
    *,
    output: Path,
    keep_volumes: bool = True,
    redo: bool = False,
    verify: bool = False,
    wait_for_others: bool = True,
    parts: tuple[Part, ...] = ALL_PARTS,
    on_progress: OnProgress = nobody,
    runner: StepRunner[SeriesResult | Conclusion] | None = None,
) -> SeriesResult:
    """Align, reconstruct and make every product of one series; failures are returned as a result, whatever they are.

    `runner` runs the steps, for instance as tasks of an orchestrator, which then report their own progress.  While another run works on
    the series, this one waits; without `wait_for_others` it fails.
    """
    asked = Asked(keep_volumes, redo, verify, wait_for_others, parts)
    return begin(source, recipe, site, output, asked, on_progress, runner).close()


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a series, as :func:`process` has it."""

    keep_volumes: bool = True
    redo: bool = False
    verify: bool = False
    wait_for_others: bool = True
    parts: tuple[Part, ...] = ALL_PARTS


class Ending(Protocol):
    """The end of the work on a series, whose products stand or which has failed."""

    def is_near(self) -> bool:
        """Return whether nobody has to wait for it."""

    def close(self) -> SeriesResult:
        """Return the result; the series is told to be done and given back, if it was not before."""


class _Known:
    """The end of a series that has ended."""

    def __init__(self, result: SeriesResult) -> None:
        self._result = result

    def is_near(self) -> bool:
        return True

    def close(self) -> SeriesResult:
        return self._result


class _Beside:
    """The end of a series whose page a copy of this process writes; until it is closed this process holds the folder of the series."""

    def __init__(self, job: Job, page: Beside[SeriesResult], held: ExitStack, tell: Callable[[SeriesResult], SeriesResult]) -> None:
        self._job, self._page, self._held, self._tell = job, page, held, tell

    def is_near(self) -> bool:
        return self._page.is_done()

    def close(self) -> SeriesResult:
        job = self._job
        try:
            with self._held, stopping.closing():
                result = self._written()
        except Exception as error:  # noqa: BLE001  the boundary, as in `begin`
            result = outside_of_the_work(job.source, job.output, error)
        return self._tell(result)

    def _written(self) -> SeriesResult:
        """Wait for the page, and return the result; what is said of it is logged."""
        job = self._job
        with series_log(job.output, job.name, goes_on=True):
            try:
                return self._page(lambda _fraction: None)
            except Exception as error:  # noqa: BLE001  logged with the series
                return outside_of_the_work(job.source, job.output, error)


def begin(
    source: Path,
    recipe: Recipe,
    site: Site,
    output: Path,
    asked: Asked,
    on_progress: OnProgress = nobody,
    runner: StepRunner[SeriesResult | Conclusion] | None = None,
    *,
    ends_beside: bool = False,
) -> Ending:
    """Do what :func:`process` does until the products of the series stand, and return the end of it.

    With `ends_beside` a copy of this process writes the page, if there may be one and a thread for it, while this process can turn to
    other work; else the page stands already.
    """
    keep_freed_memory()

    def tell(result: SeriesResult, note: str = "") -> SeriesResult:
        on_progress(SeriesProgress(source.stem, result.stage or "done", 1.0, result, note))
        return result

    why = why_unusable(source, RUN_FILES)
    if why:
        return _Known(tell(outside_of_the_work(source, None, LocationError(why))))

    def wait_for(word: str) -> None:
        if not asked.wait_for_others:
            raise LocationError(f"{source.name}: {word}; run it again when that has ended")
        on_progress(SeriesProgress(source.stem, "waiting", 0.0, note=f"{word}; waiting for its end"))

    note = ""
    try:
        refuse_elsewhere(output, site)
        with new_folders_kept(output):
            output.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            held.enter_context(folder_lock(output, wait_for))
            end, note = _process(source, recipe, site, output, asked, on_progress, runner or _calls(source.stem, on_progress))
            if isinstance(end, Conclusion) and ends_beside and site.threads > 1 and can_copy():
                page = held.enter_context(beside(end, threads=site.threads))
                return _Beside(end.job, page, held.pop_all(), tell)
            if isinstance(end, Conclusion):
                with series_log(output, source.stem, goes_on=True):
                    end = end()
            result = end
    except Exception as error:  # noqa: BLE001  the boundary: a failure outside of the steps costs this series alone
        result = outside_of_the_work(source, output, error)
    tell(result, note)
    give_back_freed_memory()
    return _Known(result)


def _process(
    source: Path,
    recipe: Recipe,
    site: Site,
    output: Path,
    asked: Asked,
    on_progress: OnProgress,
    runner: StepRunner[SeriesResult | Conclusion],
) -> tuple[SeriesResult | Conclusion, str]:
    """Return the result of a series, or what is left to do for it, and a remark on it."""
    name, redo, parts = source.stem, asked.redo, asked.parts
    clean(output)
    recover(output, site.thresholds)
    wrong = forget_damaged(output) if asked.verify and not redo else ()
    earlier = look_back(source, recipe, output, parts)
    if earlier.result is not None and earlier.identity is not None and not wrong and not redo:
        _log.info("%s: %s", name, _KEPT)
        complete_exports(name, output, site.export)
        return complete(earlier.result, output, earlier.identity, site.thresholds), _KEPT
    why = f"damaged: {', '.join(wrong)}" if wrong else earlier.why
    if why is not None and not redo:
        on_progress(SeriesProgress(name, "start", 0.0, note=f"done again: {why}"))
    with series_log(output, name):
        if why is not None and not redo:
            _log.info("%s: done again: %s", name, why)
        if (other := other_axis(source)) is not None:
            _log.info("%s: %s", name, describe_axes(*sorted((source, other))))
        set_aside(output)
        job = Job(
            source,
            recipe,
            site,
            output,
            make_scratch(source, site.scratch, keep=site.keep_workdir),
            asked.keep_volumes,
            redo,
            parts,
            why_again=why or "",
            answered=earlier.answers,
        )
        return work_on(job, runner), ""


def _calls(name: str, on_progress: OnProgress) -> StepRunner[SeriesResult | Conclusion]:
    """Return the runner that calls each step in this process."""

    def report(stage: str, fraction: float) -> None:
        on_progress(SeriesProgress(name, stage, fraction))

    return StepRunner(partial(reconstruct_step, progress=report), partial(product_step, progress=report), publish_step)
