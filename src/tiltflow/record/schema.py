"""The published schemas of `run.json`, of a series and of a run: names carry their units, or have a unit beside them."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tiltflow.errors import FormatError
from tiltflow.work import Quantity, StageRecord, Trust

SCHEMA: Final = "tiltflow/series-record/1"
RUN_SCHEMA: Final = "tiltflow/run-record/1"


FailureKind = Literal["", "interrupted", "defect"]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True, ser_json_inf_nan="null")


class NumberEntry(_Entry):
    """A number with its unit; the value is null where it could not be computed."""

    value: float | int | str | None
    unit: str = ""


class StageEntry(_Entry):
    """One stage of the work; `kept` is one of an earlier run whose step was taken over."""

    name: str
    status: Literal["running", "done", "failed", "kept"] = "running"
    started: datetime
    seconds: float | None = None
    numbers: dict[str, NumberEntry] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)


class StepSummary(_Entry):
    """A step of the work: its key, and whether and from when it was taken over from an earlier run."""

    name: str
    key: str
    kept: bool = False
    made: datetime | None = None


class ValueEntry(_Entry):
    """A value of the input and where it was read; `doubt` says what nobody knows of it and what that may do to the result."""

    value: Any
    unit: str = ""
    source: str = ""
    doubt: str = ""


class DirectiveEntry(_Entry):
    """A directive and its status."""

    name: str
    value: str
    status: str
    reason: str = ""
    origin: str = ""


class ProductEntry(_Entry):
    """A file or folder among the products; of a folder, the checksum is that of the list of its files with their checksums."""

    type: str
    path: str
    bytes: int
    sha256: str | None = None
    metadata: dict[str, Any] | None = None


class EngineEntry(_Entry):
    """Which engine did the work, and why that one."""

    name: str
    version: str
    reason: str


class EngineAttemptEntry(_Entry):
    """What one of several engines did: `used`, `not used` as another alignment is better, or `failed`; `said` is why it failed."""

    name: str
    version: str
    outcome: Literal["used", "not used", "failed"]
    said: str = ""
    error_px: float | None = None


class GivenDirective(_Entry):
    """A directive as it was given: in line `line` of `where`."""

    name: str
    value: str
    where: str = ""
    line: int | None = None


class RequestEntry(_Entry):
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


class RecipeEntry(_Entry):
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


class FailureEntry(_Entry):
    """Why a series has no products: `error` is the class of the exception.

    `kind` is `interrupted` if the run was stopped, `defect` for an unexpected error, and empty otherwise.
    """

    stage: str
    reason: str
    error: str = ""
    kind: FailureKind = ""
    last_lines: list[str] = Field(default_factory=list)


class FailedAttemptEntry(_Entry):
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


class AlignmentEntry(_Entry):
    """The alignment and the evidence for it.

    Lists with one number a view are in the order of the raw stack; null where a view gives none.  Lengths in `_px` are pixels of the raw
    images.  `y_per_z` is the displacement along y in the aligned view per unit of z.  `measurement_ratio` is measurements / unknowns.
    Views are numbered from 1, in `excluded_views` too.  Numbers of a method that are not listed here are kept as they are.
    """

    model_config = ConfigDict(extra="allow", validate_assignment=True, ser_json_inf_nan="null")

    method: str
    tilt_deg: list[float]
    included: list[bool]
    shift_px: list[tuple[float, float]]
    rotation_deg: list[float] = Field(default_factory=list)
    magnification: list[float] = Field(default_factory=list)
    x_axis_tilt_deg: float = 0.0
    z_shift_px: float = 0.0
    y_per_z: list[float] | None = None
    local_areas: int | None = None
    residual_mean_px: float | None = None
    residual_mean_nm: float | None = None
    residual_sd_px: float | None = None
    residual_sd_nm: float | None = None
    residual_weighted_mean_px: float | None = None
    residual_weighted_mean_nm: float | None = None
    leave_out_px: float | None = None
    leave_out_nm: float | None = None
    global_residual_mean_px: float | None = None
    global_residual_mean_nm: float | None = None
    global_leave_out_px: float | None = None
    global_leave_out_nm: float | None = None
    error_px: float | None = None
    error_nm: float | None = None
    residual_per_view_px: list[float | None] | None = None
    residual_per_view_nm: list[float | None] | None = None
    residual_vectors_px: list[tuple[float, float, float, float]] | None = None
    positions_used: int | None = None
    positions_rejected: int | None = None
    positions_expected: int | None = None
    positions_per_view: list[int] | None = None
    positions_lost_per_view: list[int] | None = None
    correlation_per_view: list[float | None] | None = None
    measurements: int | None = None
    unknowns: int | None = None
    measurement_ratio: float | None = None
    tracks_used: int | None = None
    tracks_rejected: int | None = None
    shift_rms_px: float | None = None
    shift_rms_nm: float | None = None
    shift_max_px: float | None = None
    shift_max_nm: float | None = None
    axis_angle_nominal_deg: float | None = None
    axis_angle_from_data_deg: float | None = None
    axis_angle_error_deg: float | None = None
    x_axis_tilt_error_deg: float | None = None
    trust_warnings: list[str] = Field(default_factory=list)
    views_counted_from: Literal[1] = 1
    excluded_views: dict[int, str] = Field(default_factory=dict)
    rejected: dict[str, int] = Field(default_factory=dict)
    attempts: list[dict[str, Any]] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _from_0_1(cls, values: Any) -> Any:
        """Read what version 0.1 called doubts."""
        if not isinstance(values, dict):
            return values
        if "doubts" in values:
            values = {**{key: value for key, value in values.items() if key != "doubts"}, "trust_warnings": values["doubts"]}
        attempts = values.get("attempts")
        if isinstance(attempts, list) and any(isinstance(one, dict) and "doubts" in one for one in attempts):
            renamed = [{"trust_warnings" if key == "doubts" else key: value for key, value in one.items()} for one in attempts]
            values = {**values, "attempts": renamed}
        return values


class VolumeEntry(_Entry):
    """Statistics of the reconstruction; all lists are short enough to be plotted.

    The histogram has equal bins from `histogram_low` to `histogram_high`; `window_low` and `window_high` are the grey values shown
    as black and white.  `spectrum_power` is the radially averaged power of sections at the frequencies beside it.
    `texture` is the spread of grey values in sections at the heights `texture_z_nm`, from the middle of the volume.
    `section_*` is where the specimen lies by its texture: null where it does not stand out.  With `section_least`, noise hides its
    surfaces, so that it may be thicker.
    """

    sections: int
    height_px: int
    width_px: int
    voxel_nm: float
    mean: float
    sd: float
    histogram_low: float
    histogram_high: float
    histogram_counts: list[int]
    window_low: float
    window_high: float
    spectrum_per_nm: list[float]
    spectrum_power: list[float]
    texture_z_nm: list[float]
    texture: list[float]
    contrast: float | None = None
    section_low_nm: float | None = None
    section_high_nm: float | None = None
    section_cut: bool = False
    section_least: bool = False


class HalvesEntry(_Entry):
    """Fourier shell correlation of two volumes, each of every other view, or of the even or odd frames of all views (`of`).

    `resolution_*_nm` is the resolution at which the correlation falls below 0.143 and below 0.5; null where it never does.
    """

    of: Literal["views", "frames"] = "views"
    views_even: int
    views_odd: int
    frequency_per_nm: list[float]
    correlation: list[float]
    resolution_0143_nm: float | None = None
    resolution_0500_nm: float | None = None


class RingsEntry(_Entry):
    """Rings in the spectrum of a view, counted from 1: power over its smooth part, less 1, as measured and as the CTF has it."""

    view: int
    frequency_per_nm: list[float]
    measured: list[float]
    fitted: list[float]


class CtfEntry(_Entry):
    """The CTF of the views, underfocus positive, and whether it was corrected; `reason` says how well it is known, or why not.

    Lists have one number a view.  `defocus_nm` is that on the tilt axis, empty where it is not known, and not `measured` where it was
    stated.  Of the astigmatism, `deg` is the direction of the largest defocus in the aligned views, counter-clockwise from x.  `hand` is
    the sign of the defocus gradient that was used: 1 if at positive tilts the right side is more underfocused, 0 for no gradient;
    `hand_measured` is what the images say, null where they do not decide, and `gradient` is that which they show, in parts of the one
    of a flat specimen.  `spacing_angstrom` is the finest to which rings are seen, null where none are.
    """

    applied: bool = False
    measured: bool = True
    reason: str = ""
    method: str = "flip"
    voltage_kv: float | None = None
    voltage_source: str = ""
    cs_mm: float
    amplitude_contrast: float
    defocus_nm: list[float] = Field(default_factory=list)
    error_nm: list[float] = Field(default_factory=list)
    mean_error_nm: float | None = None
    astigmatism_nm: float = 0.0
    astigmatism_deg: float = 0.0
    astigmatism_error_nm: float | None = None
    phase_shift_deg: float = 0.0
    hand: int | None = None
    hand_measured: int | None = None
    hand_certainty: float | None = None
    gradient: float | None = None
    gradient_error: float | None = None
    score: list[float] = Field(default_factory=list)
    spacing_angstrom: list[float | None] = Field(default_factory=list)
    rings: list[RingsEntry] = Field(default_factory=list)


class ExposureEntry(_Entry):
    """The exposure of each view and before it, electrons per square ångström, and whether frequencies were weighted by it.

    `order` has the views, counted from 1, in the order in which they were taken, as believed; `order_assumed` if nothing tells it.
    `reason` is where all that is known from, or why it is not.
    """

    applied: bool = False
    reason: str = ""
    order_assumed: bool = False
    each: list[float] = Field(default_factory=list)
    before: list[float] = Field(default_factory=list)
    order: list[int] = Field(default_factory=list)
    voltage_kv: float = 300.0


class PictureEntry(_Entry):
    """A small picture for the report; `path` is relative to the folder of the record."""

    name: Literal["zero_tilt", "slice_xy", "slice_xz", "slice_yz"]
    path: str
    width: int
    height: int
    caption: str


class VerdictEntry(_Entry):
    """Whether to trust the result, by the thresholds in force when it was made."""

    level: Trust
    reasons: list[str] = Field(default_factory=list)
    numbers: dict[str, NumberEntry] = Field(default_factory=dict)
    thresholds: dict[str, float | None] = Field(default_factory=dict)


class FileEntry(_Entry):
    """A file that was read or written, and what it held."""

    path: str
    bytes: int
    sha256: str


class GivenAlignmentEntry(_Entry):
    """The alignment that was given: the program that writes such files, and the files, the one that was asked for first."""

    program: str
    files: list[FileEntry]


class FrameStackEntry(_Entry):
    """A stack of even or odd frames beside the stack; `checksum` and `state` are those of `source_checksum` and `source_state`."""

    name: str
    checksum: str
    state: tuple[int, int, int, int]


class SeriesRecord(_Entry):
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


class RunSeriesEntry(_Entry):
    """One series of a run; `record` is the path of its record, relative to the folder of the run."""

    name: str
    source: str
    record: str
    status: Literal["waiting", "success", "error"] = "waiting"
    message: str | None = None
    verdict: Trust | None = None
    seconds: float | None = None


class RunRecord(_Entry):
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


def read_record(path: Path) -> SeriesRecord:
    """Return the record in a `run.json`.

    Raises
    ------
    FormatError
        If the file is not a record of this schema.
    """
    try:
        return SeriesRecord.model_validate(_views_from_1(_read(path)))
    except ValidationError as error:
        raise FormatError(f"{path} is not a record of a tiltflow run ({error.error_count()} problems): {error}") from error


def read_run(path: Path) -> RunRecord:
    """Return the record of a run in a `run.json`.

    Raises
    ------
    FormatError
        If the file is not a record of this schema.
    """
    try:
        return RunRecord.model_validate(_read(path))
    except ValidationError as error:
        raise FormatError(f"{path} is not the record of a tiltflow run ({error.error_count()} problems): {error}") from error


def _views_from_1(record: Any) -> Any:
    """Return a record with its views numbered from 1; before `views_counted_from` was written, views left out counted from 0."""
    alignment = record.get("alignment") if isinstance(record, dict) else None
    if (
        not isinstance(alignment, dict)
        or "views_counted_from" in alignment
        or not isinstance(alignment.get("excluded_views"), dict)
    ):
        return record
    counted = {int(view) + 1 if str(view).isdecimal() else view: why for view, why in alignment["excluded_views"].items()}
    return record | {"alignment": alignment | {"excluded_views": counted}}


def _read(path: Path) -> Any:
    """Return what a JSON file holds, names that are not UTF-8 included."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} is not JSON: {error}") from error
