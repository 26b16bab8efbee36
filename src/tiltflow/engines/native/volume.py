"""The volume from an aligned stack: back-projection or SIRT, reoriented and trimmed as it is made.

XZ slices are written straight to their place in `B_rec.mrc`.  Only a volume of bytes is made in two passes, as its contrast is known
at the end.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiltflow.engines.base import EngineJob
from tiltflow.formats.mrc import MrcFile, MrcWriter, open_mrc, render_label
from tiltflow.model import Alignment, Progress
from tiltflow.observer import StageObserver
from tiltflow.reconstruct.sirt import SirtResult, reconstruct_sirt
from tiltflow.reconstruct.trim import ByteContrast, Trim, scale_to_bytes
from tiltflow.reconstruct.volume_slabs import GREYS, Sink
from tiltflow.reconstruct.wbp import (
    ReconstructParams,
    ReconstructResult,
    follow_alignment,
    reconstruct,
    volume_shape,
    z_factors_matter,
)
from tiltflow.version import __version__

_ROWS_AT_ONCE = 64
"""Slices of the volume scaled to bytes at once: 64 MB of a volume of 512 x 512 voxels."""


def make_volume(job: EngineJob, aligned_path: Path, alignment: Alignment) -> Path:
    """Reconstruct the volume of an aligned stack into `B_rec.mrc` and return its path."""
    path = job.path("_rec.mrc")
    with job.recorder.stage("reconstruction") as notes, open_mrc(aligned_path) as aligned:
        params = reconstruct_params(job, aligned.dtype, alignment)
        full_shape = volume_shape(aligned.shape, params)
        trim = Trim(full_shape, job.recipe.trim)
        if job.recipe.trim.to_bytes and params.mode != 0:
            contrast = ByteContrast(full_shape, job.recipe.trim.contrast_size)
            between = job.path("_rec_grey.mrc")
            made = write_volume(job, aligned, alignment, params, trim, between, contrast.add, progress=notes.progress)
            _scale_to_bytes(between, path, *contrast.limits(), notes)
            between.unlink()
        else:
            made = write_volume(job, aligned, alignment, params, trim, path, progress=notes.progress)
        _note(notes, made, params)
        if isinstance(made, SirtResult) and z_factors_matter(alignment.y_per_z, np.flatnonzero(alignment.included), params):
            notes.warn("SIRT takes no z factors: where the specimen skews, its top and bottom are blurred along the tilt axis")
    return path


def reconstruct_params(job: EngineJob, dtype: np.dtype[Any], alignment: Alignment | None = None) -> ReconstructParams:
    """Return the recipe's parameters, completed by the type of the data and by the alignment."""
    asked = job.recipe.reconstruct
    natural = 1 if np.issubdtype(dtype, np.integer) else 2
    params = replace(asked, binning=job.recipe.stack.binning, mode=natural if asked.mode is None else asked.mode)
    return params if alignment is None else follow_alignment(params, alignment)


def title(what: str) -> str:
    """Return a title line, with the time, for a file that tiltflow makes."""
    return render_label(f"tiltflow {__version__}: {what}")


def write_volume(
    job: EngineJob,
    aligned: MrcFile,
    alignment: Alignment,
    params: ReconstructParams,
    trim: Trim,
    path: Path,
    look: Sink | None = None,
    *,
    progress: Progress | None = None,
) -> ReconstructResult | SirtResult:
    """Reconstruct into a file, trimmed, and return its statistics; `look` is called with every slab before it is trimmed."""
    raw_pixel = job.series.pixel_size_angstrom
    depth = trim.output_shape[trim.z_axis]
    with MrcWriter(
        path,
        trim.output_shape,
        GREYS[params.grey_mode][0],
        pixel_size_angstrom=raw_pixel * params.binning,
        labels=[*aligned.header.labels, title("tomographic reconstruction")],
        origin=(params.shift_x * raw_pixel, 0.0, depth * raw_pixel * params.binning / 2),
    ) as out:

        def sink(y0: int, slab: NDArray[Any]) -> None:
            if look is not None:
                look(y0, slab)
            placed = trim.place(y0, slab)
            if placed is not None:
                (z, y, _), block = placed
                out.write_block(block, z=z.start or 0, y=y.start or 0)

        work: dict[str, Any] = {
            "included": alignment.included,
            "sink": sink,
            "threads": job.site.threads,
            "progress": progress,
        }
        made: ReconstructResult | SirtResult
        if job.recipe.sirt is not None:
            made = reconstruct_sirt(aligned, alignment.tilt_deg, params, job.recipe.sirt, **work)
        else:
            made = reconstruct(aligned, alignment.tilt_deg, params, local=alignment.local, y_per_z=alignment.y_per_z, **work)
    return made


def _note(notes: StageObserver, made: ReconstructResult | SirtResult, params: ReconstructParams) -> None:
    if isinstance(made, SirtResult):
        notes.number("sirt_iterations", len(made.residual_rms) - 1)
        notes.number("sirt_residual_before", made.residual_rms[0], "grey value")
        notes.number("sirt_residual_after", made.residual_rms[-1], "grey value")
    notes.number("views", made.views)
    notes.number("scale_factor", made.scale_factor)
    notes.number("thickness", params.thickness, "px")
    notes.number("minimum", made.minimum)
    notes.number("maximum", made.maximum)
    notes.number("mean", made.mean)


def _scale_to_bytes(source: Path, target: Path, black: float, white: float, notes: StageObserver) -> None:
    with open_mrc(source) as volume:
        header = volume.header
        with MrcWriter(
            target,
            volume.shape,
            np.uint8,
            pixel_size_angstrom=header.pixel_size_angstrom,
            labels=header.labels,
            origin=header.origin,
        ) as out:
            for z in range(0, volume.shape[0], _ROWS_AT_ONCE):
                out.write(scale_to_bytes(volume.read_block(slice(z, min(z + _ROWS_AT_ONCE, volume.shape[0]))), black, white))
    notes.number("black", black, "grey value")
    notes.number("white", white, "grey value")
