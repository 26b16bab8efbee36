"""tiltflow's own engine: everything from raw views to the volume, with nothing installed beyond Python packages.

X-rays -> bad views -> alignment (:mod:`tiltflow.engines.native.alignment`) -> aligned stack -> back-projection -> trim.  The raw stack is
read view by view and repaired as it is read; sections go straight into the turned and trimmed volume, so scratch holds only the
aligned stack and the volume.
"""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np

import tiltflow
from tiltflow.engines.base import EngineJob
from tiltflow.engines.native.alignment import align_series
from tiltflow.engines.native.alignment_files import write_alignment_files
from tiltflow.engines.native.halves import make_halves
from tiltflow.engines.native.positioning import position_specimen
from tiltflow.engines.native.volume import make_volume, title
from tiltflow.errors import StageError
from tiltflow.formats.mrc import MrcFile, MrcWriter, open_mrc
from tiltflow.model import Alignment, Reconstruction, Stack
from tiltflow.preprocess.bad_views import find_bad_views
from tiltflow.preprocess.xrays import RepairedStack, find_xrays
from tiltflow.recipe.directive_status import EngineName
from tiltflow.reconstruct.aligned_stack import align_stack, aligned_shape


class NativeEngine:
    """Aligns and reconstructs with tiltflow's own code on this machine's processors."""

    name: EngineName = "native"

    @property
    def version(self) -> str:
        """Tiltflow's version and the Python it runs on."""
        return f"tiltflow {tiltflow.__version__} (Python {platform.python_version()})"

    def check(self, job: EngineJob) -> None:
        """Accept every series: what this engine cannot do is refused when the recipe is made for it."""

    def reconstruct(self, job: EngineJob) -> Reconstruction:
        """Align the series and reconstruct its volume.

        Raises
        ------
        StageError
            If these data cannot give a result, with the reason.
        """
        with open_mrc(job.series.path) as raw:
            stack, alignment = align(job, raw)
            alignment = position_specimen(job, stack, alignment)
            job.note_alignment(alignment)
            write_alignment_files(job.workdir, job.series, alignment)
            aligned = _make_aligned_stack(job, stack, raw, alignment)
        volume = make_volume(job, aligned, alignment)
        make_halves(job, aligned, alignment)
        return Reconstruction(
            aligned=aligned, volume=volume, transforms=job.path(".xf"), tilts=job.path(".tlt"), alignment=alignment
        )


def align(job: EngineJob, raw: MrcFile) -> tuple[Stack, Alignment]:
    """Return the views with x-ray hits repaired, and their alignment.

    Raises
    ------
    StageError
        If these data cannot be aligned, with the reason.
    """
    stack, excluded = _prepare(job, raw)
    return stack, align_series(job, stack, excluded)


def _prepare(job: EngineJob, raw: MrcFile) -> tuple[Stack, dict[int, str]]:
    """Return the views with x-ray hits repaired, and the reason for every view that is not to be used."""
    threads = job.site.threads
    stack: Stack = raw
    if job.recipe.xrays.enabled:
        with job.recorder.stage("x-rays") as notes:
            hits = find_xrays(raw, job.recipe.xrays, threads=threads, progress=job.stage_progress("x-rays"))
            notes.number("hits", int(hits.hits_per_view.sum()))
            notes.number("pixels_replaced", int(hits.pixels_per_view.sum()))
            stack = RepairedStack(raw, hits)
    excluded = {int(view): "is left out by the request" for view in np.flatnonzero(~job.series.included)}
    with job.recorder.stage("views") as notes:
        check = find_bad_views(stack, job.series.tilt_deg, job.recipe.views, threads=threads, progress=job.stage_progress("views"))
        for view, reason in check.reasons.items():
            if view not in excluded:
                notes.warn(f"view {view + 1} ({job.series.tilt_deg[view]:.1f}°) is left out: {reason}")
                excluded[view] = reason
        views = stack.shape[0]
        notes.number("views_used", views - len(excluded))
        notes.number("views_left_out", len(excluded))
        if len(excluded) == views:
            raise StageError(
                f"{job.series.path.name}: none of its {views} views can be used: "
                f"{next(iter(check.reasons.values()), 'all were excluded by the request')}"
            )
    return stack, dict(sorted(excluded.items()))


def _make_aligned_stack(job: EngineJob, stack: Stack, raw: MrcFile, alignment: Alignment) -> Path:
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
            labels=[*raw.header.labels, title("aligned stack")],
            is_stack=True,
            tilt_deg=alignment.tilt_deg,
        ) as out:
            images = align_stack(
                stack, alignment.transforms, params, threads=job.site.threads, progress=job.stage_progress("aligned stack")
            )
            for image in images:
                out.write(image)
        notes.number("binning", params.binning)
        notes.number("width", nx, "px")
        notes.number("height", ny, "px")
    return path


def _aligned_dtype(raw: MrcFile) -> type[np.generic]:
    """Return 16-bit integers for stacks of bytes and 16-bit integers, and real numbers for all others."""
    return np.int16 if raw.dtype.name in {"int8", "uint8", "int16"} else np.float32
