"""The library's log on the page of a run in Prefect, without a setting of the site.

Prefect shows there what its own loggers take, and those that `PREFECT_LOGGING_EXTRA_LOGGERS` names.  The handler that it would give to
these is given to the loggers of tiltflow by the flow, and by every worker before it begins a series.
"""

from __future__ import annotations

import logging

from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging.handlers import APILogHandler

LOGGERS = ("tiltflow", "tiltflow_flows")


def show_on_the_page() -> None:
    """Send the log of this process to Prefect from now on, each line to the run in which it is written; once is enough."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if any(isinstance(handler, APILogHandler) for handler in logger.handlers):
            continue  # by an earlier call, or by PREFECT_LOGGING_EXTRA_LOGGERS
        handler = APILogHandler(level=logging.INFO)
        handler.addFilter(_is_of_a_run)
        logger.addHandler(handler)
        if logger.getEffectiveLevel() > logging.INFO:
            logger.setLevel(logging.INFO)


def _is_of_a_run(_record: logging.LogRecord) -> bool:
    """Return whether the line is written in a run: Prefect warns of each that it cannot place."""
    return FlowRunContext.get() is not None or TaskRunContext.get() is not None
