"""Where the series of a run are processed: decided when a flow runs, never when it is imported.

Every runner works on whole series, so a series' scratch folder may lie on the disk of the machine that works on it.  A worker
that dies is not given its series again: what killed it once, most often memory, kills it again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from tiltflow.model import Site
from tiltflow.settings import Settings, SlurmSettings, site_from

if TYPE_CHECKING:
    from distributed.deploy.cluster import Cluster

_SCHEDULER = {"allowed_failures": 0}


def choose_runner(settings: Settings, series: int) -> TaskRunner[Any]:
    """Return the runner that the settings ask for, with no more workers than there are series."""
    workers = _workers(settings, series)
    if settings.runner == "threads":
        return ThreadPoolTaskRunner(max_workers=workers)
    from prefect_dask.task_runners import DaskTaskRunner

    cluster = local_cluster if settings.runner == "dask" else slurm_cluster
    return DaskTaskRunner(cluster_class=cluster(settings, workers))


def site_for(settings: Settings, series: int) -> Site:
    """Return how one series is processed by the chosen runner: on its share of this machine's cores, or on those of a Slurm job."""
    if settings.runner == "slurm":
        return site_from(settings, cores=settings.slurm.cores)
    return site_from(settings, jobs=_workers(settings, series))


def local_cluster(settings: Settings, workers: int) -> Callable[..., Cluster]:
    """Return what starts Dask workers on this machine, each a process that works on one series at a time."""

    def start(**options: Any) -> Cluster:
        from distributed import LocalCluster

        cluster: Callable[..., Cluster] = LocalCluster
        return cluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=0,  # Dask would kill a worker at 95 % of an equal share, whatever the others use
            dashboard_address=None,
            local_directory=_text(settings.scratch),
            scheduler_kwargs=_SCHEDULER,
            **options,
        )

    return start


def slurm_cluster(settings: Settings, workers: int) -> Callable[..., Cluster]:
    """Return what submits the Slurm jobs, each one Dask worker that works on one series at a time."""

    def start(**options: Any) -> Cluster:
        from dask_jobqueue.slurm import SLURMCluster

        cluster: Callable[..., Cluster] = SLURMCluster
        return cluster(
            n_workers=workers,
            scheduler_options={**_SCHEDULER, "dashboard_address": None, **_interface(settings.slurm)},
            shared_temp_directory=_text(settings.slurm.shared_folder),
            **slurm_options(settings),
            **options,
        )

    return start


def slurm_options(settings: Settings) -> dict[str, Any]:
    """Return the options of a job in the words of dask-jobqueue."""
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
        "worker_extra_args": ["--memory-limit", "0"],  # Slurm sees to the memory; Dask would count mapped files against it
        "python": sys.executable,
        **_interface(slurm),
    }


def job_script(settings: Settings, scheduler: str = "tcp://<scheduler>") -> str:
    """Return the script of a Slurm job, to look at: what a site's settings come to."""
    from dask_jobqueue.slurm import SLURMJob

    job: Any = SLURMJob
    return str(job(scheduler, name="tiltflow", **slurm_options(settings)).job_script())


def _workers(settings: Settings, series: int) -> int:
    return max(1, min(settings.workers, series))


def _interface(slurm: SlurmSettings) -> dict[str, str]:
    return {"interface": slurm.interface} if slurm.interface else {}


def _text(path: Any) -> str | None:
    return None if path is None else str(path)
