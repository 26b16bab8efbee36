"""Where the series of a run are processed: decided when a flow runs, never when it is imported.

Every runner works on whole series, so a series' scratch folder may lie on the disk of the machine that works on it.  Dask does not
pass the series of a worker that died to another one; the flow does, once, when nothing else runs.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from prefect.settings import get_current_settings
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from tiltflow import command
from tiltflow.errors import CommandError, SettingsError
from tiltflow.settings import Settings, SlurmSettings, site_from
from tiltflow.work import Site

if TYPE_CHECKING:
    from distributed.deploy.cluster import Cluster

_SCHEDULER = {"allowed_failures": 0}
_POLL_S = 1.0


def series_at_once(settings: Settings, series: int) -> int:
    """Return how many series are processed at the same time."""
    return max(1, min(settings.workers, series))


def choose_runner(settings: Settings, series: int) -> TaskRunner[Any]:
    """Return the runner of the settings, with no more workers than there are series.

    Raises
    ------
    SettingsError
        If its workers are other processes, and there is no Prefect server that all of them can reach.
    """
    workers = series_at_once(settings, series)
    if settings.runner == "threads":
        return ThreadPoolTaskRunner(max_workers=workers)
    if get_current_settings().api.url is None:
        raise SettingsError(f"The runner {settings.runner!r} needs a Prefect server that its workers reach: set PREFECT_API_URL.")
    from prefect_dask.task_runners import DaskTaskRunner

    runner: Callable[..., TaskRunner[Any]] = DaskTaskRunner
    if settings.runner == "dask":
        return runner(cluster_class=start_local_cluster, cluster_kwargs={"settings": settings, "workers": workers})
    # Jobs that end, at their walltime or because a node fails, are replaced while there is work.  Dask assumes that a series is
    # short until it has seen one; the tiny target makes it request a worker for each.
    adapt = {"minimum": 1, "maximum": workers, "target_duration": "1ms"}
    return runner(cluster_class=start_slurm_cluster, cluster_kwargs={"settings": settings}, adapt_kwargs=adapt)


def site_for(settings: Settings, series: int) -> Site:
    """Return how one series is processed by the chosen runner: on its share of this machine's cores, or on those of a Slurm job."""
    if settings.runner == "slurm":
        return site_from(settings, cores=settings.slurm.cores)
    return site_from(settings, jobs=series_at_once(settings, series))


def start_local_cluster(settings: Settings, workers: int) -> Cluster:
    """Start Dask workers on this machine, each a process that works on one series at a time."""
    from distributed import LocalCluster

    start: Callable[..., Cluster] = LocalCluster
    return start(
        n_workers=workers,
        threads_per_worker=1,
        memory_limit=0,  # Dask would kill a worker at 95 % of an equal share, whatever the others use
        dashboard_address=None,
        local_directory=_text(settings.scratch),
        scheduler_kwargs=_SCHEDULER,
    )


def start_slurm_cluster(settings: Settings) -> Cluster:
    """Submit the first Slurm job, a Dask worker that works on one series at a time, and return when it is connected.

    Raises
    ------
    SettingsError
        If Slurm refuses the job, or the job ends before its worker is connected: the others would fail in the same way.
    """
    from dask_jobqueue.slurm import SLURMCluster

    require_acceptable(settings)
    start: Callable[..., Any] = SLURMCluster
    cluster = start(
        n_workers=1,
        scheduler_options={**_SCHEDULER, "dashboard_address": None, **_interface(settings.slurm)},
        shared_temp_directory=_text(settings.slurm.shared_folder),
        **slurm_options(settings),
    )
    try:
        _wait_for_first_worker(cluster, settings)
    except BaseException:
        cluster.close()
        raise
    return cast("Cluster", cluster)


def slurm_options(settings: Settings) -> dict[str, Any]:
    """Return the options of a job as dask-jobqueue names them."""
    slurm = settings.slurm
    return {
        "job_name": "tiltflow",
        "queue": slurm.partition,
        "account": slurm.account,
        "cores": 1,  # threads of the worker, which takes one series at a time; the series uses job_cpu
        "processes": 1,
        "job_cpu": slurm.cores,
        "memory": slurm.memory,
        "walltime": slurm.walltime,
        "job_extra_directives": list(slurm.directives),
        "job_script_prologue": list(slurm.prologue),
        "local_directory": _text(settings.scratch),
        "log_directory": _text(slurm.shared_folder),
        "worker_extra_args": ["--memory-limit", "0"],  # Slurm limits the memory; Dask would count mapped files against it
        "python": sys.executable,
        **_interface(slurm),
    }


def job_script(settings: Settings, scheduler: str = "tcp://<scheduler>") -> str:
    """Return the script of a Slurm job that follows from the settings, for inspection."""
    from dask_jobqueue.slurm import SLURMJob

    job: Any = SLURMJob
    return str(job(scheduler, name="tiltflow", **slurm_options(settings)).job_script())


def require_acceptable(settings: Settings) -> None:
    """Raise unless Slurm would accept the job of the settings; nothing is submitted.

    Raises
    ------
    SettingsError
        With Slurm's words.
    """
    with tempfile.TemporaryDirectory(prefix="tiltflow-job-") as folder:
        script = Path(folder) / "job.sh"
        script.write_text(job_script(settings), encoding="utf-8")
        try:
            command.run("sbatch", ["--test-only", str(script)], cwd=Path(folder))
        except CommandError as error:
            raise SettingsError(
                f"Slurm refuses the job: {' '.join(error.last_lines) or error}. Check the settings slurm.*."
            ) from error


def _wait_for_first_worker(cluster: Any, settings: Settings) -> None:
    """Return when a worker is connected, however long its job waits in the queue."""
    while not cluster.scheduler_info["workers"]:
        time.sleep(_POLL_S)
        jobs = [str(worker.job_id) for worker in cluster.workers.values() if worker.job_id]
        if jobs and not _in_queue(jobs) and not cluster.scheduler_info["workers"]:
            raise SettingsError(
                f"Slurm job {', '.join(jobs)} ended before its worker reached this machine; see its log in "
                f"{settings.slurm.shared_folder or Path.cwd()}. "
                "The nodes need the same Python environment, and a network route to this machine (slurm.interface)."
            )


def _in_queue(jobs: list[str]) -> bool:
    try:
        result = command.run("squeue", ["--noheader", "--format=%i", f"--jobs={','.join(jobs)}"], cwd=Path.cwd())
    except CommandError:  # squeue rejects the id of a job that Slurm has already forgotten
        return False
    return any(line.strip() in jobs for line in result.last_lines)


def _interface(slurm: SlurmSettings) -> dict[str, str]:
    return {"interface": slurm.interface} if slurm.interface else {}


def _text(path: Any) -> str | None:
    return None if path is None else str(path)
