"""A run that is killed at a file-system call, or in the middle of one: what is on disk is true, and the next run completes it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Sequence

import pytest
from tests.robust.runs import Clean, Place, Warm, broken_after_the_attack, broken_after_the_next, left_over, request
from tests.robust.shim import EVERY, Arming, Call, Mode

CHANGES = tuple(call for call in EVERY if call is not Call.SYNC)
"""A kill before a sync leaves what a kill after it leaves: the system's memory outlives a process."""
STEP = {Mode.KILL: 2, Mode.KILL_HALF_WAY: 4}
"""Every which call is attacked by `make test-robust`: so that the table takes half an hour and not two."""


def kill_at(warm: Warm, places: Sequence[Place], mode: Mode, calls: Sequence[Call], moments: Sequence[int]) -> list[list[str]]:
    """Kill a run in each place at a call, and return what is wrong with how they ended."""
    asked = [
        request(place.emptied(), Arming(place.watched, mode, moment, calls=tuple(calls)))
        for place, moment in zip(places, moments, strict=True)
    ]
    warm.start(asked)
    return [[] if end.status == -signal.SIGKILL else [f"it ended with {end.status}: {end.said[-300:]}"] for end in warm.ends()]


def complete(warm: Warm, places: Sequence[Place], clean: Sequence[Clean], broken: list[list[str]]) -> None:
    """Check what was left in each place, run the same command again, and add which promises were broken."""
    for place, each, told in zip(places, clean, broken, strict=True):
        told += broken_after_the_attack(place, each)
    warm.start([request(place) for place in places])
    for place, each, end, told in zip(places, clean, warm.ends(), broken, strict=True):
        told += broken_after_the_next(place, each, end)


def pairs_of(number: int, step: int) -> list[tuple[int, int]]:
    """Return pairs of calls to attack, as two places are attacked at once; with the last calls, whatever the step."""
    moments = sorted({*range(1, number + 1, step), number - 1, number})
    return list(zip(moments[::2], moments[1::2], strict=False))


@pytest.mark.parametrize("mode", [Mode.KILL, Mode.KILL_HALF_WAY])
def test_a_run_that_is_killed_at_any_call_is_completed_by_the_next(warm, places, clean, tally, thorough, mode):
    calls = (Call.WRITE,) if mode is Mode.KILL_HALF_WAY else CHANGES
    number = sum(event.call in calls for event in clean[0].events)
    assert number > 100
    kind = "killed at a file-system call" if mode is Mode.KILL else "killed in the middle of a write"
    for pair in pairs_of(number, STEP[mode] if thorough else number // 2):
        broken = kill_at(warm, places, mode, calls, pair)
        complete(warm, places, clean, broken)
        for moment, told in zip(pair, broken, strict=True):
            tally.add(kind, f"at call {moment}", told)
    tally.require(kind)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_run_that_is_stopped_by_a_signal_at_any_moment_is_completed_by_the_next(warm, places, clean, tally, thorough, sent):
    moments = random.Random(int(sent))
    kind = f"stopped by {sent.name} at a random moment"
    for _ in range(20 if thorough else 1):
        pids = warm.start([request(place.emptied()) for place in places])
        delays = sorted(moments.uniform(0.0, 1.6) for _ in places)
        begin = time.monotonic()
        for pid, delay in zip(pids, delays, strict=True):
            time.sleep(max(0.0, begin + delay - time.monotonic()))
            signal_if_running(pid, sent)
        broken = [
            []
            if end.status in (0, 130, -sent) and "Traceback" not in end.said
            else [f"it ended with {end.status}: {end.said[-300:]}"]
            for end in warm.ends()
        ]
        complete(warm, places, clean, broken)
        for delay, told in zip(delays, broken, strict=True):
            tally.add(kind, f"after {delay:.2f} s", told)
    tally.require(kind)


def signal_if_running(pid: int, sent: signal.Signals) -> None:
    """Send a signal to a run, if it has not ended yet."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sent)


def test_nothing_is_left_of_a_killed_run_by_the_next_one(warm, places, clean, tally, thorough):
    number = sum(event.call in CHANGES for event in clean[0].events)
    kind = "killed, and nothing of it left by the next run"
    for pair in pairs_of(number, number // (6 if thorough else 1)):
        broken = kill_at(warm, places, Mode.KILL, CHANGES, pair)
        complete(warm, places, clean, broken)
        for place, each, moment, told in zip(places, clean, pair, broken, strict=True):
            tally.add(kind, f"at call {moment}", [*told, *(f"{name} is left" for name in left_over(place, each))])
    tally.require(kind)
