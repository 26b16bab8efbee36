"""The outbox: everything is told once, in order, however long the portal or the process is away."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from tiltflow.delivery.body import CallbackBody
from tiltflow.delivery.callback import RetryPolicy
from tiltflow.delivery.outbox import Outbox, RunEntry, deliver, open_outbox
from tiltflow.delivery.outbox.book import BOOK_NAME
from tiltflow.delivery.portal import Address
from tiltflow.delivery.portal import Portal as RunPortal
from tiltflow.errors import DeliveryError, SettingsError

URL = "https://portal.example/api/done"
SITE = SecretStr("of-the-site")


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Portal:
    """Answers with the given things in order, the last one for ever."""

    def __init__(self, *answers: int | Exception | httpx.Response) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.transport = httpx.MockTransport(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else httpx.Response(answer)

    @property
    def heard(self) -> list[Any]:
        return [json.loads(request.content) for request in self.requests]

    def deliver(self, outbox: Outbox, **options: Any) -> Any:
        return deliver(outbox, lambda: SITE, transport=self.transport, sleep=lambda _: None, **options)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outbox(tmp_path: Path, clock: Clock) -> Outbox:
    return Outbox(tmp_path / "state", clock=clock)


def begin(outbox: Outbox, run: str = "r1", **more: Any) -> None:
    outbox.begin(RunEntry(run=run, about=f"folder of {run}", **({"url": URL} | more)))


def fill(outbox: Outbox, run: str = "r1", final: str = "success") -> None:
    outbox.put(run, "running", run, '{"status":"running"}')
    outbox.put(run, "result", run, json.dumps({"files": [run]}))
    outbox.put(run, "final", run, json.dumps({"status": final}))


WHOLE = [{"status": "running"}, {"files": ["r1"]}, {"status": "success"}]


def test_messages_are_sent_in_order_each_once(outbox: Outbox) -> None:
    begin(outbox)
    fill(outbox)
    portal = Portal(200)
    assert [message.kind for message in portal.deliver(outbox).sent] == ["running", "result", "final"]
    assert portal.heard == WHOLE
    assert portal.deliver(outbox).sent == ()
    assert {message.state for message in outbox.messages()} == {"sent"}


def test_each_message_has_a_key_of_its_own_that_stays_when_it_is_sent_again(outbox: Outbox, clock: Clock) -> None:
    begin(outbox)
    fill(outbox)
    portal = Portal(200, 500, 200)
    portal.deliver(outbox)
    clock.now += 7200
    portal.deliver(outbox)
    keys = [request.headers["Idempotency-Key"] for request in portal.requests]
    assert keys[1] == keys[2]
    assert len({*keys}) == 3


@pytest.mark.parametrize("trouble", [500, 503, 429, httpx.ConnectError("refused"), httpx.ReadTimeout("slow")], ids=str)
def test_a_portal_that_is_away_for_a_day_is_told_everything_later_in_order(
    outbox: Outbox, clock: Clock, trouble: int | Exception
) -> None:
    begin(outbox)
    fill(outbox)
    away, attempts = Portal(trouble), 0
    for _ in range(24 * 60):
        attempts += len(away.deliver(outbox).waiting)
        clock.now += 60
    assert {json.dumps(body) for body in away.heard} == {json.dumps(WHOLE[0])}, "what is behind it waits"
    assert 20 <= attempts <= 60, "every hour in the end"
    (head,) = outbox.heads()
    assert head.attempts == attempts
    assert head.problem
    back = Portal(200)
    back.deliver(outbox, only_due=False)
    assert back.heard == WHOLE


def test_what_is_not_due_waits_and_the_portal_s_own_word_is_kept(outbox: Outbox, clock: Clock) -> None:
    begin(outbox)
    fill(outbox)
    Portal(httpx.Response(503, headers={"Retry-After": "5000"})).deliver(outbox)
    portal = Portal(200)
    clock.now += 4999
    assert portal.deliver(outbox).sent == ()
    clock.now += 2
    assert len(portal.deliver(outbox).sent) == 3


def test_a_portal_that_is_down_is_asked_once_a_round_and_another_is_told(outbox: Outbox) -> None:
    for number in range(5):
        begin(outbox, f"r{number}")
        fill(outbox, f"r{number}")
    begin(outbox, "other", url="https://other.example/api")
    fill(outbox, "other")
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return httpx.Response(200 if request.url.host == "other.example" else 502)

    deliver(outbox, lambda: None, transport=httpx.MockTransport(answer), sleep=lambda _: None)
    assert asked.count("portal.example") == 1
    assert asked.count("other.example") == 3


def test_what_the_portal_refuses_is_kept_and_the_run_ends_as_an_error(outbox: Outbox) -> None:
    begin(outbox)
    fill(outbox)
    portal = Portal(200, 401, 200)
    made = portal.deliver(outbox)
    assert [message.kind for message in made.refused] == ["result"]
    assert portal.heard == [{"status": "running"}, {"files": ["r1"]}, {"status": "error"}]
    (refused,) = outbox.messages("refused")
    assert "401" in refused.problem
    assert outbox.retry([refused.number]) == [refused.number]
    later = Portal(200)
    later.deliver(outbox)
    assert later.heard == [{"files": ["r1"]}]


def test_a_result_that_is_written_twice_is_told_once_and_another_one_too(outbox: Outbox) -> None:
    begin(outbox)
    for _ in range(2):
        fill(outbox)
    outbox.put("r1", "result", "r1", '{"files": ["another"]}')
    portal = Portal(200)
    portal.deliver(outbox)
    assert portal.heard == [*WHOLE, {"files": ["another"]}]


def test_the_last_of_the_final_statuses_counts(outbox: Outbox) -> None:
    begin(outbox)
    fill(outbox, final="success")
    outbox.put("r1", "final", "r1", '{"status": "error"}')
    portal = Portal(200)
    portal.deliver(outbox)
    assert portal.heard[2:] == [{"status": "error"}]


def test_a_run_that_is_taken_up_again_goes_on_and_one_that_had_ended_begins_anew(outbox: Outbox) -> None:
    begin(outbox)
    outbox.put("r1", "running", "r1", '{"status":"running"}')
    portal = Portal(200)
    portal.deliver(outbox)
    begin(outbox)
    assert [entry.run for entry in outbox.unfinished()] == ["r1"]
    fill(outbox)
    portal.deliver(outbox)
    assert portal.heard == WHOLE
    assert outbox.unfinished() == []
    begin(outbox)
    assert [entry.run for entry in outbox.unfinished()] == ["r1"]
    fill(outbox)
    portal.deliver(outbox)
    assert portal.heard == WHOLE * 2
    keys = [request.headers["Idempotency-Key"] for request in portal.requests]
    assert len({*keys}) == 6, "a portal must not take the second telling for the first"


@pytest.mark.parametrize(
    ("token", "site", "sent"), [(None, True, "Bearer of-the-site"), (SecretStr("own"), False, "Bearer own"), (None, False, None)]
)
def test_the_token_that_goes_along(outbox: Outbox, token: SecretStr | None, site: bool, sent: str | None) -> None:
    begin(outbox, token=token, site_token=site)
    fill(outbox)
    portal = Portal(200)
    portal.deliver(outbox)
    assert {request.headers.get("Authorization") for request in portal.requests} == {sent}


def no_token() -> SecretStr | None:
    return None


def an_unreadable_file() -> SecretStr | None:
    raise SettingsError("The token file cannot be read.")


@pytest.mark.parametrize("site_token", [no_token, an_unreadable_file])
def test_without_the_site_s_token_that_is_to_go_along_a_message_waits(outbox: Outbox, site_token: Any) -> None:
    begin(outbox, site_token=True)
    fill(outbox)
    begin(outbox, "r2", token=SecretStr("own"))
    fill(outbox, "r2")
    portal = Portal(200)
    made = deliver(outbox, site_token, transport=portal.transport)
    assert len(made.sent) == 3, "of the run that has its own"
    assert [message.state for message in outbox.messages()][:3] == ["waiting"] * 3
    assert "token" in outbox.messages()[0].problem
    assert len(portal.deliver(outbox).sent) == 3, "a process that has the token need not wait"


def test_a_result_that_was_refused_before_the_run_ended_makes_its_last_word_an_error(outbox: Outbox) -> None:
    begin(outbox)
    outbox.put("r1", "result", "r1", '{"files": ["r1"]}')
    Portal(403).deliver(outbox)
    outbox.put("r1", "final", "r1", '{"status": "success"}')
    portal = Portal(200)
    portal.deliver(outbox)
    assert portal.heard == [{"status": "error"}]
    begin(outbox)
    fill(outbox)
    portal.deliver(outbox)
    assert portal.heard[1:] == WHOLE, "a run that begins anew has nothing to do with that"


def test_a_run_that_is_taken_up_again_keeps_its_plan_until_it_has_another(outbox: Outbox) -> None:
    begin(outbox, plan={"output": "a"})
    begin(outbox, plan={})
    assert outbox.unfinished()[0].plan == {"output": "a"}
    begin(outbox, plan={"output": "b"})
    assert outbox.unfinished()[0].plan == {"output": "b"}
    outbox.end("r1")
    begin(outbox, plan={})
    assert outbox.unfinished()[0].plan == {}


def test_a_run_is_claimed_by_one_process_and_not_after_its_end(tmp_path: Path, outbox: Outbox, clock: Clock) -> None:
    begin(outbox, owner="of-the-dead")
    (entry,) = outbox.unfinished()
    others = [Outbox(tmp_path / "state", clock=clock) for _ in range(2)]
    assert [other.claim(entry) for other in others] == [True, False]
    outbox.supersede(entry)
    assert [each.run for each in outbox.unfinished()] == ["r1"], "it is another's now"
    (entry,) = outbox.unfinished()
    outbox.end("r1")
    assert not others[1].claim(entry)


def test_a_run_of_before_this_machine_was_started_again_is_dead(outbox: Outbox) -> None:
    begin(outbox)
    (entry,) = outbox.unfinished()
    assert entry.is_dead is False
    token = f"0badf00d{entry.owner[8:]}"
    assert replace(entry, owner=token).is_dead is None, "in another container, for all that is known"
    assert replace(entry, owner=token, kernel="before").is_dead is True
    assert replace(entry, owner=token, kernel="k", host="elsewhere").is_dead is None


def test_a_signal_that_raises_while_the_book_is_written_leaves_it_usable(tmp_path: Path, outbox: Outbox, clock: Clock) -> None:
    """As Prefect's handler of SIGTERM does, at the worst moment: while another process writes, and this one waits."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    begin(outbox)
    other = sqlite3.connect(tmp_path / "state" / BOOK_NAME, isolation_level=None, check_same_thread=False)
    try:
        other.execute("BEGIN IMMEDIATE")
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        threading.Timer(0.4, other.execute, ["COMMIT"]).start()
        with pytest.raises(KeyboardInterrupt):
            outbox.put("r1", "running", "r1", '{"status":"running"}')
    finally:
        signal.signal(signal.SIGALRM, before)
        time.sleep(0.4)
        other.close()
    fill(outbox)
    fill(Outbox(tmp_path / "state", clock=clock))
    portal = Portal(200)
    portal.deliver(outbox)
    assert portal.heard == WHOLE


