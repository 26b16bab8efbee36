"""The published schemas of `run.json`, of a series and of a run: names carry their units, or have a unit beside them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal

from pydantic import ConfigDict, Field

from tiltflow.record.entry import Entry
from tiltflow.record.evidence import AlignmentEntry, CtfEntry, ExposureEntry, HalvesEntry, MontageEntry, VolumeEntry
from tiltflow.work import Quantity, StageRecord, Trust

SCHEMA: Final = "tiltflow/series-record/1"
RUN_SCHEMA: Final = "tiltflow/run-record/1"
FailureKind = Literal["", "interrupted", "defect"]


class NumberEntry(Entry):
    """A number with its unit; the value is null where it could not be computed."""

    value: float | int | str | None
    unit: str = ""


class StageEntry(Entry):
    """One stage of the work; `kept` is one of an earlier run whose step was taken over."""

    name: str
    status: Literal["running", "done", "failed", "kept"] = "running"
    started: datetime
    seconds: float | None = None
    numbers: dict[str, NumberEntry] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)


class StepSummary(Entry):
    """A step of the work: its key, and whether and from when it was taken over from an earlier run."""

    name: str
    key: str
    kept: bool = False
    made: datetime | None = None


class ValueEntry(Entry):
    """A value of the input and where it was read; `doubt` says what nobody knows of it and what that may do to the result."""

    value: Any
    unit: str = ""
    source: str = ""
    doubt: str = ""


class DirectiveEntry(Entry):
    """A directive and its status."""

    name: str
    value: str
    status: str
    reason: str = ""
    origin: str = ""


class ProductEntry(Entry):
    """A file or folder among the products; of a folder, the checksum is that of the list of its files with their checksums."""

    type: str
    path: str
    bytes: int
    sha256: str | None = None
    metadata: dict[str, Any] | None = None


class EngineEntry(Entry):
    """Which engine did the work, and why that one."""

    name: str
    version: str
    reason: str


class EngineAttemptEntry(Entry):
    """What one of several engines did: `used`, `not used` as another alignment is better, or `failed`; `said` is why it failed."""

    name: str
    version: str
    outcome: Literal["used", "not used", "failed"]
    said: str = ""
    error_px: float | None = None


class GivenDirective(Entry):
    """A directive as it was given: in line `line` of `where`."""

    name: str
    value: str
    where: str = ""
    line: int | None = None


class RequestEntry(Entry):
    """What a recipe was made from, enough to make it again without the files it came from.

    `text` is the template with its variables not filled in, `layers` are the directives of the scope, system and user
    templates, lowest first, `missing` says which of these did not exist, `overrides` are the directives above the template,
    `engine` is what was asked for, `auto` included, and `alignment` is the path of the alignments that were given, if any were.
    """

    template: str
    text: str
    layers: list[list[GivenDirective]] = Field(default_factory=list)
    missing: list[str] = Field(default_factory=list)
    overrides: list[GivenDirective] = Field(default_factory=list)
    parameters: dict[str, int]
    engine: str
    fallback_engine: str
    fallback: bool
    trust_limit_px: float
    pyramid: dict[str, str | bool] = Field(default_factory=dict)
    alignment: str | None = None


class RecipeEntry(Entry):
    """The recipe: `digest` is equal when the result must be, `requested` is that of the request, before an engine was chosen.

    `request` is what it was made from.  `stages` holds the parameters of the native engine; `defaulted` names those of them, as
    `stage.name`, that no directive has set.
    """

    template: str
    digest: str
    requested: str = ""
    parameters: dict[str, Any]
    directives: list[DirectiveEntry] = Field(default_factory=list)
    stages: dict[str, Any] = Field(default_factory=dict)
    defaulted: list[str] = Field(default_factory=list)
    request: RequestEntry | None = None


class FailureEntry(Entry):
    """Why a series has no products: `error` is the class of the exception.

    `kind` is `interrupted` if the run was stopped, `defect` for an unexpected error, and empty otherwise.
    """

    stage: str
    reason: str
    error: str = ""
    kind: FailureKind = ""
    last_lines: list[str] = Field(default_factory=list)


class FailedAttemptEntry(Entry):
    """A newer attempt that failed and left the result as it was: `why_again` says why the series was to be done again.

    `answered` is false where the result is not what was asked for: it was made by another recipe, or from other input.  `record` is the
    path of the attempt's own record.
    """

    started: datetime
    finished: datetime | None = None
    stage: str
    reason: str
    kind: FailureKind = ""
    why_again: str = ""
    answered: bool = True
    record: str = ""


class PictureEntry(Entry):
    """A small picture for the report; `path` is relative to the folder of the record."""

    name: Literal["zero_tilt", "slice_xy", "slice_xz", "slice_yz", "seam"]
    path: str
    width: int
    height: int
    caption: str


class VerdictEntry(Entry):
    """Whether to trust the result, by the thresholds in force when it was made."""

    level: Trust
    reasons: list[str] = Field(default_factory=list)
    numbers: dict[str, NumberEntry] = Field(default_factory=dict)
    thresholds: dict[str, float | None] = Field(default_factory=dict)


class FileEntry(Entry):
    """A file that was read or written, and what it held."""

    path: str
    bytes: int
    sha256: str


class GivenAlignmentEntry(Entry):
    """The alignment that was given: the program that writes such files, and the files, the one that was asked for first."""

    program: str
    files: list[FileEntry]


class FrameStackEntry(Entry):
    """A stack of even or odd frames beside the stack; `checksum` and `state` are those of `source_checksum` and `source_state`."""

    name: str
    checksum: str
    state: tuple[int, int, int, int]


class SeriesRecord(Entry):
    """Everything known of the work on one series; angles in degrees, other units with each number.

    `source_checksum` is the SHA-256 of the SHA-256 of the stack's blocks of 16 MiB, `source_state` its inode, bytes and times (ns) then;
    `source_key` is the hash of the contents of the stack and of the files beside it; `steps` have keys of their own.
    `frame_stacks` are the stacks of even and odd frames, where half volumes are asked for.
    `parts` are those of the work that were asked for.
    `engine` did the work whose result is used; `engine_attempts` lists all engines that worked, where there were several.
    `files` lists what is kept beside the products: geometry, volumes, pictures.
    `given_alignment` names the files of an alignment that another program made, where one was used; `given_files` are others that
    directives name: a defocus, exposures, the MTF of a camera.
    `failed_attempt` is a newer attempt that failed, and left this result as it was.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True, validate_by_name=True, ser_json_inf_nan="null")

    record_schema: Literal["tiltflow/series-record/1"] = Field(default=SCHEMA, alias="schema")
    name: str
    source: str
    source_bytes: int | None = None
    source_modified: datetime | None = None
    source_key: str = ""
    source_checksum: str = ""
    source_state: tuple[int, int, int, int] | None = None
    frame_stacks: list[FrameStackEntry] = Field(default_factory=list)
    status: Literal["running", "success", "error"] = "running"
    message: str | None = None
    tiltflow: str
    step_numbers: dict[str, int] = Field(default_factory=dict)
    parts: list[str] = Field(default_factory=lambda: ["alignment", "reconstruction", "products"])
    versions: dict[str, str] = Field(default_factory=dict)
    started: datetime
    finished: datetime | None = None
    engine: EngineEntry | None = None
    engine_attempts: list[EngineAttemptEntry] = Field(default_factory=list)
    input: dict[str, ValueEntry] = Field(default_factory=dict)
    recipe: RecipeEntry | None = None
    steps: list[StepSummary] = Field(default_factory=list)
    stages: list[StageEntry] = Field(default_factory=list)
    given_alignment: GivenAlignmentEntry | None = None
    given_files: list[FileEntry] = Field(default_factory=list)
    alignment: AlignmentEntry | None = None
    volume: VolumeEntry | None = None
    halves: HalvesEntry | None = None
    ctf: CtfEntry | None = None
    exposure: ExposureEntry | None = None
    montage: MontageEntry | None = None
    pictures: list[PictureEntry] = Field(default_factory=list)
    products: list[ProductEntry] = Field(default_factory=list)
    files: list[FileEntry] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    failure: FailureEntry | None = None
    failed_attempt: FailedAttemptEntry | None = None
    verdict: VerdictEntry | None = None

    def stage_records(self) -> tuple[StageRecord, ...]:
        """Return the stages."""
        return tuple(
            StageRecord(
                name=entry.name,
                seconds=entry.seconds or 0.0,
                status=entry.status,
                numbers={
                    key: Quantity(number.value, number.unit) for key, number in entry.numbers.items() if number.value is not None
                },
                notes=tuple(entry.notes),
            )
            for entry in self.stages
        )


class RunSeriesEntry(Entry):
    """One series of a run; `record` is the path of its record, relative to the folder of the run."""

    name: str
    source: str
    record: str
    status: Literal["waiting", "success", "error"] = "waiting"
    message: str | None = None
    verdict: Trust | None = None
    seconds: float | None = None


class RunRecord(Entry):
    """One run over a folder of series, as it stood when it was last written.

    `template`, `digest` and `request` are those of the recipe for all series; the records of the series have their own.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True, validate_by_name=True, ser_json_inf_nan="null")

    record_schema: Literal["tiltflow/run-record/1"] = Field(default=RUN_SCHEMA, alias="schema")
    status: Literal["running", "done", "interrupted"] = "running"
    tiltflow: str
    versions: dict[str, str] = Field(default_factory=dict)
    started: datetime
    finished: datetime | None = None
    jobs: int = 1
    template: str
    digest: str
    request: RequestEntry | None = None
    remarks: list[str] = Field(default_factory=list)
    series: list[RunSeriesEntry] = Field(default_factory=list)
