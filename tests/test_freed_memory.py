"""Memory that was freed: kept for the next array, and given back."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries give back what they like")
def test_memory_that_was_freed_is_given_back() -> None:
    program = """
import numpy as np
from tiltflow.freed_memory import give_back_freed_memory
def resident(): return int(open('/proc/self/statm').read().split()[1]) * 4096 / 1e6
blocks = [np.ones(2000, np.uint8) for _ in range(100_000)]
kept = np.ones(2000, np.uint8)  # at the top of the heap, so that it cannot shrink by itself
del blocks
before = resident()
give_back_freed_memory()
print(before - resident())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 100


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep what they like")
@pytest.mark.parametrize(("setting", "fewest", "most"), [({}, 0, 50_000), ({"MALLOC_ARENA_MAX": "1"}, 150_000, 10**9)])
def test_large_arrays_take_the_memory_of_those_before_unless_the_user_has_set_something(setting, fewest, most) -> None:
    program = """
import resource
import numpy as np
from tiltflow.freed_memory import keep_freed_memory
keep_freed_memory()
for _ in range(20):
    np.ones(10_000_000, np.float32)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC", "GLIBC"))}
    environment["NUMPY_MADVISE_HUGEPAGE"] = "0"
    done = subprocess.run([sys.executable, "-c", program], env=environment | setting, capture_output=True, text=True, check=True)
    assert fewest < int(done.stdout) < most