def test_a_book_that_others_could_read_is_closed_to_them_and_one_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / BOOK_NAME
    Outbox(tmp_path).close()
    path.chmod(0o666)
    Outbox(tmp_path).close()
    assert path.stat().st_mode & 0o777 == 0o600
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
        with pytest.raises(DeliveryError, match="belongs to another user"):
            Outbox(tmp_path)


def test_a_token_is_forgotten_when_its_messages_are_dropped_and_what_was_sent_is_not_sent_without_it(outbox: Outbox) -> None:
    begin(outbox, token=SecretStr("a-secret"))
    fill(outbox)
    first, *others = [message.number for message in outbox.messages()]
    portal = Portal(200, 503)
    portal.deliver(outbox)
    assert outbox.retry([first]) == []
    outbox.drop(others)
    found = outbox.find("r1")
    assert found is not None
    assert found.token is None


@pytest.mark.parametrize("trouble", [408, 425, httpx.ConnectError("certificate")])
def test_what_may_pass_is_no_refusal(outbox: Outbox, trouble: int | Exception) -> None:
    if isinstance(trouble, Exception):
        trouble.__cause__ = ssl.SSLCertVerificationError("certificate has expired")
    begin(outbox)
    fill(outbox)
    assert len(Portal(trouble).deliver(outbox).waiting) == 1
    assert outbox.messages("refused") == []


