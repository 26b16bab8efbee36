"""Half volumes, when the recipe asks for them, and their Fourier shell correlation.

They are made of the even and of the odd frames of all views, where stacks of these lie beside the series; else of alternate views.
`B_rec_even.mrc` and `B_rec_odd.mrc` lie beside `B_rec.mrc`, with its size, place and grey scale (that of frames is as their stacks have
it): the pair that denoising by noise2noise is trained on.  The correlation between them goes into the record.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tiltflow.engines.base import EngineJob
from tiltflow.engines.native.aligned_stacks import AlignedStacks
from tiltflow.engines.native.volume import reconstruct_params, write_volume
from tiltflow.errors import ParameterError
from tiltflow.formats.mrc import MrcFile, open_mrc
from tiltflow.model import Alignment, Progress
from tiltflow.observer import part_of
from tiltflow.reconstruct.half_volumes import THRESHOLD, half_views, shell_correlation
from tiltflow.reconstruct.trim import Trim
from tiltflow.reconstruct.wbp import volume_shape
from tiltflow.record import HalvesEntry

HALVES = ("_rec_even.mrc", "_rec_odd.mrc")
"""Endings of the half volumes."""

_STAGE = "half volumes"
_HALF_CORRELATION = 0.5
"""The other usual threshold, which is not tied to a signal-to-noise ratio of the full volume."""


class _Boxes:
    """A volume on disk, read in boxes."""

    def __init__(self, file: MrcFile) -> None:
        self._file, self.shape = file, file.shape

    def __getitem__(self, box: tuple[slice, slice, slice], /) -> NDArray[Any]:
        return self._file.read_block(box[0], box[1])[..., box[2]]


@dataclass(frozen=True, slots=True, eq=False)
class _Halves:
    """What the halves are made of: which views take part in each, and its aligned stack."""

    of: Literal["views", "frames"]
    included: tuple[NDArray[np.bool_], NDArray[np.bool_]]
    stack: Callable[[int, Progress | None], AbstractContextManager[Path]]


def make_halves(job: EngineJob, aligned_path: Path, alignment: Alignment, stacks: AlignedStacks | None = None) -> None:
    """Reconstruct both halves, if they are asked for, and record their Fourier shell correlation.

    They hold integers or reals, as the data do, and never bytes, which would be scaled apart.

    Parameters
    ----------
    aligned_path
        The aligned stack, of which alternate views are taken.
    stacks
        Makes the aligned stacks of even and of odd frames, where the series has them; None for alternate views in any case.

    Raises
    ------
    StageError
        If there are too few views for two halves.
    """
    if not job.recipe.halves:
        return
    halves = _halves(job, aligned_path, alignment, stacks)
    with job.recorder.stage(_STAGE) as notes:
        notes.note(_made_of(job, halves))
        for which in range(len(HALVES)):
            with halves.stack(which, part_of(notes.progress, which / 2, which / 2 + 0.25)) as path:
                _make_half(job, path, alignment, halves, which, part_of(notes.progress, which / 2 + 0.25, which / 2 + 0.5))
        for name, included in zip(("views_even", "views_odd"), halves.included, strict=True):
            notes.number(name, int(included.sum()))
        try:
            entry = _compare(job, halves)
        except ParameterError as error:
            notes.warn(f"the halves were not compared: {error}")
            return
        notes.number("resolution_0143", entry.resolution_0143_nm, "nm")
        notes.number("resolution_0500", entry.resolution_0500_nm, "nm")
        job.recorder.record.halves = entry


def _halves(job: EngineJob, aligned: Path, alignment: Alignment, stacks: AlignedStacks | None) -> _Halves:
    if stacks is None or job.series.frame_stacks is None:
        return _Halves("views", half_views(alignment.tilt_deg, alignment.included), lambda _which, _progress: nullcontext(aligned))
    stacks.prepare()
    return _Halves("frames", (alignment.included, alignment.included), stacks.half)


def _made_of(job: EngineJob, halves: _Halves) -> str:
    if halves.of == "views" or job.series.frame_stacks is None:
        return "the halves are made of alternate views"
    even, odd = (path.name for path in job.series.frame_stacks)
    return f"the halves are made of the even and of the odd frames of all views, {even} and {odd}"


def _make_half(job: EngineJob, path: Path, alignment: Alignment, halves: _Halves, which: int, progress: Progress | None) -> None:
    with open_mrc(path) as aligned:
        params = reconstruct_params(job, aligned.dtype, alignment)
        params = replace(params, mode=1 if params.mode == 0 else params.mode)
        trim = Trim(volume_shape(aligned.shape, params), replace(job.recipe.trim, to_bytes=False))
        of_half = replace(alignment, included=halves.included[which])
        write_volume(job, aligned, of_half, params, trim, job.path(HALVES[which]), progress=progress)


def _compare(job: EngineJob, halves: _Halves) -> HalvesEntry:
    voxel_nm = job.recipe.stack.binning * job.series.pixel_size_angstrom / 10
    even, odd = halves.included
    with open_mrc(job.path(HALVES[0])) as first, open_mrc(job.path(HALVES[1])) as second:
        found = shell_correlation(_Boxes(first), _Boxes(second), threads=job.site.threads)
    filled = found.voxels > 0

    def detail_nm(threshold: float) -> float | None:
        frequency = found.resolution(threshold)
        return voxel_nm / frequency if frequency else None

    return HalvesEntry(
        of=halves.of,
        views_even=int(even.sum()),
        views_odd=int(odd.sum()),
        frequency_per_nm=(found.frequency[filled] / voxel_nm).tolist(),
        correlation=found.correlation[filled].tolist(),
        resolution_0143_nm=detail_nm(THRESHOLD),
        resolution_0500_nm=detail_nm(_HALF_CORRELATION),
    )
