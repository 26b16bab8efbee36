"""The `tiltflow` command.

Exit status: 0 every series has its result, whatever its verdict, 1 some series failed, 2 the request itself was wrong, 3 no series
succeeded, 4 all series succeeded but the portal was not told, 130 the run was asked to end.

A command is imported when it is called, and heavy modules by the command that needs them, so that `tiltflow --help` is fast.
"""

from __future__ import annotations

import gc
import sys

from tiltflow.beside import this_process_is_ours
from tiltflow.cli.application import INTERRUPTED, NONE_SUCCEEDED, NOT_TOLD, SOME_FAILED, USAGE_ERROR, app
from tiltflow.cli.ending import without_taking_apart
from tiltflow.cli.streams import forgive_output

__all__ = ["INTERRUPTED", "NONE_SUCCEEDED", "NOT_TOLD", "SOME_FAILED", "USAGE_ERROR", "app", "main", "process"]

_NEW_OBJECTS, _FIRST_OBJECTS = 50_000, 400_000
"""Objects after which Python looks for those that refer to each other only, and after which for the first time: its own 700 are for
programs that make many such, and a short run ends before the latter."""


def main() -> None:
    """Run the command line."""
    forgive_output()
    try:
        status = app(standalone_mode=True)
        sys.stdout.flush()
    except OSError as error:
        sys.stderr.write(f"error: the output could not be written: {error.strerror or error}\n")
        status = SOME_FAILED
    sys.exit(status)


def process() -> None:
    """Run the command line as all that this process does."""
    # Modules and records are what there is most of, and they stay: to look through them for rings takes a fiftieth of a short run.
    gc.set_threshold(_FIRST_OBJECTS)
    gc.callbacks.append(_leave_out_what_stays)
    this_process_is_ours()
    with without_taking_apart():
        main()


def _leave_out_what_stays(phase: str, _info: dict[str, int]) -> None:
    """After the first look leave out what is there, most of which stays, and look more often: what a series leaves behind goes."""
    if phase == "stop":
        gc.callbacks.remove(_leave_out_what_stays)
        gc.freeze()
        gc.set_threshold(_NEW_OBJECTS)
