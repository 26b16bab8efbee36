"""The lines that batchruntomo prints and that programs read: to the standard output, and to `batchruntomo.log` of the data set.

A sentence that ends in `(running X.com)` stands before the work, `Successfully finished X.com   in MM:SS` and IMOD 5's `Reached step N`
after it.  The names of command files are IMOD's, since readers know them; none is written or run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TextIO

LOG_NAME = "batchruntomo.log"


@dataclass(frozen=True, slots=True)
class StageLines:
    """What batchruntomo says of a stage: its sentence, its command file, and the step that is reached after it."""

    sentence: str
    command_file: str
    step: int


STAGES: Mapping[str, StageLines] = {
    "x-rays": StageLines("Removing X-rays as the raw views are read", "eraser.com", 1),
    "coarse alignment": StageLines("Finding coarse alignment by cross-correlation", "xcorr.com", 2),
    "align: gold": StageLines("Finding and tracking beads, and doing fine alignment", "align.com", 6),
    "align: patches": StageLines("Tracking patches, and doing fine alignment", "align.com", 6),
    "align: projection": StageLines("Doing fine alignment without markers, by matching with projections", "align.com", 6),
    "align: coarse": StageLines("Keeping the coarse alignment", "align.com", 6),
    "positioning": StageLines("Finding the position of the specimen", "tomopitch.com", 7),
    "aligned stack": StageLines("Making final aligned stack", "newst.com", 8),
    "reconstruction": StageLines("Making tomogram", "tilt.com", 14),
}
"""Stage of the record to batchruntomo's lines; stages that are not listed are not told."""


class BatchLog:
    """Prints lines, and keeps them in the log file of the data set while one is open."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._file: TextIO | None = None

    def open(self, folder: Path, name: str) -> None:
        """Append to the log file in a folder from now on; if it cannot be written, say so and go on without."""
        try:
            self._file = (folder / LOG_NAME).open("a", encoding="utf-8", errors="replace")
        except OSError as error:
            self.say(f"WARNING: Failed to open or write to log file in data set directory ({error})")
            return
        self._only_to_file(f"\nBatchruntomo started on data set {name}, {_now()}")

    def close(self) -> None:
        """End the log file."""
        if self._file is not None:
            self._only_to_file(f"Batchruntomo finished with data set, {_now()}")
            self._file.close()
            self._file = None

    def say(self, line: str) -> None:
        """Print a line, at once."""
        self._out.write(line + "\n")
        self._out.flush()
        self._only_to_file(line)

    def begin(self, stage: str) -> None:
        """Say that a stage begins."""
        if lines := STAGES.get(stage):
            self.say(f"{lines.sentence} (running {lines.command_file})")

    def end(self, stage: str, seconds: float) -> None:
        """Say that a stage is done."""
        if lines := STAGES.get(stage):
            self.say(f"Successfully finished {lines.command_file}   in {minutes(seconds)}")
            self.say(f"Reached step {lines.step}")

    def abort(self, reason: str) -> None:
        """Say that the data set is given up."""
        self.say(f"ABORT SET: {reason}")

    def _only_to_file(self, line: str) -> None:
        if self._file is not None:
            self._file.write(line + "\n")
            self._file.flush()


def minutes(seconds: float) -> str:
    """Return a time as batchruntomo prints it.

    >>> minutes(3.31), minutes(754.96)
    ('00:03.3', '12:35.0')
    """
    tenths = round(seconds * 10)
    return f"{tenths // 600:02d}:{tenths % 600 / 10:04.1f}"


def _now() -> str:
    return datetime.now().astimezone().ctime()
