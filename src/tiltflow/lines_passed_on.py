"""Lines of the log that one process writes and another logs, as if they were its own."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable


class PassedOn(logging.Handler):
    """Passes the lines of the log on.

    Parameters
    ----------
    say
        Is called with each line, whose text is complete, so that it can be pickled.
    """

    def __init__(self, say: Callable[[logging.LogRecord], object]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a line on."""
        try:
            line = copy.copy(record)
            line.msg = self.format(record)  # with its traceback
            line.args = line.exc_info = line.exc_text = line.stack_info = None
            self._say(line)
        except Exception:  # noqa: BLE001  the boundary, as in the handlers of Python: no line is worth the work
            self.handleError(record)


def log_here(line: logging.LogRecord) -> None:
    """Log a line that another process has passed on."""
    logger = logging.getLogger(line.name)
    if logger.isEnabledFor(line.levelno):
        logger.handle(line)
