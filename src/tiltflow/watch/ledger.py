"""The ledger of a session: a row a series, in a SQLite file that outlives every process.

It says what a session knows and the results do not: what still arrives, what waits and why, how often a series was tried.  What is
done is said by the results themselves, so that a ledger that is lost costs no result.

The journal is a write-ahead log, with which others can read while a session writes; on a file system that several machines share, where
such a log must not be, it is SQLite's older one.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import astuple, dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from tiltflow.disk import is_on_network
from tiltflow.errors import FormatError, LocationError, TiltflowError

LEDGER_NAME = ".tiltflow-watch.sqlite"
"""In the folder of the results, unless another place is given."""
FORMAT = 1
"""Of the tables; a file of a higher one is refused."""
_APPLICATION = 0x74666C77
"""`tflw`, by which SQLite marks the files of an application."""
_BUSY_S = 30.0
"""How long somebody else who reads or copies the file may hold it."""


class State(StrEnum):
    """What a series is at."""

    GROWING = "growing"
    WHOLE = "whole"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A row of the ledger.

    Attributes
    ----------
    path
        The stack.
    results
        The folder of its results, relative to the folder of all.
    size, mtime_ns, beside
        Size and time of the stack, and those of the files beside it, when they were last looked at or when the work on them began.
    state
        What it is at.
    changed
        When one of these files last changed, s since 1970.
    since
        When it came to its state, s since 1970.
    why
        In words why it waits, failed or is left out.
    tries
        How often the work on it as it is was begun.
    verdict
        In words what came of it last.
    recipe
        Digest of the recipe that it was last done by.
    """

    path: Path
    results: str
    size: int
    mtime_ns: int
    beside: str
    state: State
    changed: float
    since: float
    why: str = ""
    tries: int = 0
    verdict: str = ""
    recipe: str = ""

    @property
    def identity(self) -> tuple[int, int, str]:
        """As :attr:`tiltflow.watch.sight.Sight.identity`."""
        return self.size, self.mtime_ns, self.beside

    def become(self, state: State, now: float, why: str = "") -> Entry:
        """Return the entry in a state, which it came to now unless it was in it already."""
        return replace(self, state=state, since=self.since if state is self.state else now, why=why)


_READ = "SELECT path, results, size, mtime_ns, beside, state, changed, since, why, tries, verdict, recipe FROM series"
_WRITE = "INSERT OR REPLACE INTO series VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
"""In the order of the fields of :class:`Entry`."""
_SCHEMA = (
    """CREATE TABLE series (
        path TEXT PRIMARY KEY, results TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, beside TEXT NOT NULL,
        state TEXT NOT NULL, changed REAL NOT NULL, since REAL NOT NULL, why TEXT NOT NULL, tries INTEGER NOT NULL,
        verdict TEXT NOT NULL, recipe TEXT NOT NULL)""",
    "CREATE TABLE looks (folder TEXT PRIMARY KEY, at REAL NOT NULL)",
    "CREATE TABLE session (output TEXT NOT NULL)",
    """CREATE VIEW overview AS
        SELECT path, state, datetime(since, 'unixepoch', 'localtime') AS since, why, tries, verdict FROM series ORDER BY path""",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {FORMAT}",
)


