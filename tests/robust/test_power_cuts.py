"""A power cut at any moment, and each loss that a file system allows: no record on the disk lies, and the next run completes the work."""

from __future__ import annotations

import hashlib
import random

import pytest
from tests.robust.disk_model import Disk, Lost, put
from tests.robust.runs import NAME, UNREADABLE, broken_after_the_next, lies, request
from tests.robust.shim import Call

TOPS = ("out", "scratch")
WITH_A_RECORD = 40
"""Calls before the first record of a success, which are looked at one by one to the end of the run."""


def moments_of(events, every):
    """Return the calls after which the power is cut: some of all, and every one from shortly before a success is recorded."""
    success = next(
        number for number, event in enumerate(events) if event.call is Call.WRITE and b'"status": "success"' in event.data
    )
    return success, sorted({*range(0, len(events), every), *range(max(0, success - WITH_A_RECORD), len(events))})


def test_a_power_cut_at_any_call_leaves_no_lie_and_is_completed_by_the_next_run(warm, places, clean, tally, thorough):
    place = places[0]
    chance, disk, seen = random.Random(7), Disk(place.root), set()
    events = clean[0].events
    success, moments = moments_of(events, 2)
    reruns = 80 if thorough else 4
    states = []
    for number, event in enumerate(events):
        disk.play(event)
        if number not in moments:
            continue
        for lost in (Lost.ALL, Lost.DATA, Lost.SOME, Lost.ANY):
            state = disk.after(lost, chance)
            digest = hashlib.sha256(repr(sorted(state.items())).encode()).hexdigest()
            if digest not in seen:
                seen.add(digest)
                states.append((number, lost, state))
    assert not disk.unknown, disk.unknown[:5]
    late = [state for state in states if state[0] >= success]
    looked_at = late if thorough else chance.sample(late, 40)
    kind = "power cut: what the record on the disk says"
    for number, lost, state in looked_at:
        put(state, place.emptied().root, TOPS)
        tally.add(kind, f"after call {number}, {lost.value} lost", [lie for lie in lies(place) if UNREADABLE not in lie])
    tally.require(kind)
    kind = "power cut: completed by the next run"
    for number, lost, state in chance.sample(states, min(reruns, len(states))):
        put(state, place.emptied().root, TOPS)
        warm.start([request(place)])
        broken = broken_after_the_next(place, clean[0], warm.ends()[0])
        tally.add(kind, f"after call {number}, {lost.value} lost", broken)
    tally.require(kind)


@pytest.mark.whole
@pytest.mark.attack("power cut: what the portal was told")
def test_what_the_portal_is_told_outlives_a_power_cut(warm, places, clean):
    place, disk = places[0], Disk(places[0].root)
    for event in clean[0].events:
        disk.play(event)
        if event.call is Call.RENAME and event.second.endswith("/callback.json"):
            break
    put(disk.after(Lost.ALL, random.Random(1)), place.emptied().root, TOPS)
    lost = [name for name in clean[0].contents if name.startswith(f"{NAME}/") and not (place.output / name).is_file()]
    assert [*lies(place), *(f"{name} is lost" for name in lost)] == []
