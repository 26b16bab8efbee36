"""The ledger in memory: what a session knows of every series, what of that is not written yet, and whose results lie where."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from tiltflow.errors import TiltflowError
from tiltflow.watch.ledger import Entry, Ledger, State
from tiltflow.watch.sight import Sight


class Book:
    """All entries of a ledger, by path; what is put here is written by :meth:`write`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._entries = ledger.entries()
        self._behind: dict[Path, Entry] = {}
        self._by_results: defaultdict[str, set[Path]] = defaultdict(set)
        for entry in self._entries.values():
            self._by_results[entry.results].add(entry.path)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries."""
        return tuple(self._entries.values())

    def of(self, path: Path) -> Entry | None:
        """Return the entry of a series, None for one that was never seen."""
        return self._entries.get(path)

    def put(self, entry: Entry) -> None:
        """Take an entry in place of the one of its series."""
        if self._entries.get(entry.path) != entry:
            self._entries[entry.path] = self._behind[entry.path] = entry
            self._by_results[entry.results].add(entry.path)

    def write(self, looks: Iterable[tuple[Path, float]] = (), *, last: bool = False) -> str:
        """Write what has changed, and with that when the folders were last looked at; nothing if nothing has changed, but for the `last`.

        Return in words why it cannot be written, as on a full disk; it is then written by the next call that can.
        """
        try:
            if self._behind or last:
                self._ledger.save(self._behind.values(), looks)
                self._behind.clear()
        except TiltflowError as error:
            return str(error)
        return ""

    def refusal(self, sight: Sight, results: str, place: Path) -> str:
        """Return in words why a series cannot have its results in a folder; empty if it can.

        The folder belongs to the first series that has it.  Where the file of that one is gone, it was renamed, moved, or replaced: the
        same file in another place takes its entry over.

        Parameters
        ----------
        results
            The folder, relative to that of all.
        place
            The folder, for the words.
        """
        for path in sorted(self._by_results[results] - {sight.path}):
            holder = self._entries[path]
            if holder.state is State.SKIPPED:
                continue
            if os.path.lexists(path) or (holder.identity != sight.identity and not path.parent.is_dir()):
                return (
                    f"its results would lie in {place}, which holds those of {path}: rename one of them, or give another --output"
                )
            self._forget(path)
            if holder.identity == sight.identity and sight.path not in self._entries:
                self.put(replace(holder, path=sight.path))
        return ""

    def _forget(self, path: Path) -> None:
        self._by_results[self._entries.pop(path).results].discard(path)
        self._behind.pop(path, None)
        self._ledger.remove(path)
