"""The book of the outbox: runs, and what the portal is to be told of them, in an SQLite file.

A message is in the book, on the disk, before it is sent, and is struck out when the portal took it.  Its key goes along as the header
`Idempotency-Key`, so that a portal recognises a message that was taken but not struck out, because the power went in between.  The
messages of a run keep their order: one is sent when no earlier one of its run waits.

A token that the caller of a run gave stands in the book until its message is sent, for nobody else has it; the token of the site is not
written down.  The file can be read by its owner only, and what is struck out is overwritten.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import SecretStr

from tiltflow.delivery.certificates import Certificates
from tiltflow.disk import is_on_network
from tiltflow.errors import DeliveryError
from tiltflow.owner import is_gone, kernel, new_token

Kind: TypeAlias = Literal["running", "result", "final"]
State: TypeAlias = Literal["waiting", "sent", "refused", "dropped"]

BOOK_NAME = "outbox.sqlite"
_FORMAT = 1
_BUSY_S = 30.0
"""For how long a process waits while another one writes, which takes milliseconds unless a disk hangs."""
_KEPT_S = 30 * 86400.0
"""For how long what was told can be looked up."""
_TABLES = """
CREATE TABLE runs (
    run TEXT PRIMARY KEY, about TEXT NOT NULL, url TEXT, token TEXT, site_token INTEGER NOT NULL, plan TEXT NOT NULL,
    owner TEXT NOT NULL, host TEXT NOT NULL, kernel TEXT NOT NULL, begun REAL NOT NULL, seen REAL NOT NULL, ended REAL,
    times INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE TABLE messages (
    number INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL REFERENCES runs (run), times INTEGER NOT NULL, kind TEXT NOT NULL,
    about TEXT NOT NULL, body TEXT NOT NULL, key TEXT NOT NULL UNIQUE, state TEXT NOT NULL DEFAULT 'waiting',
    attempts INTEGER NOT NULL DEFAULT 0,
    written REAL NOT NULL, due REAL NOT NULL, changed REAL NOT NULL, problem TEXT NOT NULL DEFAULT '', taken_by TEXT,
    taken_until REAL NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX waiting ON messages (state, run, number);
CREATE VIEW letters AS SELECT messages.*, url, token, site_token FROM messages JOIN runs USING (run);
"""


_REFUSED_RESULT = "SELECT 1 FROM messages WHERE run = ? AND times = ? AND kind = 'result' AND state = 'refused'"
_FORGET_TOKENS = (
    "UPDATE runs SET token = NULL WHERE ended IS NOT NULL AND token IS NOT NULL"
    " AND NOT EXISTS (SELECT 1 FROM messages WHERE messages.run = runs.run AND state IN ('waiting', 'refused'))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEntry:
    """A run of which the portal is told.

    Attributes
    ----------
    run
        Its name, which no other run has.
    about
        What it works on, in words: a folder or a file.
    url
        Address of the portal's API; None for a run that tells nobody.
    token
        The caller's own, if there is one.
    site_token
        Whether the site's token goes along, which is not written down.
    plan
        What another process needs to end the run in order if its own dies (:mod:`tiltflow.pipeline.reconcile`).
    owner, host, kernel
        Token of its process (:mod:`tiltflow.owner`), and the machine, as it was started then.
    times
        How often it began, after it had ended.
    begun, seen, ended
        When it began, when its process was last heard of, and when it told its last word (None: not yet), s since 1970.
    """

    run: str
    about: str
    url: str | None
    token: SecretStr | None = None
    site_token: bool = False
    plan: dict[str, Any] = field(default_factory=dict)
    owner: str = ""
    host: str = ""
    kernel: str = ""
    times: int = 1
    begun: float = 0.0
    seen: float = 0.0
    ended: float | None = None

    @property
    def is_dead(self) -> bool | None:
        """Whether its process is gone, with the machine's last start for instance; None where that cannot be told from here."""
        if self.host == socket.gethostname() and self.kernel != kernel():
            return True
        return is_gone(self.owner)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message to the portal.

    Attributes
    ----------
    number
        Its place in the book.
    run, url, token, site_token
        As the run has them.
    times
        Of the beginnings of the run, the one that it belongs to.
    kind
        `running`, a result, or the final status.
    about
        What it is on, in words.
    body
        JSON.
    key
        Of the header `Idempotency-Key`.
    state
        `refused` is what the portal will not take however often it is sent.
    attempts
        How often it was sent.
    written, due, changed
        When it was written, is to be sent next, and got its state, s since 1970.
    problem
        What went wrong last.
    """

    number: int
    run: str
    url: str
    token: SecretStr | None
    site_token: bool
    times: int
    kind: Kind
    about: str
    body: str
    key: str
    state: State
    attempts: int
    written: float
    due: float
    changed: float
    problem: str


class Outbox:
    """The book in a folder; every call is a transaction that is on the disk when it returns.

    Parameters
    ----------
    folder
        Where the book lies, best on a local disk; None for a book in memory, which ends with the process.
    certificates
        Those that the portals' are checked by when its messages are sent; None for the usual ones.
    clock
        The time, s since 1970.

    Raises
    ------
    DeliveryError
        From every method, if the book cannot be read or written.
    """

    def __init__(
        self, folder: Path | None, *, certificates: Certificates | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.certificates = certificates
        self.path = folder / BOOK_NAME if folder is not None else None
        self.clock = clock
        self.owner = new_token()
        self._lock = threading.RLock()
        with self._told("opened"):
            self._base = _open(self.path)

    @property
    def is_durable(self) -> bool:
        """Whether the book outlives the process."""
        return self.path is not None

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._base.close()

    def begin(self, entry: RunEntry) -> bool:
        """Note that a run begins, and return whether it is taken up again: it had begun before and not ended.

        One that had ended begins anew, and all is told anew.
        """
        now = self.clock()
        token = entry.token.get_secret_value() if entry.token is not None else None
        with self._change() as base:
            known = base.execute("SELECT ended FROM runs WHERE run = ?", (entry.run,)).fetchone()
            base.execute("UPDATE runs SET times = times + 1 WHERE run = ? AND ended IS NOT NULL", (entry.run,))
            base.execute(
                "INSERT INTO runs (run, about, url, token, site_token, plan, owner, host, kernel, begun, seen)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (run) DO UPDATE SET about = excluded.about, url = excluded.url, token = excluded.token,"
                " site_token = excluded.site_token, owner = excluded.owner, host = excluded.host, kernel = excluded.kernel,"
                # A run that is taken up again has its plan until it makes another one.
                " plan = CASE WHEN excluded.plan = '{}' AND ended IS NULL THEN plan ELSE excluded.plan END,"
                " seen = excluded.seen, ended = NULL",
                (
                    *(entry.run, entry.about, entry.url, token, entry.site_token),
                    *(json.dumps(entry.plan), entry.owner or self.owner, socket.gethostname(), kernel(), now, now),
                ),
            )
            base.execute("DELETE FROM messages WHERE state IN ('sent', 'dropped') AND changed < ?", (now - _KEPT_S,))
            base.execute(
                "DELETE FROM runs WHERE ended < ? AND NOT EXISTS (SELECT 1 FROM messages WHERE messages.run = runs.run)",
                (now - _KEPT_S,),
            )
        return known is not None and known[0] is None

    def put(self, run: str, kind: Kind, about: str, body: str) -> None:
        """Write down what the portal is to be told of a run; what is in the book for it already, word for word, is not told again.

        A run has one status `running` and one final status: a later one replaces a final status that waits.
        """
        now = self.clock()
        same = kind if kind != "result" else body
        with self._change() as base:
            times = base.execute("SELECT times FROM runs WHERE run = ?", (run,)).fetchone()[0]
            if kind == "final" and base.execute(_REFUSED_RESULT, (run, times)).fetchone():
                body = json.dumps({"status": "error"})
            key = hashlib.sha256("\0".join((run, str(times), kind, same)).encode()).hexdigest()[:32]
            base.execute(
                "INSERT INTO messages (run, times, kind, about, body, key, written, due, changed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (key) DO UPDATE SET body = excluded.body WHERE kind = 'final' AND state = 'waiting' AND attempts = 0",
                (run, times, kind, about, body, key, now, now, now),
            )
            if kind == "final":
                base.execute("UPDATE runs SET ended = ?, seen = ? WHERE run = ?", (now, now, run))

    def seen(self, run: str) -> None:
        """Note that the process of a run is alive."""
        with self._change() as base:
            base.execute("UPDATE runs SET seen = ? WHERE run = ?", (self.clock(), run))

    def end(self, run: str) -> None:
        """Note that a run is over and has no more to tell."""
        with self._change() as base:
            base.execute("UPDATE runs SET ended = ?, token = NULL WHERE run = ? AND ended IS NULL", (self.clock(), run))

    def claim(self, entry: RunEntry) -> bool:
        """Return whether this process may end a run, or go on with it: nobody else has done so since it was read."""
        with self._change() as base:
            claimed = base.execute(
                "UPDATE runs SET owner = ?, host = ?, kernel = ?, seen = ? WHERE run = ? AND owner = ? AND ended IS NULL",
                (self.owner, socket.gethostname(), kernel(), self.clock(), entry.run, entry.owner),
            )
        return claimed.rowcount == 1

    def supersede(self, entry: RunEntry) -> None:
        """Note that another run does the work of one that died, and tells of it; what that one had still to tell is dropped.

        One that somebody has taken up meanwhile stays as it is.
        """
        now = self.clock()
        with self._change() as base:
            ended = base.execute(
                "UPDATE runs SET ended = ?, token = NULL WHERE run = ? AND owner = ? AND ended IS NULL",
                (now, entry.run, entry.owner),
            )
            if ended.rowcount:
                base.execute(
                    "UPDATE messages SET state = 'dropped', changed = ?, problem = 'a later run does the same, and tells it'"
                    " WHERE run = ? AND state = 'waiting'",
                    (now, entry.run),
                )

    def heads(self, run: str | None = None) -> list[Message]:
        """Return the next message of each run that has one waiting, in the order of writing; of one run only if that is given.

        Those that another process is sending at the moment are left out, and with them what is behind them.
        """
        return self._messages(
            "SELECT * FROM letters WHERE number IN (SELECT min(number) FROM messages WHERE state = 'waiting' GROUP BY run)"
            " AND (taken_by IS NULL OR taken_until < ?1) AND (?2 IS NULL OR run = ?2) ORDER BY number",
            (self.clock(), run),
        )

    def take(self, message: Message, seconds: float) -> bool:
        """Return whether this process may send a message now: nobody else does so for so long, or until this process is gone."""
        now = self.clock()
        with self._change() as base:
            taken = base.execute(
                "UPDATE messages SET taken_by = ?, taken_until = ? WHERE number = ? AND state = 'waiting'"
                " AND (taken_by IS NULL OR taken_until < ?)",
                (self.owner, now + seconds, message.number, now),
            )
        return taken.rowcount == 1

    def free_those_of_the_dead(self) -> None:
        """Let go of messages whose sender is gone."""
        with self._change() as base:
            takers = [row[0] for row in base.execute("SELECT DISTINCT taken_by FROM messages WHERE taken_by IS NOT NULL")]
            base.executemany(
                "UPDATE messages SET taken_by = NULL, taken_until = 0 WHERE taken_by = ?",
                [(taker,) for taker in takers if is_gone(taker)],
            )

    def sent(self, message: Message, attempts: int) -> None:
        """Strike a message out: the portal took it."""
        with self._change() as base:
            self._settle(base, message, "sent", attempts, "")
            base.execute(_FORGET_TOKENS)

    def refused(self, message: Message, attempts: int, problem: str, final: str) -> None:
        """Note that the portal will not take a message; a result that is refused makes `final` the body of the final status."""
        with self._change() as base:
            self._settle(base, message, "refused", attempts, problem)
            if message.kind == "result":
                base.execute(
                    "UPDATE messages SET body = ? WHERE run = ? AND kind = 'final' AND state = 'waiting'", (final, message.run)
                )

    def later(self, message: Message, attempts: int, problem: str, due: float) -> None:
        """Note that a message could not be sent, and when to try again."""
        with self._change() as base:
            base.execute(
                "UPDATE messages SET attempts = attempts + ?, problem = ?, due = ?, taken_by = NULL, taken_until = 0"
                " WHERE number = ? AND state = 'waiting'",
                (attempts, problem, due, message.number),
            )

    def let_go(self, message: Message) -> None:
        """Give a message back that was taken and not sent."""
        with self._change() as base:
            base.execute("UPDATE messages SET taken_by = NULL, taken_until = 0 WHERE number = ?", (message.number,))

    def messages(self, *states: State) -> list[Message]:
        """Return the messages, in the order of writing: all, or those in these states."""
        return self._messages(
            "SELECT * FROM letters WHERE ?1 = '[]' OR state IN (SELECT value FROM json_each(?1)) ORDER BY number",
            (json.dumps(states),),
        )

    def retry(self, numbers: Sequence[int]) -> list[int]:
        """Let messages that were not sent wait to be sent once more, and return them; the token of those that were is gone."""
        return self._mark(
            numbers, "UPDATE messages SET state = 'waiting', due = ?, taken_by = NULL WHERE number = ? AND state <> 'sent'"
        )

    def drop(self, numbers: Sequence[int]) -> list[int]:
        """Never send messages, and return those that were waiting or refused."""
        return self._mark(
            numbers, "UPDATE messages SET state = 'dropped', changed = ? WHERE number = ? AND state IN ('waiting', 'refused')"
        )

    def find(self, run: str) -> RunEntry | None:
        """Return what is known of a run; None if it never began."""
        with self._lock, self._told("read"):
            row = self._base.execute("SELECT * FROM runs WHERE run = ?", (run,)).fetchone()
        return None if row is None else _run(dict(row))

    def unfinished(self) -> list[RunEntry]:
        """Return the runs that have not told their last word, the oldest first."""
        with self._lock, self._told("read"):
            rows = self._base.execute("SELECT * FROM runs WHERE ended IS NULL ORDER BY begun").fetchall()
        return [_run(dict(row)) for row in rows]

    def _mark(self, numbers: Sequence[int], statement: str) -> list[int]:
        with self._change() as base:
            changed = [number for number in numbers if base.execute(statement, (self.clock(), number)).rowcount]
            base.execute(_FORGET_TOKENS)
        return changed

    def _settle(self, base: sqlite3.Connection, message: Message, state: State, attempts: int, problem: str) -> None:
        base.execute(
            "UPDATE messages SET state = ?, attempts = attempts + ?, problem = ?, changed = ?, taken_by = NULL, taken_until = 0"
            " WHERE number = ?",
            (state, attempts, problem, self.clock(), message.number),
        )

    def _messages(self, statement: str, values: tuple[object, ...]) -> list[Message]:
        with self._lock, self._told("read"):
            rows = self._base.execute(statement, values).fetchall()
        return [_message(dict(row)) for row in rows]

    @contextlib.contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """Give the book for a change that is on the disk at the end, or was not made."""
        with self._lock, self._told("written"):
            try:  # a signal may come at any moment, and its handler raise
                self._base.execute("BEGIN IMMEDIATE")
                yield self._base
                self._base.execute("COMMIT")
            except BaseException:
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Turn an error of the book into words."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise DeliveryError(
                f"The outbox {self.path or 'in memory'} cannot be {what} ({error}); it keeps what the portal is to be told. "
                "See to its folder, or name another in the setting state (TILTFLOW_STATE)."
            ) from error


def _open(path: Path | None) -> sqlite3.Connection:
    """Return the book, made if it is not there; while another process makes it, for a while."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW, 0o600))
        _require_own(path)
    end = time.monotonic() + _BUSY_S
    while True:
        try:
            return _opened(path)
        except sqlite3.OperationalError as error:
            # The kind of the journal cannot be changed while somebody else writes, and for that SQLite does not wait.
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.05)


def _opened(path: Path | None) -> sqlite3.Connection:
    base = sqlite3.connect(path or ":memory:", timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    base.row_factory = sqlite3.Row
    try:
        if path is not None:
            # A write-ahead log is shared by memory, which machines with a common file system do not have.
            base.execute(f"PRAGMA journal_mode = {'TRUNCATE' if is_on_network(path) else 'WAL'}")
        base.execute("PRAGMA synchronous = FULL")
        base.execute("PRAGMA secure_delete = ON")
        base.execute("BEGIN IMMEDIATE")
        _require_format(base)
        base.execute("COMMIT")
    except BaseException:
        base.close()
        raise
    return base


def _require_own(path: Path) -> None:
    """Raise unless a file is a regular one of this user, and let nobody else read it: it may hold tokens."""
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"{path} is no regular file")
    if found.st_uid != os.geteuid():
        raise OSError(f"{path} belongs to another user")
    if found.st_mode & 0o077:
        path.chmod(0o600)


def _require_format(base: sqlite3.Connection) -> None:
    """Make the tables of a new book, and raise if the book is of a newer program."""
    found = base.execute("PRAGMA user_version").fetchone()[0]
    if found > _FORMAT:
        raise sqlite3.DatabaseError(f"it is of a newer tiltflow: format {found}, and this one reads {_FORMAT}")
    if found < _FORMAT:
        for statement in _TABLES.split(";"):
            base.execute(statement)
        base.execute(f"PRAGMA user_version = {_FORMAT}")


def _run(row: dict[str, Any]) -> RunEntry:
    secret = {"token": _secret(row["token"]), "site_token": bool(row["site_token"]), "plan": json.loads(row["plan"])}
    return RunEntry(**{each.name: row[each.name] for each in fields(RunEntry)} | secret)


def _message(row: dict[str, Any]) -> Message:
    secret = {"token": _secret(row["token"]), "site_token": bool(row["site_token"])}
    return Message(**{each.name: row[each.name] for each in fields(Message)} | secret)


def _secret(token: str | None) -> SecretStr | None:
    return None if token is None else SecretStr(token)
