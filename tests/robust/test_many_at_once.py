"""Several runs at once on the same folder, from one system or from containers whose processes have equal numbers."""

from __future__ import annotations

import os
import sys

import pytest
from tests.robust.runs import broken_after_the_attack, broken_after_the_next, request


@pytest.mark.parametrize("runs", [2, 4])
@pytest.mark.parametrize("own_pids", [False, True])
def test_runs_at_once_make_one_result(any_warm, places, clean, tally, thorough, runs, own_pids):
    if own_pids and (sys.platform != "linux" or os.geteuid() != 0):
        pytest.skip("needs root, to give each run process numbers of its own")
    place = places[0]
    kind = f"{runs} runs at once{', equal process numbers' if own_pids else ''}"
    for number in range(2 if thorough else 1):
        place.emptied()
        any_warm.start([request(place) | {"own_pids": own_pids} for _ in range(runs)])
        ends = any_warm.ends()
        broken = [f"one ended with {end.status}: {end.said[-300:]}" for end in ends if end.status != 0]
        broken += broken_after_the_attack(place, clean[0])
        tally.add(kind, f"time {number + 1}", broken + broken_after_the_next(place, clean[0], any_warm.run(place)))
    tally.require(kind)
