"""A disk that is full, or fails, at any call: said in words, and the next run with room completes the work."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys

import pytest
from tests.robust.runs import NAME, Place, broken_after_the_attack, broken_after_the_next, request, write_small_series
from tests.robust.shim import EVERY, TAKES_ROOM, Arming, Mode

from tiltflow.cli import NONE_SUCCEEDED, NOT_TOLD, SOME_FAILED, USAGE_ERROR

STATUSES = {0, SOME_FAILED, USAGE_ERROR, NONE_SUCCEEDED, NOT_TOLD}
WORDS = {
    errno.ENOSPC: ("No space left", "No room", "no room", "disk full", "kB free", "MB free", "GB free"),
    errno.EIO: ("Input/output error", "I/O error"),
}
ATTACKS = {
    "disk full from a call on": (Mode.FAIL_FROM, errno.ENOSPC, TAKES_ROOM, 8),
    "disk full at one call": (Mode.FAIL_ONCE, errno.ENOSPC, TAKES_ROOM, 12),
    "disk full in the middle of a write": (Mode.SHORT_THEN_FAIL, errno.ENOSPC, TAKES_ROOM, 12),
    "a call that fails (EIO)": (Mode.FAIL_ONCE, errno.EIO, EVERY, 16),
}


def badly_told(end, failure):
    """Return what is wrong with how a run ended whose disk was full."""
    told = [] if end.status in STATUSES else [f"it ended with {end.status}: {end.said[-400:]}"]
    if "Traceback" in end.said:
        told.append(f"a traceback: {end.said[-700:]}")
    if end.status and not any(word in end.said for word in WORDS[failure]):
        told.append(f"it ended with {end.status} and does not say why: {end.said[-400:]}")
    return told


@pytest.mark.parametrize("kind", ATTACKS)
def test_a_call_that_fails_is_told_and_the_next_run_completes_the_work(warm, places, clean, tally, thorough, kind):
    mode, failure, calls, step = ATTACKS[kind]
    number = sum(event.call in calls for event in clean[0].events)
    moments = range(1, number + 1, step if thorough else number // 2)
    for pair in zip(moments[::2], moments[1::2], strict=False):
        warm.start(
            [
                request(place.emptied(), Arming(place.watched, mode, moment, failure, tuple(calls)))
                for place, moment in zip(places, pair, strict=True)
            ]
        )
        broken = [badly_told(end, failure) for end in warm.ends()]
        for place, each, told in zip(places, clean, broken, strict=True):
            told += broken_after_the_attack(place, each)
        warm.start([request(place) for place in places])
        for place, each, end, moment, told in zip(places, clean, warm.ends(), pair, broken, strict=True):
            tally.add(kind, f"at call {moment}", told + broken_after_the_next(place, each, end))
    tally.require(kind)


@contextlib.contextmanager
def small_disk(folder, kilobytes):
    """Give a disk in memory of so many kilobytes; skip where none can be made."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip("needs the right to mount a disk in memory")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root, to mount a disk in memory")
def test_a_small_disk_that_is_full_is_told_and_with_room_the_work_is_completed(any_warm, tmp_path, tally, thorough):
    for kilobytes in range(100, 2300, 400) if thorough else (300, 1200):
        root = tmp_path / f"disk-{kilobytes}"
        with small_disk(root, kilobytes):
            outside = Place(tmp_path / f"outside-{kilobytes}")
            outside.input.mkdir(parents=True)
            write_small_series(outside.input / f"{NAME}.st")
            (outside.root / "out").symlink_to(root, target_is_directory=True)
            end = any_warm.run(outside)
            broken = badly_told(end, errno.ENOSPC)
            subprocess.run(["mount", "-o", "remount,size=64m", str(root)], check=True)
            again = any_warm.run(outside)
            broken += [] if again.status == 0 else [f"with room it ended with {again.status}: {again.said[-400:]}"]
            tally.add("a disk that is too small", f"{kilobytes} kB", broken)
    tally.require("a disk that is too small")
