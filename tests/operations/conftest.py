"""Real parts: a Prefect server, flows in processes of their own, and a portal that answers badly."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.flow.call import NINE, PROGRAM
from tests.listening import listening
from tests.private_slurm import private_slurm
from tests.robust.runs import contents, write_small_series
from tests.robust.tally import Tally

pytest.importorskip("prefect", reason="needs the extra [prefect]")

from prefect.exceptions import PrefectHTTPStatusError

from tiltflow.delivery.outbox import Outbox

SERIES = ("one", "two")
BROKEN = "broken"
POOL = "operations"
START_S = 300.0
RUN_S = 240.0
FIGURES = Path(__file__).parents[2] / "docs" / "figures" / "operations.json"
_TALLY = Tally()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the number of moments be chosen, and the table be written for the documentation."""
    parser.addoption("--moments", type=int, default=2, help="moments of each kind at which something is killed")
    parser.addoption("--record-operations", action="store_true", help="write the table of what was survived to docs/figures")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what takes minutes."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("operations")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table, and write it where that was asked for."""
    if not _TALLY.kinds:
        return
    terminalreporter.section("operations: kind / tried / survived")
    for row in _TALLY.rows():
        terminalreporter.write_line(row)
    if config.getoption("--record-operations"):
        from benchmarks.record import machine

        counts = _TALLY.kinds.values()
        told = {
            "command": f"python -m pytest -m operations tests/operations --moments {config.getoption('--moments')}",
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "machine": machine(),
            "figures": {
                "tried": {"value": str(sum(count.tried for count in counts)), "unit": "moments"},
                "survived": {"value": str(sum(count.survived for count in counts)), "unit": "of them"},
            },
            "table": _TALLY.rows(),
        }
        FIGURES.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@pytest.fixture
def tally() -> Tally:
    """Return the table to count in."""
    return _TALLY


@pytest.fixture
def moments(request: pytest.FixtureRequest) -> int:
    """Return how many moments of each kind are tried."""
    return int(request.config.getoption("--moments"))


@dataclass
class Portal:
    """A portal that now and then fails, hangs up, or takes a message and hangs up; it knows a message again by its key."""

    url: str = ""
    heard: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    chance: random.Random = field(default_factory=lambda: random.Random(5))
    away: bool = False
    fails: float = 0.3

    def takes(self, key: str, body: dict[str, Any]) -> int | None:
        """Return the status to answer; None to hang up."""
        if self.away:
            return 503
        draw = self.chance.random()
        if draw < self.fails / 2:
            return self.chance.choice([500, 503, None])
        if key not in {known for known, _ in self.heard}:
            self.heard.append((key, body))
        return None if draw < self.fails else 200

    @property
    def results(self) -> list[dict[str, Any]]:
        """The callbacks that it took."""
        return [body for _, body in self.heard if "files" in body]

    @property
    def statuses(self) -> list[str]:
        """The statuses that it took, in order."""
        return [body["status"] for _, body in self.heard if "status" in body]


@pytest.fixture
def portal() -> Iterator[Portal]:
    """Run a portal for one test."""
    one = Portal()
    with listening(lambda heard: one.takes(heard.headers["Idempotency-Key"], heard.body)) as host:
        one.url = f"http://{host}/api"
        yield one


@dataclass
class Server:
    """Prefect's server, which can be stopped and started again."""

    home: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Variables of those who use it."""
        return {
            "PREFECT_HOME": str(self.home),
            "PREFECT_API_URL": f"http://127.0.0.1:{self.port}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_CLIENT_MAX_RETRIES": "1",
        }

    @contextmanager
    def client(self) -> Iterator[Any]:
        """Return Prefect's own client of it."""
        from prefect.client.orchestration import get_client
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with temporary_settings({PREFECT_API_URL: self.environment["PREFECT_API_URL"]}), get_client(sync_client=True) as client:
            yield client

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        quiet = subprocess.DEVNULL
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")} | self.environment
        self.process = subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet, start_new_session=True)
        end = time.monotonic() + START_S
        while True:
            try:
                urllib.request.urlopen(f"{self.environment['PREFECT_API_URL']}/health", timeout=5).close()
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    raise RuntimeError("Prefect's server does not start") from None
                time.sleep(0.3)
            else:
                return

    def stop(self) -> None:
        """Kill it."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run Prefect's server."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    one = Server(tmp_path_factory.mktemp("prefect"), port)
    one.start()
    yield one
    one.stop()


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Run a Slurm cluster of one node, and return the variables with which the flow works on it."""
    home = tmp_path_factory.mktemp("slurm")
    with private_slurm(home) as configuration:
        yield {
            "SLURM_CONF": str(configuration),
            "TILTFLOW_RUNNER": "slurm",
            "TILTFLOW_WORKERS": "2",
            "TILTFLOW_SLURM_CORES": "1",
            "TILTFLOW_SLURM_MEMORY": "1GiB",
            "TILTFLOW_SLURM_SHARED_FOLDER": str(home / "shared"),
        }


