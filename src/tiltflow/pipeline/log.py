"""A log file of its own for every series, also when several are worked on at once."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_series_name: ContextVar[str] = ContextVar("series_name", default="")


class SeriesLogFile(logging.FileHandler):
    """The file of a log, written as long as that is possible: a line for which a full disk has no room costs no result."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; a file that is opened by its first line may not open."""
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  the name of the base class
        """Show a traceback only of what is a defect."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        """Close the file, whose last lines may be lost."""
        with contextlib.suppress(OSError):
            super().close()


def is_of_a_series(_record: logging.LogRecord) -> bool:
    """Return whether what is logged now is of the work on a series, so that it stands in the log file of that."""
    return bool(_series_name.get())


@contextmanager
def series_log(output: Path, name: str, *, goes_on: bool = False) -> Iterator[None]:
    """Send what is logged while a series is processed to a file of its own, also when several are processed at once.

    The file is a new one, if it is not the log of the same work that `goes_on`.
    """
    output.mkdir(parents=True, exist_ok=True)
    token = _series_name.set(name)
    path = output / f"{name}.log"
    if not goes_on:
        # A new file: one that is there may be a link to anything, raw images for instance, and opening it would empty these.
        path.unlink(missing_ok=True)
    handler = SeriesLogFile(path, mode="a" if goes_on else "x", encoding="utf-8", errors="backslashreplace", delay=goes_on)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    handler.addFilter(lambda _record: _series_name.get() == name)
    logger = logging.getLogger("tiltflow")
    if logger.getEffectiveLevel() > logging.INFO:
        logger.setLevel(logging.INFO)  # other handlers have a level of their own
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
        _series_name.reset(token)
