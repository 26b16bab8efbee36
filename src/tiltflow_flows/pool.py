"""A pool: Dask workers that live longer than a run, and that runs share; they are started by the site, as any Dask workers are.

The flow only looks whether the workers of the pool are such as can do its series.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from tiltflow.errors import SettingsError
from tiltflow.version import __version__

_PATIENCE_S = 30
"""How long a scheduler may take to answer."""
_HOW = "dask worker ADDRESS --nthreads 1 --no-nanny --memory-limit 0 --preload tiltflow_flows.worker"


def cores_of_a_place(address: str) -> int:
    """Return how many cores each worker of a pool has for its series: the fewest, where they differ.

    Raises
    ------
    SettingsError
        If the pool cannot be reached, has no workers, or has workers that cannot do this flow's series.
    """
    from distributed import Client

    from tiltflow_flows.worker import describe_worker

    connect: Callable[..., Any] = Client
    try:
        client = connect(address, timeout=_PATIENCE_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"The pool's scheduler does not answer at {address} ({error}): is it started, and pool_address right?"
        ) from error
    with client:
        told = client.run(describe_worker, on_error="return")
    if not told:
        raise SettingsError(f"The pool at {address} has no workers: start them with `{_HOW}`.")
    for worker, said in told.items():
        if (wrong := why_unfit(said)) is not None:
            raise SettingsError(f"The worker {worker} of the pool cannot do the series of this flow: {wrong}")
    on_host = Counter(_host(worker) for worker in told)
    return min(max(1, int(said["cores"]) // on_host[_host(worker)]) for worker, said in told.items())


def why_unfit(said: Any) -> str | None:
    """Return in words why a worker that describes itself so cannot do this flow's series; None if it can.

    Parameters
    ----------
    said
        As :func:`tiltflow_flows.worker.describe_worker` returns it, or the exception that came in its place.
    """
    here = ".".join(map(str, sys.version_info[:2]))
    if isinstance(said, BaseException):
        return (
            f"tiltflow cannot be imported there ({type(said).__name__}: {said}); install the version of this flow, {__version__}."
        )
    if said["tiltflow"] != __version__:
        return (
            f"it has tiltflow {said['tiltflow']}, and the flow {__version__}; install the same on both, and start the worker anew."
        )
    if said["python"] != here:
        return f"it runs on Python {said['python']}, and the flow on {here}; use the same on both."
    if said["series"] != 1:
        return (
            f"it would work on {said['series']} series at once, in one process; start it with --nthreads 1 (more workers for more)."
        )
    if not said["in order"]:
        return f"it could not end a series in order; start it with `{_HOW}`."
    return None


def _host(worker: str) -> str:
    return worker.rpartition(":")[0]
