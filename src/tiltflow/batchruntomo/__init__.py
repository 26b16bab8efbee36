"""In the place of batchruntomo: its command line, its files and its log, with the work done by tiltflow's own engine.

Programs that run IMOD's batchruntomo (RELION-5, teamtomo's wrapper, scripts) can be given `tiltflow-batchruntomo` instead.  It reads the
same options and directive files, works in the folder of each data set, leaves the files that these programs read, and prints
batchruntomo's lines.  Directives that it does not follow are listed there, each with its value and the reason.

The exit status is batchruntomo's: the number of data sets that were given up, so that 0 means that all are complete; 1 if the command
line is wrong, or with `-ExitOnError` after the first failure.  A data set that fails does not stop the next.

Floor 6: it stands beside the front door, above the engines, and nothing imports it but the command.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

PROGRAM = "batchruntomo"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run batchruntomo's command line and return its exit status.

    Parameters
    ----------
    arguments
        Without the program's name; those of this process if not given.
    """
    from tiltflow.batchruntomo.arguments import HelpRequest, parse_arguments
    from tiltflow.batchruntomo.options import render_usage
    from tiltflow.errors import TiltflowError

    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        request = parse_arguments(words)
        if isinstance(request, HelpRequest):
            _print(render_usage())
            return 0
        from tiltflow.batchruntomo.run import run_data_sets

        return run_data_sets(request, sys.stdout)
    except TiltflowError as error:
        _print(f"ERROR: {PROGRAM} - {error}")
        return 1


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
