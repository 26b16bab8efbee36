"""What becomes of a series, as tables of cases: each fails when the rule is changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tiltflow.watch import policy
from tiltflow.watch.arrival import Arrival
from tiltflow.watch.ledger import Entry, State
from tiltflow.watch.policy import Rules
from tiltflow.watch.sight import FileState, Sight

RULES = Rules(still_s=60.0, patience_s=3600.0, most_tries=3, most_deaths=5)
NOW = 10_000.0


def entry(state: State = State.GROWING, **changes: object) -> Entry:
    made = Entry(
        path=Path("/in/B.st"), results="B", size=100, mtime_ns=5, beside="{}", state=state, changed=NOW - 500.0, since=NOW - 500.0
    )
    return replace(made, **changes)  # type: ignore[arg-type]


WHOLE, PART = Arrival(31, 31, "its header"), Arrival(12, 31, "B.mdoc")
UNREAD = Arrival(unread="B.st: is empty")


@pytest.mark.parametrize(
    ("arrival", "still_s", "state", "why"),
    [
        (WHOLE, 60.0, State.WHOLE, "31 views"),
        (WHOLE, 59.9, State.GROWING, "31 views so far; taken after 60 s without a change"),
        (Arrival(1, 1, "its header"), 60.0, State.WHOLE, "1 view"),
        (PART, 0.0, State.GROWING, "12 of 31 views of B.mdoc have arrived"),
        (PART, 3599.0, State.GROWING, "12 of 31 views of B.mdoc have arrived"),
        (PART, 3600.0, State.SKIPPED, "given up after 1 h without a change: 12 of 31 views of B.mdoc have arrived"),
        (UNREAD, 60.0, State.GROWING, "it cannot be read yet: B.st: is empty"),
        (UNREAD, 3600.0, State.SKIPPED, "given up after 1 h without a change: it cannot be read yet: B.st: is empty"),
        (WHOLE, 1e6, State.WHOLE, "31 views"),
    ],
)
def test_when_a_series_is_whole_and_when_it_is_given_up(arrival, still_s, state, why):
    after = policy.judge(entry(changed=NOW - still_s), arrival, RULES, NOW)
    assert (after.state, after.why) == (state, why)


def test_a_series_that_was_given_up_is_taken_when_the_rest_comes():
    given_up = policy.judge(entry(changed=NOW - 4000.0), PART, RULES, NOW)
    assert policy.judge(given_up, WHOLE, RULES, NOW).state is State.WHOLE


def test_the_time_of_a_state_is_that_when_it_came_to_it_and_not_of_the_last_look():
    first = policy.judge(entry(), PART, RULES, NOW)
    assert policy.judge(first, Arrival(13, 31, "B.mdoc"), RULES, NOW + 100.0).since == first.since
    assert policy.judge(first, WHOLE, RULES, NOW + 100.0).since == NOW + 100.0


@pytest.mark.parametrize(
    ("told", "before", "changed"),
    [
        (9_990.0, 9_985.0, 9_990.0),  # as its server says
        (9_000.0, 9_985.0, 9_985.0),  # a server whose clock is late, or a copy that brings its old time along
        (99_999.0, 9_985.0, NOW),  # one whose clock is ahead
        (9_000.0, float("-inf"), 9_000.0),  # the first look: nothing else is known
    ],
)
def test_a_change_was_between_two_looks_whatever_the_clock_of_the_server_says(told, before, changed):
    assert policy.changed_at(told, before, NOW) == changed


def sight(size: int = 100, mtime_ns: int = 5, **beside: FileState) -> Sight:
    return Sight(Path("/in/B.st"), FileState(size, mtime_ns), beside)


@pytest.mark.parametrize(
    ("state", "seen", "kept"),
    [
        (State.DONE, sight(), True),
        (State.FAILED, sight(), True),
        (State.DONE, sight(size=101), False),
        (State.DONE, sight(mtime_ns=6), False),
        (State.DONE, sight(mdoc=FileState(1, 1)), False),
        (State.FAILED, sight(size=101), False),
        (State.SKIPPED, sight(size=101), False),
        (State.RUNNING, sight(size=101), True),  # the work finds out by itself
    ],
)
def test_a_change_of_a_file_makes_a_series_arrive_anew(state, seen, kept):
    before = entry(state, tries=2, verdict="GOOD", recipe="abc")
    after = policy.seen(before, seen, "B", before=NOW - 15.0, now=NOW)
    assert (after == before) == kept
    if not kept:
        assert (after.state, after.tries, after.identity) == (State.GROWING, 0, seen.identity)
        assert after.changed == NOW - 15.0


def test_a_new_series_is_one_that_arrives():
    after = policy.seen(None, sight(), "B", before=float("-inf"), now=NOW)
    assert (after.state, after.since, after.results) == (State.GROWING, NOW, "B")


@pytest.mark.parametrize(
    ("state", "recipe", "after"),
    [
        (State.DONE, "old", State.WHOLE),
        (State.FAILED, "old", State.WHOLE),
        (State.DONE, "new", State.DONE),
        (State.FAILED, "new", State.FAILED),
        (State.GROWING, "old", State.GROWING),
        (State.RUNNING, "old", State.RUNNING),
        (State.SKIPPED, "old", State.SKIPPED),
    ],
)
def test_what_was_done_by_another_recipe_is_done_again(state, recipe, after):
    result = policy.outdated(entry(state, recipe=recipe, tries=3), "new", NOW)
    assert result.state is after
    assert result.tries == (0 if after is not state else 3)


@pytest.mark.parametrize(
    ("state", "tries", "once", "after", "word"),
    [
        (State.RUNNING, 1, True, State.WHOLE, "taken up again: the process that worked on it died"),
        (State.RUNNING, 4, True, State.WHOLE, "taken up again"),
        (State.RUNNING, 5, True, State.FAILED, "died, 5 times; it may need more memory"),
        (State.RUNNING, 5, False, State.FAILED, "died, 5 times"),
        (State.FAILED, 1, True, State.WHOLE, "tried again, it failed: no angles"),
        (State.FAILED, 2, True, State.WHOLE, "tried again"),
        (State.FAILED, 3, True, State.FAILED, "no angles"),
        (State.FAILED, 3, False, State.WHOLE, "tried again, it failed: no angles"),
        (State.DONE, 1, False, State.DONE, ""),
        (State.GROWING, 0, False, State.GROWING, ""),
        (State.SKIPPED, 0, False, State.SKIPPED, ""),
        (State.WHOLE, 0, False, State.WHOLE, ""),
    ],
)
def test_what_the_next_process_makes_of_what_one_left(state, tries, once, after, word):
    why = "no angles" if state is State.FAILED else ""
    result = policy.taken_up(entry(state, tries=tries, why=why), RULES, NOW, once=once)
    assert result.state is after
    assert word in result.why
    assert result.tries == tries


@pytest.mark.parametrize(
    ("newest_first", "order"),
    [(False, ["old10", "old9", "new", "low", "died"]), (True, ["new", "old9", "old10", "low", "died"])],
)
def test_whose_turn_it_is(newest_first, order):
    waiting = [
        (entry(path=Path("/b/died"), changed=0.0, tries=3), 5),
        (entry(path=Path("/a/low"), changed=1.0, tries=2), 0),
        (entry(path=Path("/b/new"), changed=9.0), 5),
        (entry(path=Path("/b/old10"), changed=2.0), 5),
        (entry(path=Path("/b/old9"), changed=3.0), 5),
    ]
    by_turn = sorted(waiting, key=lambda row: policy.turn(*row, RULES, newest_first=newest_first))
    assert [each.path.name for each, _ in by_turn] == order


def test_of_the_same_age_the_order_is_that_of_people():
    waiting = [entry(path=Path(f"/a/{name}")) for name in ("B10.st", "B9.st")]
    assert [each.path.name for each in sorted(waiting, key=lambda each: policy.turn(each, 0, RULES, newest_first=False))] == [
        "B9.st",
        "B10.st",
    ]


@pytest.mark.parametrize(
    ("state", "still_s", "stalled"), [(State.GROWING, 60.0, True), (State.GROWING, 59.0, False), (State.SKIPPED, 60.0, False)]
)
def test_an_incomplete_series_is_stalled_when_a_whole_one_would_be_taken(state, still_s, stalled):
    assert policy.is_stalled(entry(state, changed=NOW - still_s), RULES, NOW) == stalled
