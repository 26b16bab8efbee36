"""Which files of a series are kept, and their publication in its folder."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from tiltflow import describe
from tiltflow.delivery.layout import ASSETS
from tiltflow.delivery.publish import publish
from tiltflow.disk import remove
from tiltflow.parallel import map_threads
from tiltflow.pipeline.engine_work import GEOMETRY_FILES
from tiltflow.pipeline.job import Job, StepOutcome
from tiltflow.pipeline.standing import note_replacing
from tiltflow.pipeline.step_book import unfinished_folder
from tiltflow.products.catalogue import STEPS
from tiltflow.recipe.engine_rules import engine_info
from tiltflow.record import FileEntry, ProductEntry, SeriesRecord, Steps

_FILES = (
    "*.log",
    "{name}.adoc",
    "{name}.xf",
    "{name}.tlt",
    "{name}.xtilt",
    "{name}_align.json",
    "{name}_align.npz",
    "{name}_levelled.npz",
    "{name}_montage.npz",
    "{name}_local.json",
    "{name}_fid.txt",
    "{name}.defocus",
)
_ALIGNED = ("{name}_ali.mrc",)
_VOLUMES = ("{name}_rec.mrc", "{name}_rec_even.mrc", "{name}_rec_odd.mrc", "{name}_deconv.mrc", "{name}_nad.mrc")
_ON_REQUEST = ("{name}.defocus",)
_VOLUMES_ON_REQUEST = _VOLUMES[1:]
"""Files that a result has or not, by its recipe: those of an earlier one must not stand beside a result that they do not belong to."""


def files_to_keep(job: Job, record: SeriesRecord, *, failed: bool) -> list[Path]:
    """Return the files in the work folder that are kept, also after a failure: those of every engine, and those that some add.

    Parameters
    ----------
    record
        Names the engines that worked; of one whose result is not used, what a failure leaves is kept.
    failed
        Whether the series failed.
    """
    failures = {attempt.name: attempt.outcome != "used" for attempt in record.engine_attempts}
    if record.engine is not None:
        failures.setdefault(record.engine.name, failed)
    more = [
        pattern
        for name, engine_failed in failures.items()
        for pattern in engine_info(name).files_to_keep(job.site.engine_options, failed=engine_failed or failed)
    ]
    geometry = [f"{{name}}_{name}{suffix}" for name in failures for suffix in GEOMETRY_FILES]
    return _found(job, (*_FILES, *more, *geometry))


def _volumes_to_keep(job: Job) -> tuple[str, ...]:
    if not job.keep_volumes:
        return ()
    return (*(_ALIGNED if job.site.publish_aligned else ()), *(_VOLUMES if job.site.publish_volume else ()))


def _found(job: Job, patterns: Sequence[str]) -> list[Path]:
    return sorted({path for pattern in patterns for path in job.workdir.glob(pattern.format(name=glob.escape(job.name)))})


def products_folder(job: Job) -> Path:
    """Return where the products are made: in a hidden folder beside their place, so that they need no space in the work folder."""
    return unfinished_folder(job.output)


def products_url(job: Job) -> str:
    """Return the address under which the site serves the products of a series; empty if it does not say.

    The site serves the folder `Assets` of its share, or without a share the folder that holds the folders of the series.
    """
    if not job.site.assets_url:
        return ""
    roots = [mount / ASSETS for mount in job.site.mounts.values()]
    root = next((root for root in roots if job.output.is_relative_to(root)), job.output.parent)
    return f"{job.site.assets_url.rstrip('/')}/{quote(job.output.relative_to(root).as_posix())}"


def publish_products(
    job: Job, record: SeriesRecord, outcomes: Sequence[StepOutcome], steps: Steps, kept: Sequence[Path]
) -> tuple[list[ProductEntry], list[FileEntry]]:
    """Put products, volumes and other files into the folder of the series, all or none; return the entries of products and files.

    What was taken over from an earlier run and is in its place already stays there; what this result does not have is removed.  All is
    described before anything is replaced, so that nothing is left to be done then.
    """
    assets = [asset for outcome in outcomes for asset in outcome.assets]
    tops = sorted({Path(asset.path).parts[0] for asset in assets})
    volumes = _found(job, _volumes_to_keep(job))
    beside = [
        path
        for step in STEPS
        for pattern in step.beside
        if os.path.lexists(path := products_folder(job) / pattern.format(name=job.name))
    ]
    nearest = [_nearest(job, path) for path in volumes]
    made = [products_folder(job) / top for top in tops] + beside + nearest
    real = [path.resolve() if path.is_symlink() else path for path in made]
    fresh = [*kept, *(path for path in real if path.parent.resolve() != job.output.resolve())]
    places = {path.name: path for path in (*kept, *nearest, *beside)}
    places |= {picture.path: job.output / picture.path for picture in record.pictures}
    products = list(map_threads(lambda asset: describe.product(asset, products_folder(job)), assets, job.site.threads))
    found = map_threads(describe.file_entry, (places[name] for name in sorted(places)), job.site.threads)
    files = [entry.model_copy(update={"path": name}) for name, entry in zip(sorted(places), found, strict=True)]
    stale = [path for path in _on_request(job) if path.name not in places]
    note_replacing(job.output)
    steps.replacing(path.name for path in (*fresh, *stale))
    publish(fresh, job.output)
    for path in stale:
        remove(path)
    return products, files


def _on_request(job: Job) -> list[Path]:
    """Return what lies in the folder of the series of the files that not every result has."""
    patterns = (*_ON_REQUEST, *(_VOLUMES_ON_REQUEST if job.keep_volumes and job.site.publish_volume else ()))
    return [path for pattern in patterns if (path := job.output / pattern.format(name=job.name)).is_file()]


def _nearest(job: Job, path: Path) -> Path:
    """Return a file of the work folder, or the same file in the folder of the series, from where it need not be copied.

    A work folder that is kept may be changed later, so that its files are copied.
    """
    beside = products_folder(job) / path.name
    return beside if not job.site.keep_workdir and beside.is_file() else path
