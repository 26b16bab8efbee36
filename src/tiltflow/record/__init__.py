"""The record of a run, written while it goes on.

One `run.json` per series: the inputs and where each value was read, the recipe and its hash, every directive and its status, the
stages with their seconds and numbers, the alignment's evidence, statistics of the volume, the products with sizes and
checksums, warnings, the verdict, and the failure if there was one.  Another, in the folder above, for the run.  A file is
rewritten whole (beside, then renamed) after every change, so a killed run leaves a readable record that says what it was doing.
:class:`SeriesRecord` and :class:`RunRecord` are the published schemas.
"""

from tiltflow.record.evidence import (
    AlignmentEntry,
    CtfEntry,
    ExposureEntry,
    HalvesEntry,
    MontageEntry,
    RingsEntry,
    VolumeEntry,
)
from tiltflow.record.reading import read_record, read_run
from tiltflow.record.recorder import Recorder, RunRecorder, StageNotes
from tiltflow.record.schema import (
    RUN_SCHEMA,
    SCHEMA,
    DirectiveEntry,
    EngineAttemptEntry,
    EngineEntry,
    FailedAttemptEntry,
    FailureEntry,
    FailureKind,
    FileEntry,
    FrameStackEntry,
    GivenAlignmentEntry,
    GivenDirective,
    NumberEntry,
    PictureEntry,
    ProductEntry,
    RecipeEntry,
    RequestEntry,
    RunRecord,
    RunSeriesEntry,
    SeriesRecord,
    StageEntry,
    StepSummary,
    ValueEntry,
    VerdictEntry,
)
from tiltflow.record.steps import Step, Steps

__all__ = [
    "RUN_SCHEMA",
    "SCHEMA",
    "AlignmentEntry",
    "CtfEntry",
    "DirectiveEntry",
    "EngineAttemptEntry",
    "EngineEntry",
    "ExposureEntry",
    "FailedAttemptEntry",
    "FailureEntry",
    "FailureKind",
    "FileEntry",
    "FrameStackEntry",
    "GivenAlignmentEntry",
    "GivenDirective",
    "HalvesEntry",
    "MontageEntry",
    "NumberEntry",
    "PictureEntry",
    "ProductEntry",
    "RecipeEntry",
    "Recorder",
    "RequestEntry",
    "RingsEntry",
    "RunRecord",
    "RunRecorder",
    "RunSeriesEntry",
    "SeriesRecord",
    "StageEntry",
    "StageNotes",
    "Step",
    "StepSummary",
    "Steps",
    "ValueEntry",
    "VerdictEntry",
    "VolumeEntry",
    "read_record",
    "read_run",
]
