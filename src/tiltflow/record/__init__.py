"""What happened, written down as it happens.

One `run.json` per series: the inputs and where each value was read, the recipe and its hash, every directive and its fate, the
stages with their seconds and numbers, the alignment's evidence, the products with sizes and checksums, warnings, and the failure
if there was one.  The file is rewritten whole (beside, then renamed) after every change, so a killed run leaves a readable record
that says what it was doing.  :class:`SeriesRecord` is the published schema.
"""

from tiltflow.record.recorder import Recorder, StageNotes
from tiltflow.record.schema import (
    SCHEMA,
    DirectiveEntry,
    EngineEntry,
    FailureEntry,
    NumberEntry,
    ProductEntry,
    RecipeEntry,
    SeriesRecord,
    StageEntry,
    ValueEntry,
    read_record,
)

__all__ = [
    "SCHEMA",
    "DirectiveEntry",
    "EngineEntry",
    "FailureEntry",
    "NumberEntry",
    "ProductEntry",
    "RecipeEntry",
    "Recorder",
    "SeriesRecord",
    "StageEntry",
    "StageNotes",
    "ValueEntry",
    "read_record",
]
