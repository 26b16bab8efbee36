"""What `tiltflow check-site` finds of Prefect, the door and templates: each check where it passes and where it fails."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prefect", reason="needs the extra [prefect]")

import prefect
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, get_current_settings, temporary_settings

import tiltflow_door
from tiltflow.check_site.finding import Finding, Site, State, run_checks
from tiltflow.settings import PREFIX, load_settings
from tiltflow_flows import lost_runs, site_checks
from tiltflow_flows.door import OWN_ENTRYPOINT
from tiltflow_flows.site_checks import CHECKS

pytestmark = pytest.mark.filterwarnings("default")  # Prefect's own deprecations are not ours to mend

GOOD, NOTE, FAILED = State.GOOD, State.NOTE, State.FAILED


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(variable)


def find(name: str, **settings: Any) -> Finding:
    (check,) = [check for check in CHECKS if check.name == name]
    (done,) = run_checks([check], Site(load_settings(**settings)))
    if done.finding.state is FAILED:
        assert done.finding.remedy, "what failed says what to do"
    return done.finding


def test_the_server_that_answers(prefect_server: None) -> None:
    finding = find("Prefect server")
    assert finding.state is GOOD
    assert finding.found == f"{get_current_settings().api.url} answers, version {prefect.__version__}; here {prefect.__version__}"


def test_a_server_that_is_older_than_those_that_ask_it(prefect_server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_checks.prefect, "__version__", "3.99.0")
    finding = find("Prefect server")
    assert (finding.state, "must not be older" in finding.found) == (FAILED, True)


@pytest.mark.parametrize(
    ("url", "runner", "state", "found"),
    [
        ("http://user:secret@127.0.0.1:9/api", "threads", FAILED, "http://127.0.0.1:9/api does not answer"),
        (None, "threads", NOTE, "every flow starts a server of its own"),
        (None, "slurm", FAILED, "which the runner 'slurm' needs"),
    ],
)
def test_no_server(url: str | None, runner: str, state: State, found: str) -> None:
    given = temporary_settings({PREFECT_API_URL: url}) if url else temporary_settings(restore_defaults={PREFECT_API_URL})
    with given:
        finding = find("Prefect server", runner=runner)
    assert (finding.state, found in finding.found) == (state, True), finding
    assert "secret" not in finding.found


@pytest.mark.parametrize(
    ("seconds", "watched", "state"),
    [(30, True, GOOD), (180, True, FAILED), (45, True, FAILED), (30, False, NOTE), (180, False, NOTE), (None, True, NOTE)],
)
def test_heartbeats_are_more_frequent_than_runs_are_taken_for_lost(
    seconds: int | None, watched: bool, state: State, prefect_server: None
) -> None:
    if watched:
        made = lost_runs.install()
    try:
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: seconds}):
            assert find("Prefect heartbeats").state is state
    finally:
        if watched:
            with get_client(sync_client=True) as client:
                client.delete_automation(made)


def test_without_a_server_nobody_waits_for_heartbeats() -> None:
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 30}, restore_defaults={PREFECT_API_URL}):
        assert find("Prefect heartbeats").state is NOTE


def test_versions_of_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    fastapi = 'fastapi<0.151,>=0.139; extra == "prefect"'
    monkeypatch.setattr(site_checks, "requires", lambda _name: [fastapi, 'uvicorn>99; extra == "portal"', "numpy>99"])
    for installed, found in {
        "0.150.0": Finding(GOOD, "fastapi 0.150.0"),
        "0.154.0": Finding(FAILED, "fastapi 0.154.0 (needed: <0.151,>=0.139)", "pip install 'tiltflow[prefect]'"),
    }.items():
        monkeypatch.setattr(site_checks, "version", lambda _name, installed=installed: installed)
        assert find("Prefect packages") == found


def test_the_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "em_workflows" / "brt").mkdir(parents=True)
    for folder in (tmp_path / "em_workflows", tmp_path / "em_workflows" / "brt"):
        (folder / "__init__.py").touch()
    (tmp_path / "em_workflows" / "brt" / "flow.py").write_text("brt_flow = None\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert find("door").state is GOOD
    monkeypatch.setattr(sys, "meta_path", [each for each in sys.meta_path if each is not tiltflow_door.Door])
    finding = find("door")
    assert (finding.state, OWN_ENTRYPOINT in finding.found) == (FAILED, True)


def test_slurm_is_asked_only_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find("Slurm") == Finding(NOTE, "not used: the runner is 'threads'")
    monkeypatch.setenv("PATH", "/nowhere")
    finding = find("Slurm", runner="slurm")
    assert (finding.state, "is not on the PATH" in finding.found) == (FAILED, True)


def test_templates(tmp_path: Path) -> None:
    assert find("templates") == Finding(GOOD, "none of the site's own")
    (tmp_path / "TEM-Tomo.adoc").write_text("setupset.copyarg.gold={{ gold }}\n")
    assert find("templates", template_folders=(tmp_path,)) == Finding(GOOD, "1 of the site: TEM-Tomo")
    (tmp_path / "old.adoc").write_text("setupset.copyarg.gold={{ bead_size }}\n")
    finding = find("templates", template_folders=(tmp_path,))
    assert (finding.state, "'bead_size' is undefined" in finding.found) == (FAILED, True)
    absent = find("templates", template_folders=(tmp_path / "absent",))
    assert (absent.state, str(tmp_path / "absent") in absent.found) == (FAILED, True)
