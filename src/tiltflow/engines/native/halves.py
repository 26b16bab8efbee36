"""Volumes of alternate views, when the recipe asks for them, and their Fourier shell correlation.

`B_rec_even.mrc` and `B_rec_odd.mrc` lie beside `B_rec.mrc`, with its size, place and grey scale: the pair that denoising by
noise2noise is trained on.  The correlation between them goes into the record.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tiltflow.engines.base import EngineJob
from tiltflow.engines.native.volume import reconstruct_params, write_volume
from tiltflow.errors import ParameterError
from tiltflow.formats.mrc import MrcFile, open_mrc
from tiltflow.model import Alignment
from tiltflow.reconstruct.half_volumes import THRESHOLD, half_views, shell_correlation
from tiltflow.reconstruct.trim import Trim
from tiltflow.reconstruct.wbp import volume_shape
from tiltflow.record import HalvesEntry

HALVES = ("_rec_even.mrc", "_rec_odd.mrc")
"""Endings of the volumes of alternate views."""

_STAGE = "half volumes"
_HALF_CORRELATION = 0.5
"""The other usual threshold, which is not tied to a signal-to-noise ratio of the full volume."""


class _Boxes:
    """A volume on disk, read in boxes."""

    def __init__(self, file: MrcFile) -> None:
        self._file, self.shape = file, file.shape

    def __getitem__(self, box: tuple[slice, slice, slice], /) -> NDArray[Any]:
        return self._file.read_block(box[0], box[1])[..., box[2]]


def make_halves(job: EngineJob, aligned_path: Path, alignment: Alignment) -> None:
    """Reconstruct both halves, if they are asked for, and record their Fourier shell correlation.

    They hold integers or reals, as the data do, and never bytes, which would be scaled apart.

    Raises
    ------
    StageError
        If there are too few views for two halves.
    """
    if not job.recipe.halves:
        return
    even, odd = half_views(alignment.tilt_deg, alignment.included)
    with job.recorder.stage(_STAGE) as notes:
        with open_mrc(aligned_path) as aligned:
            params = reconstruct_params(job, aligned.dtype, alignment)
            params = replace(params, mode=1 if params.mode == 0 else params.mode)
            trim = Trim(volume_shape(aligned.shape, params), replace(job.recipe.trim, to_bytes=False))
            for suffix, half in zip(HALVES, (even, odd), strict=True):
                write_volume(
                    job, aligned, replace(alignment, included=half), params, trim, job.path(suffix), progress=notes.progress
                )
        notes.number("views_even", int(even.sum()))
        notes.number("views_odd", int(odd.sum()))
        try:
            entry = _compare(job, params.binning * job.series.pixel_size_angstrom / 10, int(even.sum()), int(odd.sum()))
        except ParameterError as error:
            notes.warn(f"the halves were not compared: {error}")
            return
        notes.number("resolution_0143", entry.resolution_0143_nm, "nm")
        notes.number("resolution_0500", entry.resolution_0500_nm, "nm")
        job.recorder.record.halves = entry


def _compare(job: EngineJob, voxel_nm: float, views_even: int, views_odd: int) -> HalvesEntry:
    with open_mrc(job.path(HALVES[0])) as first, open_mrc(job.path(HALVES[1])) as second:
        found = shell_correlation(_Boxes(first), _Boxes(second), threads=job.site.threads)
    filled = found.voxels > 0

    def detail_nm(threshold: float) -> float | None:
        frequency = found.resolution(threshold)
        return voxel_nm / frequency if frequency else None

    return HalvesEntry(
        views_even=views_even,
        views_odd=views_odd,
        frequency_per_nm=(found.frequency[filled] / voxel_nm).tolist(),
        correlation=found.correlation[filled].tolist(),
        resolution_0143_nm=detail_nm(THRESHOLD),
        resolution_0500_nm=detail_nm(_HALF_CORRELATION),
    )
