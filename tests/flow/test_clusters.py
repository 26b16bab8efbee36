"""The flow on real clusters: Dask workers on this machine, and Slurm jobs of a private one-node cluster."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prefect", reason="needs the extra [prefect]")

from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import LogSort
from tests.flow.call import OF_SAMPLE

from em_workflows.brt.flow import brt_flow
from tiltflow.check_site.finding import Finding, Site, State, good, run_checks
from tiltflow.errors import SettingsError
from tiltflow.record import read_record
from tiltflow.settings import load_settings
from tiltflow_flows.site_checks import CHECKS

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("prefect_server")]


@pytest.fixture
def sample(share: Path, small_series: Path) -> Path:
    folder = share / "Projects" / "Lab" / "Sample"
    folder.mkdir(parents=True)
    shutil.copy(small_series, folder / "ts1.st")
    shutil.copy(small_series, folder / "ts2.st")
    (folder / "ts3.mrc").write_bytes(b"no tilt series")
    return folder


def check_run(share: Path) -> None:
    told = brt_flow(**OF_SAMPLE)
    assert [entry["status"] for entry in told["files"]] == ["success", "success", "error"]
    for entry in told["files"][:2]:
        for asset in entry["imageSet"][0]["assets"]:
            assert (share / "Assets" / asset["path"]).exists()
    assert list((share.parents[1] / "scratch").glob("ts*")) == []


def test_dask_workers_on_this_machine_do_the_work(
    share: Path, sample: Path, fake_imod: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TILTFLOW_RUNNER", "dask")
    monkeypatch.setenv("TILTFLOW_WORKERS", "2")
    check_run(share)
    with get_client(sync_client=True) as client:
        lines = client.read_logs(sort=LogSort.TIMESTAMP_DESC, limit=200, offset=0)
    done = {
        line.message.split(":")[0] for line in lines if line.name.startswith("tiltflow.") and "batchruntomo done" in line.message
    }
    assert {"ts1", "ts2"} <= done, "the library's log of the workers, on Prefect's page"


def test_a_worker_that_dies_costs_its_own_series_and_no_other(
    share: Path, sample: Path, fake_imod: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "imod" / "bin" / "batchruntomo"
    good = program.read_text()
    # The engine takes its worker down with it, as the kernel does when memory runs out.
    program.write_text(good.replace("exec ", 'if [ "$2" = ts1.adoc ]; then kill -9 $PPID; sleep 5; fi\nexec ', 1))
    monkeypatch.setenv("TILTFLOW_RUNNER", "dask")
    monkeypatch.setenv("TILTFLOW_WORKERS", "2")
    told = brt_flow(**OF_SAMPLE)
    assert [entry["status"] for entry in told["files"]] == ["error", "success", "error"]
    assert "its worker died" in told["files"][0]["message"]
    record = read_record(share / "Assets" / "Lab" / "Sample" / "ts1" / "run.json")
    assert record.failure is not None
    assert (record.status, record.failure.stage) == ("error", "batchruntomo")
    assert "It failed at <b>batchruntomo</b>" in (share / "Assets" / "Lab" / "Sample" / "ts1" / "report.html").read_text()


def test_slurm_jobs_do_the_work(
    slurm: None, share: Path, sample: Path, fake_imod: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for variable, value in {
        "RUNNER": "slurm",
        "WORKERS": "2",
        "SLURM_PARTITION": "em",
        "SLURM_CORES": "1",
        "SLURM_MEMORY": "1GiB",
        "SLURM_WALLTIME": "00:10:00",
        "SLURM_SHARED_FOLDER": str(tmp_path / "slurm" / "shared"),
    }.items():
        monkeypatch.setenv(f"TILTFLOW_{variable}", value)
    check_run(share)
    jobs = subprocess.run(["scontrol", "show", "job"], capture_output=True, text=True, check=True).stdout
    assert jobs.count("JobName=tiltflow") >= 1
    assert jobs.count("Partition=em") == jobs.count("JobName=tiltflow")


def test_the_check_of_a_site_asks_slurm_about_its_nodes_and_the_very_job_and_submits_nothing(slurm: None, tmp_path: Path) -> None:
    (check,) = [check for check in CHECKS if check.name == "Slurm"]

    def look(partition: str, *directives: str) -> Finding:
        asked = {"partition": partition, "cores": 1, "memory": "1GiB", "shared_folder": str(tmp_path), "directives": directives}
        settings = load_settings(runner="slurm", slurm=asked)
        (done,) = run_checks([check], Site(settings))
        return done.finding

    assert look("em") == good("Slurm would accept the largest job: 1 cores, 1GiB, 08:00:00, partition em")
    refused = look("absent")
    assert refused.state is State.FAILED
    assert "the partition 'absent' has no nodes" in refused.found
    refused = look("em", "--nodelist=absent")  # which only sbatch knows
    assert refused.state is State.FAILED
    assert "Slurm refuses the job (1 cores" in refused.found
    assert "Invalid node name" in refused.found
    assert subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, check=True).stdout == ""


@pytest.fixture
def counted(slurm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Count what Slurm is asked: each call of a program is a line of the file."""
    folder, calls = tmp_path / "counting", tmp_path / "calls"
    folder.mkdir()
    for name in ("squeue", "scontrol", "sinfo", "sacct"):
        (folder / name).write_text(f'#!/bin/sh\necho {name} >> {calls}\nexec {shutil.which(name) or "false"} "$@"\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return calls


def slurm_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **others: str) -> None:
    given = {
        "RUNNER": "slurm",
        "SLURM_CORES": "1",
        "SLURM_MEMORY": "1GiB",
        "SLURM_SHARED_FOLDER": str(tmp_path / "slurm" / "shared"),
    }
    for variable, value in (given | others).items():
        monkeypatch.setenv(f"TILTFLOW_{variable}", value)


