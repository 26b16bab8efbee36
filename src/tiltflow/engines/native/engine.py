"""The work of tiltflow's own engine, step by step.

X-rays -> pieces stitched, if the views are in pieces -> bad views -> alignment (:mod:`tiltflow.align.fallback`) -> CTF -> aligned stack,
corrected as it is made -> back-projection -> trim.  The raw stack is read view by view and repaired as it is read; slices go straight
into the turned and trimmed volume, so scratch holds only the aligned stack and the volume.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tiltflow.align.fallback import align_views
from tiltflow.engines.base import EngineJob
from tiltflow.engines.native.aligned_stacks import AlignedStacks
from tiltflow.engines.native.alignment_files import write_alignment_files
from tiltflow.engines.native.corrections import Corrections, find_corrections
from tiltflow.engines.native.given_alignment import checksums, take_alignment
from tiltflow.engines.native.halves import HALVES, make_halves
from tiltflow.engines.native.positioning import position_specimen
from tiltflow.engines.native.prepared_views import PreparedViews
from tiltflow.engines.native.step_numbers import STEP_NUMBERS
from tiltflow.engines.native.viewing import make_viewing_volumes
from tiltflow.engines.native.volume import make_volume
from tiltflow.engines.stitching import stitched_pieces
from tiltflow.engines.system_memory import available_memory
from tiltflow.formats.alignment_archive import read_alignment, write_alignment
from tiltflow.formats.stacks import open_stack
from tiltflow.freed_memory import give_back_freed_memory
from tiltflow.kernels.ahead import HELPER_BYTES, compile_ahead
from tiltflow.model import Alignment, ImageStack, Reconstruction
from tiltflow.preprocess.montage import StitchedViews
from tiltflow.recipe.make import render_request


def reconstruct_series(job: EngineJob) -> Reconstruction:
    """Align the series and reconstruct its volume; steps that an earlier run has made of the same are taken over.

    Raises
    ------
    StageError
        If a stage finds that these data cannot give a result, with the reason.
    """
    compile_ahead(job.recipe.align.method, _spare_helpers(job.site.threads))
    write_directives(job)
    with open_stack(job.series.path) as raw:
        views = PreparedViews(job, raw)
        alignment, key = _align_step(job, views)
        give_back_freed_memory()
        corrections = find_corrections(job, lambda: views.repaired, alignment, key)
        stacks = AlignedStacks(job, lambda: views.repaired, alignment, corrections)
        aligned, key = _stack_step(job, stacks, raw, corrections)
        volume = _volume_step(job, aligned, stacks, alignment, key)
    return Reconstruction(aligned=aligned, volume=volume, transforms=job.path(".xf"), tilts=job.path(".tlt"), alignment=alignment)


def _spare_helpers(threads: int) -> int:
    """Return how many processes may compile beside the work: with the cores that it would leave idle, and half of the free memory."""
    available = available_memory()
    return threads - 1 if available is None else min(threads - 1, available // (2 * HELPER_BYTES))


def write_directives(job: EngineJob) -> None:
    """Write the directives that are followed to `B.adoc`, which is kept with the results as IMOD's is."""
    source = job.series.path
    text = render_request(
        job.recipe, name=job.series.name, stackext=source.suffix.lstrip("."), dataset_directory=str(source.parent)
    )
    job.path(".adoc").write_text(text, encoding="utf-8")


def align_series(job: EngineJob) -> Alignment:
    """Align the series, and level and centre its specimen if that is asked for; write the files of the alignment.

    Raises
    ------
    StageError
        If these data cannot be aligned, with the reason.
    """
    with open_stack(job.series.path) as raw:
        return _align_step(job, PreparedViews(job, raw))[0]


