"""Slurm jobs that are Dask workers: imported only where the flow runs its series on Slurm."""

from __future__ import annotations

import asyncio
import sys
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tiltflow import stopping
from tiltflow.errors import SettingsError
from tiltflow.settings import Settings, SlurmSettings
from tiltflow_flows.job_size import JobSize, size_of_job
from tiltflow_flows.runners import PRELOAD, SCHEDULER
from tiltflow_flows.slurm import ASK_EVERY_S, JOB_NAME, SlurmJobs, passes, refusal

with stopping.held():  # the import replaces the handler of Ctrl-C
    from dask_jobqueue.slurm import SLURMCluster, SLURMJob
    from distributed.diskutils import WorkSpace

if TYPE_CHECKING:
    from distributed.deploy.cluster import Cluster

_POLL_S = 0.5


class _Job(SLURMJob):
    """A job whose number is noted as soon as Slurm gives it, or why Slurm refuses it; what passes is waited for."""

    def __init__(self, *args: Any, jobs: SlurmJobs, **options: Any) -> None:
        super().__init__(*args, **options)  # type: ignore[no-untyped-call]
        self._jobs = jobs

    async def start(self) -> None:
        while True:
            try:
                await super().start()  # type: ignore[no-untyped-call]
            except RuntimeError as error:
                if not passes(error):
                    # Dask only logs what is raised here.
                    self._jobs.refused = refusal(error)
                    raise
                self._jobs.note(f"no job yet: {refusal(error)}")
                await asyncio.sleep(ASK_EVERY_S)
            else:
                self._jobs.submitted(str(self.name), str(self.job_id))
                return


def start_slurm_cluster(settings: Settings, size: JobSize, jobs: SlurmJobs) -> Cluster:
    """Submit the first Slurm job, a Dask worker that works on one series at a time, and return when it is connected.

    A job that has to wait is waited for, however long: for the end of a maintenance too.

    Raises
    ------
    SettingsError
        If Slurm refuses the job or can never run it, or the job ends before its worker is connected: the others would fail in the same
        way.
    """
    start: Callable[..., Any] = SLURMCluster
    cluster = start(
        n_workers=1,
        job_cls=_Job,
        jobs=jobs,
        scheduler_options={**SCHEDULER, "dashboard_address": None, **_interface(settings.slurm)},
        shared_temp_directory=_text(settings.slurm.shared_folder),
        **slurm_options(settings, size),
    )
    try:
        _wait_for_first_worker(cluster, settings, jobs)
    except BaseException:
        with suppress(AssertionError):  # by which Dask is surprised at a job that Slurm refused
            cluster.close()
        raise
    if settings.scratch is not None:
        weakref.finalize(cluster, purge_dead_workers, settings.scratch)  # at the end of the process at the latest
    return cast("Cluster", cluster)


def purge_dead_workers(scratch: Path) -> None:
    """Remove what Dask keeps of workers that were killed; on nodes with a scratch folder of their own, their next worker does it."""
    if (folder := scratch / "dask-scratch-space").is_dir():
        with suppress(OSError):  # a new folder there begins with the purge
            WorkSpace(str(folder)).new_work_dir(prefix="purge-").release()  # type: ignore[no-untyped-call]


def slurm_options(settings: Settings, size: JobSize) -> dict[str, Any]:
    """Return the options of a job as dask-jobqueue names them."""
    slurm = settings.slurm
    last = [] if size.last_series_s is None else ["--no-series-after", str(size.last_series_s)]
    return {
        "job_name": JOB_NAME,
        "queue": slurm.partition,
        "account": slurm.account,
        "cores": 1,  # threads of the worker, which takes one series at a time; the series uses job_cpu
        "processes": 1,
        "job_cpu": size.cores,
        "memory": f"{size.memory}B",
        "job_mem": f"{-(-size.memory // 2**20)}M",
        "walltime": size.walltime or slurm.walltime,
        "job_extra_directives": list(slurm.directives),
        # As Dask's second process, which watches a worker, would set it; that process gives a series no time to end in order.
        "job_script_prologue": ["export OPENBLAS_NUM_THREADS=1 MALLOC_TRIM_THRESHOLD_=65536", *slurm.prologue],
        "nanny": False,
        "local_directory": _text(settings.scratch),
        "log_directory": _text(slurm.shared_folder),
        # Slurm limits the memory; Dask would count mapped files against it.
        "worker_extra_args": ["--memory-limit", "0", "--preload", PRELOAD, *last],
        "python": sys.executable,
        **_interface(slurm),
    }


def job_script(settings: Settings, scheduler: str = "tcp://<scheduler>", size: JobSize | None = None) -> str:
    """Return the script of a Slurm job that follows from the settings, for inspection: with the site's limits if no size is given."""
    size = size or size_of_job(settings.slurm, lambda _threads: [], 1)
    job: Callable[..., Any] = SLURMJob
    return str(job(scheduler, name="tiltflow", **slurm_options(settings, size)).job_script())


def _wait_for_first_worker(cluster: Any, settings: Settings, jobs: SlurmJobs) -> None:
    """Return when a worker is connected, however long its job waits in the queue."""
    while not cluster.scheduler_info["workers"]:
        time.sleep(_POLL_S)
        if jobs.refused:
            raise SettingsError(f"Slurm refuses the job: {jobs.refused}. Check the settings slurm.*.")
        for job, state in jobs.states().items():
            if state.can_never_run:
                raise SettingsError(
                    f"Slurm can never run job {job}: it waits for {state.reason}. Check the settings slurm.*, against "
                    "`scontrol show partition` and `scontrol show node`."
                )
            if state.ended and not cluster.scheduler_info["workers"]:
                raise SettingsError(
                    f"Slurm job {job} ended ({state.state}, {state.reason}) before its worker reached this machine; see its log in "
                    f"{settings.slurm.shared_folder or 'the folder where the flow runs'}. "
                    "The nodes need the same Python environment, and a network route to this machine (slurm.interface)."
                )


def _interface(slurm: SlurmSettings) -> dict[str, str]:
    return {"interface": slurm.interface} if slurm.interface else {}


def _text(path: Any) -> str | None:
    return None if path is None else str(path)
