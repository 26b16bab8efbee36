"""The result of an earlier run of a series: whether it is kept, and if not, why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tiltflow import describe
from tiltflow.errors import FormatError, InputError, TiltflowError
from tiltflow.formats.find_alignment import alignment_files, find_alignment
from tiltflow.formats.identity import Identity, identity_of
from tiltflow.pipeline.conclusion import result_of
from tiltflow.pipeline.failure import VOLUME_STATISTICS, unmade
from tiltflow.pipeline.given_files import changed_files
from tiltflow.pipeline.intact import damaged, differences_on_disk
from tiltflow.pipeline.job import ALL_PARTS, Part
from tiltflow.pipeline.standing import success_in
from tiltflow.pipeline.step_book import frame_stacks_of, frames_key, known_frames, known_stack, source_key, step_numbers
from tiltflow.recipe import Recipe
from tiltflow.record import SeriesRecord
from tiltflow.record.steps import forget
from tiltflow.work import SeriesResult


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier run left of a series.

    Attributes
    ----------
    result
        Its result, if it is complete and was made from the same contents by the same recipe.
    why
        In words why a successful result is not kept; None where it is, or there is none.
    identity
        Of the input that it was compared with; None where it cannot be read.
    answers
        Whether what there is was made by this recipe from this input.
    """

    result: SeriesResult | None = None
    why: str | None = None
    identity: Identity | None = None
    answers: bool = True


def look_back(source: Path, recipe: Recipe, output: Path, parts: Sequence[Part] = ALL_PARTS) -> Earlier:
    """Return what an earlier run left in `output`, compared with what the work would give now."""
    try:
        record = success_in(output)
    except FormatError:
        return Earlier(why=f"the record in {output} cannot be read")
    if record is None:
        return Earlier()
    try:
        identity, unread = identity_of(source, known_stack(record), frames=known_frames(record, recipe)), None
    except InputError as error:
        identity, unread = None, str(error)
    other = [*_changed_recipe(record, recipe)]
    if identity is None:
        other.append(unread or "")
    elif source_key(identity) != record.source_key:
        other.append("the stack, or a file beside it, has changed since")
    elif recipe.halves and frames_key(frame_stacks_of(identity)) != frames_key(record.frame_stacks):
        other.append("the stacks of even and odd frames have changed since")
    other += _given_differences(record, source.stem, recipe)
    other += changed_files(record, recipe)
    reasons = [*_changed_steps(record), *other, *_lacking(record, parts), *differences_on_disk(record, output)]
    if reasons:
        return Earlier(why="; ".join(reasons), identity=identity, answers=not other)
    return Earlier(replace(result_of(record, output), source=source), identity=identity)


def forget_damaged(output: Path) -> tuple[str, ...]:
    """Return the files of a success in `output` that do not hold what was written; the steps that made them count as not done."""
    try:
        record = success_in(output)
    except FormatError:
        return ()
    wrong = () if record is None else damaged(record, output)
    if record is not None and wrong:
        forget(output, record.name, wrong)
    return wrong


def _changed_steps(record: SeriesRecord) -> Iterator[str]:
    """Yield which steps give another output now; the version of tiltflow is no reason."""
    newer = sorted(name for name, number in step_numbers().items() if record.step_numbers.get(name) != number)
    if newer and not record.step_numbers:
        yield f"it was made by tiltflow {record.tiltflow}, which kept no steps"
    elif newer:
        yield f"these steps have changed since tiltflow {record.tiltflow}: {', '.join(newer)}"


def _changed_recipe(record: SeriesRecord, recipe: Recipe) -> Iterator[str]:
    if record.recipe is None or record.recipe.requested != recipe.digest:
        yield "the recipe differs"


def _lacking(record: SeriesRecord, parts: Sequence[Part]) -> Iterator[str]:
    if lacking := [part for part in parts if part not in record.parts]:
        yield f"it has no {' and no '.join(lacking)} yet"
    if unmade(record, VOLUME_STATISTICS):
        # They are made on the side, so that a disk that was full for a moment costs no result.
        yield f"{VOLUME_STATISTICS}, and its pictures, were not made"


def _given_differences(record: SeriesRecord, name: str, recipe: Recipe) -> Iterator[str]:
    """Yield what is different about the alignment that is given; that there is one at all is part of the recipe."""
    if recipe.alignment is None or record.given_alignment is None:
        return
    try:
        files = alignment_files(find_alignment(recipe.alignment, name), name)
        now = [describe.file_entry(path) for path in files]
    except (TiltflowError, OSError) as error:
        yield f"the alignment cannot be read: {error}"
        return
    if [file.sha256 for file in now] != [file.sha256 for file in record.given_alignment.files]:
        yield "another alignment is given"
