"""`deploy/prefect.yaml` and the automation, against a real server."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prefect", reason="needs the extra [prefect]")

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.flows import load_flow_from_entrypoint
from prefect.settings import get_current_settings
from prefect.states import Running

from tiltflow_flows import lost_runs
from tiltflow_flows.brt import brt_flow

pytestmark = pytest.mark.filterwarnings("default")  # Prefect's own deprecations are not ours to mend

ROOT = Path(__file__).parents[2]
NAME = "BRT/hedwig"


@flow(name="BRT")
def another_flow() -> None:
    """Stand in for the flow that the deployment started before."""


def deploy() -> str:
    """Deploy as an operator does, from another folder, and return what Prefect said."""
    command = [
        sys.executable,
        "-m",
        "prefect",
        "--no-prompt",
        "deploy",
        "--all",
        "--prefect-file",
        str(ROOT / "deploy" / "prefect.yaml"),
    ]
    environment = os.environ | {"PREFECT_API_URL": str(get_current_settings().api.url), "COLUMNS": "200"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(tuple(map(int, version("fastapi").split(".")[:2])) >= (0, 151), reason="needs FastAPI as it is pinned")
def test_a_deployment_of_the_same_name_keeps_its_id_whatever_it_started_before(prefect_server: None) -> None:
    with get_client(sync_client=True) as client:
        client.request("POST", "/work_pools/", json={"name": "tiltflow", "type": "process"})
        pull = [{"prefect.deployments.steps.set_working_directory": {"directory": "/gone"}}]
        flow_id = client.create_flow(another_flow)
        before = client.create_deployment(
            flow_id=flow_id, name="hedwig", entrypoint="em_workflows/brt/flow.py:brt_flow", pull_steps=pull
        )
        said = [deploy(), deploy()]
        after = client.read_deployment_by_name(NAME)
    assert after.id == before
    assert all(str(before) in each for each in said)
    assert (after.entrypoint, after.pull_steps, after.work_pool_name) == ("tiltflow_flows.brt.brt_flow", [], "tiltflow")
    assert load_flow_from_entrypoint(after.entrypoint) is brt_flow
    wanted = set(after.parameter_openapi_schema["properties"])
    assert {"file_share", "input_dir", "callback_url", "token", "THICKNESS", "adoc_template"} <= wanted


def heartbeat(run_id: Any, flow_id: Any, deployment_id: Any = None) -> None:
    """Send a sign of life as Prefect's engine does."""
    related = [
        {"prefect.resource.id": f"prefect.flow.{flow_id}", "prefect.resource.role": "flow", "prefect.resource.name": "BRT"},
        {"prefect.resource.id": f"prefect.deployment.{deployment_id}", "prefect.resource.role": "deployment"},
    ]
    emit_event(
        "prefect.flow-run.heartbeat",
        resource={"prefect.resource.id": f"prefect.flow-run.{run_id}"},
        related=related if deployment_id else related[:1],
    )


async def waiting_in(pool: str) -> list[Any]:
    async with get_client() as client:
        return [each.flow_run.id for each in await client.get_scheduled_flow_runs_for_work_pool(pool)]


def test_the_automation_is_made_once_and_then_brought_up_to_date(prefect_server: None) -> None:
    first, second = lost_runs.install(60), lost_runs.install()
    with get_client(sync_client=True) as client:
        (there,) = client.read_automations_by_name(lost_runs.NAME)
        client.delete_automation(there.id)
    assert first == second == there.id
    assert there.trigger.within.total_seconds() == lost_runs.LONGEST_SILENCE_S == 90


@pytest.mark.slow
def test_a_run_that_falls_silent_waits_for_a_worker_again_and_one_without_a_deployment_does_not(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {"PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    server = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--port", port],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        # In a process of its own: this one has the server of the other tests.
        program = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_deployment as t; t.fall_silent()"
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
    finally:
        server.terminate()
        server.wait()


def fall_silent() -> None:
    """Let two runs send one heartbeat each and no other, and look what becomes of them."""
    with get_client(sync_client=True) as client:
        for _ in range(300):
            if client.api_healthcheck() is None:
                break
            time.sleep(1)
        lost_runs.install(10)  # the shortest that the server takes
        flow_id = client.create_flow(another_flow)
        client.request("POST", "/work_pools/", json={"name": "tiltflow", "type": "process"})
        deployment_id = client.create_deployment(flow_id=flow_id, name="hedwig", work_pool_name="tiltflow")
        run, alone = client.create_flow_run_from_deployment(deployment_id), client.create_flow_run(another_flow)
        for each, of in ((run, deployment_id), (alone, None)):
            client.set_flow_run_state(each.id, Running())
            heartbeat(each.id, flow_id, of)
        for _ in range(60):
            state = client.read_flow_run(run.id).state
            if state.name == "AwaitingRetry":
                break
            time.sleep(1)
        assert "No sign of life for 10 s" in (state.message or ""), state
        assert client.read_flow_run(alone.id).state.name == "Running"
    assert run.id in asyncio.run(waiting_in("tiltflow"))
