"""Where the series of a run are processed: decided when a flow runs, never when it is imported.

Every runner works on whole series, so a series' scratch folder may lie on the disk of the machine that works on it.  Dask does not
pass the series of a worker that died to another one; the flow does, once, when nothing else runs.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.settings import get_current_settings
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from tiltflow.delivery.cleanup import make_scratch, remove_scratch
from tiltflow.errors import SettingsError
from tiltflow.settings import Settings, site_from
from tiltflow.work import Site
from tiltflow_flows.artifacts import report_jobs
from tiltflow_flows.outcomes import explained_by_nobody, place_of_any

if TYPE_CHECKING:
    from distributed.deploy.cluster import Cluster

    from tiltflow_flows.job_size import Needs

SCHEDULER = {"allowed_failures": 0}
PRELOAD = "tiltflow_flows.worker"


@dataclass(frozen=True, slots=True, eq=False)
class Runner:
    """How the series of a run are processed.

    Attributes
    ----------
    name
        As in the settings.
    tasks
        Prefect's runner of the tasks.
    site
        How one series is processed by it.
    at_once
        How many series are processed at the same time.
    place_of
        Of the name of a worker: where it worked, in words.
    explained
        Of the message of a series that was lost: the message with what is known of its end.
    watched
        A context in which the series are processed.
    """

    name: str
    tasks: TaskRunner[Any]
    site: Site
    at_once: int
    place_of: Callable[[str], str] = place_of_any
    explained: Callable[[str], str] = explained_by_nobody
    watched: Callable[[], AbstractContextManager[object]] = nullcontext


def series_at_once(settings: Settings, series: int) -> int:
    """Return how many series are processed at the same time."""
    return max(1, min(settings.workers, series))


def choose_runner(settings: Settings, series: int, needs: Needs) -> Runner:
    """Return the runner of the settings, with no more workers than there are series.

    Parameters
    ----------
    needs
        What the series need, by which Slurm jobs are sized.

    Raises
    ------
    SettingsError
        If its workers are other processes, and there is no Prefect server that all of them can reach; if Slurm has no node that could run
        its jobs; or if the pool cannot be used.
    """
    workers = series_at_once(settings, series)
    site = site_from(settings, jobs=workers)
    if settings.runner == "threads":
        return Runner("threads", ThreadPoolTaskRunner(max_workers=workers), site, workers)
    if get_current_settings().api.url is None:
        raise SettingsError(f"The runner {settings.runner!r} needs a Prefect server that its workers reach: set PREFECT_API_URL.")
    if settings.runner == "pool":
        return _pool(settings, workers)
    if settings.runner == "slurm":
        return _slurm(settings, workers, needs, -(-series // workers))
    options = {"settings": settings, "workers": workers}
    return Runner("dask", _dask(cluster_class=start_local_cluster, cluster_kwargs=options), site, workers)


def start_local_cluster(settings: Settings, workers: int) -> Cluster:
    """Start Dask workers on this machine, each a process that works on one series at a time.

    What Dask keeps for its workers lies in a scratch folder, which goes with the cluster, or after a kill at the next start.
    """
    from distributed import LocalCluster

    folder = make_scratch(Path("dask"), settings.scratch)
    start: Callable[..., Cluster] = LocalCluster
    cluster = start(
        n_workers=workers,
        threads_per_worker=1,
        memory_limit=0,  # Dask would kill a worker at 95 % of an equal share, whatever the others use
        dashboard_address=None,
        local_directory=str(folder),
        scheduler_kwargs=SCHEDULER,
        preload=[PRELOAD],
    )
    weakref.finalize(cluster, remove_scratch, folder)  # at the end of the process at the latest
    return cluster


def _slurm(settings: Settings, workers: int, needs: Needs, series_for_each: int) -> Runner:
    from tiltflow_flows.job_size import size_of_job
    from tiltflow_flows.slurm import SlurmJobs, require_possible
    from tiltflow_flows.slurm_cluster import start_slurm_cluster

    size = size_of_job(settings.slurm, needs, series_for_each)
    require_possible(settings.slurm, size.cores, size.memory)
    jobs = SlurmJobs(report_jobs(size))
    # Jobs that end, at their walltime or because a node fails, are replaced while there is work.  Dask assumes that a series is
    # short until it has seen one; the tiny target makes it request a worker for each.
    adapt = {"minimum": 1, "maximum": workers, "target_duration": "1ms"}
    options = {"settings": settings, "size": size, "jobs": jobs}
    tasks = _dask(cluster_class=start_slurm_cluster, cluster_kwargs=options, adapt_kwargs=adapt)
    return Runner("slurm", tasks, site_from(settings, cores=size.cores), workers, jobs.place_of, jobs.explained, jobs.watched)


def _pool(settings: Settings, workers: int) -> Runner:
    from tiltflow_flows.pool import cores_of_a_place

    if settings.pool_address is None:
        raise SettingsError("The runner 'pool' needs the address of the pool's scheduler: set pool_address.")
    site = site_from(settings, cores=cores_of_a_place(settings.pool_address))
    return Runner("pool", _dask(address=settings.pool_address), site, workers)


def _dask(**options: Any) -> TaskRunner[Any]:
    from prefect_dask.task_runners import DaskTaskRunner

    runner: Callable[..., TaskRunner[Any]] = DaskTaskRunner
    return runner(**options)
