"""How the work on a series is done here: the part of the settings that the core needs, and the cores that it may use."""

from __future__ import annotations

import os
from typing import Any

from tiltflow.parallel import usable_cores
from tiltflow.settings.model import Settings, engine_options, load_settings
from tiltflow.work import Site

SLURM_CORE_VARIABLES = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")
"""Variables in which Slurm tells a job its cores, the one that counts first."""


def load_site(*, jobs: int = 1, **overrides: Any) -> Site:
    """Return how the work is done here, with the cores divided among `jobs` series at once.

    Raises
    ------
    SettingsError
        If a setting is unknown or has an invalid value.
    """
    return site_from(load_settings(**overrides), jobs)


def site_from(settings: Settings, jobs: int = 1, cores: int | None = None) -> Site:
    """Return the part of the settings that the core needs; `cores` of one machine are divided among `jobs`."""
    return Site(
        mounts=dict(settings.mounts),
        scratch=settings.scratch,
        threads=settings.threads or max(1, (cores or job_cores()) // jobs),
        engine_options={option.name: getattr(settings, option.name, option.default) for option in engine_options()},
        keep_workdir=settings.keep_workdir,
        assets_url=settings.assets_url,
        thresholds=settings.verdict,
        export=settings.export,
        publish_aligned=settings.publish_aligned,
        publish_volume=settings.publish_volume,
    )


def job_cores() -> int:
    """Return the number of cores that this process may use, and of those no more than Slurm has given to the job that it is in.

    Where Slurm does not bind its jobs to cores, the system shows all cores of the node.
    """
    given = next((text for text in map(os.environ.get, SLURM_CORE_VARIABLES) if text and text.isdecimal()), None)
    return min(usable_cores(), max(1, int(given))) if given else usable_cores()