class Ledger:
    """The ledger, opened; a context manager.  It belongs to one thread of one process, which holds the lock of the session.

    Parameters
    ----------
    path
        The file, which is made if it is not there.
    output
        The folder of all results, whose ledger it is.

    Raises
    ------
    FormatError
        If the file is no ledger, is damaged, or was written by a newer version.
    LocationError
        If it cannot be opened, is a link, or belongs to other results.
    """

    def __init__(self, path: Path, output: Path) -> None:
        self.path = path
        if path.is_symlink():
            raise LocationError(f"{path} is a symbolic link; a ledger is written to a file of its own only: remove the link")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LocationError(f"{path}: the folder of the ledger cannot be made: {error.strerror}") from error
        with self._in_words():
            self._connection = sqlite3.connect(path, timeout=_BUSY_S)
        try:
            with self._in_words():
                self._open(output)
        except BaseException:
            self._connection.close()
            raise

    def _open(self, output: Path) -> None:
        application, version = self._number("application_id"), self._number("user_version")
        tables = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and application != _APPLICATION:
            raise FormatError(f"{self.path} is a database, but no ledger of tiltflow watch; give another file by --ledger")
        if version > FORMAT:
            raise FormatError(
                f"{self.path} was written by a newer tiltflow (format {version} of the ledger; this one knows {FORMAT}): use that "
                "version, or give another file by --ledger; results that are done are kept either way"
            )
        self._choose_journal()
        if not tables:
            with self._connection:
                self._connection.execute("BEGIN")  # a kill leaves all of it or nothing
                for statement in _SCHEMA:
                    self._connection.execute(statement)
                self._connection.execute("INSERT INTO session VALUES (?)", (os.fspath(output.resolve()),))
        of = Path(self._connection.execute("SELECT output FROM session").fetchone()[0])
        beside = self.path.resolve().is_relative_to(output.resolve())  # it was moved with the results
        if of != output.resolve() and not beside:
            raise LocationError(f"{self.path} is the ledger of the results in {of}, not of {output}; give another file by --ledger")

    def _choose_journal(self) -> None:
        """Take a write-ahead log if it works here, else the older journal, which works everywhere."""
        if not is_on_network(self.path):
            with suppress(sqlite3.OperationalError):
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.execute("ROLLBACK")
                return
        self._connection.execute("PRAGMA journal_mode = TRUNCATE")

    def _number(self, pragma: str) -> int:
        return int(self._connection.execute(f"PRAGMA {pragma}").fetchone()[0])

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except TiltflowError:
            raise
        except sqlite3.OperationalError as error:
            raise LocationError(
                f"{self.path}: the ledger cannot be opened or written ({error}); make room, or give a place on a local disk by --ledger"
            ) from error
        except (sqlite3.DatabaseError, TypeError) as error:
            raise FormatError(
                f"{self.path} is damaged, or no ledger ({error}); remove it: results that are done are kept all the same"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_of_exception: object) -> None:
        self._connection.close()

    def entries(self) -> dict[Path, Entry]:
        """Return all rows by the path of the series.

        Raises
        ------
        FormatError, LocationError
            If the file is damaged or cannot be read.
        """
        with self._in_words(), closing(self._connection.execute(_READ)) as rows:
            return {Path(row[0]): _entry(row) for row in rows}

    def save(self, entries: Iterable[Entry], looks: Iterable[tuple[Path, float]] = ()) -> None:
        """Write rows, and when each folder was last looked at, all or none.

        Raises
        ------
        LocationError, FormatError
            If they cannot be written.
        """
        with self._in_words(), self._connection:
            self._connection.executemany(_WRITE, [(os.fspath(entry.path), *astuple(entry)[1:]) for entry in entries])
            self._connection.executemany(
                "INSERT OR REPLACE INTO looks VALUES (?, ?)", [(os.fspath(each), at) for each, at in looks]
            )

    def remove(self, path: Path) -> None:
        """Forget a series.

        Raises
        ------
        LocationError, FormatError
            If that cannot be written.
        """
        with self._in_words(), self._connection:
            self._connection.execute("DELETE FROM series WHERE path = ?", (os.fspath(path),))

    def last_look(self, folder: Path) -> float:
        """Return when a folder was last looked at, s since 1970; -inf if never.

        Raises
        ------
        FormatError, LocationError
            If the file is damaged or cannot be read.
        """
        with self._in_words():
            found = self._connection.execute("SELECT at FROM looks WHERE folder = ?", (os.fspath(folder),)).fetchone()
        return float("-inf") if found is None else float(found[0])


def _entry(row: tuple[Any, ...]) -> Entry:
    values = dict(zip((each.name for each in fields(Entry)), row, strict=True))
    try:
        return Entry(**values | {"path": Path(values["path"]), "state": State(values["state"])})
    except ValueError as error:
        raise sqlite3.DatabaseError(str(error)) from error


def counts_of(path: Path) -> dict[State, int]:
    """Return how many series of a ledger are at what, also while a session writes to it.

    Raises
    ------
    FormatError
        If it cannot be read, or is no ledger of this version.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)) as base:
            if (version := base.execute("PRAGMA user_version").fetchone()[0]) != FORMAT:
                raise FormatError(f"{path} is a ledger of format {version}, and this tiltflow reads {FORMAT}")
            counts = dict(base.execute("SELECT state, count(*) FROM series GROUP BY state"))
    except sqlite3.Error as error:
        raise FormatError(f"{path} cannot be read as a ledger ({error})") from error
    return {state: counts.get(state.value, 0) for state in State}
