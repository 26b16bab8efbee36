"""Threads over blocks: order kept, memory bounded, errors passed on."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from tiltflow.parallel import map_threads, map_views


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(threads):
    def slow_first(i):
        time.sleep(0.01 if i == 0 else 0)
        return i * i

    assert list(map_threads(slow_first, range(20), threads)) == [i * i for i in range(20)]


@pytest.mark.parametrize("threads", [1, 2])
def test_views_come_in_order_and_the_fraction_is_told_of_each(threads):
    told = []
    assert list(map_views(lambda view: -view, 4, threads, told.append)) == [0, -1, -2, -3]
    assert told == [0.25, 0.5, 0.75, 1.0]
    assert list(map_views(lambda view: -view, 2, threads)) == [0, -1]


def test_no_more_than_twice_the_threads_wait_for_the_consumer():
    started = []
    results = map_threads(lambda i: started.append(i) or i, range(100), 2)
    next(results)
    time.sleep(0.05)
    assert len(started) <= 5
    results.close()


def test_an_error_in_a_worker_is_raised_to_the_consumer():
    def fails(i):
        if i == 3:
            raise ValueError("three")
        return i

    with pytest.raises(ValueError, match="three"):
        list(map_threads(fails, range(1000), 2))


def test_threads_are_used_again_and_loops_inside_loops_have_their_own():
    def names(_):
        return set(map_threads(lambda _: threading.current_thread().name, range(8), 2))

    assert all(map_threads(names, range(4), 2))
    first = threading.active_count()
    for _ in range(50):
        list(map_threads(names, range(4), 2))
    assert threading.active_count() <= first + 2


def test_what_was_begun_has_ended_when_a_loop_is_left():
    ended = []

    def slow(i):
        time.sleep(0.05)
        ended.append(i)
        if i == 0:
            raise ValueError("zero")

    with pytest.raises(ValueError, match="zero"):
        list(map_threads(slow, range(100), 2))
    number = len(ended)
    time.sleep(0.15)
    assert len(ended) == number < 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_starts_threads_of_its_own():
    code = """
import os
from tiltflow.parallel import map_threads
list(map_threads(abs, range(8), 2))
if child := os.fork():
    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os._exit(0 if list(map_threads(abs, range(8), 2)) == list(range(8)) else 1)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0


def test_one_thread_runs_in_the_caller():
    assert list(map_threads(lambda _: threading.current_thread(), [0], 1)) == [threading.current_thread()]


def test_libraries_that_are_loaded_inside_are_held_to_one_thread_too():
    code = """
from tiltflow.parallel import one_thread_for_algebra

with one_thread_for_algebra():
    import numpy
    import scipy.linalg
    from threadpoolctl import threadpool_info

    print([library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"])
print([library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"])
"""
    free = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")} | {"OPENBLAS_NUM_THREADS": "2"}
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=free).stdout
    inside, after = (json.loads(line) for line in shown.splitlines())
    assert set(inside) == {1}
    assert set(after) == {2}
    assert len(inside) == len(after)
