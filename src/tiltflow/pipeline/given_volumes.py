"""Products of aligned stacks and volumes that any program made: an archive of IMOD's results becomes movies, pictures and a page.

Names are IMOD's, of version 5 (`B_ali.mrc`, `B_rec.mrc`) or before (`B.ali`, `B.rec`).  Both lie in the folder itself or, one data set
each, in folders below it.  The geometry beside them (`B.xf`, `B.tlt`) goes into the record.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from tiltflow import describe, stopping
from tiltflow.delivery.cleanup import make_scratch
from tiltflow.delivery.names import why_unusable
from tiltflow.errors import FormatError, InputChangedError, LocationError
from tiltflow.formats.file_state import State, state_of
from tiltflow.formats.mrc import open_mrc, read_header
from tiltflow.formats.tilts import read_tilts
from tiltflow.formats.transforms import read_transforms
from tiltflow.geometry import axis_angles
from tiltflow.model import Alignment, Reconstruction
from tiltflow.observer import StageProgress, silent_progress
from tiltflow.pipeline.failure import outside_of_the_work
from tiltflow.pipeline.job import Job, OnProgress, RunResult, SeriesProgress, StepOutcome, nobody
from tiltflow.pipeline.lock import folder_lock
from tiltflow.pipeline.log import series_log
from tiltflow.pipeline.one_series import RUN_FILES
from tiltflow.pipeline.run import recorded_run, require_places
from tiltflow.pipeline.standing import clean, recover, refuse_elsewhere, set_aside, success_in
from tiltflow.pipeline.step_book import GIVEN, GIVEN_NUMBER, steps_of
from tiltflow.pipeline.step_loop import StepRunner, work_on
from tiltflow.pipeline.steps import begin_record, finish_step, measure, product_step
from tiltflow.recipe import Recipe
from tiltflow.recipe.per_series import SeriesRecipes
from tiltflow.record import AlignmentEntry, Recorder, ValueEntry
from tiltflow.record.steps import step_key
from tiltflow.work import SeriesResult, Site

ALIGNED_ENDINGS = ("_ali.mrc", ".ali")
VOLUME_ENDINGS = ("_rec.mrc", ".rec")
"""Endings of the files, the modern one first."""
_RAW_ENDINGS = (".st", ".mrc", ".ST", ".MRC")


@dataclass(frozen=True, slots=True)
class GivenVolumes:
    """An aligned stack and a volume of one series; `source` is its raw stack, or the volume where that is not there."""

    name: str
    aligned: Path
    volume: Path
    source: Path


def find_given(folder: Path, name: str | None = None) -> tuple[GivenVolumes, ...]:
    """Return the series of a folder, and of the folders in it, of which both an aligned stack and a volume exist.

    Parameters
    ----------
    folder
        The folder.
    name
        Base name of the only one that is wanted.

    Raises
    ------
    LocationError
        If there is none, or two have the same name.
    """
    found = sorted(_pairs(folder, name), key=lambda each: each.name)
    for one, other in itertools.pairwise(found):
        if one.name == other.name:
            raise LocationError(f"{one.volume} and {other.volume} have the same name; give the folder of one of them")
    if not found:
        wanted = f"{name or 'NAME'}{{{','.join(ALIGNED_ENDINGS)}}} with {name or 'NAME'}{{{','.join(VOLUME_ENDINGS)}}}"
        raise LocationError(
            f"{folder} has no aligned stack together with a volume: {wanted} were looked for, there and one folder down"
        )
    return tuple(found)


def _pairs(folder: Path, name: str | None) -> Iterator[GivenVolumes]:
    try:
        places = [folder, *sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))]
    except OSError as error:
        raise LocationError(f"{folder} cannot be read: {error.strerror}") from error
    for place in places:
        seen: set[str] = set()
        for ending in VOLUME_ENDINGS:
            for volume in sorted(place.glob(f"*{ending}")):
                base = volume.name.removesuffix(ending)
                aligned = _first(place, base, ALIGNED_ENDINGS)
                if aligned is None or base in seen or base.endswith("_full") or name not in (None, base):
                    continue
                seen.add(base)
                yield GivenVolumes(base, aligned, volume, _first(place, base, _RAW_ENDINGS) or volume)


def _first(folder: Path, base: str, endings: tuple[str, ...]) -> Path | None:
    return next((path for ending in endings if (path := folder / f"{base}{ending}").is_file()), None)


def process_all_given(
    given: Sequence[GivenVolumes],
    recipe: Recipe,
    site: Site,
    output: Path,
    *,
    redo: bool = False,
    on_progress: OnProgress = nobody,
) -> RunResult:
    """Make the products of several given series, each in a folder of its own under `output`, with an index of all.

    Raises
    ------
    LocationError, ResourceError
        If nothing can be written to `output` or to the scratch folder, so that no series could be done.
    """
    require_places(output, site)
    results = []
    sources, names = [each.source for each in given], [each.name for each in given]
    with recorded_run(sources, SeriesRecipes.of_all(recipe), output, site, names=names) as recorder:
        for each in given:
            stopping.ask()
            results.append(process_given(each, recipe, site, output=output / each.name, redo=redo, on_progress=on_progress))
            recorder.done(results[-1])
    return RunResult(tuple(results), recorder.page)


def process_given(
    given: GivenVolumes,
    recipe: Recipe,
    site: Site,
    *,
    output: Path,
    redo: bool = False,
    on_progress: OnProgress = nobody,
) -> SeriesResult:
    """Make the products, the record and the page of a given series; what is up to date is taken over.

    The volumes stay where they are and are not copied.  Failures are returned as a result, whatever they are.
    """

    def report(stage: str, fraction: float) -> None:
        on_progress(SeriesProgress(given.name, stage, fraction))

    if why := why_unusable(given.volume.with_name(f"{given.name}.mrc"), RUN_FILES):
        result = outside_of_the_work(given.source, None, LocationError(why))
        on_progress(SeriesProgress(given.name, "start", 1.0, result))
        return result
    try:
        refuse_elsewhere(output, site)
        with folder_lock(output, lambda word: report(f"{word}; waiting for its end", 0.0)), series_log(output, given.name):
            clean(output)
            recover(output, site.thresholds)
            answered = _answered(given, output)
            set_aside(output)
            scratch = make_scratch(given.source, site.scratch, keep=site.keep_workdir)
            job = Job(given.source, recipe, site, output, scratch, False, redo, ("products",), given.name, answered=answered)
            finish = partial(_finish, given=given, before=_states(given))
            runner = StepRunner(partial(given_step, given=given, progress=report), partial(product_step, progress=report), finish)
            result = work_on(job, runner)
    except Exception as error:  # noqa: BLE001  the boundary: a failure outside of the steps costs this series alone
        result = outside_of_the_work(given.source, output, error)
    on_progress(SeriesProgress(given.name, result.stage or "done", 1.0, result))
    return result


def given_step(job: Job, given: GivenVolumes, progress: StageProgress = silent_progress) -> Reconstruction:
    """Take an aligned stack and a volume for the results of an engine, and record what is known of them.

    Raises
    ------
    TiltflowError
        If one of them cannot be read, or they do not fit each other.
    """
    recorder = begin_record(job, progress)
    recorder.record.recipe = describe.recipe(job.recipe, requested=job.recipe)
    with recorder.stage("read") as notes, open_mrc(given.aligned) as aligned, open_mrc(given.volume) as volume:
        notes.number("views", aligned.shape[0])
        notes.number("sections", volume.shape[0])
        recorder.record.input = _described(given)
    for suffix, path in (("_ali.mrc", given.aligned), ("_rec.mrc", given.volume)):
        (job.workdir / f"{job.name}{suffix}").symlink_to(path.absolute())
    steps = steps_of(job, recorder)
    steps.begin(GIVEN, GIVEN_NUMBER, (), _named(given))
    alignment = _alignment(given, recorder)
    measure(job, recorder, steps, given.volume)
    place = given.aligned.parent / given.name
    return Reconstruction(given.aligned, given.volume, place.with_suffix(".xf"), place.with_suffix(".tlt"), alignment)


def _named(given: GivenVolumes) -> list[object]:
    """Return what tells the volumes from all others: the parameters of the step that takes them."""
    return [str(given.aligned.absolute()), str(given.volume.absolute()), *_states(given)]


def _answered(given: GivenVolumes, output: Path) -> bool:
    """Return whether an earlier result, if there is one, was made of the same volumes."""
    with suppress(FormatError):
        earlier = success_in(output)
        return earlier is None or step_key(GIVEN, GIVEN_NUMBER, (), _named(given)) in {step.key for step in earlier.steps}
    return True


def _states(given: GivenVolumes) -> list[State | None]:
    return [state_of(path) if path.exists() else None for path in (given.aligned, given.volume)]


def _finish(
    job: Job,
    outcomes: Sequence[StepOutcome],
    error: BaseException | None,
    stage: str | None,
    *,
    given: GivenVolumes,
    before: list[State | None],
) -> SeriesResult:
    """Finish a series whose volumes are still what they were; else it fails."""
    if error is None and _states(given) != before:
        error = InputChangedError(
            f"{given.aligned.name} or {given.volume.name} was changed while it was being read; run the same command again"
        )
    return finish_step(job, outcomes, error, stage)


def _described(given: GivenVolumes) -> dict[str, ValueEntry]:
    header = read_header(given.aligned)
    views, ny, nx = header.shape
    where = f"header of {given.aligned.name}"
    return {
        "views": ValueEntry(value=views, source=where),
        "width": ValueEntry(value=nx, unit="px", source=where),
        "height": ValueEntry(value=ny, unit="px", source=where),
        "pixel_size": ValueEntry(value=header.pixel_size_angstrom[0], unit="angstrom", source=where),
    }


def _alignment(given: GivenVolumes, recorder: Recorder) -> Alignment | None:
    """Return the geometry beside the aligned stack, and put it into the record; None where there is none that fits."""
    views = read_header(given.aligned).shape[0]
    base = given.aligned.parent / given.name
    paths = [Path(f"{base}.xf"), Path(f"{base}.tlt")]
    if not all(path.is_file() for path in paths):
        return None
    try:
        transforms, tilts = read_transforms(paths[0]), read_tilts(paths[1])
    except (FormatError, LocationError) as error:
        recorder.warn(f"the geometry beside the aligned stack is not used: {error}")
        return None
    if not len(transforms) == len(tilts) == views:
        recorder.warn(
            f"the geometry beside the aligned stack is not used: {paths[0].name} has {len(transforms)} lines and {paths[1].name} "
            f"{len(tilts)} for {views} views"
        )
        return None
    alignment = Alignment(transforms, tilts, np.ones(views, bool), "given")
    recorder.record.alignment = AlignmentEntry(
        method="given",
        tilt_deg=np.round(tilts, 3).tolist(),
        included=[True] * views,
        shift_px=np.round(transforms[:, :, 2], 3).tolist(),
        rotation_deg=np.round(axis_angles(transforms), 4).tolist(),
    )
    recorder.save()
    return alignment
