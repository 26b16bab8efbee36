"""A list of series, one after the other or several at once, and the record and pages of the run."""

from __future__ import annotations

import itertools
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from tiltflow import describe, stopping
from tiltflow.atomic_write import remove_left_behind
from tiltflow.delivery.cleanup import remove_scratch_left_behind, require_writable
from tiltflow.delivery.find_series import look_alikes
from tiltflow.delivery.layout import refuse_inputs
from tiltflow.delivery.names import why_unusable
from tiltflow.disk import NO_SPACE, new_folders_kept, no_room
from tiltflow.errors import LocationError
from tiltflow.pipeline.job import ALL_PARTS, RECORD_NAME, OnProgress, Part, RunResult, SeriesProgress, nobody
from tiltflow.pipeline.lock import PAGES_LOCK_NAME, folder_lock, holder_of
from tiltflow.pipeline.one_series import RUN_FILES, Asked, Ending, begin
from tiltflow.pipeline.worker_processes import Process, worker_processes
from tiltflow.recipe import Recipe, SeriesRecipes
from tiltflow.record import RunRecord, RunRecorder, RunSeriesEntry
from tiltflow.report import INDEX_NAME, write_run_pages
from tiltflow.version import __version__
from tiltflow.work import SeriesResult, Site

_REFRESH_S = 60.0
_MAY_BE_OVER_S = 2.0
"""For so long a run over earlier results may find that all is done; the pages, which are there, are written by its end."""
_log = logging.getLogger(__name__)


def run(
    sources: Sequence[Path],
    recipe: Recipe | SeriesRecipes,
    site: Site,
    output: Path,
    *,
    jobs: int = 1,
    keep_volumes: bool = True,
    redo: bool = False,
    verify: bool = False,
    wait_for_others: bool = True,
    parts: tuple[Part, ...] = ALL_PARTS,
    on_progress: OnProgress = nobody,
) -> RunResult:
    """Process every series into a folder of its own under `output`, `jobs` of them at once, each by a process of its own.

    The base names must differ, which :mod:`tiltflow.delivery.find_series` ensures.  A series whose earlier result is complete,
    and was made by the same recipe from the same input, is not done again unless `redo`; with `verify` complete means that every file
    holds what was written, and not only that it has its size.  `recipe` is one for all series, or one for each.

    Raises
    ------
    LocationError, ResourceError
        If nothing can be written to `output` or to the scratch folder, so that no series could be done.
    KeyboardInterrupt
        If the run is interrupted; the running series record it.
    """
    require_places(output, site)
    stop = threading.Event()
    results: dict[Path, SeriesResult] = {}
    pages = RunPages(output, site, not_before_s=_MAY_BE_OVER_S if (output / INDEX_NAME).exists() else 0.0)
    recipes = SeriesRecipes.of_all(recipe)
    to_do = itertools.count(len(sources), -1)
    at_once = min(jobs, len(sources))

    def report(progress: SeriesProgress) -> None:
        if stop.is_set() and progress.result is None:
            raise KeyboardInterrupt
        on_progress(progress)

    asked = Asked(keep_volumes, redo, verify, wait_for_others, parts)

    def begun(source: Path, on_progress: OnProgress, *, ends_beside: bool) -> Ending:
        stopping.ask()
        return begin(source, recipes.of(source), site, output / source.stem, asked, on_progress, ends_beside=ends_beside)

    def done(source: Path, work: Process) -> SeriesResult:
        stopping.ask()
        return take(work(source, recipes.of(source), site, output=output / source.stem, on_progress=report, **asdict(asked)))

    def take(result: SeriesResult) -> SeriesResult:
        recorder.done(result)
        if next(to_do) > 1:  # after the last one the end of the run writes them
            pages.refresh()
        return result

    with recorded_run(sources, recipes, output, site, jobs) as recorder:
        if at_once <= 1:
            results.update(zip(sources, _in_turn(sources, begun, report, take), strict=True))
        else:
            with worker_processes(stop.is_set) as work, ThreadPoolExecutor(at_once) as pool:
                waiting = {pool.submit(done, source, work): source for source in sources}
                try:
                    while waiting:
                        ended, _ = wait(waiting, return_when=FIRST_COMPLETED)
                        for future in ended:
                            results[waiting.pop(future)] = future.result()
                except BaseException:
                    stop.set()  # the running series stop at their next report of progress
                    for future in waiting:
                        future.cancel()
                    raise
    return RunResult(tuple(results[source] for source in sources), recorder.page)


