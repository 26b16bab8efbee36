"""The outbox as an operator meets it: a portal that is away, a run that is killed, and what the commands say and do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tiltflow.cli import NOT_TOLD, USAGE_ERROR, app
from tiltflow.delivery.outbox import Courier, Outbox, RunEntry
from tiltflow.record import read_record

Command = Callable[..., Result]


@dataclass
class Portal:
    """A portal that answers with the status of the moment."""

    url: str = ""
    status: int = 200
    heard: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)

    @property
    def taken(self) -> list[str]:
        """What it took, in order: the status, or the titles of the files."""
        bodies = [body for status, _, body in self.heard if status == 200]
        return [body.get("status") or ",".join(file["title"] for file in body["files"]) for body in bodies]


@pytest.fixture
def portal() -> Iterator[Portal]:
    one = Portal()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            one.heard.append((one.status, self.headers["Idempotency-Key"], body))
            self.send_response(one.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    one.url = f"http://127.0.0.1:{server.server_port}/api"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield one
    server.shutdown()
    server.server_close()


@pytest.fixture
def tiltflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("TILTFLOW_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("TILTFLOW_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("TILTFLOW_CALLBACK_PATIENCE_S", "0")
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def run(tiltflow: Command, small_series: Path, tmp_path: Path, fake_imod: Any, portal: Portal) -> Command:
    other = small_series.with_name("C.st")
    other.write_bytes(small_series.read_bytes())
    base = ("run", small_series.parent, "-o", tmp_path / "out", "--engine", "imod", "--callback-url", portal.url)
    return lambda *more: tiltflow(*base, *more)


def test_what_a_portal_that_is_away_is_not_told_waits_and_is_sent_later(run: Command, tiltflow: Command, portal: Portal) -> None:
    portal.status = 503
    result = run()
    assert result.exit_code == NOT_TOLD
    assert "waits in the outbox" in result.output
    listed = tiltflow("outbox", "list")
    assert listed.exit_code == NOT_TOLD
    heads = [line.split()[1:3] for line in listed.output.splitlines() if not line.startswith(" ")]
    assert heads == [["waiting:", "running"], ["waiting:", "result"], ["waiting:", "final"]]
    assert tiltflow("outbox", "send").exit_code == NOT_TOLD
    portal.status = 200
    sent = tiltflow("outbox", "send")
    assert sent.exit_code == 0, sent.output
    assert portal.taken == ["running", "B,C", "success"]
    assert "all is told" in sent.output
    assert tiltflow("outbox", "list").exit_code == 0
    assert [entry["state"] for entry in json.loads(tiltflow("outbox", "list", "--all", "--json").output)] == ["sent"] * 3


def test_a_courier_sends_what_a_run_before_left_while_this_one_works(tmp_path: Path, portal: Portal) -> None:
    now = time.time()
    earlier, outbox = Outbox(tmp_path, clock=lambda: now - 3600), Outbox(tmp_path)
    gone = "from tiltflow.owner import new_token; print(new_token())"
    dead = subprocess.run([sys.executable, "-c", gone], check=True, capture_output=True, text=True).stdout.strip()
    for book, run, owner in ((earlier, "r1", dead), (outbox, "r2", ""), (outbox, "r3", "")):
        book.begin(RunEntry(run=run, about=run, url=portal.url, owner=owner))
        book.put(run, "running", run, f'{{"status": "{run}"}}')
    courier = Courier(outbox, "r2", lambda: None)
    with courier.at_work():
        while len(portal.taken) < 2:
            time.sleep(0.01)
        (entry,) = [entry for entry in outbox.unfinished() if entry.run == "r2"]
        assert entry.seen > entry.begun, "others see that this process lives"
        outbox.put("r2", "final", "r2", '{"status": "over"}')
        courier.wake()
        while len(portal.taken) < 3:
            time.sleep(0.01)
    assert portal.taken == ["r1", "r2", "over"], "r3 lives, and tells itself"


def test_series_are_told_as_they_end_where_the_site_wants_that(
    run: Command, portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TILTFLOW_CALLBACK_MODE", "series")
    monkeypatch.setenv("TILTFLOW_CALLBACK_PATIENCE_S", "60")
    assert run().exit_code == 0
    assert portal.taken == ["running", "B", "C", "success"]
    assert len({key for _, key, _ in portal.heard}) == 4


def test_what_was_refused_is_sent_again_on_request_or_dropped(run: Command, tiltflow: Command, portal: Portal) -> None:
    portal.status = 403
    result = run()
    assert result.exit_code == NOT_TOLD
    assert "Check the token" in result.output
    portal.status = 200
    assert tiltflow("outbox", "send").exit_code == 0
    assert portal.taken == []
    numbers = [entry["number"] for entry in json.loads(tiltflow("outbox", "list", "--json").output)]
    assert "1 message to be sent again" in tiltflow("outbox", "retry", numbers[1]).output
    tiltflow("outbox", "send")
    assert portal.taken == ["B,C"]
    assert tiltflow("outbox", "drop", "--all").exit_code == 0
    assert "nothing waits" in tiltflow("outbox", "list").output
    wrong = tiltflow("outbox", "retry", 99)
    assert (wrong.exit_code, "99" in wrong.output) == (USAGE_ERROR, True)
    assert tiltflow("outbox", "drop").exit_code == USAGE_ERROR


def test_a_state_folder_that_cannot_be_used_is_told_before_any_work(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TILTFLOW_STATE", str(tmp_path / "file" / "state"))
    result = run()
    assert result.exit_code == USAGE_ERROR
    assert "TILTFLOW_STATE" in result.output
    assert not (tmp_path / "out").exists()


@pytest.fixture
def killed(small_series: Path, tmp_path: Path, portal: Portal, fake_imod: Any) -> list[str]:
    """A run that was killed when it had done its first series and worked on the second."""
    (small_series.with_name("C.st")).write_bytes(small_series.read_bytes())
    fake_imod.setenv("TILTFLOW_STATE", str(tmp_path / "state"))
    fake_imod.setenv("TILTFLOW_SCRATCH", str(tmp_path / "scratch"))
    fake_imod.setenv("TILTFLOW_CALLBACK_PATIENCE_S", "60")
    command = [sys.executable, "-m", "tiltflow", "run", str(small_series.parent), "-o", str(tmp_path / "out"), "--engine", "imod"]
    command += ["--callback-url", portal.url]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        first, second = (tmp_path / "out" / name / "run.json" for name in "BC")
        end = time.monotonic() + 120
        while not second.is_file() or read_record(first).status != "success":  # its page is written beside the work on the second
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() < end
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    return command


@pytest.mark.whole
def test_a_run_that_was_killed_is_told_by_reconcile(killed: list[str], tmp_path: Path, portal: Portal) -> None:
    done = subprocess.run([sys.executable, "-m", "tiltflow", "reconcile"], capture_output=True, text=True, check=True)
    assert "1 of 2 series were done when its process died" in done.stdout
    assert " ".join(killed[-2:]) in done.stdout
    assert portal.taken == ["running", "B,C", "error"]
    assert [file["status"] for _, _, body in portal.heard if "files" in body for file in body["files"]] == ["success", "error"]
    assert list((tmp_path / "scratch").iterdir()) == []
    again = subprocess.run([sys.executable, "-m", "tiltflow", "reconcile"], capture_output=True, text=True, check=True)
    assert again.stdout == "no run has died\n"
    assert len(portal.taken) == 3


@pytest.mark.whole
@pytest.mark.parametrize("by", ["the same command", "reconcile --resume"])
def test_a_run_that_was_killed_is_taken_up_again_and_told_once(killed: list[str], tmp_path: Path, portal: Portal, by: str) -> None:
    command = killed if by == "the same command" else [sys.executable, "-m", "tiltflow", "reconcile", "--resume"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert portal.taken == ["running", "B,C", "success"]
    assert [file["status"] for _, _, body in portal.heard if "files" in body for file in body["files"]] == ["success"] * 2