CLOSED = {
    "node": (
        "NodeName={host} State=DRAIN Reason=maintenance",
        "NodeName={host} State=RESUME",
        r"job \d+ waits \(.*(DRAINED|NotAvail)",
    ),
    "partition": ("PartitionName=em State=INACTIVE", "PartitionName=em State=UP", "no job yet: .*Required partition not available"),
}


@pytest.mark.parametrize("what", CLOSED)
def test_a_run_waits_for_the_end_of_a_maintenance_and_says_so(
    what: str,
    counted: Path,
    share: Path,
    sample: Path,
    fake_imod: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: Any,
) -> None:
    slurm_settings(monkeypatch, tmp_path)
    close, reopen, waits = (text.replace("{host}", socket.gethostname().split(".")[0]) for text in CLOSED[what])
    subprocess.run(["scontrol", "update", *close.split()], check=True)
    over = subprocess.Popen(["/bin/sh", "-c", f"sleep 35; scontrol update {reopen}"])
    counted.unlink()
    begin = time.monotonic()
    check_run(share)
    took, asked = time.monotonic() - begin, counted.read_text().split()
    assert over.wait() == 0
    said = [each.getMessage() for each in caplog.records if each.getMessage().startswith("Slurm (each 1 core, 0.8 GB of memory, ")]
    assert re.search(waits, "\n".join(said)), said
    assert asked.count("sinfo") == 1
    assert asked.count("scontrol") == 1, "ours, at the end of the maintenance"
    assert asked.count("squeue") <= took / 30 + 1


def test_a_partition_that_is_not_there_ends_the_run_before_any_work(
    slurm: None, share: Path, sample: Path, fake_imod: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slurm_settings(monkeypatch, tmp_path, SLURM_PARTITION="absent")
    with pytest.raises(SettingsError, match=r"Slurm refuses the job: the partition 'absent' has no nodes or is unknown"):
        brt_flow(**OF_SAMPLE)


def test_more_cores_than_any_node_has_end_the_run_before_any_work(
    slurm: None, share: Path, sample: Path, fake_imod: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slurm_settings(monkeypatch, tmp_path, SLURM_DIRECTIVES="--cpus-per-task=64")
    with pytest.raises(SettingsError, match=r"Slurm can never run job \d+: it waits for PartitionConfig"):
        brt_flow(**OF_SAMPLE)
    assert not list((share / "Assets").rglob("run.json")) or read_run(share) == "interrupted"
    monkeypatch.delenv("TILTFLOW_SLURM_DIRECTIVES")
    monkeypatch.setenv("TILTFLOW_SLURM_MEMORY", "900GiB")
    monkeypatch.setattr("tiltflow_flows.job_size._WORKER_BYTES", 800 << 30)
    with pytest.raises(SettingsError, match=r"Slurm refuses the job: no node has the 1 cores and 800\.\d GiB of memory"):
        brt_flow(**OF_SAMPLE)


def test_what_sbatch_refuses_ends_the_run_with_its_words(
    slurm: None, share: Path, sample: Path, fake_imod: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slurm_settings(monkeypatch, tmp_path, SLURM_DIRECTIVES="--mem=900G")
    with pytest.raises(SettingsError, match=r"Slurm refuses the job: .*(M|m)emory specification can not be satisfied"):
        brt_flow(**OF_SAMPLE)


def read_run(share: Path) -> str:
    return str(json.loads((share / "Assets" / "Lab" / "Sample" / "run.json").read_text())["status"])


def test_a_job_whose_worker_cannot_start_ends_the_run(
    slurm: None, share: Path, sample: Path, fake_imod: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slurm_settings(monkeypatch, tmp_path, SLURM_PROLOGUE="exit 3")
    with pytest.raises(
        SettingsError, match=r"Slurm job \d+ ended \(FAILED, NonZeroExitCode\) before its worker reached this machine"
    ):
        brt_flow(**OF_SAMPLE)
