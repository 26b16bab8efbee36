"""Prefect, kept off the network and away from the home folder, and a portal that listens."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.listening import Heard, listening
from tests.private_slurm import private_slurm

from tiltflow import stopping

PATIENCE_S = 300
"""How long a slow machine may take to start Prefect's server; a fast one takes 20 s."""

# Prefect reads these when it is imported.
HOME = Path(tempfile.mkdtemp(prefix="tiltflow-prefect-"))
os.environ |= {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(PATIENCE_S),
    "PREFECT_HOME": str(HOME),
}
atexit.register(shutil.rmtree, HOME, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs Prefect's server, which takes longer to start than most rooms' tests take."""
    for item in items:
        if "prefect_server" in getattr(item, "fixturenames", ()):
            item.add_marker("flow")


@dataclass
class ImportEffects:
    """What importing the flow did, beyond defining it."""

    variables: set[tuple[str, str]]
    threads: int
    modules: set[str]
    files: list[Path]


def import_flow() -> ImportEffects | None:
    """Import the flow for the first time and return what that did; None without Prefect."""
    if find_spec("prefect") is None:
        return None
    import_module("prefect")
    import_module("tiltflow_door").hang()  # as its .pth does where it is installed
    variables, threads = set(os.environ.items()), threading.active_count()
    import_module("tiltflow_flows.brt")
    return ImportEffects(
        variables ^ set(os.environ.items()), threading.active_count() - threads, set(sys.modules), list(HOME.rglob("*.db"))
    )


_EFFECTS = import_flow()  # before any test module imports it


@pytest.fixture(autouse=True)
def nothing_is_asked_to_end() -> None:
    """Take back what the flow of an earlier test was asked: the process of a flow ends with it, and this one does not."""
    stopping.withdraw()


@pytest.fixture
def import_effects() -> ImportEffects:
    assert _EFFECTS is not None
    return _EFFECTS


@dataclass
class Portal:
    """The portal's API: what it heard, as (token, body), in order."""

    url: str
    heard: list[tuple[str | None, dict[str, Any]]] = field(default_factory=list)

    @property
    def statuses(self) -> list[str]:
        """What the separate messages said."""
        return [body["status"] for _, body in self.heard if "status" in body]

    @property
    def callbacks(self) -> list[dict[str, Any]]:
        """The callbacks."""
        return [body for _, body in self.heard if "files" in body]


@pytest.fixture
def portal() -> Iterator[Portal]:
    """Run a real HTTP server for one test."""
    one = Portal("")

    def answer(heard: Heard) -> int:
        one.heard.append((heard.headers.get("Authorization"), heard.body))
        return 200

    with listening(answer) as host:
        one.url = f"http://{host}/api/done"
        yield one


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """Run Prefect against a server and database of its own; starting them takes most of the time of these tests."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=PATIENCE_S):
        yield


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Mount an empty share called `lab`, and give the site a scratch folder."""
    folder = tmp_path / "Projects" / "share"
    (folder / "Projects").mkdir(parents=True)
    for variable in [variable for variable in os.environ if variable.startswith("TILTFLOW_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("TILTFLOW_MOUNTS", f"lab={folder}")
    monkeypatch.setenv("TILTFLOW_SCRATCH", str(tmp_path / "scratch"))
    return folder


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run a Slurm cluster of one node for one test."""
    with private_slurm(tmp_path / "slurm") as configuration:
        monkeypatch.setenv("SLURM_CONF", str(configuration))
        yield
