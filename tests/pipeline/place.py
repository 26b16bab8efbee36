"""A series in a folder of its own, and its results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tiltflow.record import SeriesRecord, read_record


@dataclass
class Place:
    """Where the series `B` is, and what was made of it."""

    folder: Path

    @property
    def source(self) -> Path:
        return self.folder / "B.st"

    @property
    def output(self) -> Path:
        return self.folder / "out" / "B"

    @property
    def record(self) -> SeriesRecord:
        return read_record(self.output / "run.json")
