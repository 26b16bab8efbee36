"""Threads over blocks: order kept, memory bounded, errors passed on."""

import threading
import time

import pytest

from tiltflow.parallel import map_threads


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(threads):
    def slow_first(i):
        time.sleep(0.01 if i == 0 else 0)
        return i * i

    assert list(map_threads(slow_first, range(20), threads)) == [i * i for i in range(20)]


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


def test_one_thread_runs_in_the_caller():
    assert list(map_threads(lambda _: threading.current_thread(), [0], 1)) == [threading.current_thread()]