def _in_turn(
    sources: Sequence[Path],
    begin: Callable[..., Ending],
    on_progress: OnProgress,
    take: Callable[[SeriesResult], SeriesResult],
) -> list[SeriesResult]:
    """Work on one series after the other, and write the page of each, if that can be, while the next one is worked on.

    Parameters
    ----------
    begin
        Is called with a series, with what receives its progress, and with whether it may end beside the work on another.
    on_progress, take
        Receive progress, and each result when its page stands.
    """
    results: list[SeriesResult] = []
    waiting: list[Ending] = []  # one at most
    raised: list[Exception] = []
    here, of_no_series = threading.get_ident(), copy_context()

    def close() -> None:
        if waiting:
            results.append(take(waiting.pop().close()))

    def report(progress: SeriesProgress) -> None:
        if waiting and threading.get_ident() == here and waiting[0].is_near():
            try:
                of_no_series.run(close)  # what is logged of the one is no part of the other's log
            except Exception as error:  # noqa: BLE001  raised below: it is no failure of the series that is worked on
                raised.append(error)
        on_progress(progress)

    try:
        for number, source in enumerate(sources, 1):
            ending = begin(source, report, ends_beside=number < len(sources))
            try:
                close()
            finally:
                waiting.append(ending)
            if ending.is_near():
                close()
            if raised:
                raise raised[0]
    finally:
        close()
    return results


def require_places(output: Path, site: Site) -> None:
    """Raise unless results and scratch can be written: without them no series can be done.

    Raises
    ------
    LocationError, ResourceError
        With the folder and the reason.
    """
    scratch = site.scratch or Path(tempfile.gettempdir())
    refuse_inputs(site.mounts, output, "The folder for the results")
    refuse_inputs(site.mounts, scratch, "The scratch folder")
    with new_folders_kept(output):
        require_writable(output, "the results")
    require_writable(scratch, "scratch")


def require_free(sources: Sequence[Path], output: Path) -> None:
    """Raise if another run works on one of these series.

    Raises
    ------
    LocationError
        With the series, and who works on them.
    """
    held = {source.name: holder for source in sources if (holder := holder_of(output / source.stem)) is not None}
    if held:
        raise LocationError(
            f"Another run works on {', '.join(f'{name} ({holder})' for name, holder in held.items())}; "
            "run this again when that has ended, or leave --no-wait out to wait for it."
        )


@contextmanager
def recorded_run(
    sources: Sequence[Path],
    recipes: SeriesRecipes,
    output: Path,
    site: Site,
    jobs: int = 1,
    names: Sequence[str] | None = None,
) -> Iterator[RunRecorder]:
    """Keep the record of a run in `output`, and write its pages however it ends; `names` are those of the series if not their files'."""
    common = recipes.common
    record = RunRecord(
        tiltflow=__version__,
        versions=describe.versions(),
        started=datetime.now(UTC),
        jobs=jobs,
        template=common.template,
        digest=common.digest,
        request=describe.request(common),
        remarks=[remark.message for remark in (*look_alikes(sources), *recipes.remarks)],
        series=[entry_of(path, name) for name, path in zip(names or [path.stem for path in sources], sources, strict=True)],
    )
    remove_left_behind(output)
    remove_scratch_left_behind(site.scratch or Path(tempfile.gettempdir()))  # also where all results are kept, and none is made
    recorder = RunRecorder(output / RECORD_NAME, record)
    try:
        yield recorder
        recorder.close("done")
    except BaseException:
        recorder.close("interrupted")
        raise
    finally:
        with stopping.closing():
            recorder.page = _write_pages(output, site)


def entry_of(source: Path, name: str = "") -> RunSeriesEntry:
    """Return what the record of a run says of a series that is still to be done; `name` if it is not that of its file."""
    name = name or source.stem
    return RunSeriesEntry(name=name, source=str(source), record="" if why_unusable(source, RUN_FILES) else f"{name}/{RECORD_NAME}")


class RunPages:
    """The pages of a run in progress: written again when a series is done, but not too often."""

    def __init__(self, output: Path, site: Site, *, not_before_s: float = 0.0) -> None:
        self._output = output
        self._site = site
        self._lock = threading.Lock()
        self._next = time.monotonic() + not_before_s
        self._behind = False

    def refresh(self) -> None:
        """Write the pages, or leave it to a later :meth:`catch_up` if the last time is not long enough ago."""
        self._behind = True
        self.catch_up()

    def catch_up(self) -> None:
        """Write the pages if they are behind, the last time is long enough ago and no other thread is writing them."""
        if not self._behind or time.monotonic() < self._next or not self._lock.acquire(blocking=False):
            return
        try:
            self._behind = False  # before the records are read: a series that is done meanwhile asks again
            _write_pages(self._output, self._site, level=logging.DEBUG)  # the end of the run says it if it lasts
            self._next = time.monotonic() + _REFRESH_S
        finally:
            self._lock.release()


def _write_pages(output: Path, site: Site, *, level: int = logging.WARNING) -> Path | None:
    """Return the page of a run, written anew; None where it cannot be, which is logged at `level`."""
    try:
        with folder_lock(output, len, PAGES_LOCK_NAME):  # another run to the same folder may write them, and know less
            return write_run_pages(output, site.thresholds)[0]
    except Exception as error:  # noqa: BLE001  the boundary: no report is worth a run
        full = isinstance(error, OSError) and error.errno in NO_SPACE
        why = no_room(error, output) if isinstance(error, OSError) and full else error
        _log.log(level, "the index of %s could not be written: %s", output, why, exc_info=not full)
        return None
