"""All data sets of a command, one after another: none costs the next its result."""

from __future__ import annotations

import logging
import traceback
from dataclasses import replace
from typing import TextIO

from tiltflow import stopping
from tiltflow.batchruntomo.arguments import DataSet, Request
from tiltflow.batchruntomo.batch_log import BatchLog
from tiltflow.batchruntomo.data_set import process_data_set, validate_data_set
from tiltflow.batchruntomo.data_set_request import Steps
from tiltflow.errors import TiltflowError
from tiltflow.settings import Settings, load_settings, site_from
from tiltflow.work import Site

_PROGRAM = "batchruntomo"
_MOST_FAILURES = 255
"""The greatest exit status; 256 failures would otherwise look like none."""


def run_data_sets(request: Request, out: TextIO) -> int:
    """Process or validate every data set, and return the exit status: the number of those that were given up.

    Parameters
    ----------
    request
        What the command line asks for.
    out
        Where batchruntomo's lines go.

    Raises
    ------
    SettingsError
        If a setting of the site is wrong.
    """
    logging.getLogger("tiltflow").addHandler(logging.NullHandler())  # warnings are lines of this log already
    settings = load_settings(threads=request.threads)
    site, log, failures = site_of(settings), BatchLog(out), 0
    for remark in request.remarks:
        log.say(f"WARNING: {remark}")
    try:
        with stopping.stoppable():
            for number, data_set in enumerate(request.data_sets):
                first = request.first_step if number == 0 or not request.first_set_only else 0.0
                steps = Steps(first, request.last_step)
                failures += not _one(data_set, steps, request, site, settings.fallback, log)
                if failures and request.exit_on_error:
                    return 1
    except KeyboardInterrupt:
        log.say("RECEIVED SIGNAL TO QUIT, JUST EXITING")
        log.close()
        return 1
    return min(failures, _MOST_FAILURES)


def site_of(settings: Settings) -> Site:
    """Return how the work is done here, with one thread where neither the command line nor the site says more.

    batchruntomo uses one core when `-cpus` is left out, and programs that start several at once rely on it.
    """
    return replace(site_from(settings), threads=settings.threads or 1)


def _one(data_set: DataSet, steps: Steps, request: Request, site: Site, fallback: bool, log: BatchLog) -> bool:
    """Return whether a data set is complete; what went wrong is printed."""
    kind = "template" if request.validation > 1 else "directive"
    log.say(f"Beginning to process {kind} file {data_set.directive_file}")
    try:
        if request.validation > 0:
            return validate_data_set(data_set, steps, log, template=request.validation > 1)
        return process_data_set(data_set, steps, site, log, fallback=fallback, check_names=request.validation == 0)
    except TiltflowError as error:
        return _give_up(log, str(error))
    except MemoryError as error:
        return _give_up(log, f"not enough memory ({error})")
    except OSError as error:
        return _give_up(log, f"a file could not be read or written: {error}")
    except Exception as error:  # noqa: BLE001  the boundary: no data set costs the next its result
        log.say(traceback.format_exc().rstrip())
        return _give_up(log, f"{type(error).__name__}: {error}. This is a defect of tiltflow, not of your data")
    finally:
        log.close()


def _give_up(log: BatchLog, reason: str) -> bool:
    log.say(f"ERROR: {_PROGRAM} - {reason}")
    log.abort(reason.splitlines()[0])
    return False
