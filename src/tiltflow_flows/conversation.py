"""What a run of the flow tells the portal: through the outbox, so that it is told even when the run, Prefect or the portal goes away.

A run is known to the outbox by its number in Prefect, so that one that Prefect starts again goes on where the dead one stopped.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from prefect.client.schemas.objects import FlowRun

from tiltflow import stopping
from tiltflow.delivery.body import Status, StatusBody, build_callback
from tiltflow.delivery.callback import NOTICE_POLICY
from tiltflow.delivery.outbox import Courier, Kind, Outbox, RunEntry, deliver, open_outbox
from tiltflow.delivery.portal import Portal
from tiltflow.pipeline import RunPlan, close_dead_run, close_dead_runs, is_same_work
from tiltflow.report import evidence_metadata, record_of
from tiltflow.settings import Settings, load_certificates, load_settings, load_token
from tiltflow.work import SeriesResult
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
    if status != "running" and known is not None and known.ended is None and known.plan and known.is_dead:
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
    return RunEntry(run=run, about=about, url=url, token=address.token, site_token=address.site_goes_along)


@dataclass(frozen=True, slots=True)
class Followed:
    """A run as the outbox follows it.

    Attributes
    ----------
    outbox
        What the portal is to be told.
    run, about
        Its number in Prefect, and its name.
    plan
        What another process needs to end it in order.
    settings
        Of the site.
    portal
        None for a run that tells nobody.
    """

    outbox: Outbox
    run: str
    about: str
    plan: RunPlan
    settings: Settings
    portal: Portal | None


@contextmanager
def followed(these: Followed) -> Iterator[Callable[[SeriesResult], None]]:
    """Let the outbox follow the work of a `with` block, and give the function that receives each series' result as it ends.

    However the work ends, what it finished is told.  Before it begins, runs that died are closed; one that died at
    the very work that this one does is left to it.  An outbox that cannot be used is a warning.
    """
    outbox, portal, plan = these.outbox, these.portal, these.plan.as_json()
    url = portal.address.url if portal is not None else None
    with _no_reason_to_fail("runs that died are not closed"):
        for entry in outbox.unfinished():
            # One that died before it had a plan is known by its name alone.
            same = is_same_work(entry.plan, plan) or (not entry.plan and entry.about == these.about)
            if entry.url == url and same and entry.run != these.run and entry.is_dead:
                outbox.supersede(entry)
        for closed in close_dead_runs(outbox, these.settings.verdict, these.settings.scratch, spared=[these.run]):
            _log.warning("%s: %s; the portal is told so", closed.entry.about, closed.words)
    with contextlib.ExitStack() as stack:
        if portal is None:
            with _no_reason_to_fail("if this run dies, its records are closed by the next run of its series"):
                outbox.begin(RunEntry(run=these.run, about=these.about, url=None, plan=plan))
            stack.callback(_end, outbox, these.run)
            tell = _nobody
        else:
            courier = stack.enter_context(portal.following(these.about, plan))
            tell = partial(_tell_one, these.plan, portal, courier) if portal.mode == "series" else _nobody
        try:
            yield tell
        except BaseException as error:  # whoever cancels a run is told what it had done, and otherwise that it is over
            with stopping.closing():
                _tell_what_was_finished(outbox, these.run, these.settings, in_full=isinstance(error, Exception))
            raise


@contextmanager
def _no_reason_to_fail(what: str) -> Iterator[None]:
    """Let a run go on where the outbox cannot be used, and say what that means."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  the boundary: what died before is no reason for this run to fail
        _log.warning("%s: %s", what, error)


def _end(outbox: Outbox, run: str) -> None:
    with _no_reason_to_fail("the run counts as one that died"):
        outbox.end(run)


def _nobody(_result: SeriesResult) -> None:
    pass


def _tell_one(plan: RunPlan, portal: Portal, courier: Courier, result: SeriesResult) -> None:
    evidence = {result.source: evidence_metadata(record_of(result))} if plan.evidence else {}
    portal.put(build_callback([result], plan.layout, evidence), result.source.name)
    courier.wake()


def _tell_what_was_finished(outbox: Outbox, run: str, settings: Settings, *, in_full: bool) -> None:
    try:
        known = outbox.find(run)
        if known is not None and known.ended is None:  # else it has told all itself
            close_dead_run(outbox, known, settings.verdict, even_if_nothing_was_done=in_full)
    except Exception as error:  # noqa: BLE001  the boundary: the run has failed for a reason of its own
        _log.warning("what the run finished cannot be told now: %s", error)
