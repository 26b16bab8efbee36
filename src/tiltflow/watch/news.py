"""What a session tells of itself: a line an event, for somebody who reads them in the morning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from tiltflow.report.verdict import headline
from tiltflow.watch.ledger import Entry, State
from tiltflow.work import SeriesResult

Weight = Literal["plain", "good", "warning", "failure"]

_LISTED = 5
"""Series that are named in one line; the others are counted."""


@dataclass(frozen=True, slots=True)
class News:
    """An event: when, s since 1970; what it is about, a series or a folder; and what happened."""

    when: float
    about: str
    words: str
    weight: Weight = "plain"


Tell = Callable[[News], None]
"""Receives news, from any thread."""


def nobody(_news: News) -> None:
    """Receive news, and do nothing."""


def words_of_change(before: Entry | None, after: Entry) -> tuple[str, Weight] | None:
    """Return what to tell of a series that a look showed otherwise than the one before; None for nothing."""
    if before is not None and before.state is after.state:
        return None
    if after.state is State.GROWING:
        if before is None:
            return f"arrives: {after.why}", "plain"
        earlier = {State.DONE: " since it was done", State.FAILED: " since it failed"}.get(before.state, "")
        return f"has changed{earlier}: {after.why}", "plain"
    if after.state is State.WHOLE:
        return f"is whole: {after.why}", "plain"
    if before is not None and before.state is State.FAILED and after.state is State.DONE:
        return f"was done by another run: {after.verdict}", "plain"
    return (f"is not done: {after.why}", "warning") if after.state is State.SKIPPED else None


def words_of_result(result: SeriesResult) -> tuple[str, Weight]:
    """Return what to tell of a series that the work on it has ended."""
    if not result.ok:
        return failure_of(result), "failure"
    level = result.verdict.level.value if result.verdict else ""
    return f"done: {verdict_of(result)}", "good" if level == "good" else "warning"


def verdict_of(result: SeriesResult) -> str:
    """Return the verdict on a result in words."""
    return headline(result.verdict) if result.verdict is not None else "no verdict"


def failure_of(result: SeriesResult) -> str:
    """Return in words where a series failed and why, on one line."""
    first = (result.message or "no reason recorded").splitlines()[0]
    return f"FAILED at {result.stage or 'start'}: {first}"


def summary(entries: Collection[Entry]) -> str:
    """Return what a session has come to: how many series are at what, with verdicts, and the reason of each that waits.

    >>> summary([])
    'no series yet'
    """
    states = Counter(entry.state for entry in entries)
    levels = Counter(entry.verdict.partition(":")[0].partition(" (")[0] for entry in entries if entry.state is State.DONE)
    parts = []
    for state in State:
        if count := states[state]:
            named = (
                [f"{number} {level}" for level, number in sorted(levels.items())]
                if state is State.DONE
                else _waiting(state, entries)
            )
            parts.append(f"{count} {state}" + (f" ({'; '.join(named)})" if named else ""))
    return ", ".join(parts) or "no series yet"


def _waiting(state: State, entries: Collection[Entry]) -> list[str]:
    if state not in (State.GROWING, State.SKIPPED):
        return []
    all_of = [f"{entry.path.name}: {entry.why}" for entry in entries if entry.state is state]
    more = [f"{len(all_of) - _LISTED} more"] if len(all_of) > _LISTED else []
    return [*all_of[:_LISTED], *more]
