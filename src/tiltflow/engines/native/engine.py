"""The work of tiltflow's own engine, step by step.

X-rays -> bad views -> alignment (:mod:`tiltflow.align.fallback`) -> aligned stack -> back-projection -> trim.  The raw stack is
read view by view and repaired as it is read; slices go straight into the turned and trimmed volume, so scratch holds only the
aligned stack and the volume.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tiltflow.align.fallback import align_views
from tiltflow.engines.base import EngineJob
from tiltflow.engines.native.alignment_files import write_alignment_files
from tiltflow.engines.native.halves import make_halves
from tiltflow.engines.native.positioning import position_specimen
from tiltflow.engines.native.volume import make_volume, title
from tiltflow.formats.mrc import MrcWriter
from tiltflow.formats.stacks import open_stack
from tiltflow.model import Alignment, ImageStack, Reconstruction, Stack
from tiltflow.preprocess.preparation import prepare_views
from tiltflow.recipe.make import render_request
from tiltflow.reconstruct.aligned_stack import align_stack, aligned_shape


def reconstruct_series(job: EngineJob) -> Reconstruction:
    """Align the series and reconstruct its volume.

    Raises
    ------
    StageError
        If a stage finds that these data cannot give a result, with the reason.
    """
    write_directives(job)
    with open_stack(job.series.path) as raw:
        stack, alignment = align(job, raw)
        alignment = position_specimen(job, stack, alignment)
        job.note_alignment(alignment)
        write_alignment_files(job.workdir, job.series, alignment)
        aligned = make_aligned_stack(job, stack, raw, alignment)
    volume = make_volume(job, aligned, alignment)
    make_halves(job, aligned, alignment)
    return Reconstruction(aligned=aligned, volume=volume, transforms=job.path(".xf"), tilts=job.path(".tlt"), alignment=alignment)


def write_directives(job: EngineJob) -> None:
    """Write the directives that are followed to `B.adoc`, which is kept with the results as IMOD's is."""
    source = job.series.path
    text = render_request(
        job.recipe, name=job.series.name, stackext=source.suffix.lstrip("."), dataset_directory=str(source.parent)
    )
    job.path(".adoc").write_text(text, encoding="utf-8")


def align(job: EngineJob, raw: Stack) -> tuple[Stack, Alignment]:
    """Return the views with x-ray hits repaired, and their alignment.

    Raises
    ------
    StageError
        If these data cannot be aligned, with the reason.
    """
    series, recipe = job.series, job.recipe
    stack, excluded = prepare(job, raw)
    alignment = align_views(
        stack,
        series.tilt_deg,
        series.axis_angle_deg,
        series.pixel_size_angstrom,
        recipe.align,
        excluded=excluded,
        name=series.path.name,
        observer=job.recorder,
        threads=job.site.threads,
    )
    return stack, alignment


def prepare(job: EngineJob, raw: Stack) -> tuple[Stack, Mapping[int, str]]:
    """Return the views with x-ray hits repaired, and the views that are left out, counted from 0, with the reason."""
    series, recipe = job.series, job.recipe
    left_out = {int(view): "is left out by the request" for view in np.flatnonzero(~series.included)}
    return prepare_views(
        raw,
        series.tilt_deg,
        recipe.xrays,
        recipe.views,
        left_out=left_out,
        name=series.path.name,
        observer=job.recorder,
        threads=job.site.threads,
    )


def make_aligned_stack(job: EngineJob, stack: Stack, raw: ImageStack, alignment: Alignment) -> Path:
    """Write the aligned stack to `B_ali.mrc` and return its path; `raw` gives its type and labels."""
    params = job.recipe.stack
    path = job.path("_ali.mrc")
    ny, nx = aligned_shape(stack.shape, params)
    pixel = job.series.pixel_size_angstrom
    with job.recorder.stage("aligned stack") as notes:
        with MrcWriter(
            path,
            (stack.shape[0], ny, nx),
            _aligned_dtype(raw),
            pixel_size_angstrom=(pixel * params.binning, pixel * params.binning, pixel),
            labels=[*raw.labels, title("aligned stack")],
            is_stack=True,
            tilt_deg=alignment.tilt_deg,
        ) as out:
            images = align_stack(stack, alignment.transforms, params, threads=job.site.threads, progress=notes.progress)
            for image in images:
                out.write(image)
        notes.number("binning", params.binning)
        notes.number("width", nx, "px")
        notes.number("height", ny, "px")
    return path


def _aligned_dtype(raw: ImageStack) -> type[np.generic]:
    """Return int16 for bytes and int16, float32 for all other types."""
    return np.int16 if raw.dtype.name in {"int8", "uint8", "int16"} else np.float32
