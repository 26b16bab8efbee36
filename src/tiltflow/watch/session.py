"""A session: folders are looked at again and again, and each series is processed when it is whole.

The looks and the ledger belong to one thread; series are processed by others, by the pipeline, which keeps what is up to date.  The
ledger is written before work begins and after it ends, so that a process that is killed at any moment leaves what the next takes up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from pathlib import Path

from tiltflow import stopping
from tiltflow.pipeline.job import SeriesProgress
from tiltflow.pipeline.lock import sole_lock
from tiltflow.pipeline.one_series import process
from tiltflow.pipeline.run import RunPages, entry_of, recorded_run, require_places
from tiltflow.recipe import Recipe
from tiltflow.watch import policy
from tiltflow.watch.book import Book
from tiltflow.watch.folder_watch import FolderWatch
from tiltflow.watch.folders import FolderRecipes, refuse_other_places
from tiltflow.watch.ledger import Entry, Ledger, State
from tiltflow.watch.news import News, Tell, Weight, failure_of, nobody, summary, verdict_of, words_of_result
from tiltflow.watch.plan import Outcome, Plan, Work
from tiltflow.work import SeriesResult

LOCK_NAME = ".tiltflow-watch.lock"
"""In each folder of results, while a session writes to it."""
_LOOK_FOR_THE_END_S = 0.5
"""How often it is asked, while series are processed, whether the session is to end."""


def watch(plan: Plan, tell: Tell = nobody, *, work: Work = process, clock: Callable[[], float] = time.time) -> Outcome:
    """Watch folders and process each series when it is whole, until the session is over.

    Parameters
    ----------
    plan
        What is to be done.
    tell
        Receives news, also from other threads.
    work
        Processes a series; an orchestrator may do it elsewhere.
    clock
        Returns the time, s since 1970.

    Raises
    ------
    LocationError, ResourceError
        If nothing can be written to the results, to scratch or to the ledger, or another session writes to these results.
    FormatError
        If the ledger is damaged or of a newer version.
    TiltflowError
        If a table of settings is wrong when the session begins.
    KeyboardInterrupt
        If the session is asked to end; the same plan continues it.
    """
    for watched in plan.folders:
        require_places(watched.results, plan.site)
    with _alone(plan), Ledger(plan.ledger_path, plan.output) as ledger:
        book = Book(ledger)
        refuse_other_places(plan.folders, book.entries, plan.output)
        recipes = [
            FolderRecipes(each.folder, plan.recipes, plan.table, within=each.within, here=plan.here) for each in plan.folders
        ]
        for each in recipes:
            each.require()
        with ExitStack() as records:
            watches = [
                FolderWatch(
                    watched=watched,
                    output=plan.output,
                    recipes=of_folder,
                    recorder=records.enter_context(recorded_run((), of_folder.all, watched.results, plan.site, plan.jobs)),
                    pages=RunPages(watched.results, plan.site),
                    tell=tell,
                    rules=plan.rules,
                    looked=ledger.last_look(watched.folder),
                    came=clock(),
                )
                for watched, of_folder in zip(plan.folders, recipes, strict=True)
            ]
            session = _Session(plan, book, watches, tell, work, clock)
            with session.running():
                session.run()
        pages = tuple(page for each in watches if (page := each.recorder.page) is not None)
    return Outcome(session.done, session.failed + sum(each.given_up for each in watches), pages)


@contextmanager
def _alone(plan: Plan) -> Iterator[None]:
    """Hold the ledger and the folders of the results against other sessions."""
    with ExitStack() as locks:
        ledger = plan.ledger_path
        for path, what in [
            (ledger.with_name(f"{ledger.name}.lock"), f"the ledger {ledger} is that"),
            *((each.results / LOCK_NAME, f"{each.results} has the results") for each in plan.folders),
        ]:
            locks.enter_context(
                sole_lock(path, f"{what} of another session ({{holder}}); end that one first, or give another --output")
            )
        yield


class _Session:
    """The state of a session."""

    def __init__(
        self, plan: Plan, book: Book, watches: list[FolderWatch], tell: Tell, work: Work, clock: Callable[[], float]
    ) -> None:
        self.done = 0
        self.failed = 0
        self._plan = plan
        self._book = book
        self._watches = watches
        self._tell = tell
        self._work = work
        self._clock = clock
        self._pool = ThreadPoolExecutor(plan.jobs)
        self._at_work: dict[Future[SeriesResult], tuple[FolderWatch, Path]] = {}
        self._stop = threading.Event()
        self._notes: dict[Path, str] = {}
        self._summed_up = False
        self._trouble = ""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Take up what an earlier process left, and at the end, however it comes, settle what is at work."""
        self._take_up()
        try:
            yield
        finally:
            self._stop.set()  # the running series stop at their next report of progress
            with stopping.closing():
                self._pool.shutdown(wait=True, cancel_futures=True)
                self._settle()
                self._write(last=True)
                self._say(summary(self._own_entries()))

    def run(self) -> None:
        """Look, take and settle until the session is over."""
        next_look = time.monotonic()
        while True:
            if time.monotonic() >= next_look:
                self._look()
                next_look = float("inf") if self._plan.once else time.monotonic() + self._plan.every_s
            self._settle()
            self._take()
            if self._is_over():
                return
            self._sum_up()
            self._wait(next_look)

    def _take_up(self) -> None:
        now = self._clock()
        for each in self._watches:
            where = each.watched
            each.news(now, where.folder, f"is watched, priority {where.priority}; results go to {where.results}")
        for entry in self._own_entries():
            after = policy.taken_up(entry, self._plan.rules, now, once=self._plan.once)
            self._book.put(after)
            if after.state is State.FAILED and entry.state is State.RUNNING:
                self.failed += 1
                self._watch_of(entry.path).news(now, entry.path, f"FAILED: {after.why}", "failure")
            elif after is not entry:
                self._watch_of(entry.path).news(now, entry.path, after.why)
        self._write()

    def _look(self) -> None:
        for each in self._watches:
            each.look(self._book, self._clock())
            each.pages.catch_up()
        self._write()

    def _take(self) -> None:
        """Begin the work on the next series while there is room for it."""
        turn = partial(policy.turn, rules=self._plan.rules, newest_first=self._plan.newest_first)
        waiting = [(turn(entry, each.watched.priority), each, entry) for each, entry in self._whole()]
        for _, each, entry in sorted(waiting, key=lambda row: row[0])[: self._plan.jobs - len(self._at_work)]:
            self._begin(each, entry)

    def _begin(self, folder: FolderWatch, entry: Entry) -> None:
        source, now = entry.path, self._clock()
        recipe, tries = folder.recipes.all.of(source), entry.tries + 1
        begun = replace(entry, tries=tries, recipe=folder.recipes.digest(source)).become(State.RUNNING, now)
        self._book.put(begun)
        self._write()
        folder.recorder.expect(entry_of(source))
        folder.news(now, source, "begins" + (f", try {tries}" if tries > 1 else ""))
        self._at_work[self._pool.submit(copy_context().run, self._process, folder, source, recipe)] = folder, source
        self._summed_up = False

    def _process(self, folder: FolderWatch, source: Path, recipe: Recipe) -> SeriesResult:
        """Process a series, in a thread of its own."""

        def report(progress: SeriesProgress) -> None:
            if self._stop.is_set() and progress.result is None:
                raise KeyboardInterrupt
            if progress.note and progress.note != self._notes.get(source):
                self._notes[source] = progress.note
                folder.news(self._clock(), source, progress.note)

        result = self._work(source, recipe, self._plan.site, output=folder.results_of(source), on_progress=report)
        folder.recorder.done(result)
        folder.pages.refresh()
        return result

    def _settle(self) -> None:
        """Put what came of the series that are done into the book; one that was interrupted counts as not begun."""
        for future in [each for each in self._at_work if each.done()]:
            folder, source = self._at_work.pop(future)
            entry, now = self._book.of(source), self._clock()
            if entry is None:
                continue
            if future.cancelled() or ((ended := future.exception()) is not None and not isinstance(ended, Exception)):
                self._book.put(replace(entry, tries=entry.tries - 1).become(State.WHOLE, now, "interrupted"))
                continue
            result = future.result()
            folder.note_tried(source)
            if result.ok:
                self.done += 1
                self._book.put(replace(entry, verdict=verdict_of(result)).become(State.DONE, now))
            else:
                self.failed += 1
                words = failure_of(result)
                self._book.put(replace(entry, verdict=words).become(State.FAILED, now, words))
            folder.news(now, source, *words_of_result(result))
        self._write()

    def _is_over(self) -> bool:
        if self._at_work or self._whole():
            return False
        if self._plan.once:
            return True
        if self._plan.until_idle_s is None:
            return False
        quiet_s = self._clock() - max(each.came for each in self._watches)
        return quiet_s >= max(self._plan.until_idle_s, self._plan.rules.still_s)

    def _sum_up(self) -> None:
        """Tell what the session has come to, once whenever there is nothing left to do for now."""
        if not self._summed_up and not self._at_work and not self._whole():
            self._summed_up = True
            self._say(f"waiting for more; {summary(self._own_entries())}")

    def _wait(self, until: float) -> None:
        """Wait until the next look is due, a series is done, or the session is asked to end."""
        while (left := until - time.monotonic()) > 0:
            if not self._at_work:
                stopping.pause(left)
                return
            done, _ = wait(self._at_work, timeout=min(left, _LOOK_FOR_THE_END_S), return_when=FIRST_COMPLETED)
            stopping.ask()
            if done:
                return

    def _whole(self) -> list[tuple[FolderWatch, Entry]]:
        return [(each, entry) for each in self._watches for entry in each.whole(self._book)]

    def _own_entries(self) -> list[Entry]:
        folders = {each.watched.folder for each in self._watches}
        return [entry for entry in self._book.entries if entry.path.parent in folders]

    def _watch_of(self, path: Path) -> FolderWatch:
        return next(each for each in self._watches if each.watched.folder == path.parent)

    def _write(self, *, last: bool = False) -> None:
        """Write the ledger; where it cannot be written for now, the session goes on, as the results say what is done."""
        looks = [(each.watched.folder, each.looked) for each in self._watches if each.looked > float("-inf")]
        trouble = self._book.write(looks, last=last)
        if trouble and trouble != self._trouble:
            self._say(trouble, "failure")
        self._trouble = trouble

    def _say(self, words: str, weight: Weight = "plain") -> None:
        self._tell(News(self._clock(), "session", words, weight))
