"""The steps of the work on one series as the pipeline keeps them: their numbers, and what each is made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from tiltflow.delivery.publish import staging_folder
from tiltflow.formats.identity import Identity, Known
from tiltflow.pipeline.job import Job
from tiltflow.products.catalogue import STEPS, Source
from tiltflow.recipe import Recipe
from tiltflow.recipe.engine_rules import all_engines
from tiltflow.record import FrameStackEntry, Recorder, SeriesRecord, Steps
from tiltflow.record.steps import step_key
from tiltflow.work import AssetType

ENGINE, MEASURE, GIVEN = "engine", "measure", "given volumes"
"""Steps of the pipeline itself: all work of an engine that is one step, the statistics of the volume, and volumes that another
program made."""
SOURCE_NUMBER, ENGINE_NUMBER, MEASURE_NUMBER, GIVEN_NUMBER = 2, 2, 2, 1
"""Numbers of the reading of the input, and of these steps."""
FRAMES_NUMBER = 1
"""Number of the reading of even and odd frames."""

_MAKERS: Mapping[Source, tuple[str, ...]] = {
    Source.ALIGNED: ("aligned stack", ENGINE, GIVEN),
    Source.VOLUME: ("reconstruction", ENGINE, GIVEN),
}
"""Steps that make the files products are made from; the first that belongs to the work counts."""


def step_numbers() -> dict[str, int]:
    """Return the number of each step: raised by one when the step gives another output for the same input."""
    own = {"source": SOURCE_NUMBER, ENGINE: ENGINE_NUMBER, MEASURE: MEASURE_NUMBER, GIVEN: GIVEN_NUMBER}
    of_engines = {name: number for engine in all_engines() for name, number in engine.step_numbers.items()}
    return own | of_engines | {step.name: step.number for step in STEPS}


def unfinished_folder(output: Path) -> Path:
    """Return the hidden folder where files lie until they are published, in the folder of the series."""
    return staging_folder(output, "unfinished")


def steps_of(job: Job, recorder: Recorder) -> Steps:
    """Return the steps of the work on a series."""
    return Steps(recorder, job.output, unfinished_folder(job.output), redo=job.redo)


def source_key(identity: Identity) -> str:
    """Return the key of an input: of the contents of its stack and of all files beside it that its reading looks for."""
    return step_key("source", SOURCE_NUMBER, (), identity.content)


def frames_key(stacks: Iterable[FrameStackEntry]) -> str:
    """Return the key of the stacks of even and odd frames, which half volumes are made of; empty where there are none."""
    contents = {stack.name: stack.checksum for stack in stacks}
    return step_key("frames", FRAMES_NUMBER, (), contents) if contents else ""


def frame_stacks_of(identity: Identity) -> list[FrameStackEntry]:
    """Return what a record has of the stacks of even and odd frames, as far as they count."""
    return [
        FrameStackEntry(name=name, checksum=checksum, state=state) for name, (state, checksum) in (identity.frames or {}).items()
    ]


def note_identity(record: SeriesRecord, identity: Identity) -> None:
    """Put the identity of an input, and its key, into a record."""
    record.source_checksum, record.source_state = identity.stack, identity.state
    record.source_key, record.frame_stacks = source_key(identity), frame_stacks_of(identity)


def known_frames(record: SeriesRecord, recipe: Recipe) -> dict[str, Known] | None:
    """Return the states of stacks of frames and their checksums, as a record has them; None where a recipe makes nothing of them."""
    return {stack.name: (stack.state, stack.checksum) for stack in record.frame_stacks} if recipe.halves else None


def known_stack(record: SeriesRecord) -> Known | None:
    """Return the state of a stack and its checksum, as a record has them."""
    return (record.source_state, record.source_checksum) if record.source_state is not None else None


def keys_of_inputs(steps: Steps, recorder: Recorder, needed: tuple[Source | AssetType, ...]) -> tuple[str, ...]:
    """Return the keys of what a product is made from."""
    known = {step.name for step in recorder.record.steps}
    makers = {asset_type: (step.name,) for step in STEPS for asset_type in step.makes}
    names = [_MAKERS[each] if isinstance(each, Source) else makers[each] for each in needed]
    return tuple(steps.key_of(next(name for name in options if name in known)) for options in names)
