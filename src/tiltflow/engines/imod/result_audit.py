"""The audit of IMOD's alignment: its own points and the raw images go through tiltflow's methods (:mod:`tiltflow.align.audit`)."""

from __future__ import annotations

from pathlib import Path

from tiltflow.align.audit import audit_alignment
from tiltflow.engines.base import EngineJob
from tiltflow.engines.imod.fit_figures import prealigned_binning
from tiltflow.engines.imod.tracked_points import read_tracked_points
from tiltflow.errors import FormatError, LocationError
from tiltflow.formats.stacks import open_stack
from tiltflow.model import Alignment, Stack, Tracks
from tiltflow.preprocess.montage import PieceOffsets, StitchedViews
from tiltflow.preprocess.preparation import RepairingStack

_KINDS = {"gold": "bead", "patches": "patch"}


def audit_result(job: EngineJob, alignment: Alignment, log: str, pieces: PieceOffsets | None = None) -> Alignment:
    """Return the alignment with tiltflow's evidence on it.

    Parameters
    ----------
    job
        With the files that IMOD left in its work folder.
    alignment
        As read from them.
    log
        Text of `align.log`.
    pieces
        Where the pieces of a montage lie; None for an ordinary series, or where it is not known.
    """
    recipe, series = job.recipe, job.series
    if series.montage is not None and pieces is None:
        job.recorder.warn(
            "the error of this alignment is not measured: its views are in pieces, and it is not known where these lie"
        )
        return alignment
    with open_stack(series.path) as raw:
        repaired: Stack = RepairingStack(raw, recipe.xrays)
        return audit_alignment(
            repaired if pieces is None or series.montage is None else StitchedViews(repaired, series.montage, pieces),
            alignment,
            series.tilt_deg,
            series.axis_angle_deg,
            series.pixel_size_angstrom,
            recipe.audit,
            tracks=_tracks(job, alignment.method, log),
            observer=job.recorder,
            threads=job.site.threads,
        )


def _tracks(job: EngineJob, method: str, log: str) -> Tracks | None:
    """Return the points that IMOD tracked; None where it tracked none, or they cannot be read."""
    residuals, prealigning = job.path(".resid"), job.path(".prexg")
    if method not in _KINDS or not _exist(residuals, prealigning):
        return None
    try:
        shape = job.series.shape[1], job.series.shape[2]
        return read_tracked_points(residuals, prealigning, shape, prealigned_binning(log), _KINDS[method])
    except (FormatError, LocationError) as error:
        job.recorder.warn(f"the points that IMOD tracked cannot be used: {error}")
        return None


def _exist(*paths: Path) -> bool:
    return all(path.is_file() for path in paths)
