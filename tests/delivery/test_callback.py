"""How the portal's API is told."""

from __future__ import annotations

import json
import logging
import pickle
import signal
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from tests.listening import Heard, listening

from tiltflow import stopping
from tiltflow.delivery.answer import within
from tiltflow.delivery.body import CallbackBody, StatusBody
from tiltflow.delivery.callback import RetryPolicy, check_token, check_url, notify, send
from tiltflow.errors import CallbackError, SettingsError

URL = "https://portal.example/api/files/7/done"
OPEN_TOKEN = "eyJhbGciOi.s3cr3t-t0ken_~+/="
TOKEN = SecretStr(OPEN_TOKEN)
BODY = CallbackBody(files=())


class Portal:
    """Answers with the given things in order, the last one for ever, on a clock that only sleeping moves."""

    def __init__(self, *answers: int | httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.sleeps: list[float] = []
        self.transport = httpx.MockTransport(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer) if isinstance(answer, int) else answer

    def send(self, token: SecretStr | None = TOKEN, url: str = URL, **options: Any) -> int:
        return send(url, BODY, token, transport=self.transport, sleep=self.sleeps.append, clock=lambda: sum(self.sleeps), **options)


def test_one_post_carries_the_body_and_the_token() -> None:
    portal = Portal(200)
    assert portal.send() == 1
    (request,) = portal.requests
    assert (request.method, str(request.url)) == ("POST", URL)
    assert request.headers["Authorization"] == f"Bearer {OPEN_TOKEN}"
    assert request.headers["Content-Type"] == "application/json"
    assert json.loads(request.content) == {"files": []}


def test_an_api_that_wants_no_token_gets_none() -> None:
    portal = Portal(204)
    portal.send(token=None)
    assert "Authorization" not in portal.requests[0].headers


@pytest.mark.parametrize(
    "trouble",
    [
        408,
        425,
        429,
        500,
        502,
        503,
        504,
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("slow"),
        httpx.ReadTimeout("slow"),
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("closed"),
    ],
)
def test_passing_trouble_is_tried_again(trouble: int | Exception) -> None:
    portal = Portal(trouble, trouble, 201)
    assert portal.send() == 3
    assert len(portal.sleeps) == 2
    assert all(request.content == portal.requests[0].content for request in portal.requests)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410, 413, 422])
def test_a_refusal_is_final(status: int) -> None:
    portal = Portal(status)
    with pytest.raises(CallbackError, match=rf"refused the message: it answered {status}"):
        portal.send()
    assert len(portal.requests) == 1
    assert portal.sleeps == []


def test_a_refusal_says_what_the_server_said_and_what_to_check() -> None:
    portal = Portal(httpx.Response(401, text="token\n  expired"))
    with pytest.raises(CallbackError, match=r"401 Unauthorized \(token expired\)\. Check the token"):
        portal.send()
    with pytest.raises(CallbackError, match=r"Check the callback URL"):
        Portal(404).send()


def test_waits_double_with_jitter_up_to_the_longest_and_end_at_the_limit() -> None:
    portal = Portal(503)
    policy = RetryPolicy(first_wait_s=1.0, longest_wait_s=8.0, total_s=60.0)
    with pytest.raises(CallbackError, match=r"did not accept the message in \d+ attempts; the last error: it answered 503"):
        portal.send(policy=policy)
    for wait, full in zip(portal.sleeps, [1.0, 2.0, 4.0] + [8.0] * 100, strict=False):
        assert full / 2 <= wait <= full
    assert 60.0 - 8.0 < sum(portal.sleeps) <= 60.0


def test_jitter_parts_runs_that_failed_together() -> None:
    first, second = Portal(503, 503, 503, 200), Portal(503, 503, 503, 200)
    first.send()
    second.send()
    assert first.sleeps != second.sleeps


def test_retry_after_in_seconds_is_honoured_and_capped() -> None:
    portal = Portal(httpx.Response(429, headers={"Retry-After": "17"}), httpx.Response(503, headers={"Retry-After": "99999"}), 200)
    portal.send(policy=RetryPolicy(longest_retry_after_s=120.0))
    assert portal.sleeps == [17.0, 120.0]


def test_retry_after_as_a_date_is_honoured() -> None:
    moment = datetime.now(UTC) + timedelta(seconds=40)
    portal = Portal(httpx.Response(503, headers={"Retry-After": format_datetime(moment, usegmt=True)}), 200)
    portal.send()
    assert 35.0 < portal.sleeps[0] <= 40.0


@pytest.mark.parametrize("odd", ["soon", "", "-5", "0", "Thu, 99 Foo 2026", "²"])
def test_a_retry_after_without_sense_or_patience_is_no_licence_to_hammer(odd: str) -> None:
    portal = Portal(httpx.Response(429, headers=[(b"Retry-After", odd.encode())]), 200)
    portal.send()
    assert 0.5 <= portal.sleeps[0] <= 1.0


