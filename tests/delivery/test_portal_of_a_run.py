"""The conversation of a run with the portal: an outbox that fails costs no result."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import SecretStr

from tiltflow.delivery.body import CallbackBody
from tiltflow.delivery.outbox import Outbox
from tiltflow.delivery.portal import Address
from tiltflow.delivery.portal import Portal as RunPortal


@pytest.mark.parametrize("when", ["before it begins", "while it works", "at its end"])
def test_an_outbox_that_cannot_be_written_any_more_costs_no_result(
    outbox: Outbox, when: str, listening: Any, caplog: pytest.LogCaptureFixture
) -> None:
    told, url = listening
    portal = RunPortal(address=Address(url=url, token=SecretStr("own")), outbox=outbox, patience_s=5.0, run="r1")
    body = CallbackBody(files=())
    if when == "before it begins":
        outbox.close()
    with portal.following("a folder"):
        while when == "at its end" and len(told) < 1:
            time.sleep(0.01)
        if when == "while it works":
            outbox.close()
    if when == "at its end":
        outbox.close()
    assert portal.keeps is (when != "before it begins")
    portal.tell(body, "a folder")
    assert not portal.keeps
    assert [sorted(each) for each in told][-2:] == [["files"], ["status"]]
    assert caplog.text.count("is lost if the portal does not take it") == 1


def test_what_a_run_told_from_memory_is_not_told_again_from_the_disk(outbox: Outbox, listening: Any) -> None:
    told, url = listening
    portal = RunPortal(address=Address(url=url), outbox=outbox, patience_s=5.0, run="r1")
    with portal.following("a folder"):
        while not outbox.messages("sent"):  # taken, and known to be: the thread that sends may be between the two
            time.sleep(0.01)
        outbox._base.execute("PRAGMA query_only = ON")  # as on a disk that is full for a while
        portal.put(CallbackBody(files=()), "a folder")
        outbox._base.execute("PRAGMA query_only = OFF")
    portal.tell(CallbackBody(files=()), "a folder")
    assert [sorted(each) for each in told] == [["status"], ["files"], ["status"]]
    assert outbox.unfinished() == []
    assert outbox.messages("waiting") == []


@pytest.fixture
def listening() -> Iterator[Any]:
    """A portal that takes everything: what it was told, and its address."""
    told: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield told, f"http://127.0.0.1:{server.server_port}/api"
    server.shutdown()
    server.server_close()
