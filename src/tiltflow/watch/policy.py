"""What becomes of a series: when it is whole, when it is given up, when it is done again, and whose turn it is.

A series is whole when none of its files has changed for a while, and all views that its header, its `.mdoc` and its `.rawtlt`
announce have arrived.  No rule here looks at a disk or at a clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tiltflow.delivery.find_series import natural_key
from tiltflow.formats.sources import count_of
from tiltflow.watch.arrival import Arrival
from tiltflow.watch.ledger import Entry, State
from tiltflow.watch.sight import Sight

DIED = "the process that worked on it died"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """When a series is taken, and when no more.

    Attributes
    ----------
    still_s
        For how long none of its files may have changed, s: more than the longest pause between two views.
    patience_s
        After how long without a change an incomplete series is given up, s.
    most_tries
        How often a series that fails is tried by sessions of one look, which nobody starts by hand: once by each.
    most_deaths
        How often a series is tried in whose midst the process died; after `most_tries` of these it comes after all others.
    """

    still_s: float = 60.0
    patience_s: float = 86400.0
    most_tries: int = 3
    most_deaths: int = 10


def changed_at(told: float, before: float, now: float) -> float:
    """Return when a series changed that a look at `before` showed otherwise than one at `now`, s since 1970.

    It was between the two looks.  When, the times of its files tell, `told`, as far as they are believed: the clock of a microscope or a
    server may be wrong, and copies bring old times along.

    >>> changed_at(130.0, 100.0, 160.0), changed_at(20.0, 100.0, 160.0), changed_at(7000.0, 100.0, 160.0)
    (130.0, 100.0, 160.0)
    """
    return min(max(told, before), now)


def seen(entry: Entry | None, sight: Sight, results: str, *, before: float, now: float) -> Entry:
    """Return the entry of a series as it is seen: the one that there is, or a new one if it is new or has changed.

    A series that is being worked on keeps its entry; the work itself finds out that its input changes.

    Parameters
    ----------
    results
        The folder of its results, relative to that of all.
    before, now
        When the look before this one was, -inf for none, and when this one is.
    """
    if entry is not None and (entry.identity == sight.identity or entry.state is State.RUNNING):
        return entry
    size, mtime_ns, beside = sight.identity
    return Entry(
        path=sight.path,
        results=results,
        size=size,
        mtime_ns=mtime_ns,
        beside=beside,
        state=State.GROWING,
        changed=changed_at(sight.changed, before, now),
        since=now,
    )


def judge(entry: Entry, arrival: Arrival, rules: Rules, now: float) -> Entry:
    """Return the entry of a series that nobody works on, judged by what has arrived of it."""
    still_s = now - entry.changed
    if arrival.lacks:
        if still_s >= rules.patience_s:
            hours = f"{rules.patience_s / 3600:g} h"
            return entry.become(State.SKIPPED, now, f"given up after {hours} without a change: {arrival.lacks}")
        return entry.become(State.GROWING, now, arrival.lacks)
    views = count_of(arrival.held, "view")
    if still_s < rules.still_s:
        return entry.become(State.GROWING, now, f"{views} so far; taken after {rules.still_s:g} s without a change")
    return entry.become(State.WHOLE, now, views)


def is_stalled(entry: Entry, rules: Rules, now: float) -> bool:
    """Return whether an incomplete series has not changed for as long as a whole one may not."""
    return entry.state is State.GROWING and now - entry.changed >= rules.still_s


def outdated(entry: Entry, recipe: str, now: float) -> Entry:
    """Return the entry of a series that is done or failed, to be done anew if that was by another recipe."""
    if entry.state not in (State.DONE, State.FAILED) or entry.recipe == recipe:
        return entry
    return replace(entry, tries=0).become(State.WHOLE, now, "the recipe differs")


def taken_up(entry: Entry, rules: Rules, now: float, *, once: bool) -> Entry:
    """Return an entry of an earlier process as the next one goes on from it.

    What that process left in the middle is taken up, and what failed is tried again, but neither for ever.  Who kills a process, or cuts
    its power, has no grudge against a series, but a series may be what ends each process, for want of memory for instance.  Who starts a
    long session may have made room or mended something, so that what failed is tried again however often it did.

    Parameters
    ----------
    once
        Whether the session is one of one look.
    """
    if entry.state is State.RUNNING:
        if entry.tries >= rules.most_deaths:
            why = f"{DIED}, {entry.tries} times; it may need more memory than there is"
            return entry.become(State.FAILED, now, why)
        return entry.become(State.WHOLE, now, f"taken up again: {DIED}")
    if entry.state is State.FAILED and (entry.tries < rules.most_tries or not once):
        return entry.become(State.WHOLE, now, f"tried again, it failed: {entry.why}")
    return entry


def turn(entry: Entry, priority: int, rules: Rules, *, newest_first: bool) -> tuple[bool, int, float, tuple[object, ...]]:
    """Return a key that sorts series by whose turn it is: by priority, the highest first, then by the time of the last change.

    A series in whose midst several processes died comes last.
    """
    age = -entry.changed if newest_first else entry.changed
    return entry.tries >= rules.most_tries, -priority, age, natural_key(Path(entry.path.name))
