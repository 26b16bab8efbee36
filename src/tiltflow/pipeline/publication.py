"""Which files of a series are kept, and their publication in its folder."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from tiltflow import describe
from tiltflow.delivery.publish import publish, staging_folder
from tiltflow.pipeline.job import Job, StepOutcome
from tiltflow.recipe.engine_rules import engine_info
from tiltflow.record import ProductEntry

_FILES = (
    "*.log",
    "{name}.xf",
    "{name}.tlt",
    "{name}.xtilt",
    "{name}_align.json",
    "{name}_local.json",
    "{name}_fid.txt",
)
_VOLUMES = ("{name}_ali.mrc", "{name}_rec.mrc", "{name}_rec_even.mrc", "{name}_rec_odd.mrc")


def files_to_keep(job: Job, engine: str | None, *, failed: bool) -> list[Path]:
    """Return the files in the work folder that are kept, also after a failure: those of every engine, and those that this one adds.

    Parameters
    ----------
    engine
        The engine that did the work; None if the series failed before one was chosen.
    failed
        Whether the series failed.
    """
    more = engine_info(engine).files_to_keep(job.site.engine_options, failed=failed) if engine is not None else ()
    return _found(job, (*_FILES, *more))


def _found(job: Job, patterns: Sequence[str]) -> list[Path]:
    return sorted({path for pattern in patterns for path in job.workdir.glob(pattern.format(name=glob.escape(job.name)))})


def products_folder(job: Job) -> Path:
    """Return where the products are made: in a hidden folder beside their place, so that they need no space in the work folder."""
    return staging_folder(job.output, job.workdir.name)


def publish_products(job: Job, outcomes: Sequence[StepOutcome]) -> list[ProductEntry]:
    """Put products and volumes into the folder of the series, all or none, and return their entries."""
    assets = [asset for outcome in outcomes for asset in outcome.assets]
    tops = sorted({Path(asset.path).parts[0] for asset in assets})
    volumes = _found(job, _VOLUMES) if job.keep_volumes else []
    publish([*(products_folder(job) / top for top in tops), *volumes], job.output)
    return [describe.product(asset, job.output) for asset in assets]
