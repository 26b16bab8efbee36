"""Aligned stacks, corrected as they are made: that of the series, and for half volumes those of its even and of its odd frames.

The halves are aligned and corrected as the whole is, with what was found for the whole: its transforms, x-ray hits, CTF, exposures and
beads.  Nothing is estimated of a half.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiltflow.engines.base import EngineJob
from tiltflow.engines.native.corrections import NO_CORRECTIONS, Correction, Corrections, correction_of
from tiltflow.engines.native.gold_erasing import gold_in_views
from tiltflow.engines.native.volume import title
from tiltflow.formats.mrc import MrcWriter
from tiltflow.formats.stacks import open_stack
from tiltflow.model import Alignment, Image, ImageStack, Progress, Stack
from tiltflow.observer import SILENT, StageObserver
from tiltflow.preprocess.montage import StitchedViews, align_pieces
from tiltflow.preprocess.preparation import repair_alike
from tiltflow.reconstruct.aligned_stack import align_stack, aligned_dtype, aligned_shape

_HALF_STACKS = ("_EVN_ali.mrc", "_ODD_ali.mrc")
"""Endings of the aligned stacks of even and of odd frames, which are scratch."""


class AlignedStacks:
    """The aligned stacks of a series.

    Parameters
    ----------
    views
        Returns the raw views `(view, y, x)`, repaired, if they are needed.
    corrections
        What is done to the aligned views, besides what the recipe says of gold.
    """

    def __init__(
        self, job: EngineJob, views: Callable[[], Stack], alignment: Alignment, corrections: Corrections = NO_CORRECTIONS
    ) -> None:
        self._job, self._views, self._alignment, self._corrections = job, views, alignment, corrections

    @cached_property
    def _whole(self) -> Stack:
        return self._views()

    @cached_property
    def _beads(self) -> NDArray[np.float64] | None:
        return gold_in_views(self._job, self._whole, self._alignment)

    def make(self, raw: ImageStack) -> Path:
        """Write the aligned stack to `B_ali.mrc` and return its path; `raw` gives its type and labels."""
        job, params, path = self._job, self._job.recipe.stack, self._job.path("_ali.mrc")
        self.prepare()
        with job.recorder.stage("aligned stack") as notes:
            if params.linear and isinstance(self._whole, StitchedViews):
                notes.warn("pieces of a montage are interpolated by cubic convolution: linear interpolation is without effect")
            ny, nx = self._write(path, self._whole, raw, notes, notes.progress)
            notes.number("binning", params.binning)
            notes.number("width", nx, "px")
            notes.number("height", ny, "px")
        return path

    def prepare(self) -> None:
        """Find hits and beads in the views of all frames, in stages of their own."""
        _ = self._whole, self._beads

    @contextmanager
    def half(self, which: int, progress: Progress | None = None) -> Iterator[Path]:
        """Provide the aligned stack of the even (0) or of the odd frames (1), which is removed afterwards.

        Raises
        ------
        LocationError, FormatError
            If the stack of these frames cannot be read.
        """
        job = self._job
        if job.series.frame_stacks is None:
            raise ValueError(f"{job.series.path.name} has no stacks of even and odd frames")
        path = job.path(_HALF_STACKS[which])
        try:
            with open_stack(job.series.frame_stacks[which]) as raw, SILENT.stage("") as silent:
                stack = self._alike(raw)
                # Texture in the place of gold is another in every stack: halves that share it would agree.
                self._write(path, stack, raw, silent, progress, first_texture=(which + 1) * raw.shape[0])
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _alike(self, raw: Stack) -> Stack:
        """Return other images of the same views, or of their pieces, repaired and stitched as those of all frames are."""
        whole, xrays = self._whole, self._job.recipe.xrays
        if isinstance(whole, StitchedViews):
            return replace(whole, pieces=repair_alike(raw, whole.pieces, xrays))
        return repair_alike(raw, whole, xrays)

    def _write(
        self,
        path: Path,
        stack: Stack,
        raw: ImageStack,
        notes: StageObserver,
        progress: Progress | None,
        *,
        first_texture: int = 0,
    ) -> tuple[int, int]:
        """Write an aligned stack and return the size of its views, `(ny, nx)`."""
        job, params = self._job, self._job.recipe.stack
        ny, nx = aligned_shape(stack.shape, params)
        pixel = job.series.pixel_size_angstrom
        corrected = correction_of(job, self._corrections, self._beads, self._alignment, notes, first_texture=first_texture)
        with (
            corrected as then,
            MrcWriter(
                path,
                (stack.shape[0], ny, nx),
                aligned_dtype(raw.dtype),
                pixel_size_angstrom=(pixel * params.binning, pixel * params.binning, pixel),
                labels=[*raw.labels, title("aligned stack")],
                is_stack=True,
                tilt_deg=self._alignment.tilt_deg,
            ) as out,
        ):
            for image in self._aligned(stack, then, progress):
                out.write(image)
        return ny, nx

    def _aligned(self, stack: Stack, then: Correction | None, progress: Progress | None) -> Iterator[Image]:
        """Return the aligned views; the pieces of a montage go straight into the aligned frame."""
        params, transforms, threads = self._job.recipe.stack, self._alignment.transforms, self._job.site.threads
        if not isinstance(stack, StitchedViews):
            return align_stack(stack, transforms, params, then=then, threads=threads, progress=progress)
        return align_pieces(
            stack,
            transforms,
            binning=params.binning,
            out_shape=aligned_shape(stack.shape, params),
            then=then,
            threads=threads,
            progress=progress,
        )
