"""An alignment that is given, in place of one that this engine makes: read, assigned to the views, and audited."""

from __future__ import annotations

from collections.abc import Mapping

from tiltflow import describe
from tiltflow.align.foreign import audit_given, given_alignment, leave_out
from tiltflow.engines.base import EngineJob
from tiltflow.errors import ParameterError
from tiltflow.formats.find_alignment import alignment_files, find_alignment, read_alignment
from tiltflow.model import Alignment, Stack

STAGE = "alignment given"


def checksums(job: EngineJob) -> tuple[str, ...]:
    """Return what tells one given alignment from another: the SHA-256 of every file that it depends on; none where none is given.

    Raises
    ------
    LocationError
        If there is none for this series, or it cannot be read.
    """
    recipe = job.recipe
    if recipe.alignment is None:
        return ()
    with job.recorder.stage(STAGE):
        files = alignment_files(find_alignment(recipe.alignment, job.series.name), job.series.name)
        return tuple(str(describe.file_entry(path).sha256) for path in files)


def take_alignment(job: EngineJob, stack: Stack, excluded: Mapping[int, str]) -> Alignment:
    """Return the alignment that the recipe gives, with the evidence that the images hold for and against it.

    Parameters
    ----------
    job
        Its recipe names the file or folder.
    stack
        Raw views, `(view, y, x)`, x-ray hits repaired.
    excluded
        Views that take no part, counted from 0, with the reason.

    Raises
    ------
    ParameterError
        If the recipe names none.
    LocationError, FormatError, MissingValueError
        If there is none for this series, or it cannot be read or does not fit the stack.
    StageError
        If no view is left.
    """
    series, recipe = job.series, job.recipe
    if recipe.alignment is None:
        raise ParameterError(f"{series.path.name}: no alignment was given")
    with job.recorder.stage(STAGE) as notes:
        path = find_alignment(recipe.alignment, series.name)
        size = (series.shape[2], series.shape[1])
        found = read_alignment(path, series.name, size, series.pixel_size_angstrom)
        job.recorder.record.given_alignment = describe.given_alignment(found.program, alignment_files(path, series.name))
        alignment = leave_out(given_alignment(found, series, notes), dict(excluded))
    return audit_given(stack, alignment, series, recipe.audit, observer=job.recorder, threads=job.site.threads)
