"""A Slurm cluster of one node, from Debian's packages, for one test or one session of tests."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")


@contextmanager
def private_slurm(home: Path) -> Iterator[Path]:
    """Run a Slurm cluster of one node in a folder, with its own keys, ports and state; the value for `SLURM_CONF` is given.

    A test that needs it is skipped where its programs are not installed.
    """
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.skip(f"needs Debian's slurm-wlm and munge; not on the PATH: {', '.join(missing)}")
    for name in ("state", "spool", "log", "shared"):
        (home / name).mkdir(parents=True)
    key = home / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    home.chmod(0o755)
    host, user = socket.gethostname().split(".")[0], getpass.getuser()
    configuration = home / "slurm.conf"
    configuration.write_text(f"""
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={home}/munge.socket
SlurmctldPort={_free_port()}
SlurmdPort={_free_port()}
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
    environment = os.environ | {"SLURM_CONF": str(configuration)}
    munged = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={home}/munge.socket"]
    munged += [f"--pid-file={home}/munged.pid", f"--log-file={home}/log/munged.log", f"--seed-file={home}/munged.seed"]
    with ExitStack() as stack:
        for command in (munged, ["slurmctld", "-D"], ["slurmd", "-D", "-N", host]):
            process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(_stop, process)
            time.sleep(0.5)
        _wait_until_idle(host, home, environment)
        yield configuration


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_until_idle(host: str, home: Path, environment: dict[str, str]) -> None:
    said = ""
    for _ in range(60):
        answer = subprocess.run(["scontrol", "show", "node", host], env=environment, capture_output=True, text=True, check=False)
        said = answer.stdout + answer.stderr
        if "State=IDLE " in said:
            return
        time.sleep(0.5)
    logs = "\n".join(path.read_text()[-2000:] for path in (home / "log").iterdir())
    pytest.fail(f"the Slurm node did not come up: {said}\n{logs}")
