"""The file of the outbox: an SQLite file that its owner alone can read, as it may hold tokens."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time
from pathlib import Path

from tiltflow.disk import is_on_network

_FORMAT = 1
_BUSY_S = 30.0
"""For how long a process waits while another one writes, which takes milliseconds unless a disk hangs."""
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


def open_file(path: Path | None) -> sqlite3.Connection:
    """Return the file, made if it is not there; while another process makes it, after a while.

    Parameters
    ----------
    path
        None for one in memory.

    Raises
    ------
    OSError
        If it cannot be made, is no regular file, or belongs to another user.
    sqlite3.Error
        If it is no book, or one of a newer program.
    """
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
    with contextlib.ExitStack() as undo:
        undo.callback(base.close)
        if path is not None:
            # A write-ahead log is shared by memory, which machines with a common file system do not have.
            base.execute(f"PRAGMA journal_mode = {'TRUNCATE' if is_on_network(path) else 'WAL'}")
        base.execute("PRAGMA synchronous = FULL")
        base.execute("PRAGMA secure_delete = ON")
        with base:
            base.execute("BEGIN IMMEDIATE")
            _require_format(base)
        undo.pop_all()
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
