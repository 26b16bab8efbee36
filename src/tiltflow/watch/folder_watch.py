"""One folder of a session: what each look at it makes of the entries of its series."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tiltflow import stopping
from tiltflow.delivery.find_series import leads_out
from tiltflow.delivery.names import why_unusable
from tiltflow.pipeline.one_series import RUN_FILES
from tiltflow.pipeline.resume import look_back
from tiltflow.pipeline.run import RunPages, entry_of
from tiltflow.record import RunRecorder
from tiltflow.watch import policy
from tiltflow.watch.arrival import Arrival, read_arrival
from tiltflow.watch.book import Book
from tiltflow.watch.folders import FolderRecipes, Watched
from tiltflow.watch.ledger import Entry, State
from tiltflow.watch.news import News, Tell, Weight, verdict_of, words_of_change
from tiltflow.watch.policy import Rules
from tiltflow.watch.sight import Lookout, Sight


@dataclass(slots=True, eq=False)
class FolderWatch:
    """A folder that is watched, and what is known of it between two looks.

    Attributes
    ----------
    watched
        The folder, its priority, and where its results go.
    output
        The folder of all results.
    recipes
        The recipe of each series.
    recorder, pages
        The record and the pages of its results.
    tell
        Receives news.
    looked
        When it was last looked at, s since 1970; -inf for never.
    came
        When something new was last seen in it.
    given_up
        How many series were given up in this session, as they stay incomplete or their names cannot be used.
    """

    watched: Watched
    output: Path
    recipes: FolderRecipes
    recorder: RunRecorder
    pages: RunPages
    tell: Tell
    rules: Rules
    looked: float
    came: float
    given_up: int = 0
    _lookout: Lookout = field(init=False)
    _present: frozenset[Path] = frozenset()
    _troubles: dict[str, str] = field(default_factory=dict)
    _arrivals: dict[Path, tuple[tuple[int, int, str], Arrival]] = field(default_factory=dict)
    _answered: set[Path] = field(default_factory=set)
    _told: set[tuple[Path, tuple[int, int, str]]] = field(default_factory=set)
    _unnamed: set[Path] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._lookout = Lookout(self.watched.folder)

    def news(self, now: float, path: Path, words: str, weight: Weight = "plain") -> None:
        """Tell of a series, or of the folder itself."""
        folder = self.watched.folder
        about = (
            str(folder) if path == folder else path.name if self.watched.results == self.output else f"{folder.name}/{path.name}"
        )
        self.tell(News(now, about, words, weight))

    def look(self, book: Book, now: float) -> None:
        """Look at the folder once, and put what has changed into the book."""
        try:
            sights = self._lookout.look()
        except OSError as error:
            self._say("folder", f"cannot be read ({error.strerror or error}); it is tried again at each look", now)
            self._present = frozenset()
            return
        self._say("folder", "", now)
        self._say("table", self.recipes.refresh(), now)
        for sight in sights:
            stopping.ask()
            self._see(sight, book, now)
        present = frozenset(sight.path for sight in sights)
        self._miss(present, book, now)
        self._present, self.looked = present, now

    def whole(self, book: Book) -> list[Entry]:
        """Return the series that can be taken; none while the table of settings is wrong, or is being changed."""
        held = self._troubles.get("table") or not self.recipes.settled
        entries = [book.of(path) for path in self._present if not held]
        return [entry for entry in entries if entry is not None and entry.state is State.WHOLE]

    def note_tried(self, path: Path) -> None:
        """Note that a series was processed in this session, so that its results need not be looked at."""
        self._answered.add(path)

    def results_of(self, path: Path) -> Path:
        """Return the folder of the results of a series."""
        return self.watched.results / path.stem

    def _say(self, what: Literal["folder", "table"], words: str, now: float) -> None:
        """Tell of a trouble with the folder or its table of settings when it begins, changes or ends."""
        before, self._troubles[what] = self._troubles.get(what, ""), words
        if words != before:
            self.news(now, self.watched.folder, words or "is all right again", "failure" if words else "plain")

    def _see(self, sight: Sight, book: Book, now: float) -> None:
        path = sight.path
        if not _is_text(path):
            if path not in self._unnamed:
                self._unnamed.add(path)
                self.news(now, self.watched.folder, why_unusable(path, RUN_FILES), "warning")
            return
        results = self.results_of(path).relative_to(self.output).as_posix()
        refused = why_unusable(path, RUN_FILES) or self._leads_out(path) or book.refusal(sight, results, self.results_of(path))
        before = book.of(path)
        entry = policy.seen(before, sight, results, before=self.looked, now=now)
        if entry is not before:
            self.came = now
        after = entry.become(State.SKIPPED, now, refused) if refused else self._judged(entry, sight, now)
        book.put(after)
        self._tell_of(before, after, now)
        self.given_up += after.state is State.SKIPPED and (before is None or before.state is not State.SKIPPED)

    def _leads_out(self, path: Path) -> str:
        """Return in words that a file of a series is a link out of where it must lie; empty if none is."""
        return leads_out(path, self.watched.within) if self.watched.within is not None else ""

    def _judged(self, entry: Entry, sight: Sight, now: float) -> Entry:
        if entry.state is State.RUNNING:
            return entry
        entry = policy.outdated(entry, self.recipes.digest(sight.path), now)
        if entry.state in (State.DONE, State.FAILED):
            return self._as_results_say(entry, now)
        if entry.state is State.WHOLE:
            return entry
        return policy.judge(entry, self._arrival(sight), self.rules, now)

    def _as_results_say(self, entry: Entry, now: float) -> Entry:
        """Return an entry that is done or failed as the results of the series say when this session first sees it.

        Results may be gone, or be others now, so that it is done again; and another run may have done what failed here.
        """
        path = entry.path
        if path in self._answered:
            return entry
        self._answered.add(path)
        earlier = look_back(path, self.recipes.all.of(path), self.results_of(path))
        if earlier.result is None:
            again = f"done again: {earlier.why or 'its results are gone'}"
            return entry.become(State.WHOLE, now, again) if entry.state is State.DONE else entry
        self.recorder.expect(entry_of(path))
        self.recorder.done(earlier.result)
        return replace(entry, verdict=verdict_of(earlier.result)).become(State.DONE, now)

    def _arrival(self, sight: Sight) -> Arrival:
        """Return what has arrived of a series; its files are read once after each change, and again where they could not be."""
        identity, arrival = self._arrivals.get(sight.path, (None, Arrival()))
        if identity != sight.identity or arrival.unread:
            arrival = read_arrival(sight)
            self._arrivals[sight.path] = (sight.identity, arrival)
        return arrival

    def _miss(self, present: frozenset[Path], book: Book, now: float) -> None:
        """Leave out what waits and is not there any more."""
        for entry in book.entries:
            waits = entry.state in (State.GROWING, State.WHOLE) and entry.path.parent == self.watched.folder
            if waits and entry.path not in present:
                gone = entry.become(State.SKIPPED, now, "it is not there any more")
                book.put(gone)
                self._tell_of(entry, gone, now)

    def _tell_of(self, before: Entry | None, after: Entry, now: float) -> None:
        if (change := words_of_change(before, after)) is not None:
            self.news(now, after.path, *change)
            self._told.add((after.path, after.identity))
        elif after.state is State.GROWING and self._is_untold(after, now):
            self._told.add((after.path, after.identity))
            self.news(now, after.path, f"waits: {after.why}", "warning")

    def _is_untold(self, entry: Entry, now: float) -> bool:
        """Return whether a series is stalled, and nobody was told yet at what."""
        return policy.is_stalled(entry, self.rules, now) and (entry.path, entry.identity) not in self._told


def _is_text(path: Path) -> bool:
    """Return whether a path can stand in records and in the ledger."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
