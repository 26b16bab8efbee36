"""Delivery from the outbox: everything is told once, in order, however long the portal or the process is away."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from tests.delivery.outbox_parts import WHOLE, Clock, Portal, begin, fill

from tiltflow.delivery.callback import RetryPolicy
from tiltflow.delivery.outbox import Outbox, deliver
from tiltflow.errors import SettingsError


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


@pytest.mark.parametrize("trouble", [408, 425, httpx.ConnectError("certificate")])
def test_what_may_pass_is_no_refusal(outbox: Outbox, trouble: int | Exception) -> None:
    if isinstance(trouble, Exception):
        trouble.__cause__ = ssl.SSLCertVerificationError("certificate has expired")
    begin(outbox)
    fill(outbox)
    assert len(Portal(trouble).deliver(outbox).waiting) == 1
    assert outbox.messages("refused") == []


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


def test_dropped_messages_are_not_sent_and_those_behind_them_are(outbox: Outbox) -> None:
    begin(outbox)
    fill(outbox)
    second = outbox.messages()[1].number
    assert outbox.drop([second, 99]) == [second]
    portal = Portal(200)
    portal.deliver(outbox)
    assert portal.heard == [WHOLE[0], WHOLE[2]]


def test_the_time_that_a_message_is_tried_is_the_run_s_patience(outbox: Outbox) -> None:
    begin(outbox)
    fill(outbox)
    slept: list[float] = []
    portal = Portal(503)
    made = deliver(outbox, lambda: None, run="r1", policy=RetryPolicy(total_s=0.0), transport=portal.transport, sleep=slept.append)
    assert len(portal.requests) == 1
    assert slept == []
    assert made.problem is not None