def test_a_retry_after_beyond_the_limit_ends_the_trying() -> None:
    portal = Portal(httpx.Response(503, headers={"Retry-After": "200"}))
    with pytest.raises(CallbackError, match="at the first attempt"):
        portal.send(policy=RetryPolicy(total_s=100.0))


def test_a_redirect_is_not_followed_with_the_token() -> None:
    portal = Portal(httpx.Response(307, headers={"Location": "https://evil.example/api?next=1"}))
    with pytest.raises(CallbackError, match=r"redirects \(307\) to 'https://evil.example/api'; give the final address"):
        portal.send()
    assert [request.url.host for request in portal.requests] == ["portal.example"]


@pytest.mark.parametrize("text", ["", " \n", "{}", '{"id": 7}', "null", "7", '"ok"', "[" + "1," * 100_000])
def test_an_empty_body_or_json_is_acceptance(text: str) -> None:
    assert Portal(httpx.Response(201, text=text)).send() == 1


@pytest.mark.parametrize("text", ["<html><title>Log in</title></html>", "OK", "{", "x" * 100_000])
def test_a_page_for_people_is_no_acceptance(text: str) -> None:
    portal = Portal(httpx.Response(200, text=text))
    with pytest.raises(CallbackError, match="a page for people and no word of an API; check the callback URL"):
        portal.send()
    assert len(portal.requests) == 1


@pytest.mark.parametrize("charset", ["hex", "undefined", "idna", "no-such"])
def test_no_encoding_that_a_server_names_ends_a_run(charset: str) -> None:
    assert Portal(httpx.Response(200, content=b"{}", headers={"Content-Type": f"text/plain; charset={charset}"})).send() == 1


def test_a_body_of_brackets_is_no_acceptance_and_no_defect() -> None:
    with pytest.raises(CallbackError, match="no word of an API"):
        Portal(httpx.Response(200, text="[" * 60_000)).send()


def _endless(pause_s: float, ended: threading.Event) -> Iterator[bytes]:
    while not ended.wait(pause_s):
        yield b"x"


def test_an_answer_that_trickles_in_is_left_after_the_time_for_an_attempt() -> None:
    ended = threading.Event()
    portal = Portal(httpx.Response(200, content=_endless(0.01, ended)), httpx.Response(200))
    try:
        assert portal.send(policy=RetryPolicy(attempt_s=0.2)) == 2
    finally:
        ended.set()


def test_an_answer_that_never_ends_is_read_to_its_64_kilobytes() -> None:
    read = 0

    def body() -> Iterator[bytes]:
        nonlocal read
        yield b"["
        while True:
            read += 4096
            yield b"1, 2" * 1024

    assert Portal(httpx.Response(200, content=body())).send() == 1
    assert read < 2 * 65536


def test_a_certificate_that_is_not_trusted_is_final() -> None:
    error = httpx.ConnectError("certificate verify failed")
    error.__cause__ = ssl.SSLCertVerificationError("self-signed certificate")
    portal = Portal(error)
    with pytest.raises(CallbackError, match="certificate that is not trusted"):
        portal.send()
    assert portal.sleeps == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "portal.example/api",
        "ftp://portal.example",
        "file:///etc/passwd",
        "https://",
        "https://user:pass@portal.example",
        "https://a\nb",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_before_anything_is_sent(url: str) -> None:
    portal = Portal(200)
    with pytest.raises(SettingsError, match=r"[Tt]he callback URL") as caught:
        portal.send(url=url)
    assert "pass@" not in str(caught.value)
    assert portal.requests == []


def test_a_url_with_a_port_path_and_query_is_used_as_it_is() -> None:
    assert str(check_url("http://localhost:8000/api?x=1")) == "http://localhost:8000/api?x=1"


@pytest.mark.parametrize("bad", ["", " \n", "two words", "ends\x00", "line\nX-Admin: 1", "ümlaut", "a\x7f"])
def test_a_token_that_a_header_cannot_carry_is_refused_and_not_shown(bad: str) -> None:
    portal = Portal(200)
    with pytest.raises(SettingsError) as caught:
        portal.send(token=SecretStr(bad))
    assert portal.requests == []
    if bad.strip():
        assert bad.strip() not in str(caught.value)


def test_the_newline_at_the_end_of_a_token_file_is_no_part_of_the_token() -> None:
    assert check_token(SecretStr(f" {OPEN_TOKEN}\n")).get_secret_value() == OPEN_TOKEN


