"""The work on one data set, in its folder.

Files are made in a hidden folder inside it and moved to their places when they are complete; the raw stack is only read.  The steps are
IMOD 5's:

==========  ======================================================================================================
0           set-up: `NAME.rawtlt` if there is none, `NAME.edf`
up to 6     alignment: `NAME.xf`, `NAME_fid.xf`, `NAME.tlt`, `NAME.xtilt`, `align.log`, `taSolution.log`
7           positioning, if `sampleType` asks for it: the same files
8           `NAME_ali.mrc`, with what the steps 11 to 13 do to it, if they are run; `NAME.defocus` if the CTF is known
14          `NAME_full_rec.mrc`, if the last step is before 20
20          `NAME_rec.mrc`, and the volumes beside it that are asked for
==========  ======================================================================================================

Steps 1 to 4 leave no files of their own.  With a first step above 6, the alignment is read from the files that are there.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

from tiltflow import describe
from tiltflow.atomic_write import PARTIAL_PREFIX
from tiltflow.batchruntomo.alignment_logs import figures
from tiltflow.batchruntomo.arguments import DataSet
from tiltflow.batchruntomo.batch_log import STAGES, BatchLog
from tiltflow.batchruntomo.data_set_files import (
    read_alignment,
    set_aside,
    write_alignment,
    write_setup,
)
from tiltflow.batchruntomo.data_set_request import (
    ALIGNMENT_STEP,
    POSITIONING_STEP,
    STACK_STEP,
    TRIM_STEP,
    VOLUME_STEP,
    Steps,
    accept,
    directive_values,
    find_stack,
    place_of,
    recipe_of,
    with_fixed_variables,
    within,
)
from tiltflow.batchruntomo.directive_policy import judge
from tiltflow.engines.base import EngineJob
from tiltflow.engines.native import ENGINE
from tiltflow.engines.native.aligned_stacks import AlignedStacks
from tiltflow.engines.native.corrections import find_corrections
from tiltflow.engines.native.engine import align
from tiltflow.engines.native.halves import HALVES, make_halves
from tiltflow.engines.native.positioning import position_specimen
from tiltflow.engines.native.prepared_views import PreparedViews
from tiltflow.engines.native.viewing import DECONVOLVED, DIFFUSED, make_viewing_volumes
from tiltflow.engines.native.volume import make_volume
from tiltflow.engines.plan import check_room
from tiltflow.errors import LocationError, ParameterError, TiltflowError
from tiltflow.formats.series import read_series
from tiltflow.formats.stacks import open_stack
from tiltflow.model import Alignment, ImageStack, Stack, TiltSeries
from tiltflow.parallel import one_thread_for_algebra
from tiltflow.recipe import Recipe
from tiltflow.record import EngineEntry, Recorder
from tiltflow.record.recorder import StageNotes
from tiltflow.version import __version__
from tiltflow.work import Site


class _ToldRecorder(Recorder):
    """A recorder that also tells stages and warnings as batchruntomo does."""

    log: BatchLog

    @contextmanager
    def stage(self, name: str) -> Iterator[StageNotes]:
        """Time a stage, and print what batchruntomo says before and after it."""
        self.log.begin(name)
        with super().stage(name) as notes:
            yield notes
        self.log.end(name, self.record.stages[-1].seconds or 0.0)

    def warn(self, text: str) -> None:
        """Record a warning once, and print it."""
        if text not in self.record.warnings:
            self.log.say(f"WARNING: {text}")
        super().warn(text)


def validate_data_set(data_set: DataSet, steps: Steps, log: BatchLog, *, template: bool = False) -> bool:
    """Print what is wrong with the directives, and return whether nothing is; of a template, only names and values are checked.

    Raises
    ------
    TiltflowError
        If the file cannot be read, or a line is not a directive.
    """
    recipe = recipe_of(data_set, steps)
    judgement = judge(recipe.report, steps.first, steps.last)
    if template:
        judgement = replace(judgement, stops=())
    if not accept(judgement, log):
        return False
    log.say("Directives all seem OK in that file")
    return True


def process_data_set(
    data_set: DataSet, steps: Steps, site: Site, log: BatchLog, *, fallback: bool = True, check_names: bool = True
) -> bool:
    """Run the steps of a data set, and return whether it is complete.

    Parameters
    ----------
    data_set
        The directive file, and what the command line says of name and folder.
    site
        Threads to use.
    log
        Where batchruntomo's lines go.
    fallback
        Whether the next method of alignment is tried when the one asked for cannot be trusted.
    check_names
        Whether an unknown directive stops the data set.

    Raises
    ------
    TiltflowError
        With the reason, if it cannot be processed.
    """
    recipe = with_fixed_variables(replace(recipe_of(data_set, steps), fallback=fallback))
    name, folder = place_of(data_set, recipe)
    judgement = judge(recipe.report, steps.first, steps.last, check_names=check_names)
    if not folder.is_dir():
        raise LocationError(f"Error changing to directory {folder}: there is no such folder")
    log.open(folder, name)
    if not accept(judgement, log):
        return False
    stack = find_stack(folder, name, directive_values(recipe))
    log.say(f"Starting data set {name}")
    recorder = _start_record(folder, stack, recipe, log)
    try:
        _work(stack, recipe, steps, site, recorder, log)
    except BaseException as error:
        stage = recorder.failed_stage() or "start"
        recorder.fail(stage, str(error) or type(error).__name__, error=type(error).__name__)
        if isinstance(error, TiltflowError) and stage in STAGES:
            log.say(f"ERROR: {error}")
            log.abort(f"An error occurred running {STAGES[stage].command_file}")
            return False
        raise
    recorder.succeed()
    through = "" if steps.last >= TRIM_STEP else f" through step {steps.last:g}"
    log.say(f"Completed dataset {name}{through}")
    log.say("SUCCESSFULLY COMPLETED")
    return True


def _start_record(folder: Path, stack: Path, recipe: Recipe, log: BatchLog) -> Recorder:
    recorder = _ToldRecorder.start(folder / "run.json", stack, __version__)
    recorder.log = log
    recorder.record.versions = describe.versions()
    recorder.record.recipe = describe.recipe(recipe, requested=recipe)
    recorder.record.engine = EngineEntry(name=ENGINE.name, version=ENGINE.version, reason="it was called as batchruntomo")
    return recorder


def _work(path: Path, recipe: Recipe, steps: Steps, site: Site, recorder: Recorder, log: BatchLog) -> None:
    folder = path.parent
    if steps.first > VOLUME_STEP and steps.last >= VOLUME_STEP:
        raise ParameterError(
            f"-StartingStep {steps.first:g} is not supported: tomograms are trimmed as they are made, so start at "
            f"{VOLUME_STEP:g} or before"
        )
    recipe = within(recipe, steps)
    series = _read(path, recipe, recorder)
    if steps.first < POSITIONING_STEP:
        write_setup(folder, series, recipe.gold_nm)
        log.say("Reached step 0")
    if steps.last < ALIGNMENT_STEP:
        if steps.last > 0:
            log.say("WARNING: nothing but the set-up was done: steps 1 to 4 leave no files, the alignment is made by step 5 or 6")
        return
    with _scratch(folder) as scratch, open_stack(series.path) as raw, one_thread_for_algebra():
        job = EngineJob(series, recipe, site, scratch, recorder)
        if steps.reach(VOLUME_STEP):
            plan = ENGINE.plan(series, recipe, site.threads)
            check_room(plan, path.name, scratch, folder)
        stack, alignment = _aligned(job, raw, steps, log)
        if steps.last >= STACK_STEP:
            _make_volumes(job, stack, raw, alignment, steps, log)


def _read(path: Path, recipe: Recipe, recorder: Recorder) -> TiltSeries:
    with recorder.stage("read") as notes:
        series = read_series(path, recipe.hints)
        recorder.record.input = describe.series(series)
        for problem in (*series.problems, *recipe.report.problems):
            notes.warn(f"{problem.message} ({problem.where})")
        notes.number("views", series.shape[0])
    return series


def _aligned(job: EngineJob, raw: ImageStack, steps: Steps, log: BatchLog) -> tuple[Stack, Alignment]:
    """Return the repaired views and their alignment, made or read; what is made is in its place."""
    folder, views = job.series.path.parent, PreparedViews(job, raw)
    if not steps.align:
        alignment = read_alignment(folder, job.series)
        log.say(f"Using the existing alignment in {job.series.name}.xf and {job.series.name}.tlt")
    else:
        set_aside(folder, job.series)
        alignment = align(job, views)
    views.follow(alignment)
    stack = views.repaired
    positioned = position_specimen(job, stack, alignment) if steps.reach(POSITIONING_STEP) else alignment
    job.note_alignment(positioned)
    if steps.align or positioned is not alignment:
        write_alignment(job.workdir, folder, job.series, positioned, job.recipe.gold_nm, logs=steps.align)
    if steps.align:
        _tell(job, positioned, log)
    return stack, positioned


def _tell(job: EngineJob, alignment: Alignment, log: BatchLog) -> None:
    lines = list(figures(job.series, alignment))
    for line in lines:
        log.say(line)
    for warning in alignment.evidence.trust_warnings:
        log.say(f"WARNING: this alignment should not be trusted unseen: {warning}")
    log.say(f"Final align - {'; '.join(line.strip() for line in lines) or 'no residuals: nothing was tracked'}")


def _make_volumes(job: EngineJob, stack: Stack, raw: ImageStack, alignment: Alignment, steps: Steps, log: BatchLog) -> None:
    folder, aligned, stacks = job.series.path.parent, job.path("_ali.mrc"), None
    if steps.reach(STACK_STEP):
        corrections = find_corrections(job, lambda: stack, alignment, "")
        stacks = AlignedStacks(job, lambda: stack, alignment, corrections)
        stacks.make(raw)
        aligned = _deliver(aligned, folder)
        if corrections or job.recipe.erase is not None:
            log.say("Corrected the views as the aligned stack was made")
        if job.path(".defocus").is_file():
            _deliver(job.path(".defocus"), folder)
    else:
        aligned = folder / aligned.name
        if not aligned.is_file():
            raise LocationError(f"{aligned} does not exist: start at step {STACK_STEP:g} to make it")
    if not steps.reach(VOLUME_STEP):
        return
    if steps.last < TRIM_STEP:
        whole = replace(job.recipe.trim, reorient=0, size_x=None, size_y=None, thickness=None, to_bytes=False)
        untrimmed = replace(job, recipe=replace(job.recipe, trim=whole))
        volume = make_volume(untrimmed, aligned, alignment)
        _deliver(volume.rename(job.path("_full_rec.mrc")), folder)
        return
    volume = _deliver(make_volume(job, aligned, alignment), folder)
    log.say(f"Trimmed the tomogram as it was made, to {job.series.name}_rec.mrc")
    log.say("Reached step 20")
    # The halves of a stack that was there are those of its views: how it was corrected is not known.
    make_halves(job, aligned, alignment, stacks)
    make_viewing_volumes(job, volume, "")
    for suffix in (*HALVES, DECONVOLVED, DIFFUSED):
        if job.path(suffix).is_file():
            _deliver(job.path(suffix), folder)


def _deliver(made: Path, folder: Path) -> Path:
    return made.replace(folder / made.name)


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Make a hidden folder beside the data, so that what is made in it can be renamed into place, and remove it at the end."""
    scratch = Path(mkdtemp(prefix=PARTIAL_PREFIX, dir=folder))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
