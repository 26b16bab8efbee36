"""Flows, workers and what they depend on die at random moments; then the same is started again: nothing is lost, or told twice."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.operations.conftest import RUN_S, Facility
from tests.robust.runs import contents
from tests.robust.tally import Tally

MANY = 4
"""From so many moments of each kind on, what takes long is tried too."""


def undisturbed(facility: Facility) -> tuple[dict[str, str], float]:
    """Run the flow undisturbed, and return what it makes and how long it takes."""
    facility.portal.fails = 0.0
    begin = time.monotonic()
    process = facility.start()
    said, _ = process.communicate(timeout=RUN_S)
    seconds = time.monotonic() - begin
    assert process.returncode == 0, said[-3000:]
    clean = contents(facility.output)
    assert facility.broken_promises(clean) == []
    facility.portal.fails = 0.3
    return clean, seconds


def end_all(process: subprocess.Popen[str], sent: signal.Signals) -> str:
    """Send a signal to the flow, or with SIGKILL to all that it started, and return what it said."""
    if process.poll() is None:
        os.killpg(process.pid, sent) if sent is signal.SIGKILL else process.send_signal(sent)
    said, _ = process.communicate(timeout=RUN_S)
    return said


def run_again(facility: Facility) -> list[str]:
    """Run the flow to its end, deliver what a bad portal did not take, and return what is wrong with that."""
    process = facility.start()
    said, _ = process.communicate(timeout=RUN_S)
    facility.deliver()
    return [] if process.returncode == 0 else [f"run again it ended with {process.returncode}: {said[-1500:]}"]


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_flow_that_dies_at_any_moment_is_done_by_the_next_and_told_once(
    facility: Facility, tally: Tally, moments: int, sent: signal.Signals
) -> None:
    clean, seconds = undisturbed(facility)
    chance, kind = random.Random(int(sent)), f"flow ended by {sent.name}"
    for _ in range(moments):
        facility.empty()
        process, delay = facility.start(), chance.uniform(0.3, 1.0) * seconds
        time.sleep(delay)
        said = end_all(process, sent)
        had_told = len(facility.portal.results)
        broken = [f"a traceback of ours: {said[-1500:]}"] if "Error in " in said else []
        broken += run_again(facility)
        # What it had told when it was over, as it ended in order, was the answer to another request.
        broken += facility.broken_promises(clean, times=(1, 1 + had_told))
        tally.add(kind, f"after {delay:.1f} of {seconds:.1f} s", broken)
    tally.require(kind)


@pytest.fixture
def workers(request: pytest.FixtureRequest) -> tuple[str, dict[str, str]]:
    """Return the words in the command of a worker, and the variables of a flow that has such workers."""
    if request.param == "Slurm":
        return "distributed.cli.dask_worker", request.getfixturevalue("slurm")
    return "multiprocessing.spawn", {"TILTFLOW_RUNNER": "dask", "TILTFLOW_WORKERS": "2"}


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("workers", ["Dask", "Slurm"], indirect=True)
def test_a_worker_that_dies_at_any_moment_costs_nothing(
    facility: Facility, tally: Tally, moments: int, workers: tuple[str, dict[str, str]], sent: signal.Signals, request: Any
) -> None:
    clean, _ = undisturbed(facility)
    command, facility.more = workers
    chance, killed = random.Random(3), 0
    kind = f"worker of {request.node.callspec.params['workers']} ended by {sent.name}"
    for _ in range(moments):
        facility.empty()
        process = facility.start()
        facility.await_a_series(process)
        delay = chance.uniform(0.0, 4.0)
        time.sleep(delay)
        for pid in [pid for pid, said in facility.processes().items() if command in said][:1]:
            os.kill(pid, sent)
            killed += 1
        said, _ = process.communicate(timeout=RUN_S)
        broken = [] if process.returncode == 0 else [f"it ended with {process.returncode}: {said[-1500:]}"]
        facility.deliver()
        until_alone(facility)
        tally.add(kind, f"after {delay:.1f} s", broken + facility.broken_promises(clean))
    assert killed, "every run was over before its turn came"
    tally.require(kind)


def until_alone(facility: Facility) -> None:
    """Wait for the end of jobs that Slurm was asked to end."""
    end = time.monotonic() + 30
    while facility.processes() and time.monotonic() < end:
        time.sleep(0.2)


def test_a_flow_waits_for_the_end_of_a_maintenance(facility: Facility, tally: Tally, slurm: dict[str, str]) -> None:
    clean, _ = undisturbed(facility)
    facility.more, kind = slurm, "Slurm's nodes drained for a minute"

    def set_node(state: str) -> None:
        node = socket.gethostname().split(".")[0]
        command = ["scontrol", "update", f"NodeName={node}", f"State={state}", "Reason=maintenance"]
        subprocess.run(command, check=True, env=facility.environment)

    facility.empty()
    set_node("DRAIN")
    process = facility.start()
    time.sleep(60)
    waited = process.poll() is None
    set_node("RESUME")
    said, _ = process.communicate(timeout=RUN_S)
    broken = [] if waited and process.returncode == 0 else [f"it ended with {process.returncode}: {said[-1500:]}"]
    broken += [] if "waits (" in said else [f"it does not say that it waits: {said[-1500:]}"]
    facility.deliver()
    until_alone(facility)
    tally.add(kind, "", broken + facility.broken_promises(clean))
    tally.require(kind)


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_deployment_s_worker_that_dies_with_its_flow_loses_nothing(
    facility: Facility, tally: Tally, moments: int, sent: signal.Signals
) -> None:
    clean, _ = undisturbed(facility)
    facility.deploy()
    chance, kind = random.Random(int(sent)), f"Prefect's worker ended by {sent.name}"
    for _ in range(moments):
        facility.empty()
        worker = facility.start_worker()
        facility.request_run()
        facility.await_a_series(worker)
        delay = chance.uniform(0.0, 5.0)
        time.sleep(delay)
        if sent is signal.SIGKILL:  # the machine loses its power
            for pid in facility.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, sent)
        else:  # the service is stopped: the worker waits for what it has started
            worker.send_signal(sent)
        worker.wait(RUN_S)
        had_told, worker = len(facility.portal.results), facility.start_worker()
        ended = facility.await_run(facility.request_run())
        worker.send_signal(signal.SIGTERM)
        worker.wait(RUN_S)
        broken = [] if ended.startswith("Completed") else [f"the next run ended as {ended}"]
        facility.deliver()
        until_alone(facility)
        # The portal asked twice, and each request is answered.
        times = (1, 1 + had_told) if sent is signal.SIGKILL else (1, 2)
        tally.add(kind, f"after {delay:.1f} s", broken + facility.broken_promises(clean, times=times))
    tally.require(kind)


@pytest.mark.parametrize("away_s", [30, 600])
def test_a_prefect_server_that_goes_away_loses_nothing(facility: Facility, tally: Tally, moments: int, away_s: int) -> None:
    if away_s > 30 and moments < MANY:
        pytest.skip(f"ten minutes: from --moments {MANY}")
    clean, _ = undisturbed(facility)
    chance, times, kind = (
        random.Random(4),
        moments if away_s == 30 else 1,
        f"Prefect's server gone for {away_s} s while series are done",
    )
    for _ in range(times):
        facility.empty()
        process = facility.start()
        facility.await_a_series(process)
        time.sleep(chance.uniform(0.0, 3.0))
        facility.server.stop()
        time.sleep(away_s)
        facility.server.start()
        said, _ = process.communicate(timeout=2 * RUN_S)
        facility.deliver()
        told = [{each["status"] for each in body["files"]} for body in facility.portal.results]
        done = [name for name in ("one", "two") if '"status": "success"' in _record(facility.output / name / "run.json")]
        broken = (
            [] if len(told) == 1 or not done else [f"{done} were done, and this was told: {facility.portal.heard}; {said[-1500:]}"]
        )
        broken += [] if facility.portal.statuses[-1:] in (["error"], ["success"]) else [f"statuses {facility.portal.statuses}"]
        broken += run_again(facility)
        tally.add(kind, "", broken + facility.broken_promises(clean, times=(1, 2)))
    tally.require(kind)


def _record(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def test_a_portal_that_is_away_is_told_everything_once_when_it_is_back(facility: Facility, tally: Tally) -> None:
    clean, _ = undisturbed(facility)
    facility.empty()
    facility.more = {"TILTFLOW_CALLBACK_PATIENCE_S": "1"}
    facility.portal.away = True
    process = facility.start()
    said, _ = process.communicate(timeout=RUN_S)
    broken = [] if process.returncode == 0 else [f"it ended with {process.returncode}: {said[-1500:]}"]
    broken += [] if "the portal is not told yet" in said else [f"it does not say so: {said[-1500:]}"]
    assert facility.command("outbox", "list").returncode == 4
    facility.portal.away = False
    facility.deliver()
    tally.add("portal away", "", broken + facility.broken_promises(clean))
    tally.require("portal away")


def test_a_flow_that_nobody_starts_again_is_closed_by_reconcile(facility: Facility, tally: Tally, moments: int) -> None:
    _, seconds = undisturbed(facility)
    chance, kind = random.Random(6), "flow killed, closed by reconcile"
    for _ in range(moments):
        facility.empty()
        process, delay = facility.start(), chance.uniform(0.5, 0.95) * seconds
        time.sleep(delay)
        end_all(process, signal.SIGKILL)
        had_told = len(facility.portal.results)
        done = facility.command("reconcile", "--grace", "0")
        facility.deliver()
        broken = [] if done.returncode in (0, 4) else [done.stdout + done.stderr]
        if facility.portal.statuses:
            finished = facility.portal.statuses[-1:]
            broken += [] if finished in (["error"], ["success"]) else [f"statuses {facility.portal.statuses}"]
            broken += (
                []
                if len(facility.portal.results) == max(1, had_told) or not facility.output.is_dir()
                else [f"told {facility.portal.results}"]
            )
        broken += [] if not facility.outbox.unfinished() else ["it is not closed"]
        broken += [f"{path} is left in scratch" for path in facility.left_in_scratch()]
        tally.add(kind, f"after {delay:.1f} s", broken)
    tally.require(kind)
