"""Status messages to the portal before and after the work, also when the run crashes or is cancelled.

These are Prefect's state hooks, called for every change of state.  A portal that cannot be reached is a warning and does not affect
the run: the outbox keeps what it was not told.
"""

from __future__ import annotations

import logging
from typing import Any

from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow

from tiltflow.delivery.body import Status
from tiltflow.errors import TiltflowError
from tiltflow_flows.conversation import tell_status

_log = logging.getLogger(__name__)


def tell_running(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Send `running` to the portal."""
    _tell(flow, flow_run, state, "running")


def tell_success(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Send `success` to the portal."""
    _tell(flow, flow_run, state, "success")


def tell_error(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Send `error` to the portal: the work failed, crashed or was cancelled."""
    _tell(flow, flow_run, state, "error")


def _tell(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any], status: Status) -> None:
    try:
        accepted = tell_status(flow_run, status)
    except (TiltflowError, OSError) as error:
        _log.warning("%s is %s; the status is not sent to the portal: %s", flow.name, state.name, error)
        return
    if accepted:
        _log.info("%s is %s; the portal accepted the status", flow.name, state.name)