def test_a_message_is_taken_once_also_by_two_threads_of_a_process(outbox: Outbox) -> None:
    begin(outbox)
    fill(outbox)
    (head,) = outbox.heads()
    assert [outbox.take(head, 100.0), outbox.take(head, 100.0)] == [True, False]


def test_a_token_is_in_nobody_s_reach_and_gone_when_all_is_told(outbox: Outbox) -> None:
    begin(outbox, token=SecretStr("a-secret-of-the-caller"))
    fill(outbox)
    assert outbox.path is not None
    folder = outbox.path.parent
    assert outbox.path.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())
    assert "a-secret" not in repr(outbox.messages())
    assert "a-secret" not in repr(outbox.unfinished())
    Portal(200).deliver(outbox)
    outbox.close()
    assert not [path for path in folder.iterdir() if b"a-secret-of-the-caller" in path.read_bytes()]


def test_what_another_process_is_sending_is_left_to_it_until_it_is_gone(tmp_path: Path, outbox: Outbox, clock: Clock) -> None:
    begin(outbox)
    fill(outbox)
    other = Outbox(tmp_path / "state", clock=clock)
    (head,) = outbox.heads()
    assert other.take(head, 100.0)
    assert not outbox.take(head, 100.0)
    assert Portal(200).deliver(outbox).sent == ()
    clock.now += 101
    assert len(Portal(200).deliver(outbox).sent) == 3


