"""Threads over blocks of an array: the one place that starts them.

Kernels release the interpreter lock, so plain threads use all cores; items that take less than a few milliseconds are
faster on one.  numba's own thread pool is not used: its portable layer aborts the process when two series run at once.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from tiltflow import stopping

if TYPE_CHECKING:
    from tiltflow.model import Progress

T = TypeVar("T")
R = TypeVar("R")


def map_threads(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Yield `function(item)` in the order of `items`, with at most `2 * threads` results waiting.

    Memory stays bounded when the consumer is slower than the workers.  An exception in `function` is raised here, and the
    items not yet started are dropped; so they are where the work is asked to end (:mod:`tiltflow.stopping`).
    """
    if threads <= 1:
        for item in items:
            stopping.ask()
            yield function(item)
        return
    with _borrowed(threads) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 2 * threads:
                    stopping.ask()
                    yield waiting.popleft().result()
            while waiting:
                stopping.ask()
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
            wait(waiting)


_idle: dict[int, list[ThreadPoolExecutor]] = {}
"""Threads that wait for work, by their number: starting them anew takes longer than many a loop."""


@contextmanager
def _borrowed(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Lend threads to a `with` block; to another one meanwhile others, so that loops inside loops do not wait for each other."""
    idle = _idle.setdefault(threads, [])
    try:
        pool = idle.pop()
    except IndexError:
        pool = ThreadPoolExecutor(threads, thread_name_prefix="tiltflow")
    try:
        yield pool
    finally:
        idle.append(pool)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # a forked process has none of the threads


def map_views(function: Callable[[int], R], views: int, threads: int, progress: Progress | None = None) -> Iterator[R]:
    """Yield `function(view)` of all views, as :func:`map_threads` does; `progress` is called with the fraction that is done."""
    for done, result in enumerate(map_threads(function, range(views), threads), start=1):
        if progress is not None:
            progress(done / views)
        yield result


def usable_cores() -> int:
    """Return the number of cores that this process may use, within the limits of Slurm, a container or `taskset`."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_thread_for_algebra() -> Iterator[None]:
    """Limit the linear algebra libraries to one thread inside a `with` block.

    Their own threads wait by spinning, which on a busy machine slows the many small systems of an alignment tenfold; tiltflow's
    threads use the cores instead.
    """
    import numpy as np  # noqa: F401
    from scipy import linalg  # noqa: F401  numpy and scipy bring a library each, and what is loaded later is not held
    from threadpoolctl import threadpool_limits  # importing it sets an environment variable

    with threadpool_limits(1, user_api="blas"):
        yield
