"""Which runner, with what: read off before anything is started."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prefect", reason="needs the extra [prefect]")

from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import ThreadPoolTaskRunner

from tiltflow.engines.imod.program import arguments
from tiltflow.engines.plan import Plan
from tiltflow.errors import SettingsError
from tiltflow.parallel import usable_cores
from tiltflow.settings import Settings, load_settings, site_from
from tiltflow.version import __version__
from tiltflow_flows import slurm as slurm_module
from tiltflow_flows.job_size import JobSize, Needs, size_of_job
from tiltflow_flows.pool import why_unfit
from tiltflow_flows.runners import Runner, choose_runner
from tiltflow_flows.slurm import JobState, SlurmJobs, passes, refusal, require_possible
from tiltflow_flows.slurm_cluster import job_script, purge_dead_workers, slurm_options

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [variable for variable in os.environ if variable.startswith("TILTFLOW_")]:
        monkeypatch.delenv(variable)


def slurm(**options: Any) -> Settings:
    return load_settings(runner="slurm", slurm=options)


def runner_of(settings: Settings, series: int) -> Runner:
    return choose_runner(settings, series, lambda _threads: [])


def planned(memory_gb: float, seconds: float, *, of_each_thread_gb: float = 0.0) -> Needs:
    """Plans of one series, whose time all threads share."""
    return lambda threads: [Plan({"all": int((memory_gb + of_each_thread_gb * threads) * 1e9)}, 0, 0, seconds / threads)]


@pytest.mark.parametrize("handler", ["default_int_handler", "SIG_IGN"])
def test_what_the_slurm_runner_imports_leaves_ctrl_c_as_it_was(handler: str) -> None:
    imports = (
        f"import signal, sys; signal.signal(signal.SIGINT, signal.{handler}); import tiltflow_flows.slurm_cluster; "
        f"assert 'dask_jobqueue.runner' in sys.modules; assert signal.getsignal(signal.SIGINT) == signal.{handler}"
    )
    subprocess.run([sys.executable, "-c", imports], check=True, timeout=120)


def test_what_dask_keeps_of_killed_workers_is_removed_and_that_of_the_living_stays(tmp_path: Path) -> None:
    work = (
        "import sys, time; from distributed.diskutils import WorkSpace; "
        "folder = WorkSpace(sys.argv[1]).new_work_dir(prefix='worker-'); print(folder.dir_path, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", work, str(tmp_path / "dask-scratch-space")]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    dead, living = (Path((worker.stdout or sys.stdin).readline().strip()) for worker in workers)
    workers[0].kill()
    workers[0].wait()
    purge_dead_workers(tmp_path)
    assert (dead.exists(), living.exists()) == (False, True)
    workers[1].kill()
    workers[1].wait()


def test_threads_of_the_process_are_the_default() -> None:
    runner = runner_of(load_settings(), 5)
    assert runner.name == "threads"
    assert isinstance(runner.tasks, ThreadPoolTaskRunner)
    assert runner.tasks._max_workers == runner.at_once == 1


def test_there_are_never_more_workers_than_series() -> None:
    settings = load_settings(workers=8)
    assert [runner_of(settings, series).tasks._max_workers for series in (3, 100, 0)] == [3, 8, 1]
    assert [runner_of(settings, series).at_once for series in (3, 100, 0)] == [3, 8, 1]


def test_dask_starts_nothing_before_the_flow_runs(prefect_server: None) -> None:
    from prefect_dask.task_runners import DaskTaskRunner

    runner = runner_of(load_settings(runner="dask"), 2).tasks
    assert isinstance(runner, DaskTaskRunner)
    assert callable(runner.cluster_class)
    assert runner._client is None


@pytest.mark.parametrize("name", ["dask", "slurm", "pool"])
def test_workers_that_are_processes_need_a_server_to_talk_to(name: str) -> None:
    with temporary_settings(restore_defaults={PREFECT_API_URL}), pytest.raises(SettingsError, match="set PREFECT_API_URL"):
        runner_of(load_settings(runner=name), 2)


def test_a_pool_needs_an_address_at_which_it_answers(prefect_server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="set pool_address"):
        runner_of(load_settings(runner="pool"), 2)
    monkeypatch.setattr("tiltflow_flows.pool._PATIENCE_S", 1)
    with pytest.raises(SettingsError, match=r"does not answer at tcp://127\.0\.0\.1:9"):
        runner_of(load_settings(runner="pool", pool_address="tcp://127.0.0.1:9"), 2)


FIT = {"tiltflow": __version__, "python": f"{sys.version_info[0]}.{sys.version_info[1]}", "series": 1, "in order": True, "cores": 2}


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        (FIT, None),
        (FIT | {"tiltflow": "0.1"}, f"it has tiltflow 0.1, and the flow {__version__}"),
        (FIT | {"python": "2.7"}, "it runs on Python 2.7"),
        (FIT | {"series": 4}, "start it with --nthreads 1"),
        (FIT | {"in order": False}, "--preload tiltflow_flows.worker"),
        (ModuleNotFoundError("No module named 'tiltflow_flows'"), "tiltflow cannot be imported there"),
    ],
)
def test_what_a_worker_of_a_pool_lacks_is_said_in_words(said: Any, wrong: str | None) -> None:
    told = why_unfit(said)
    assert told is None if wrong is None else wrong in (told or "")


def test_each_series_gets_its_share_of_the_cores() -> None:
    cores = usable_cores()
    assert runner_of(load_settings(workers=2), 1).site.threads == cores
    assert runner_of(load_settings(workers=2), 5).site.threads == max(1, cores // 2)
    assert runner_of(load_settings(workers=2, threads=3), 5).site.threads == 3


LIMITS = {"cores": 8, "memory": "16GB", "walltime": "08:00:00"}


def test_a_job_is_as_large_as_its_series_need() -> None:
    size = size_of_job(slurm(**LIMITS).slurm, planned(2, 600, of_each_thread_gb=0.5), 3)
    # 600 s on one core, 75 s on eight: five take 120 s, no more than a minute longer than eight.
    assert size.cores == 5
    assert size.memory == int(4.5e9) + (300 << 20)
    assert size.seconds == 600 + 3600, "an hour at least"
    assert size.last_series_s == size.seconds - 3 * 120


@pytest.mark.parametrize(("series", "plans"), [(1, 10), (3, 10), (4, 12), (9, 27)])
def test_a_job_has_three_times_the_plan_of_each_series_and_ten_times_that_of_one(series: int, plans: int) -> None:
    size = size_of_job(slurm(cores=1, memory="16GB", walltime="3-00:00:00").slurm, planned(1, 1000), series)
    assert size.seconds == 600 + plans * 1000
    assert size.last_series_s == size.seconds - 3000


def test_a_small_series_has_one_core() -> None:
    assert size_of_job(slurm(**LIMITS).slurm, planned(1, 60), 1).cores == 1


def test_a_job_is_never_larger_than_the_site_allows() -> None:
    size = size_of_job(slurm(**LIMITS).slurm, planned(20, 360_000), 10)
    assert (size.cores, size.memory, size.seconds, size.walltime) == (1, 16 * 10**9, 8 * 3600, "08:00:00")
    assert size.last_series_s == 600, "it takes a series in its first minutes nevertheless"
    assert size_of_job(slurm(**LIMITS).slurm, planned(1, 360_000), 10).cores == 8


def test_cores_whose_threads_need_more_memory_than_the_site_allows_are_not_asked_for() -> None:
    assert size_of_job(slurm(**LIMITS).slurm, planned(1, 360_000, of_each_thread_gb=3), 1).cores == 4


def test_without_a_plan_a_job_is_what_the_site_allows() -> None:
    size = size_of_job(slurm(**LIMITS).slurm, lambda _threads: [], 10)
    assert size == JobSize(8, 16 * 10**9)
    assert "#SBATCH -t 08:00:00" in job_script(slurm(**LIMITS))


def test_a_job_that_is_sized_says_so_in_its_script() -> None:
    script = job_script(slurm(**LIMITS), size=JobSize(2, 3 << 30, 4000, 3000))
    for line in ("#SBATCH --cpus-per-task=2", "#SBATCH --mem=3072M", "#SBATCH -t 01:06:40"):
        assert line in script.splitlines()
    assert script.rstrip().endswith("--preload tiltflow_flows.worker --no-series-after 3000")


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Return the function that sets what a program of Slurm prints; it returns the file in which each of its calls is a line."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def answer(program: str, text: str) -> Path:
        (tmp_path / f"{program}.txt").write_text(text)
        path = tmp_path / program
        path.write_text(f"#!/bin/sh\necho x >> {tmp_path}/{program}.calls\ncat {tmp_path}/{program}.txt\n")
        path.chmod(0o755)
        return tmp_path / f"{program}.calls"

    return answer


def test_slurm_is_asked_once_in_its_time_whoever_wants_to_know(answers: Any) -> None:
    calls = answers("squeue", "7|PENDING||Resources\n8|RUNNING|n1|None\n99|RUNNING|n1|None\n")
    told: list[str] = []
    jobs = SlurmJobs(told.append, ask_every_s=1.0)
    assert jobs.states() == {}
    assert not calls.exists(), "there is no job to ask for"
    jobs.submitted("w-0", "7")
    jobs.submitted("w-1", "8")
    with jobs.watched():
        for _ in range(50):
            states = jobs.states()
            time.sleep(0.05)
    assert states == {"7": JobState("PENDING", "", "Resources"), "8": JobState("RUNNING", "n1", "None")}
    assert 2 <= len(calls.read_text().split()) <= 4
    assert told == ["job 7 waits (Resources); job 8 running on n1"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("7|TIMEOUT|n1|TimeLimit\n", "Slurm says of it: TIMEOUT, TimeLimit: its time was over: raise slurm.walltime."),
        ("7|OUT_OF_MEMORY|n1|OutOfMemory\n", "raise slurm.memory"),
        ("7|NODE_FAIL|n1|NodeDown\n", "its node failed"),
        ("7|PREEMPTED|n1|None\n", "Slurm says of it: PREEMPTED: a job of higher priority"),
        ("7|RUNNING|n1|None\n", "Slurm knows of no end of the job"),
        ("", "Slurm knows of no end of the job"),
    ],
)
def test_why_a_series_was_lost_is_what_slurm_says_of_its_job(answers: Any, answer: str, why: str) -> None:
    answers("squeue", answer)
    jobs = SlurmJobs(str, ask_every_s=0.2)
    jobs.submitted("w-0", "7")
    assert why in jobs.explained(f"ts1.st: {jobs.place_of('w-0')} died.")
    assert jobs.explained(f"ts1.st: {jobs.place_of('w-1')} died.") == "ts1.st: its worker died."


def test_the_job_that_took_the_place_of_one_that_ended_is_not_taken_for_it(answers: Any) -> None:
    answers("squeue", "7|TIMEOUT|n1|TimeLimit\n8|RUNNING|n1|None\n")
    jobs = SlurmJobs(str, ask_every_s=0.0)
    jobs.submitted("w-0", "7")
    assert jobs.place_of("w-0") == "Slurm job 7"
    jobs.submitted("w-0", "8")
    jobs.states()
    assert jobs.place_of("w-0") == "Slurm job 7"


@pytest.mark.parametrize(
    ("reason", "never"),
    [
        ("Resources", False),
        ("Priority", False),
        ("ReqNodeNotAvail, UnavailableNodes:n1", False),
        ("Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions", False),
        ("AssocGrpCpuLimit", False),
        ("QOSMaxJobsPerUserLimit", False),
        ("PartitionConfig", True),
        ("PartitionTimeLimit", True),
        ("BadConstraints", True),
        ("QOSMaxCpuPerJobLimit", True),
    ],
)
def test_only_what_never_comes_is_not_waited_for(reason: str, never: bool) -> None:
    assert JobState("PENDING", "", reason).can_never_run is never


def test_what_no_node_has_is_refused_and_what_one_has_is_not(answers: Any) -> None:
    answers("sinfo", "em*|16|64000\nem*|64+|8000\nother|128|900000\n")
    settings = load_settings().slurm
    require_possible(settings, 16, 60 << 30)
    require_possible(settings, 64, 2 << 30)
    for cores, memory in ((65, 1 << 30), (17, 60 << 30), (1, 100 << 30)):
        with pytest.raises(SettingsError, match=rf"no node has the {cores} cores .*the largest have 64 cores and 62\.5 GiB"):
            require_possible(settings, cores, memory)
    answers("sinfo", "")
    with pytest.raises(SettingsError, match="has no nodes or is unknown"):
        require_possible(settings, 1, 1)


@pytest.mark.parametrize(
    ("said", "for_now"),
    [
        ("Batch job submission failed: Required partition not available (inactive or drain)", True),
        ("Batch job submission failed: Unable to contact slurm controller (connect failure)", True),
        ("Batch job submission failed: Invalid account or account/partition combination specified", False),
    ],
)
def test_what_sbatch_refuses_for_now_is_asked_again_and_told_in_its_words(said: str, for_now: bool) -> None:
    error = RuntimeError(f"Command exited with non-zero exit code.\nstderr:\nsbatch: error: {said}\n")
    assert (passes(error), refusal(error)) == (for_now, said)


def test_slurm_is_not_asked_more_often_than_its_administrators_like() -> None:
    assert slurm_module.ASK_EVERY_S >= 30


def test_imod_works_on_the_cores_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    assert arguments(site_from(slurm(cores=24), cores=24)) == ["-cp", "24"]
    assert arguments(site_from(load_settings(imod_cpus="node1:8,node2:8"))) == ["-cp", "node1:8,node2:8"]
    monkeypatch.setattr("tiltflow.settings.site.usable_cores", lambda: 64)  # a node whose jobs are not bound to cores
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "16")
    assert arguments(runner_of(load_settings(), 1).site) == ["-cp", "16"]
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    assert arguments(runner_of(load_settings(), 1).site) == ["-cp", "8"]
    assert arguments(runner_of(load_settings(workers=2), 2).site) == ["-cp", "4"]


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
    assert "#SBATCH --mem=61036M" in lines  # 64 GB in Slurm's units of 1024
    assert lines.index("module load IMOD/5.1") < next(index for index, line in enumerate(lines) if "dask_worker" in line)
    assert "tcp://head:8786" in lines[-1]


def test_a_worker_takes_one_series_at_a_time_and_leaves_memory_to_slurm() -> None:
    command = job_script(slurm(cores=16)).splitlines()[-1]
    assert "--nthreads 1 " in command
    assert " --memory-limit 0 --preload tiltflow_flows.worker" in command
    assert " --no-nanny " in command
    assert "--nworkers" not in command


def test_what_is_not_set_is_left_to_slurm() -> None:
    script = job_script(load_settings(runner="slurm"))
    assert "#SBATCH -p" not in script
    assert "#SBATCH -A" not in script
    assert "interface" not in slurm_options(load_settings(), JobSize(1, 1 << 30))


def test_scratch_logs_and_interface_reach_the_worker() -> None:
    options = slurm_options(
        load_settings(scratch="/lscratch", slurm={"shared_folder": "/data/slurm", "interface": "ib0"}), JobSize(1, 1 << 30)
    )
    assert options["local_directory"] == "/lscratch"
    assert options["log_directory"] == "/data/slurm"
    assert options["interface"] == "ib0"
    assert Path(options["python"]).is_file()
