"""Series end in order wherever they run, whoever asks: the record closed, the scratch folder gone, `batchruntomo` ended, within 30 s."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prefect", reason="needs the extra [prefect]")

from prefect.settings import get_current_settings
from tests.flow.call import OF_SAMPLE, PROGRAM

from tiltflow.record import read_record

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("prefect_server")]

ENDS_WITHIN_S = 30.0
"""After so long Prefect and Slurm kill what they have asked to end."""
SERIES = ("ts1", "ts2")


@dataclass
class Site:
    """A share with two series, and an IMOD whose work on them does not end until it is told to be quick."""

    share: Path
    folder: Path

    def quick(self) -> None:
        """Let the work that begins from now on end well."""
        (self.folder / "quick").touch()

    def engines(self) -> dict[str, int]:
        """Return the number of the process of batchruntomo on each series, of those that were started."""
        return {path.stem: int(path.read_text() or 0) for path in self.folder.glob("*.pid")}

    def scratch(self) -> list[str]:
        """Return what is left of the series in the scratch folder; Dask's own folders are Dask's."""
        return [path.name for path in (self.folder / "scratch").glob("ts*")]

    def failure(self, name: str) -> Any:
        """Return why a series failed, by its record."""
        return read_record(self.share / "Assets" / "Lab" / "Sample" / name / "run.json").failure


@pytest.fixture
def site(share: Path, small_series: Path, fake_imod: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    folder = share / "Projects" / "Lab" / "Sample"
    folder.mkdir(parents=True)
    for name in SERIES:
        shutil.copy(small_series, folder / f"{name}.st")
    program = tmp_path / "imod" / "bin" / "batchruntomo"
    told = f'echo $$ > {tmp_path}/"${{2%.adoc}}".pid\n[ -e {tmp_path}/quick ] || export FAKE_BATCHRUNTOMO=hang\nexec '
    program.write_text(program.read_text().replace("exec ", told, 1))
    fake_imod.setenv("TILTFLOW_WORKERS", "2")
    fake_imod.setenv("TILTFLOW_FALLBACK_ENGINE", "off")
    fake_imod.setenv("PREFECT_API_URL", str(get_current_settings().api.url))
    return Site(share, tmp_path)


@pytest.fixture
def start_flow(site: Site) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return the function that starts a flow in a process of its own, as a deployment does."""
    started = []

    def start(**changes: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM, json.dumps(OF_SAMPLE | changes)]
        with (site.folder / "flow.log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, text=True, cwd=site.folder)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def pool(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """A pool of two workers, as a site starts it."""
    address = site.folder / "scheduler.json"
    dask = [
        sys.executable,
        "-m",
        "distributed.cli.dask_scheduler",
        "--scheduler-file",
        str(address),
        "--port",
        "0",
        "--no-dashboard",
    ]
    work = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(address), "--nthreads", "1", "--no-nanny"]
    work += ["--memory-limit", "0", "--no-dashboard", "--preload", "tiltflow_flows.worker"]
    with (site.folder / "pool.log").open("w") as log:
        processes = [subprocess.Popen(command, stdout=log, stderr=log) for command in (dask, work, work)]
    until(address.exists, 60)
    monkeypatch.setenv("TILTFLOW_POOL_ADDRESS", json.loads(address.read_text())["address"])
    until(lambda: (site.folder / "pool.log").read_text().count("Starting established connection to tcp") >= 4, 60)
    yield processes[1:]
    for process in reversed(processes):
        process.kill()
        process.wait()


def until(true: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def working(site: Site, flow: subprocess.Popen[str], *names: str) -> bool:
    assert flow.poll() is None, (site.folder / "flow.log").read_text()[-3000:]
    return all(site.engines().get(name) for name in names)


def alive(number: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def parent_of(number: int) -> int:
    return int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1])


def settings_of(runner: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("TILTFLOW_RUNNER", runner)
    for name, value in {"CORES": "1", "MEMORY": "1GiB", "SHARED_FOLDER": str(folder / "slurm" / "shared")}.items():
        monkeypatch.setenv(f"TILTFLOW_SLURM_{name}", value)


def check_end(site: Site, begin: float) -> None:
    """Check that within the time all that the series needed is gone, and that their records say what happened."""
    engines = site.engines()

    def ended() -> bool:
        return not any(map(alive, engines.values())) and not site.scratch() and all(map(site.failure, engines))

    until(ended, begin + ENDS_WITHIN_S - time.monotonic())
    assert {site.failure(name).kind for name in engines} == {"interrupted"}


@pytest.mark.parametrize("runner", ["threads", "dask", "slurm", "pool"])
def test_a_flow_that_is_cancelled_ends_its_series_in_order(
    runner: str, site: Site, start_flow: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if runner in ("slurm", "pool"):
        request.getfixturevalue(runner)
    settings_of(runner, monkeypatch, site.folder)
    flow = start_flow()
    until(lambda: working(site, flow, *SERIES), 150)
    flow.send_signal(signal.SIGTERM)
    begin = time.monotonic()
    assert flow.wait(ENDS_WITHIN_S) != 0
    check_end(site, begin)


@pytest.mark.parametrize("runner", ["dask", "pool"])
def test_a_worker_that_is_asked_to_end_gives_its_series_back(
    runner: str, site: Site, start_flow: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if runner == "pool":
        request.getfixturevalue(runner)
    settings_of(runner, monkeypatch, site.folder)
    flow = start_flow(x_file_name="ts1.st")
    until(lambda: working(site, flow, "ts1"), 150)
    engine = site.engines()["ts1"]
    site.quick()
    os.kill(parent_of(engine), signal.SIGTERM)
    until(lambda: not alive(engine), ENDS_WITHIN_S)
    assert flow.wait(120) == 0
    assert not site.scratch()
    assert site.failure("ts1") is None
    assert "was asked to end (SIGTERM) before the series was done" in (site.folder / "flow.log").read_text()


def test_a_worker_of_a_pool_goes_on_when_the_flow_of_its_series_is_killed(
    site: Site, start_flow: Any, pool: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_of("pool", monkeypatch, site.folder)
    flow = start_flow()
    until(lambda: working(site, flow, *SERIES), 150)
    flow.kill()
    check_end(site, time.monotonic())
    assert [worker.poll() for worker in pool] == [None, None]
    site.quick()
    assert start_flow().wait(120) == 0


def test_a_slurm_job_that_is_cancelled_gives_its_series_back(
    slurm: None, site: Site, start_flow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_of("slurm", monkeypatch, site.folder)
    flow = start_flow(x_file_name="ts1.st")
    until(lambda: working(site, flow, "ts1"), 150)
    engine = site.engines()["ts1"]
    jobs = subprocess.run(["squeue", "--noheader", "--format=%i"], capture_output=True, text=True, check=True).stdout.split()
    site.quick()
    subprocess.run(["scancel", *jobs], check=True)
    until(lambda: not alive(engine), ENDS_WITHIN_S)
    assert flow.wait(150) == 0
    assert not site.scratch()
    assert f"Slurm job {jobs[0]} was asked to end (SIGTERM) before the series was done" in (site.folder / "flow.log").read_text()


def test_a_series_whose_slurm_jobs_are_killed_says_what_slurm_says_of_them(
    slurm: None, site: Site, start_flow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_of("slurm", monkeypatch, site.folder)
    flow = start_flow(x_file_name="ts1.st")
    for _ in range(2):
        until(lambda: working(site, flow, "ts1"), 150)
        os.kill(parent_of(site.engines()["ts1"]), signal.SIGKILL)
        (site.folder / "ts1.pid").unlink()
    assert flow.wait(200) == 1
    failure = site.failure("ts1")
    assert re.search(r"ts1\.st: Slurm job \d+ died\. Slurm says of it: (FAILED|CANCELLED)", failure.reason), failure.reason
    assert read_record(site.share / "Assets" / "Lab" / "Sample" / "ts1" / "run.json").status == "error"
