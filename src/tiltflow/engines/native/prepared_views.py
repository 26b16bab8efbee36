"""The views that this engine works on: repaired, stitched if they are in pieces, and unusable ones named."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tiltflow.engines.base import EngineJob
from tiltflow.engines.native.step_numbers import STEP_NUMBERS
from tiltflow.engines.stitching import OFFSETS, as_tracks_see, note_tracks, read_offsets, stitch
from tiltflow.model import Alignment, Stack
from tiltflow.preprocess.montage import PieceOffsets, StitchedViews
from tiltflow.preprocess.preparation import leave_out_bad_views, repair_views


class PreparedViews:
    """The views of a series: x-ray hits, faults of the camera and pixels that are not numbers are repaired as they are read.

    Those of a montage are stitched from pieces that are repaired so.  Nothing is searched for before it is needed.

    Parameters
    ----------
    raw
        The sections of the stack, `(section, y, x)`: views, or the pieces of a montage.
    """

    def __init__(self, job: EngineJob, raw: Stack) -> None:
        self._job, self._raw = job, raw
        self._made: Stack | None = None
        self._offsets: PieceOffsets | None = None
        self._alignment: Alignment | None = None

    @property
    def repaired(self) -> Stack:
        """The views `(view, y, x)`."""
        self.place_pieces()
        if self._made is None:
            grid, sections = self._job.series.montage, self._sections()
            self._made = sections if grid is None or self._offsets is None else StitchedViews(sections, grid, self._offsets)
        if self._alignment is not None and isinstance(self._made, StitchedViews):
            return as_tracks_see(self._made, self._alignment)
        return self._made

    def usable(self) -> tuple[Stack, Mapping[int, str]]:
        """Return the views and those that are left out, counted from 0, with the reason.

        Raises
        ------
        StageError
            If fewer than three views are left.
        """
        series, recipe, job = self._job.series, self._job.recipe, self._job
        left_out = {int(view): "is left out by the request" for view in np.flatnonzero(~series.included)}
        views = self.repaired
        return views, leave_out_bad_views(
            views,
            series.tilt_deg,
            recipe.views,
            left_out=left_out,
            name=series.path.name,
            observer=job.recorder,
            threads=job.site.threads,
        )

    def follow(self, alignment: Alignment) -> None:
        """Place the pieces of a montage where the tracks of an alignment see them, from now on: its transforms hold for that."""
        self._alignment = alignment
        note_tracks(self._job, alignment)

    def _sections(self) -> Stack:
        job = self._job
        return repair_views(self._raw, job.recipe.xrays, observer=job.recorder, threads=job.site.threads)

    def place_pieces(self) -> None:
        """Find where the pieces of a montage lie, or take it over from an earlier run; nothing for other series."""
        grid, job = self._job.series.montage, self._job
        if grid is None or self._made is not None or self._offsets is not None:
            return
        path, asked = job.path(OFFSETS), (job.recipe.xrays, job.recipe.hints.focus, job.recipe.hints.axis_angle_deg)
        step = job.book.begin("stitching", STEP_NUMBERS["stitching"], (job.source_key,), asked)
        if step.kept is not None:
            step.bring(job.workdir)
            self._offsets = read_offsets(path)
            return
        self._made = stitch(job, self._sections(), grid)
        entry = job.recorder.record.montage
        job.book.made(step, {path.name: path}, {"montage": entry.model_dump(mode="json")} if entry is not None else None)
