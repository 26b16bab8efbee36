"""The `tiltflow` command.

Exit status: 0 every series has its result, whatever its verdict, 1 some series failed, 2 the request itself was wrong, 3 no series
succeeded, 4 all series succeeded but the portal was not told, 130 the run was asked to end.

Heavy modules are imported by the command that needs them, so that `tiltflow --help` is fast.
"""

from __future__ import annotations

import sys
from importlib import import_module

from tiltflow.cli.application import INTERRUPTED, NONE_SUCCEEDED, NOT_TOLD, SOME_FAILED, USAGE_ERROR, app
from tiltflow.cli.streams import forgive_output

__all__ = ["INTERRUPTED", "NONE_SUCCEEDED", "NOT_TOLD", "SOME_FAILED", "USAGE_ERROR", "app", "main"]


# Each adds its commands, which the help lists in this order.
_MODULES = (
    "run_command",
    "watch_command",
    "part_commands",
    "import_command",
    "export_command",
    "look_commands",
    "verify_command",
    "check_site_command",
    "outbox_commands",
    "metrics_command",
    "demo_command",
    "stand_in_command",
)
for _commands in _MODULES:
    import_module(f"tiltflow.cli.{_commands}")


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
