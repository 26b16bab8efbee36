"""Runs whose machine died are started again: an automation of Prefect's server that watches their signs of life.

A run that is killed with its machine stays in the state Running for ever, as nobody is left to report its end.  Where workers have
`PREFECT_FLOWS_HEARTBEAT_FREQUENCY=30`, runs send a sign of life every 30 s; of one that sends none for :data:`LONGEST_SILENCE_S` the
server changes the state to AwaitingRetry, and a worker takes it up again.  The second attempt takes over every step that the first has
finished.

`python -m tiltflow_flows.lost_runs` makes the automation, or brings the one of its name up to date, on the server at `PREFECT_API_URL`.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

NAME = "tiltflow: start lost runs again"
LONGEST_SILENCE_S = 90.0
"""Three heartbeats of 30 s, which is the shortest time between two that Prefect allows: one may be lost on the way."""

_BEAT = "prefect.flow-run.heartbeat"
_SILENT_STATES = (
    "Completed",
    "Failed",
    "Crashed",
    "Cancelling",
    "Cancelled",
    "Paused",
    "Suspended",
    "Scheduled",
    "AwaitingRetry",
    "AwaitingConcurrencySlot",
)
"""States in which a run has a reason to send no heartbeats."""


def automation(silence_s: float = LONGEST_SILENCE_S) -> AutomationCore:
    """Return the automation: for each run of a deployment of the flow BRT, what is done when no sign of life comes for `silence_s`."""
    return AutomationCore(
        name=NAME,
        description="A run of the flow BRT that sends no heartbeat is started again by a worker.",
        trigger=EventTrigger(
            after={_BEAT},
            expect={_BEAT, *(f"prefect.flow-run.{state}" for state in _SILENT_STATES)},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            # Runs without a deployment, those inside another among them, are started by no worker.
            match_related=[
                ResourceSpecification({"prefect.resource.role": "flow", "prefect.resource.name": "BRT"}),
                ResourceSpecification({"prefect.resource.role": "deployment", "prefect.resource.id": "prefect.deployment.*"}),
            ],
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=silence_s),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.SCHEDULED,
                name="AwaitingRetry",
                force=False,
                message=f"No sign of life for {silence_s:g} s: its machine died, or cannot reach the server.",
            )
        ],
    )


def install(silence_s: float = LONGEST_SILENCE_S) -> UUID:
    """Make the automation on the server, or bring the one of its name up to date, and return its id."""
    wanted = automation(silence_s)
    with get_client(sync_client=True) as client:
        for there in client.read_automations_by_name(NAME):
            client.update_automation(there.id, wanted)
            return there.id
        return client.create_automation(wanted)


def main() -> int:
    """Make the automation, and print what it is called."""
    made = install()
    sys.stdout.write(f"automation {NAME!r} ({made}): a run without a sign of life for {LONGEST_SILENCE_S:g} s is started again\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
