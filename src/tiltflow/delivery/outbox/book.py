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
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tiltflow.delivery.certificates import Certificates
from tiltflow.delivery.outbox.book_file import open_file
from tiltflow.delivery.outbox.entries import Kind, Message, RunEntry, State
from tiltflow.errors import DeliveryError
from tiltflow.owner import is_gone, kernel, new_token

BOOK_NAME = "outbox.sqlite"
_KEPT_S = 30 * 86400.0
"""For how long what was told can be looked up."""


_REFUSED_RESULT = "SELECT 1 FROM messages WHERE run = ? AND times = ? AND kind = 'result' AND state = 'refused'"
_FORGET_TOKENS = (
    "UPDATE runs SET token = NULL WHERE ended IS NOT NULL AND token IS NOT NULL"
    " AND NOT EXISTS (SELECT 1 FROM messages WHERE messages.run = runs.run AND state IN ('waiting', 'refused'))"
)


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
            self._base = open_file(self.path)

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
        return None if row is None else RunEntry.of_row(row)

    def unfinished(self) -> list[RunEntry]:
        """Return the runs that have not told their last word, the oldest first."""
        with self._lock, self._told("read"):
            rows = self._base.execute("SELECT * FROM runs WHERE ended IS NULL ORDER BY begun").fetchall()
        return [RunEntry.of_row(row) for row in rows]

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
        return [Message.of_row(row) for row in rows]

    @contextlib.contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """Give the book for a change that is on the disk at the end, or was not made."""
        # The connection is entered first: as soon as the transaction begins a signal may come, and its handler raise.
        with self._lock, self._told("written"), self._base:
            self._base.execute("BEGIN IMMEDIATE")
            yield self._base

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
