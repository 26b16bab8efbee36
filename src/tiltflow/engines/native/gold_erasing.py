"""Where gold is to be erased from the aligned views: at the beads that were tracked, or at those found in a small volume."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiltflow.engines.base import EngineJob
from tiltflow.erase.positions import VolumeFrame, found_beads, tracked_beads
from tiltflow.erase.volume_beads import FoundBeads, find_beads
from tiltflow.errors import ParameterError, StageError
from tiltflow.formats.mrc import MrcWriter, open_mrc
from tiltflow.model import Alignment, Stack
from tiltflow.observer import StageObserver
from tiltflow.reconstruct.aligned_stack import StackParams, align_stack, aligned_shape
from tiltflow.reconstruct.wbp import ReconstructParams, follow_alignment, reconstruct, volume_shape

Floats = NDArray[np.float64]

_VOXELS_A_BEAD = 5.0
"""Diameter of a bead in the volume in which gold is found, as in IMOD: where it is found to a fraction of a voxel, and noise is low."""


def gold_in_views(job: EngineJob, views: Stack, alignment: Alignment) -> Floats | None:
    """Return where gold is to be erased, `(views, beads, 2)`, pixels of the aligned stack from its corner; None where there is none.

    Parameters
    ----------
    views
        The raw views `(view, y, x)`, repaired.

    Raises
    ------
    StageError
        If the beads that were tracked are to be erased, and none were.
    """
    asked = job.recipe.erase
    if asked is None:
        return None
    with job.recorder.stage("gold") as notes:
        shape = aligned_shape(views.shape, job.recipe.stack)
        if asked.which == "found":
            return _found(job, views, alignment, shape, notes)
        try:
            tracked = tracked_beads(alignment, views.shape, shape, job.recipe.stack.binning)
        except ParameterError as error:
            raise StageError(
                f"{job.series.path.name}: gold is to be erased (runtime.AlignedStack.any.eraseGold), but {error}"
            ) from error
        if lost := int(tracked.unplaced.sum()):
            notes.warn(
                f"{lost} of {len(tracked.points)} tracked beads are not erased in every view: their tracks tell no place in 3-D"
            )
        notes.number("beads", len(tracked.points))
        notes.number("gaps_filled", int(tracked.filled.sum()))
        return tracked.xy


def _found(job: EngineJob, views: Stack, alignment: Alignment, shape: tuple[int, int], notes: StageObserver) -> Floats | None:
    asked = job.recipe.erase
    diameter_px = job.recipe.gold_nm * 10 / job.series.pixel_size_angstrom
    binning = (asked.binning if asked is not None else None) or max(1, round(diameter_px / _VOXELS_A_BEAD))
    params = _volume_params(job, alignment, binning)
    files = job.path("_find_ali.mrc"), job.path("_find_rec.npy")
    try:
        found, volume = _beads_of_volume(job, views, alignment, params, files, notes)
    finally:
        for path in files:
            with suppress(FileNotFoundError):
                path.unlink()
    notes.number("beads", len(found.voxels) if found.clear else 0)
    notes.number("gap", round(found.gap, 2) if np.isfinite(found.gap) else None)
    if not found.clear:
        notes.warn("no gold is erased: in the volume no beads stand apart from all else")
        return None
    frame = VolumeFrame(
        shape=volume,
        binning=binning,
        x_axis_tilt_deg=params.x_axis_tilt_deg,
        shift_x=params.shift_x,
        shift_z=params.shift_z,
    )
    return found_beads(
        found.voxels,
        frame,
        alignment,
        shape,
        job.recipe.stack.binning,
        offset_deg=params.offset_deg,
        axis_offset=params.axis_offset,
    )


def _volume_params(job: EngineJob, alignment: Alignment, binning: int) -> ReconstructParams:
    """Return how the small volume is made: as the tomogram, of real numbers, without a filter that draws beads out."""
    asked = job.recipe.erase
    params = follow_alignment(replace(job.recipe.reconstruct, binning=binning, mode=2, fake_sirt_iterations=0), alignment)
    thickness = params.thickness if asked is None or asked.thickness is None else asked.thickness
    return replace(params, thickness=max(thickness, binning), width=None)


def _beads_of_volume(
    job: EngineJob,
    views: Stack,
    alignment: Alignment,
    params: ReconstructParams,
    files: tuple[Path, Path],
    notes: StageObserver,
) -> tuple[FoundBeads, tuple[int, int, int]]:
    """Return the beads of a small volume, and its shape `(nz, ny, nx)`; stack and volume lie in files meanwhile."""
    small = StackParams(binning=params.binning, linear=job.recipe.stack.linear)
    ny, nx = aligned_shape(views.shape, small)
    with MrcWriter(files[0], (views.shape[0], ny, nx), np.float32, pixel_size_angstrom=1.0, is_stack=True) as out:
        for image in align_stack(views, alignment.transforms, small, threads=job.site.threads):
            out.write(image)
    with open_mrc(files[0]) as aligned:
        shape = volume_shape(aligned.shape, params)
        volume = np.lib.format.open_memmap(files[1], mode="w+", dtype=np.float32, shape=shape)

        def sink(y0: int, slab: NDArray[np.generic]) -> None:
            volume[y0 : y0 + len(slab)] = slab

        reconstruct(
            aligned,
            alignment.tilt_deg,
            params,
            included=alignment.included,
            local=alignment.local,
            y_per_z=alignment.y_per_z,
            sink=sink,
            threads=job.site.threads,
            progress=notes.progress,
        )
    turned = volume.swapaxes(0, 1)
    diameter = job.recipe.gold_nm * 10 / job.series.pixel_size_angstrom / params.binning
    return find_beads(turned, diameter, threads=job.site.threads), (shape[1], shape[0], shape[2])
