"""A Dask worker that ends its series in order, and takes no series that it could not finish.

Dask ends a task only with the process that runs it, at once and without a word.  The plugin :class:`SeriesWorker` passes on to the work
(:mod:`tiltflow.stopping`) what asks it to end: a signal, as Slurm sends before it kills a job; the flow, which was cancelled; and the
scheduler, which has lost the flow.  The series then closes its record, ends `batchruntomo` and removes its scratch folder.

Workers load it by `--preload tiltflow_flows.worker`, those of a pool too.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Collection, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
from distributed.core import Status
from distributed.diagnostics.plugin import WorkerPlugin

from tiltflow import stopping
from tiltflow.parallel import usable_cores
from tiltflow.version import __version__

if TYPE_CHECKING:
    from distributed import Worker

PATIENCE_S = 25.0
"""How long a series has to end: Slurm and Prefect kill a process 30 s after they have asked it to end."""
_FETCH_S = 3.0
"""How long a result may lie with a worker that ends: the flow fetches it within milliseconds."""
_LOOK_S = 0.1
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class SeriesWorker(WorkerPlugin):
    """Ends the series of a worker in order.

    Parameters
    ----------
    lifetime_s
        After so long, s, the worker takes no further series, and ends when it has none; None for no limit.  Up to a tenth is taken off
        at random, so that the workers of a run do not end, and are not replaced, all at once.
    """

    name = "tiltflow-series"
    idempotent = True

    def __init__(self, lifetime_s: float | None = None) -> None:
        self.lifetime_s = lifetime_s

    def setup(self, worker: Worker) -> None:
        """Listen to what may ask a worker to end; called in its main thread, whose event loop runs."""
        self._worker: Any = worker
        self._loop = asyncio.get_running_loop()
        self._ending = self._signalled = False
        self._tasks: set[asyncio.Task[None]] = set()
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                signal.signal(number, self._on_signal)
        if self.lifetime_s is not None:
            # Dask's own --lifetime does not wait for the task that runs.
            self._start(self._retire(self.lifetime_s * random.uniform(0.9, 1.0)))

    def teardown(self, worker: Worker) -> None:
        """Ask the series to end: its worker closes, for whatever reason."""
        if worker.status not in (Status.closing, Status.closed, Status.failed):
            return  # another plugin of this name takes its place
        self._ending = True
        stopping.request("its worker closes")
        # Whatever Dask waits for then, a job that is over gives its cores back.
        _at_the_latest(PATIENCE_S)

    def transition(self, *key_start_finish: Any, **_: Any) -> None:
        """Ask a series to end that nobody waits for any more; a series that begins is not asked for what the one before was."""
        _, start, finish = key_start_finish
        if start in ("executing", "long-running") and finish in ("released", "cancelled"):
            stopping.request("its run ended")
        elif finish == "executing" and start != "cancelled" and not self._ending:
            stopping.withdraw()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._signalled:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._signalled = True
        name = signal.Signals(number).name
        stopping.request(name)
        if not self._ending:  # a worker that closes is followed by the end of its job, which is a signal too
            self._ending = True
            self._loop.call_soon_threadsafe(lambda: self._start(self._close(f"signal {name}", PATIENCE_S)))

    async def _retire(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await self._close("the end of its time is near", None)

    async def _close(self, reason: str, patience_s: float | None) -> None:
        """Close the worker when it has no series and its results are fetched."""
        worker = self._worker
        worker.status = Status.paused  # the scheduler sends nothing more, and what it has sent does not begin
        await _until(lambda: not worker.state.executing and not _running(worker), patience_s)
        self._ending = True
        await _until(lambda: not worker.data, _FETCH_S)
        # A process that watches this one, of a cluster on one machine, starts another in its place.
        await worker.close(nanny=False, reason=reason, timeout=_FETCH_S)

    def _start(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)  # the loop itself holds no task
        task.add_done_callback(self._tasks.discard)


@click.command()
@click.option("--no-series-after", "lifetime_s", type=float, default=None, help="Seconds after which no series is taken.")
async def dask_setup(worker: Any, lifetime_s: float | None) -> None:
    """Give a worker the plugin: the hook of `--preload`."""
    await worker.plugin_add(SeriesWorker(lifetime_s))


def end_series(keys: Collection[str], dask_worker: Any = None) -> list[str]:
    """Ask the series of these keys that a worker works on to end, and return their keys; runs in that worker."""
    found = [task.key for task in dask_worker.state.executing if task.key in keys]
    if found:
        stopping.request("its run was cancelled or ended")
    return found


def describe_worker(dask_worker: Any = None) -> dict[str, Any]:
    """Return what a flow must know of a worker before it sends a series; runs in that worker."""
    return {
        "tiltflow": __version__,
        "python": ".".join(map(str, sys.version_info[:2])),
        "series": dask_worker.state.nthreads,
        "in order": any(isinstance(plugin, SeriesWorker) for plugin in dask_worker.plugins.values()),
        "cores": usable_cores(),
    }


def _running(worker: Any) -> Sequence[str]:
    """Return the tasks whose threads still run, also those that the scheduler has taken back."""
    return [key for key, task in worker.state.tasks.items() if task.state in ("executing", "cancelled") and not task.done]


def _at_the_latest(seconds: float) -> None:
    """End this process after a time, if it has not ended by then."""
    timer = threading.Timer(seconds, os._exit, (1,))
    timer.daemon = True
    timer.start()


async def _until(true: Any, patience_s: float | None) -> None:
    end = None if patience_s is None else time.monotonic() + patience_s
    while not true() and (end is None or time.monotonic() < end):
        await asyncio.sleep(_LOOK_S)