def everything_said(error: BaseException) -> str:
    """Return a traceback with the values of all variables of all frames, as some tools print it."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join(shown.format()) + repr(error) + str(error.__dict__)


ECHO = httpx.Response(403, text=f"your header was: Bearer {OPEN_TOKEN}", headers={"X-Echo": OPEN_TOKEN})


@pytest.mark.parametrize(
    "answers",
    [
        (ECHO,),
        (httpx.ConnectError(f"cannot send {OPEN_TOKEN}"),),
        (httpx.LocalProtocolError(f"Illegal header value b'Bearer {OPEN_TOKEN}'"),),
        (httpx.Response(307, headers={"Location": f"https://portal.example/{OPEN_TOKEN}"}),),
        (httpx.Response(500, text=OPEN_TOKEN),),
    ],
)
def test_the_token_shows_in_no_log_and_no_exception(answers: tuple[Any, ...], caplog: pytest.LogCaptureFixture) -> None:
    portal = Portal(*answers)
    with caplog.at_level(logging.DEBUG), pytest.raises(CallbackError) as caught:
        portal.send(policy=RetryPolicy(total_s=5.0))
    assert OPEN_TOKEN not in caplog.text
    assert OPEN_TOKEN not in everything_said(caught.value).replace(repr(answers[0]), "")
    assert OPEN_TOKEN not in str(caught.value)


def test_a_bad_token_shows_in_no_frame_of_the_exception() -> None:
    bad = SecretStr("s3cr3t with a space")
    with pytest.raises(SettingsError) as caught:
        Portal(200).send(token=bad)
    said = everything_said(caught.value)
    assert "s3cr3t" not in said


def test_a_query_in_the_url_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="tiltflow"), pytest.raises(CallbackError) as caught:
        Portal(500).send(url=f"{URL}?key=hidden", policy=RetryPolicy(total_s=3.0))
    assert "hidden" not in str(caught.value)
    assert "hidden" not in "".join(record.getMessage() for record in caplog.records if record.name.startswith("tiltflow"))


def test_a_token_on_an_open_line_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    Portal(200).send(url="http://localhost:1/api")
    assert "unencrypted" not in caplog.text
    Portal(200).send(url="http://portal.example/api")
    assert "the token for portal.example travels unencrypted" in caplog.text


def test_a_notice_that_is_not_heard_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    portal = Portal(500)
    assert not notify(
        URL, "running", TOKEN, transport=portal.transport, sleep=portal.sleeps.append, policy=RetryPolicy(total_s=0.0)
    )
    assert not notify("nonsense", "error", TOKEN)
    assert "did not receive the status 'running'" in caplog.text


def test_a_notice_says_how_the_run_stands() -> None:
    portal = Portal(200)
    assert notify(URL, "running", TOKEN, transport=portal.transport)
    assert json.loads(portal.requests[0].content) == {"status": "running"}


def test_errors_travel_between_processes() -> None:
    with pytest.raises(CallbackError) as caught:
        Portal(400).send()
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.fixture
def server() -> Iterator[Callable[..., tuple[str, list[tuple[dict[str, str], bytes]]]]]:
    """Start a real server that answers with the given statuses in order."""
    with ExitStack() as servers:

        def start(*statuses: int) -> tuple[str, list[tuple[dict[str, str], bytes]]]:
            told: list[tuple[dict[str, str], bytes]] = []
            answers = list(statuses)

            def answer(heard: Heard) -> int:
                told.append((dict(heard.headers), heard.content))
                return answers.pop(0)

            return f"http://{servers.enter_context(listening(answer))}/api", told

        yield start


def test_a_real_server_that_stumbles_twice_hears_the_message(server: Callable[..., Any]) -> None:
    url, heard = server(503, 429, 200)
    assert send(url, StatusBody(status="success"), TOKEN, sleep=lambda _: None) == 3
    headers, content = heard[-1]
    assert headers["Authorization"] == f"Bearer {OPEN_TOKEN}"
    assert json.loads(content) == {"status": "success"}


def test_a_port_where_nobody_listens_is_tried_until_the_limit() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sleeps: list[float] = []
    with pytest.raises(CallbackError, match="ConnectError"):
        send(
            f"http://127.0.0.1:{port}/",
            BODY,
            TOKEN,
            sleep=sleeps.append,
            clock=lambda: sum(sleeps),
            policy=RetryPolicy(total_s=5.0),
        )
    assert len(sleeps) >= 2


def test_letters_with_which_an_answer_could_steer_a_terminal_are_not_quoted() -> None:
    portal = Portal(httpx.Response(400, content=b"\x1b]0;owned\x07\x1b[2J no such\xc2\x9b31m sample"))
    with pytest.raises(CallbackError, match="no such") as caught:
        portal.send()
    assert str(caught.value).isprintable()


def test_who_is_asked_to_end_waits_for_no_portal_but_still_tells_it() -> None:
    told = []

    def answer(request: httpx.Request) -> httpx.Response:
        time.sleep(0.2)
        told.append(request)
        return httpx.Response(200)

    with stopping.stoppable():
        signal.raise_signal(signal.SIGTERM)
        begin = time.monotonic()
        with pytest.raises(stopping.Interrupted):
            within(30.0, lambda: time.sleep(5.0))
        assert time.monotonic() - begin < 2
        assert notify(URL, "error", TOKEN, transport=httpx.MockTransport(answer))
    assert len(told) == 1