def test_what_a_dead_process_was_sending_is_sent_at_once(tmp_path: Path, outbox: Outbox, clock: Clock) -> None:
    begin(outbox)
    fill(outbox)
    code = f"""
        from pathlib import Path
        from tiltflow.delivery.outbox import Outbox
        outbox = Outbox(Path({str(tmp_path / "state")!r}), clock=lambda: {clock.now})
        assert outbox.take(outbox.heads()[0], 1e6)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
    assert outbox.heads() == []
    assert len(Portal(200).deliver(outbox).sent) == 3


def test_many_threads_and_books_tell_everything_once_in_order(tmp_path: Path, clock: Clock) -> None:
    writing = Outbox(tmp_path / "state", clock=clock)
    for number in range(8):
        begin(writing, f"r{number}")
        fill(writing, f"r{number}")
    portal = Portal(200)
    threads = [
        threading.Thread(target=lambda: portal.deliver(Outbox(tmp_path / "state", clock=clock), only_due=False)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    portal.deliver(writing)
    keys = [request.headers["Idempotency-Key"] for request in portal.requests]
    assert len(keys) == len({*keys}) == 24
    for number in range(8):
        of_run = [body for body in portal.heard if body == {"files": [f"r{number}"]}]
        assert len(of_run) == 1


def test_a_process_that_is_killed_after_writing_leaves_the_message(tmp_path: Path) -> None:
    code = f"""
        import os, signal
        from pathlib import Path
        from tiltflow.delivery.outbox import Outbox, RunEntry
        outbox = Outbox(Path({str(tmp_path)!r}))
        outbox.begin(RunEntry(run="r1", about="a folder", url={URL!r}))
        outbox.put("r1", "result", "a folder", "{{}}")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False).returncode == -9
    assert [message.body for message in Outbox(tmp_path).messages("waiting")] == ["{}"]


def test_dropped_messages_are_not_sent_and_those_behind_them_are(outbox: Outbox) -> None:
    begin(outbox)
    fill(outbox)
    second = outbox.messages()[1].number
    assert outbox.drop([second, 99]) == [second]
    portal = Portal(200)
    portal.deliver(outbox)
    assert portal.heard == [WHOLE[0], WHOLE[2]]


def test_what_was_told_is_forgotten_after_a_month_and_what_waits_is_not(outbox: Outbox, clock: Clock) -> None:
    begin(outbox)
    fill(outbox)
    Portal(200).deliver(outbox)
    begin(outbox, "r2")
    fill(outbox, "r2")
    clock.now += 29 * 86400
    begin(outbox, "r3")
    assert len(outbox.messages()) == 6
    clock.now += 2 * 86400
    begin(outbox, "r4")
    assert {message.run for message in outbox.messages()} == {"r2"}


@pytest.mark.parametrize("spoilt", ["newer", "no book", "folder", "link"])
def test_a_book_that_cannot_be_used_is_told_in_words(tmp_path: Path, spoilt: str) -> None:
    path = tmp_path / BOOK_NAME
    if spoilt == "newer":
        Outbox(tmp_path).close()
        base = sqlite3.connect(path)
        base.execute("PRAGMA user_version = 99")
        base.close()
    elif spoilt == "no book":
        path.write_bytes(b"no book at all" * 1000)
    elif spoilt == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DeliveryError, match=rf"The outbox {path} cannot be opened \(.*TILTFLOW_STATE"):
        Outbox(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_the_first_folder_that_can_hold_it_holds_the_outbox(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "file"
    file.touch()
    assert open_outbox([file / "state", tmp_path / "scratch"]).path == tmp_path / "scratch" / BOOK_NAME
    assert not caplog.records
    with pytest.raises(DeliveryError, match="cannot be opened"):
        open_outbox([file / "state"])
    in_memory = open_outbox([file / "state", file / "scratch"])
    assert not in_memory.is_durable
    assert open_outbox([file / "state", file / "scratch"]) is in_memory, "one for a process"
    assert "is lost" in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DeliveryError, match="cannot be opened"):
        Outbox(tmp_path)


def test_the_time_that_a_message_is_tried_is_the_run_s_patience(outbox: Outbox) -> None:
    begin(outbox)
    fill(outbox)
    slept: list[float] = []
    portal = Portal(503)
    made = deliver(outbox, lambda: None, run="r1", policy=RetryPolicy(total_s=0.0), transport=portal.transport, sleep=slept.append)
    assert len(portal.requests) == 1
    assert slept == []
    assert made.problem is not None


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
        while not told:
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
