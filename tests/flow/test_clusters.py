"""The flow on real clusters: Dask workers on this machine, and Slurm jobs of a private one-node cluster."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prefect", reason="needs the extra [prefect]")

from em_workflows.brt.flow import brt_flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import LogSort

from tiltflow.check_site.finding import Finding, Site, State, good, run_checks
from tiltflow.errors import SettingsError
from tiltflow.record import read_record
from tiltflow.settings import load_settings
from tiltflow_flows.site_checks import CHECKS

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("prefect_server")]

PARAMETERS = {
    "montage": 0,
    "gold": 10,
    "focus": 0,
    "fiducialless": 1,
    "trackingMethod": 0,
    "TwoSurfaces": 0,
    "TargetNumberOfBeads": 20,
    "LocalAlignments": 0,
    "THICKNESS": 50,
    "file_share": "lab",
    "input_dir": "Lab/Sample",
}

SLURM_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")


@pytest.fixture
def sample(share: Path, small_series: Path) -> Path:
    folder = share / "Projects" / "Lab" / "Sample"
    folder.mkdir(parents=True)
    shutil.copy(small_series, folder / "ts1.st")
    shutil.copy(small_series, folder / "ts2.st")
    (folder / "ts3.mrc").write_bytes(b"no tilt series")
    return folder


def check_run(share: Path) -> None:
    told = brt_flow(**PARAMETERS)
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
    told = brt_flow(**PARAMETERS)
    assert [entry["status"] for entry in told["files"]] == ["error", "success", "error"]
    assert "Its worker died" in told["files"][0]["message"]
    record = read_record(share / "Assets" / "Lab" / "Sample" / "ts1" / "run.json")
    assert record.failure is not None
    assert (record.status, record.failure.stage) == ("error", "batchruntomo")
    assert "It failed at <b>batchruntomo</b>" in (share / "Assets" / "Lab" / "Sample" / "ts1" / "report.html").read_text()


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run a Slurm cluster of one node for one test, with its own keys, ports and state."""
    missing = [program for program in SLURM_PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.skip(f"needs Debian's slurm-wlm and munge; not on the PATH: {', '.join(missing)}")
    home = tmp_path / "slurm"
    for name in ("state", "spool", "log", "shared"):
        (home / name).mkdir(parents=True)
    key = home / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    home.chmod(0o755)
    host, user = socket.gethostname().split(".")[0], getpass.getuser()
    (home / "slurm.conf").write_text(f"""
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={home}/munge.socket
SlurmctldPort={free_port()}
SlurmdPort={free_port()}
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.pid
SlurmctldLogFile={home}/log/slurmctld.log
SlurmdLogFile={home}/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=5,sched_min_interval=0
MpiDefault=none
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} RealMemory=4000 State=UNKNOWN
PartitionName=em Nodes=ALL Default=YES MaxTime=INFINITE State=UP
""")
    monkeypatch.setenv("SLURM_CONF", str(home / "slurm.conf"))
    munged = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={home}/munge.socket"]
    munged += [f"--pid-file={home}/munged.pid", f"--log-file={home}/log/munged.log", f"--seed-file={home}/munged.seed"]
    with ExitStack() as stack:
        for command in (munged, ["slurmctld", "-D"], ["slurmd", "-D", "-N", host]):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(stop, process)
            time.sleep(0.5)
        wait_until_idle(host, home)
        yield


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_until_idle(host: str, home: Path) -> None:
    said = ""
    for _ in range(60):
        answer = subprocess.run(["scontrol", "show", "node", host], capture_output=True, text=True, check=False)
        said = answer.stdout + answer.stderr
        if "State=IDLE " in said:
            return
        time.sleep(0.5)
    logs = "\n".join(path.read_text()[-2000:] for path in (home / "log").iterdir())
    pytest.fail(f"the Slurm node did not come up: {said}\n{logs}")


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


def test_slurm_is_asked_about_the_very_job_before_anything_runs(slurm: None, tmp_path: Path) -> None:
    (check,) = [check for check in CHECKS if check.name == "Slurm"]

    def look(partition: str) -> Finding:
        settings = load_settings(
            runner="slurm", slurm={"partition": partition, "cores": 1, "memory": "1GiB", "shared_folder": str(tmp_path)}
        )
        (done,) = run_checks([check], Site(settings))
        return done.finding

    assert look("em") == good("Slurm would accept the job: 1 cores, 1GiB, 08:00:00, partition em")
    refused = look("absent")
    assert refused.state is State.FAILED
    assert "Slurm refuses the job: " in refused.found
    assert "invalid partition" in refused.found
    assert subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, check=True).stdout == ""


def test_a_job_that_slurm_refuses_ends_the_run_with_its_words(
    slurm: None, share: Path, sample: Path, fake_imod: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TILTFLOW_RUNNER", "slurm")
    monkeypatch.setenv("TILTFLOW_SLURM_PARTITION", "absent")
    with pytest.raises(SettingsError, match=r"Slurm refuses the job: .*invalid partition"):
        brt_flow(**PARAMETERS)


def test_a_job_whose_worker_cannot_start_ends_the_run(
    slurm: None, share: Path, sample: Path, fake_imod: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TILTFLOW_RUNNER", "slurm")
    monkeypatch.setenv("TILTFLOW_SLURM_CORES", "1")
    monkeypatch.setenv("TILTFLOW_SLURM_MEMORY", "1GiB")
    monkeypatch.setenv("TILTFLOW_SLURM_SHARED_FOLDER", str(tmp_path / "slurm" / "shared"))
    monkeypatch.setenv("TILTFLOW_SLURM_PROLOGUE", "exit 3")
    with pytest.raises(SettingsError, match=r"Slurm job \d+ ended before its worker reached this machine"):
        brt_flow(**PARAMETERS)
