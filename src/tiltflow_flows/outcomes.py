"""What came of the tasks of series: their results, also of those whose worker died, and their end when the flow is asked to end."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.futures import PrefectFuture
from prefect.states import Failed

from tiltflow.errors import TiltflowError
from tiltflow.work import SeriesResult

LOST = "worker"
"""The stage of a series whose worker died, or was asked to end, before it was done."""

_log = logging.getLogger(__name__)


def settle(future: PrefectFuture[Any], source: Path, output: Path, place_of: Callable[[str], str]) -> SeriesResult:
    """Return the result of a series, also when its task ended without one.

    Parameters
    ----------
    place_of
        Of the name of a worker: where it worked, in words.
    """
    stage = None
    try:
        result = future.result(raise_on_failure=False)
    except Exception as error:  # noqa: BLE001  the boundary: the exception for a dead worker depends on the runner
        result, stage = error, LOST
    if isinstance(result, SeriesResult):
        return result
    if stage == LOST:
        worker = str(getattr(getattr(result, "last_worker", None), "name", ""))
        message = f"{source.name}: {place_of(worker)} died."
    elif isinstance(result, TiltflowError):
        message = str(result)
    else:
        message = f"{source.name}: the work ended without a result ({type(result).__name__}: {result})."
    return SeriesResult(source=source, status="error", message=message, stage=stage, output=output)


def place_of_any(_worker: str) -> str:
    """Return where a worker worked of which nobody knows more."""
    return "its worker"


def explained_by_nobody(message: str) -> str:
    """Return why a series was lost, where nobody knows more of its worker."""
    return f"{message} Most likely it was short of memory; see the log of the flow run." if message.endswith(" died.") else message


def mark_lost(future: PrefectFuture[Any], result: SeriesResult) -> None:
    """Show a series whose worker died as failed on Prefect's page, where it would run for ever; a warning if that cannot be."""
    try:
        with get_client(sync_client=True) as client:
            client.set_task_run_state(future.task_run_id, Failed(message=result.message), force=True)
    except Exception:  # noqa: BLE001  the boundary: no page is worth a run
        _log.warning("%s is not shown as failed in Prefect", result.source.name, exc_info=True)


def end_in_order(futures: Iterable[PrefectFuture[Any]]) -> None:
    """Ask the Dask workers of series to end these, and wait until they have; series that no worker has begun are taken back.

    Threads of this process are asked by the signal itself (:mod:`tiltflow.stopping`).
    """
    ours = [future.wrapped_future for future in futures if hasattr(future, "wrapped_future")]
    waiting = [future for future in ours if hasattr(future, "client") and not future.done()]
    if not waiting:
        return
    from distributed import TimeoutError as DaskTimeoutError
    from distributed import wait

    from tiltflow_flows.worker import PATIENCE_S, end_series

    wait_for: Callable[..., object] = wait
    client = waiting[0].client
    with contextlib.suppress(OSError, DaskTimeoutError):  # a scheduler that is gone took its workers with it
        told = client.run(end_series, [future.key for future in waiting], on_error="ignore")
        begun = {key for keys in told.values() if keys for key in keys}
        client.cancel([future for future in waiting if future.key not in begun])
        wait_for([future for future in waiting if future.key in begun], timeout=PATIENCE_S)


def summary(results: Sequence[SeriesResult]) -> str:
    r"""Return in one sentence what came of a run: `3 of 5 series; failed: a, b`, and a line with the reason of each.

    >>> summary([SeriesResult(Path("a.st"), "success"), SeriesResult(Path("b.st"), "error", "b.st: no beads")])
    '1 of 2 series; failed: b\nb: no beads'
    """
    failed = [result for result in results if not result.ok]
    done = f"{len(results) - len(failed)} of {len(results)} series"
    if not failed:
        return done
    return "\n".join([f"{done}; failed: {', '.join(result.source.stem for result in failed)}", *map(_reason, failed)])


def _reason(result: SeriesResult) -> str:
    name = result.source.stem
    message = (result.message or result.status).split("\n")[0]
    return f"{name}: {message.removeprefix(f'{result.source.name}: ')}"