def _align_step(job: EngineJob, views: PreparedViews) -> tuple[Alignment, str]:
    """Return the alignment, levelled if that is asked for, and the key of it."""
    recipe = job.recipe
    views.place_pieces()
    asked: tuple[object, ...] = (recipe.hints, recipe.xrays, recipe.views, recipe.align, checksums(job))
    if job.series.montage is not None:
        asked = (*asked, STEP_NUMBERS["stitching"])
    alignment, key = _kept_or_made(job, "alignment", "_align.npz", (job.source_key,), asked, lambda: align(job, views))
    views.follow(alignment)
    if recipe.position.sample_type != 0:
        asked_position = (recipe.position, recipe.reconstruct, recipe.stack.binning)
        found = alignment
        alignment, key = _kept_or_made(
            job,
            "positioning",
            "_levelled.npz",
            (key,),
            asked_position,
            lambda: position_specimen(job, views.repaired, found),
        )
    job.note_alignment(alignment)
    write_alignment_files(job.workdir, job.series, alignment)
    return alignment, key


def _kept_or_made(
    job: EngineJob, name: str, suffix: str, after: tuple[str, ...], params: object, make: Callable[[], Alignment]
) -> tuple[Alignment, str]:
    """Return the alignment of a step, read if the step is taken over, and the step's key."""
    step, path = job.book.begin(name, STEP_NUMBERS[name], after, params), job.path(suffix)
    if step.kept is not None:
        step.bring(job.workdir)
        return read_alignment(path), step.key
    alignment = make()
    write_alignment(path, alignment)
    given = job.recorder.record.given_alignment
    job.book.made(step, {path.name: path}, {"given_alignment": given.model_dump(mode="json")} if given is not None else None)
    return alignment, step.key


def _stack_step(job: EngineJob, stacks: AlignedStacks, raw: ImageStack, corrections: Corrections) -> tuple[Path, str]:
    """Return the aligned stack and its key."""
    asked: tuple[object, ...] = (job.recipe.xrays, job.recipe.stack)
    if corrections:
        asked = (*asked, job.recipe.ctf, job.recipe.exposure, job.recipe.filter, corrections.numbers)
    if job.recipe.erase is not None:
        asked = (*asked, job.recipe.erase, job.recipe.gold_nm)
    step = job.book.begin("aligned stack", STEP_NUMBERS["aligned stack"], (corrections.key,), asked)
    path = job.path("_ali.mrc")
    if step.kept is not None:
        step.bring(job.workdir)
    else:
        stacks.make(raw)
        job.book.made(step, {path.name: path})
    return path, step.key


def _volume_step(job: EngineJob, aligned: Path, stacks: AlignedStacks, alignment: Alignment, after: str) -> Path:
    """Return the volume; half volumes are made as well, if they are asked for."""
    recipe = job.recipe
    asked = (recipe.reconstruct, recipe.sirt, recipe.trim)
    step = job.book.begin("reconstruction", STEP_NUMBERS["reconstruction"], (after,), asked)
    path = job.path("_rec.mrc")
    if step.kept is not None:
        step.bring(job.workdir)
    else:
        make_volume(job, aligned, alignment)
        job.book.made(step, {path.name: path})
    if recipe.halves:
        before = (step.key, job.frames_key) if job.frames_key else (step.key,)
        half = job.book.begin("half volumes", STEP_NUMBERS["half volumes"], before, asked)
        if half.kept is not None:
            half.bring(job.workdir)
        else:
            make_halves(job, aligned, alignment, stacks)
            entry = job.recorder.record.halves
            found = {"halves": entry.model_dump(mode="json")} if entry is not None else {}
            job.book.made(half, {job.path(suffix).name: job.path(suffix) for suffix in HALVES}, found)
    make_viewing_volumes(job, path, step.key)
    return path


def align(job: EngineJob, views: PreparedViews) -> Alignment:
    """Return the alignment of the views: the one that the recipe gives, or one of our own.

    Raises
    ------
    StageError
        If a stage finds that these data cannot give a result, with the reason.
    LocationError, FormatError, MissingValueError
        If a given alignment cannot be read, or does not fit them.
    """
    series, recipe = job.series, job.recipe
    stack, excluded = views.usable()
    if recipe.alignment is not None:
        return take_alignment(job, stack, excluded)
    return align_views(
        stack,
        series.tilt_deg,
        series.axis_angle_deg,
        series.pixel_size_angstrom,
        recipe.align,
        excluded=excluded,
        name=series.path.name,
        axis_told=series.axis_is_told,
        pieces=stitched_pieces(stack) if isinstance(stack, StitchedViews) else None,
        observer=job.recorder,
        threads=job.site.threads,
    )