@dataclass
class Facility:
    """A share with two good series and a broken one, and a flow that does them."""

    root: Path
    server: Server
    portal: Portal
    more: dict[str, str] = field(default_factory=dict)
    _deployment: Any = None

    @property
    def output(self) -> Path:
        return self.root / "share" / "Assets" / "Lab" / "Session"

    @property
    def scratch(self) -> Path:
        return self.root / "scratch"

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the flow."""
        ours = {
            "TILTFLOW_MOUNTS": f"lab={self.root / 'share'}",
            "TILTFLOW_SCRATCH": str(self.scratch),
            "TILTFLOW_STATE": str(self.root / "state"),
            "TILTFLOW_ENGINE": "native",
            "TILTFLOW_THREADS": "1",
            "TILTFLOW_CALLBACK_PATIENCE_S": "30",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(str(Path(__file__).parents[2] / name) for name in ("src", ".")),
        }
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("TILTFLOW_", "PREFECT_"))}
        return outside | self.server.environment | ours | self.more

    @property
    def parameters(self) -> dict[str, Any]:
        """Those of the flow."""
        return NINE | {
            "fiducialless": 0,
            "THICKNESS": 32,
            "file_share": "lab",
            "input_dir": "Lab/Session",
            "callback_url": self.portal.url,
            "token": "a-token-of-the-caller",
        }

    def start(self) -> subprocess.Popen[str]:
        """Start the flow in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(self.parameters)],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start a worker of Prefect's work pool, as a site's service does."""
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", "ours"]
        quiet = subprocess.DEVNULL
        return subprocess.Popen(command, env=self.environment, cwd=self.root, stdout=quiet, stderr=quiet, start_new_session=True)

    def deploy(self) -> None:
        """Make the flow's deployment, in a work pool of its own."""
        with self.server.client() as client:
            with suppress(PrefectHTTPStatusError):  # it is there
                client.request("POST", "/work_pools/", json={"name": POOL, "type": "process"})
            flow_id = client.create_flow_from_name("BRT")
            self._deployment = client.create_deployment(
                flow_id=flow_id, name="ours", entrypoint="tiltflow_flows.brt.brt_flow", work_pool_name=POOL
            )

    def request_run(self) -> Any:
        """Ask for a run of the deployment, as the portal does, and return its number."""
        with self.server.client() as client:
            return client.create_flow_run_from_deployment(self._deployment, parameters=self.parameters).id

    def await_run(self, run: Any) -> str:
        """Return the name of the state in which a run of the deployment ended, with its message."""
        end = time.monotonic() + RUN_S
        while time.monotonic() < end:
            with self.server.client() as client:
                state = client.read_flow_run(run).state
            if state is not None and state.is_final():
                return f"{state.name}: {state.message}"
            time.sleep(1.0)
        return "no end"

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Call the command at this site."""
        command = [sys.executable, "-m", "tiltflow", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=RUN_S, check=False)

    def await_a_series(self, process: subprocess.Popen[Any]) -> None:
        """Return when the first series has begun, or the process has ended."""
        end = time.monotonic() + RUN_S
        while not (self.output / SERIES[0]).is_dir() and process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.05)

    def deliver(self) -> None:
        """Tell the portal what waits, again and again, as it takes only some of it each time."""
        for _ in range(20):
            if self.command("outbox", "send").returncode == 0:
                return

    def empty(self) -> None:
        """Forget what was made and told."""
        for folder in (self.root / "share" / "Assets", self.scratch, self.root / "state"):
            shutil.rmtree(folder, ignore_errors=True)
        self.portal.heard.clear()

    @property
    def outbox(self) -> Outbox:
        """What is still to be told."""
        return Outbox(self.root / "state")

    def processes(self) -> dict[int, str]:
        """Return the processes that work for this site, by their numbers: every one has its scratch folder in its environment."""
        mark, found = f"TILTFLOW_SCRATCH={self.scratch}".encode(), {}
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (place / "environ").read_bytes().split(b"\0"):
                    found[int(place.name)] = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:300]
            except OSError:
                continue
        return found

    def left_in_scratch(self) -> list[str]:
        """Return what is left in the scratch folder; of Dask's own folder only its locks stay, which its next worker uses."""
        left = [path.relative_to(self.scratch) for path in self.scratch.rglob("*") if path.is_dir() or path.suffix != ".lock"]
        return [str(path) for path in left if str(path) != "dask-scratch-space"]

    def broken_promises(self, clean: dict[str, str], times: Sequence[int] = (1,)) -> list[str]:
        """Return what does not hold after the flow was run to its end; its results are told as often as `times` allows."""
        broken = []
        now = contents(self.output) if self.output.is_dir() else {}
        if differing := sorted(name for name, _ in now.items() ^ clean.items() if not name.endswith(".adoc")):
            broken.append(f"other files than those of an undisturbed run: {differing[:5]}")
        told = [
            [(Path(each["primaryFilePath"]).stem, each["status"]) for each in body["files"]]
            for body in self.portal.results
            if any(each["status"] == "success" for each in body["files"])
        ]
        if len(told) not in times or sorted(told[-1]) != sorted([(name, "success") for name in SERIES] + [(BROKEN, "error")]):
            broken.append(f"told: {told}")
        if self.portal.statuses[-1:] != ["success"]:
            broken.append(f"statuses: {self.portal.statuses}")
        if left := self.left_in_scratch():
            broken.append(f"left in scratch: {left}")
        if left := [str(path.relative_to(self.output)) for path in self.output.rglob(".tiltflow-*")]:
            broken.append(f"left among the results: {left}")
        if waiting := [message.kind for message in self.outbox.messages("waiting", "refused")]:
            broken.append(f"not told: {waiting}")
        if unfinished := self.outbox.unfinished():
            broken.append(f"unfinished: {unfinished}")
        if processes := self.processes():
            broken.append(f"still there: {list(processes.values())}")
        return broken


@pytest.fixture
def facility(tmp_path: Path, server: Server, portal: Portal) -> Facility:
    """Return a facility with its inputs."""
    one = Facility(tmp_path, server, portal)
    folder = tmp_path / "share" / "Projects" / "Lab" / "Session"
    folder.mkdir(parents=True)
    for name in SERIES:
        write_small_series(folder / f"{name}.st")
    (folder / f"{BROKEN}.mrc").write_bytes(b"no images")
    return one
