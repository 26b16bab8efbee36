"""What a run of the flow tells the portal: through the outbox, so that it is told even when the run, Prefect or the portal goes away.

A run is known to the outbox by its number in Prefect, so that one that Prefect starts again goes on where the dead one stopped.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect.client.schemas.objects import FlowRun

from tiltflow import stopping
from tiltflow.delivery.body import Status, StatusBody
from tiltflow.delivery.callback import NOTICE_POLICY
from tiltflow.delivery.outbox import Kind, Outbox, RunEntry, deliver, open_outbox
from tiltflow.delivery.portal import Portal
from tiltflow.errors import TiltflowError
from tiltflow.owner import is_gone
from tiltflow.pipeline import close_dead_run, close_dead_runs
from tiltflow.settings import Settings, load_certificates, load_settings, load_token
from tiltflow_flows.tokens import resolve_address

_log = logging.getLogger(__name__)


def tell_status(flow_run: FlowRun, status: Status) -> bool:
    """Tell the portal the status of a run, if it is to be told anything, and return whether it took all that it is to be told so far.

    What a run finished whose process is gone is told with its last status.

    Raises
    ------
    TiltflowError
        If a setting or the outbox cannot be used.
    """
    settings = load_settings()
    outbox, run = open_outbox(settings.state_folders, load_certificates()), str(flow_run.id)
    known = outbox.find(run)
    url = None if flow_run.parameters.get("x_no_api") else flow_run.parameters.get("callback_url")
    if status != "running" and known is not None and known.ended is None and known.plan and is_gone(known.owner):
        close_dead_run(outbox, known, settings.verdict)
    elif url:
        if known is None or status == "running":
            outbox.begin(entry_of(run, flow_run.name, url, flow_run.parameters.get("token"), settings))
        kind: Kind = "running" if status == "running" else "final"
        outbox.put(run, kind, flow_run.name, StatusBody(status=status).model_dump_json())
    elif known is not None and status != "running":
        outbox.end(run)
    if not url:
        return False
    with stopping.closing():
        made = deliver(outbox, lambda: load_token(settings), run=run, only_due=False, policy=NOTICE_POLICY)
    if made.problem is not None:
        _log.warning("the portal did not receive the status %r yet: %s", status, made.problem)
    return made.problem is None


def entry_of(run: str, about: str, url: str, token: str | None, settings: Settings) -> RunEntry:
    """Return a run as the outbox knows it before its work is planned.

    Raises
    ------
    SettingsError
        If the token cannot be used.
    """
    address = resolve_address(token, url, settings)
    return RunEntry(run=run, about=about, url=url, token=address.token, site_token=address.site_token is not None)


@contextmanager
def followed(
    portal: Portal | None, outbox: Outbox, run: str, about: str, plan: dict[str, Any], settings: Settings
) -> Iterator[None]:
    """Let the outbox follow the work of a `with` block; if that ends by an error, what it finished is told nevertheless.

    Runs that died before are closed first.

    Raises
    ------
    DeliveryError
        If the outbox cannot be used.
    """
    for closed in close_dead_runs(outbox, settings.verdict, settings.scratch, spared=[run]):
        _log.warning("%s: %s; the portal is told so", closed.entry.about, closed.words)
    with contextlib.ExitStack() as stack:
        if portal is not None:
            stack.enter_context(portal.following(about, plan))
        else:
            outbox.begin(RunEntry(run=run, about=about, url=None, plan=plan))
            stack.callback(outbox.end, run)
        try:
            yield
        except Exception:
            _tell_what_was_finished(outbox, run, settings)
            raise


def _tell_what_was_finished(outbox: Outbox, run: str, settings: Settings) -> None:
    known = outbox.find(run)
    if known is None or known.ended is not None:
        return  # it has told all itself
    try:
        close_dead_run(outbox, known, settings.verdict)
    except (TiltflowError, OSError) as error:
        _log.warning("what the run finished cannot be told now: %s", error)
