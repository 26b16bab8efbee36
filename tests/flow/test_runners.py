"""Which runner, with what: read off before anything is started."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prefect", reason="needs the extra [prefect]")

from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import ThreadPoolTaskRunner

from tiltflow.engines.imod.program import arguments
from tiltflow.errors import SettingsError
from tiltflow.parallel import usable_cores
from tiltflow.settings import Settings, load_settings
from tiltflow_flows.runners import choose_runner, job_script, site_for, slurm_options

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [variable for variable in os.environ if variable.startswith("TILTFLOW_")]:
        monkeypatch.delenv(variable)


def slurm(**options: Any) -> Settings:
    return load_settings(runner="slurm", slurm=options)


def test_threads_of_the_process_are_the_default() -> None:
    runner = choose_runner(load_settings(), 5)
    assert isinstance(runner, ThreadPoolTaskRunner)
    assert runner._max_workers == 1


def test_there_are_never_more_workers_than_series() -> None:
    settings = load_settings(workers=8)
    assert choose_runner(settings, 3)._max_workers == 3
    assert choose_runner(settings, 100)._max_workers == 8
    assert choose_runner(settings, 0)._max_workers == 1


@pytest.mark.parametrize("name", ["dask", "slurm"])
def test_dask_starts_nothing_before_the_flow_runs(name: str, prefect_server: None) -> None:
    from prefect_dask.task_runners import DaskTaskRunner

    runner = choose_runner(load_settings(runner=name), 2)
    assert isinstance(runner, DaskTaskRunner)
    assert callable(runner.cluster_class)
    assert runner._client is None


@pytest.mark.parametrize("name", ["dask", "slurm"])
def test_workers_that_are_processes_need_a_server_to_talk_to(name: str) -> None:
    with temporary_settings(restore_defaults={PREFECT_API_URL}), pytest.raises(SettingsError, match="set PREFECT_API_URL"):
        choose_runner(load_settings(runner=name), 2)


def test_each_series_gets_its_share_of_the_cores_or_those_of_its_job() -> None:
    cores = usable_cores()
    assert site_for(load_settings(workers=2), 1).threads == cores
    assert site_for(load_settings(workers=2), 5).threads == max(1, cores // 2)
    assert site_for(slurm(cores=24), 5).threads == 24
    assert site_for(load_settings(runner="slurm", threads=3), 5).threads == 3


def test_imod_works_on_the_cores_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    assert arguments(site_for(slurm(cores=24), 5)) == ["-cp", "24"]
    assert arguments(site_for(load_settings(runner="slurm", imod_cpus="node1:8,node2:8"), 5)) == ["-cp", "node1:8,node2:8"]
    monkeypatch.setattr("tiltflow.settings.usable_cores", lambda: 64)  # a node whose jobs are not bound to cores
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "16")
    assert arguments(site_for(load_settings(), 1)) == ["-cp", "16"]
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    assert arguments(site_for(load_settings(), 1)) == ["-cp", "8"]
    assert arguments(site_for(load_settings(workers=2), 2)) == ["-cp", "4"]


def test_a_job_script_asks_for_what_the_site_set() -> None:
    script = job_script(
        slurm(
            partition="em",
            account="lab",
            cores=12,
            memory="64GB",
            walltime="02:30:00",
            directives=["--gres=gpu:1", "--qos=high"],
            prologue=["module load IMOD/5.1", "export IMOD_TMPDIR=/lscratch"],
        ),
        scheduler="tcp://head:8786",
    )
    lines = script.splitlines()
    for line in (
        "#SBATCH -p em",
        "#SBATCH -A lab",
        "#SBATCH --cpus-per-task=12",
        "#SBATCH -t 02:30:00",
        "#SBATCH --gres=gpu:1",
        "#SBATCH --qos=high",
        "module load IMOD/5.1",
        "export IMOD_TMPDIR=/lscratch",
    ):
        assert line in lines
    assert "#SBATCH --mem=60G" in lines  # 64 GB in Slurm's units of 1024
    assert lines.index("module load IMOD/5.1") < next(index for index, line in enumerate(lines) if "dask_worker" in line)
    assert "tcp://head:8786" in lines[-1]


def test_a_worker_takes_one_series_at_a_time_and_leaves_memory_to_slurm() -> None:
    command = job_script(slurm(cores=16)).splitlines()[-1]
    assert "--nthreads 1 " in command
    assert command.rstrip().endswith("--memory-limit 0")
    assert "--nworkers" not in command


def test_what_is_not_set_is_left_to_slurm() -> None:
    script = job_script(load_settings(runner="slurm"))
    assert "#SBATCH -p" not in script
    assert "#SBATCH -A" not in script
    assert "interface" not in slurm_options(load_settings())


def test_scratch_logs_and_interface_reach_the_worker() -> None:
    options = slurm_options(load_settings(scratch="/lscratch", slurm={"shared_folder": "/data/slurm", "interface": "ib0"}))
    assert options["local_directory"] == "/lscratch"
    assert options["log_directory"] == "/data/slurm"
    assert options["interface"] == "ib0"
    assert Path(options["python"]).is_file()
