"""One row a series: what the index of a run, its `metrics.csv` and the summary of a flow show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiltflow.record import SeriesRecord
from tiltflow.report.checks import examine
from tiltflow.report.facts import tilt_axis_deg, tilt_offset_deg
from tiltflow.report.specimen import specimen_of
from tiltflow.report.tilts import coverage_of
from tiltflow.report.verdict import faults, judge
from tiltflow.work import Thresholds, Trust, Verdict

_URGENT_FIRST = (Trust.FAILED, Trust.POOR, Trust.DOUBTFUL, Trust.UNFINISHED, Trust.GOOD)

Value = str | float | int | None


@dataclass(frozen=True, slots=True)
class Row:
    """A series among others.

    Attributes
    ----------
    record, verdict
        Its record, and the verdict on it.
    folder
        Its folder, relative to that of the run.
    faults
        How many of the reasons for the verdict, which come first, are not good ones.
    left_out
        What was asked for and not done, in sentences, whatever the verdict.
    """

    record: SeriesRecord
    verdict: Verdict
    folder: str
    faults: int = 0
    left_out: tuple[str, ...] = ()

    @property
    def urgency(self) -> int:
        """Place among verdicts: 0 for those that need a look first."""
        return _URGENT_FIRST.index(self.verdict.level)

    @property
    def why(self) -> str:
        """The weightiest reason for the verdict."""
        return self.verdict.reasons[0] if self.verdict.reasons else ""

    @property
    def trouble(self) -> str:
        """All that is not good, or was left out; the file is called by its name alone."""
        faults = "; ".join((*self.verdict.reasons[: self.faults], *self.left_out))
        newer = self.record.failed_attempt
        if newer is not None:
            when = f"a newer attempt, of {newer.started:%Y-%m-%d %H:%M} UTC, failed at {newer.stage}: {newer.reason}"
            faults = "; ".join(each for each in (when, faults) if each)
        return faults.replace(self.record.source, Path(self.record.source).name)

    @property
    def seconds(self) -> float:
        """Time that all stages took."""
        return sum(stage.seconds or 0.0 for stage in self.record.stages)

    def metrics(self) -> dict[str, Value]:
        """Return every column of `metrics.csv`."""
        return {name: read(self) for name, read in COLUMNS.items()}


def row_of(record: SeriesRecord, thresholds: Thresholds, folder: str) -> Row:
    """Return the row of a series."""
    verdict = judge(record, thresholds)
    checks = examine(record, thresholds) if record.status == "success" else ()
    return Row(record, verdict, folder, faults(verdict, checks), tuple(check.finding for check in checks if check.left_out))


def _of_alignment(name: str) -> Callable[[Row], Value]:
    return lambda row: getattr(row.record.alignment, name, None)


def _views(row: Row, *, used: bool) -> Value:
    found = row.record.alignment
    return sum(included == used for included in found.included) if found is not None else None


def _of_tilts(name: str) -> Callable[[Row], Value]:
    def read(row: Row) -> Value:
        seen = coverage_of(row.record.alignment) if row.record.alignment is not None else None
        value = getattr(seen, name, None)
        return round(value, 2) if isinstance(value, float) else value

    return read


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _thickness(row: Row) -> Value:
    specimen = specimen_of(row.record)
    return round(specimen.thickness_nm, 1) if specimen is not None else None


def _input(row: Row, name: str) -> Any:
    known = row.record.input.get(name)
    return known.value if known is not None else None


COLUMNS: Mapping[str, Callable[[Row], Value]] = {
    "series": lambda row: row.record.name,
    "verdict": lambda row: row.verdict.level.value,
    "why": lambda row: row.why,
    "method": _of_alignment("method"),
    "error_px": _of_alignment("error_px"),
    "error_nm": _of_alignment("error_nm"),
    "residual_px": _of_alignment("residual_mean_px"),
    "residual_nm": _of_alignment("residual_mean_nm"),
    "leave_out_px": _of_alignment("leave_out_px"),
    "leave_out_nm": _of_alignment("leave_out_nm"),
    "tracks": _of_alignment("tracks_used"),
    "views_used": lambda row: _views(row, used=True),
    "views_left_out": lambda row: _views(row, used=False),
    "tilt_axis_deg": lambda row: _rounded(tilt_axis_deg(row.record.alignment)),
    "x_axis_tilt_deg": lambda row: _rounded(getattr(row.record.alignment, "x_axis_tilt_deg", None)),
    "tilt_offset_deg": lambda row: _rounded(tilt_offset_deg(row.record)),
    "shift_rms_px": _of_alignment("shift_rms_px"),
    "shift_max_px": _of_alignment("shift_max_px"),
    "tilt_low_deg": _of_tilts("low_deg"),
    "tilt_high_deg": _of_tilts("high_deg"),
    "tilt_range_deg": _of_tilts("range_deg"),
    "tilt_gap_deg": _of_tilts("gap_deg"),
    "elongation": _of_tilts("elongation"),
    "thickness_nm": _thickness,
    "contrast": lambda row: row.record.volume.contrast if row.record.volume is not None else None,
    "seconds": lambda row: round(row.seconds, 1),
    "pixel_size_angstrom": lambda row: _input(row, "pixel_size"),
    "engine": lambda row: row.record.engine.name if row.record.engine is not None else None,
    "source": lambda row: row.record.source,
}
"""Name of each column, with its unit, to what is in it."""
