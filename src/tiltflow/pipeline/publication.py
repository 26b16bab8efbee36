"""Which files of a series are kept, and their publication in its folder."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from tiltflow import describe
from tiltflow.delivery.publish import publish, staging_folder
from tiltflow.pipeline.job import Job, StepOutcome
from tiltflow.record import ProductEntry

_FILES = (
    "*.log",
    "{name}.adoc",
    "{name}.xf",
    "{name}.tlt",
    "{name}.xtilt",
    "{name}_align.json",
    "{name}_local.json",
    "{name}_fid.txt",
)
_VOLUMES = ("{name}_ali.mrc", "{name}_rec.mrc", "{name}_rec_even.mrc", "{name}_rec_odd.mrc")


def files_to_keep(job: Job, patterns: Sequence[str] = _FILES) -> list[Path]:
    """Return the files of the engine in the work folder that are kept, also after a failure."""
    return sorted({path for pattern in patterns for path in job.workdir.glob(pattern.format(name=glob.escape(job.name)))})


def products_folder(job: Job) -> Path:
    """Return where the products are made: in a hidden folder beside their place, so that they need no space in the work folder."""
    return staging_folder(job.output, job.workdir.name)


def publish_products(job: Job, outcomes: Sequence[StepOutcome]) -> list[ProductEntry]:
    """Put products and volumes into the folder of the series, all or none, and return their entries."""
    assets = [asset for outcome in outcomes for asset in outcome.assets]
    tops = sorted({Path(asset.path).parts[0] for asset in assets})
    volumes = files_to_keep(job, _VOLUMES) if job.keep_volumes else []
    publish([*(products_folder(job) / top for top in tops), *volumes], job.output)
    return [describe.product(asset, job.output) for asset in assets]
