"""A Dask worker with the plugin, in a process of its own: which work it takes, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tiltflow import stopping

cloudpickle = pytest.importorskip("cloudpickle", reason="needs the extra [prefect]")
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the modules of tests

pytestmark = [pytest.mark.flow, pytest.mark.filterwarnings("default")]


def work_until_asked(seconds: float, marker: str = "") -> tuple[str, int]:
    """Work for a time as a series does, and say why it ended, in a file too if one is given."""
    begin = time.monotonic()
    try:
        while time.monotonic() - begin < seconds:
            stopping.pause(0.05)
    except stopping.Interrupted as why:
        if marker:
            Path(marker).write_text(str(why))
        return str(why), os.getpid()
    return "done", os.getpid()


@pytest.fixture
def client() -> Iterator[Any]:
    """A scheduler in this process, and a client of it."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=0, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def start_worker(client: Any, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Return the function that starts a worker, as Slurm's jobs and pools do."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "distributed.cli.dask_worker", client.scheduler.address, "--nthreads", "1", "--no-nanny"]
        command += ["--no-dashboard", "--local-directory", str(tmp_path), "--preload", "tiltflow_flows.worker", *options]
        with (tmp_path / "log").open("w") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log))
        client.wait_for_workers(1, timeout=60)
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def running(client: Any) -> bool:
    return any(keys for keys in client.processing().values())


def submit(client: Any, seconds: float, marker: str = "") -> Any:
    future = client.submit(work_until_asked, seconds, marker, pure=False)
    end = time.monotonic() + 30
    while not running(client) and not future.done():
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(0.5)  # the worker has heard of it too
    return future


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_series_and_then_the_worker(client: Any, start_worker: Any, number: signal.Signals) -> None:
    worker = start_worker()
    future = submit(client, 60)
    worker.send_signal(number)
    assert future.result(timeout=20)[0] == number.name
    worker.wait(20)
    assert not client.scheduler_info()["workers"]


def test_a_series_that_nobody_waits_for_ends_and_the_next_one_is_not_asked_to(client: Any, start_worker: Any) -> None:
    worker = start_worker()
    client.cancel(submit(client, 600))
    assert client.submit(os.getpid).result(timeout=20) == worker.pid
    assert submit(client, 1).result(timeout=20)[0] == "done"


def test_a_worker_near_its_end_finishes_its_series_and_takes_no_other(client: Any, start_worker: Any) -> None:
    worker = start_worker("--no-series-after", "4")
    first = submit(client, 8)
    second = client.submit(os.getpid, pure=False)
    assert first.result(timeout=30) == ("done", worker.pid)
    worker.wait(20)
    assert not second.done()


def test_a_worker_that_has_lost_its_scheduler_ends_its_series(client: Any, start_worker: Any, tmp_path: Path) -> None:
    worker, marker = start_worker(), tmp_path / "ended"
    submit(client, 60, str(marker))
    client.cluster.close()
    worker.wait(40)
    assert marker.read_text() in ("its worker closes", "its run ended")
