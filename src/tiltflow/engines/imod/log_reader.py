"""What batchruntomo prints, read as it comes: which command file runs, what went wrong, how far it is.

IMOD 4 prints a sentence that ends in `(running X.com)` before `X.com` starts, and `Successfully finished X.com` after it; IMOD 5 prints
`Reached step N` as well.  In a failure the command file at fault is the last one that was started and not finished.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_STEP = re.compile(r"[Rr]eached step (\d+(?:\.\d+)?)")
_STARTED = re.compile(r"\brunning (\S+\.com)\b[^)]*\)|^\s*(?:Running|Starting|Executing)\s+(\S+\.com)\b")
_FINISHED = re.compile(r"Successfully finished (\S+\.com)\b")
_ERROR = re.compile(r"\bERROR:")
_ABORT = re.compile(r"\bABORT (?:SET|AXIS):")
_SUCCESS = re.compile(r"SUCCESSFULLY COMPLETED|Completed data ?set")

LAST_STEP = 22
"""The last step of IMOD 5 (cleaning up)."""

_PROGRESS = {
    "eraser": 0.05,
    "archiveorig": 0.12,
    "xcorr": 0.15,
    "prenewst": 0.25,
    "preblend": 0.25,
    "autofidseed": 0.3,
    "xcorr_pt": 0.3,
    "track": 0.4,
    "align": 0.5,
    "newst": 0.6,
    "blend": 0.6,
    "ctfplotter": 0.65,
    "ctfcorrection": 0.68,
    "golderaser": 0.7,
    "mtffilter": 0.72,
    "tilt": 0.75,
    "trimvol": 0.95,
}
"""Fraction of the work that is done when a command file starts, by the times of recorded runs of IMOD 4.8.2 on 512 x 512 x 41."""


@dataclass(slots=True)
class LogReader:
    """State of a run, from the lines so far.

    Attributes
    ----------
    step
        The last step that IMOD 5 reported; empty with IMOD 4.
    running
        The command file that was started last and has not finished.
    finished
        The command file that finished last.
    activity
        What batchruntomo says that it is doing.
    complaints
        Lines that report errors.
    aborted, succeeded
        Whether the data set was given up, or completed.
    fraction
        Of the work that is done, 0 to 1; it never falls.
    """

    step: str = ""
    running: str = ""
    finished: str = ""
    activity: str = ""
    complaints: list[str] = field(default_factory=list)
    aborted: bool = False
    succeeded: bool = False
    fraction: float = 0.0

    def take(self, line: str) -> None:
        """Read one line."""
        if found := _STEP.search(line):
            self.step = found[1]
            self._advance(float(found[1]) / LAST_STEP)
        if found := _FINISHED.search(line):
            self.finished = found[1]
            if self.running == found[1]:
                self.running = ""
        elif found := _STARTED.search(line):
            started = found[1] or found[2]
            if started != self.running:
                self.running, self.activity = started, line.partition("(running")[0].strip()
            self._advance(_PROGRESS.get(self.running.removesuffix(".com"), 0.0))
        abort = bool(_ABORT.search(line))
        if (abort or _ERROR.search(line)) and line.strip() not in self.complaints:
            self.complaints.append(line.strip())
        self.aborted |= abort
        self.succeeded |= bool(_SUCCESS.search(line))

    @property
    def where(self) -> str:
        """Where the run is, for a message: the command file that runs or ran last, and IMOD 5's step."""
        step = f"step {self.step}" if self.step else ""
        if self.running:
            activity = f" ({self.activity})" if self.activity else ""
            return ", ".join(filter(None, (step, f"{self.running}{activity}")))
        after = f"after {self.finished}" if self.finished else ""
        return ", ".join(filter(None, (step, after))) or "its start"

    def _advance(self, fraction: float) -> None:
        self.fraction = min(max(self.fraction, fraction), 1.0)
