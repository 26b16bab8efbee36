"""Sending messages to the portal's API, with retries; their content is that of :mod:`tiltflow.delivery.body`.

One POST per run with the files and their assets, and separate messages `{"status": "running"}` before and
`{"status": "success"}` or `{"status": "error"}` after.  Connection errors, time-outs, 429 and 5xx are tried again with growing,
jittered waits; other answers are final.  An answer 2xx counts where its body is empty or JSON: a page for people comes from something
else than the API.  What is read of an answer is bounded, in bytes and in time.

The token travels as a :class:`pydantic.SecretStr` and is revealed only inside the request: it appears in no log, record, file,
`repr` or exception, and redirects, which could carry it to another host, are not followed.
"""

from __future__ import annotations

import logging
import random
import ssl
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx
from pydantic import SecretStr

from tiltflow import stopping
from tiltflow.delivery.answer import Answer, read_answer, within
from tiltflow.delivery.body import CALLBACK_NAME, CallbackBody, Status, StatusBody, build_callback, write_callback
from tiltflow.delivery.certificates import Certificates, verification
from tiltflow.errors import CallbackDelayError, CallbackError, SettingsError

__all__ = [
    "CALLBACK_NAME",
    "LOCAL_HOSTS",
    "NOTICE_POLICY",
    "CallbackBody",
    "RetryPolicy",
    "StatusBody",
    "build_callback",
    "check_token",
    "check_url",
    "notify",
    "send",
    "write_callback",
]

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
"""Hosts to which no line leads that others could listen on."""
_QUOTED_CHARACTERS = 300
_LATER = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How long to retry.

    Attributes
    ----------
    connect_timeout_s, read_timeout_s
        Time limits of one attempt.
    first_wait_s, longest_wait_s
        The wait doubles from the first to the longest; a random half of each is taken off, so that many runs that failed
        together do not return together.
    longest_retry_after_s
        Longest `Retry-After` of a server that is honoured.
    attempt_s
        Time for one attempt with its whole answer, however slowly that trickles in.
    total_s
        No attempt starts later than this after the first.
    """

    connect_timeout_s: float = 10.0
    read_timeout_s: float = 60.0
    attempt_s: float = 120.0
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0
    longest_retry_after_s: float = 300.0
    total_s: float = 900.0


NOTICE_POLICY = RetryPolicy(connect_timeout_s=5.0, read_timeout_s=10.0, attempt_s=15.0, total_s=15.0)
"""For status messages, which must not delay the work."""


def check_url(url: str) -> httpx.URL:
    """Return the URL, parsed.

    Raises
    ------
    SettingsError
        If it is not a plain http or https address.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise SettingsError(
            f"The callback URL cannot be understood ({error}); give one such as https://portal.example/api/done."
        ) from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise SettingsError(
            f"The callback URL {_shown(parsed)!r} is not an http or https address; give one such as https://portal.example/api."
        )
    if parsed.userinfo:
        raise SettingsError(f"The callback URL for {parsed.host} carries a user or password; give the secret as the token instead.")
    return parsed


def check_token(token: SecretStr) -> SecretStr:
    """Return the token without the white space around it.

    Raises
    ------
    SettingsError
        If an HTTP header cannot carry it.  The message does not show it.
    """
    problem = _token_problem(token)
    if problem is not None:
        raise SettingsError(f"{problem}; check the variable, file or Secret block that holds it.")
    return SecretStr(token.get_secret_value().strip())


def send(
    url: str,
    body: CallbackBody | StatusBody | str,
    token: SecretStr | None,
    *,
    key: str | None = None,
    policy: RetryPolicy | None = None,
    certificates: Certificates | None = None,
    transport: httpx.BaseTransport | None = None,
    sleep: Callable[[float], None] = stopping.pause,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """POST the body until the API accepts it, and return the number of attempts.

    Parameters
    ----------
    url
        Address of the API.
    body
        The message, or its JSON.
    token
        Sent as `Authorization: Bearer`; None for an API that needs none.
    key
        Sent as `Idempotency-Key`: the same message, sent again, has the same.
    policy
        How long to retry.
    certificates
        Those that the API's is checked by; None for the usual ones.
    transport, sleep, clock
        The network and the time, replaceable.

    Raises
    ------
    CallbackDelayError
        If the API cannot be reached for as long as the policy allows.
    CallbackError
        If the API refuses it.
    SettingsError
        If the URL, the token or the certificates cannot be used.
    """
    policy = policy or RetryPolicy()
    target = check_url(url)
    secret = check_token(token) if token is not None else None
    if secret is not None and target.scheme == "http" and target.host not in LOCAL_HOSTS:
        _log.warning("the token for %s travels unencrypted; use https", target.host)
    timeout = httpx.Timeout(policy.read_timeout_s, connect=policy.connect_timeout_s)
    content = (body if isinstance(body, str) else body.model_dump_json()).encode()
    headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
    begin, attempt, wait_s = clock(), 0, policy.first_wait_s
    verify = verification(certificates)
    with httpx.Client(transport=transport, timeout=timeout, follow_redirects=False, verify=verify) as client:
        while True:
            attempt += 1
            problem, asked_wait_s = _attempt(client, target, content, headers, secret, policy)
            if problem is None:
                _log.info("%s accepted the message, attempt %d", _shown(target), attempt)
                return attempt
            pause_s = max(wait_s * random.uniform(0.5, 1.0), asked_wait_s)
            if clock() - begin + pause_s > policy.total_s:
                tries = "at the first attempt" if attempt == 1 else f"in {attempt} attempts"
                raise CallbackDelayError(
                    f"{_shown(target)} did not accept the message {tries}; the last error: {problem}.", attempt, asked_wait_s
                )
            _log.warning("%s: %s; attempt %d follows in %.0f s", _shown(target), problem, attempt + 1, pause_s)
            sleep(pause_s)
            wait_s = min(2.0 * wait_s, policy.longest_wait_s)


def notify(
    url: str,
    status: Status,
    token: SecretStr | None,
    *,
    policy: RetryPolicy = NOTICE_POLICY,
    certificates: Certificates | None = None,
    transport: httpx.BaseTransport | None = None,
    sleep: Callable[[float], None] = stopping.pause,
) -> bool:
    """Send the status of a run and return whether it was accepted; a portal that cannot be reached is a warning, not a failure."""
    try:
        with stopping.closing():  # a run that is asked to end still tells so
            body = StatusBody(status=status)
            send(url, body, token, policy=policy, certificates=certificates, transport=transport, sleep=sleep)
    except (CallbackError, SettingsError) as error:
        _log.warning("the portal did not receive the status %r: %s", status, error)
        return False
    return True


def _token_problem(token: SecretStr) -> str | None:
    # A function of its own, so that a traceback of the frame that raises cannot show the token.
    text = token.get_secret_value().strip()
    if not text:
        return "The token is empty"
    odd = next((index for index, character in enumerate(text) if not "!" <= character <= "~"), None)
    return None if odd is None else f"Character {odd + 1} of the {len(text)} of the token is not allowed in an HTTP header"


class _Bearer(httpx.Auth):
    """Reveals the token in the request's header and nowhere else."""

    def __init__(self, token: SecretStr) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._token.get_secret_value()}"
        yield request


def _attempt(
    client: httpx.Client,
    url: httpx.URL,
    content: bytes,
    headers: dict[str, str],
    token: SecretStr | None,
    policy: RetryPolicy,
) -> tuple[str | None, float]:
    """Return what went wrong (None: nothing) and the wait in seconds that the server asks for; raise if a retry cannot help."""
    try:
        response = within(policy.attempt_s, lambda: _post(client, url, content, headers, token))
    except TimeoutError:
        return f"no whole answer within {policy.attempt_s:g} s", 0.0
    except (httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
        raise CallbackError(f"{_shown(url)} cannot be contacted: {_redacted(str(error), token)}.") from None
    except httpx.RequestError as error:
        if _bad_certificate(error):
            raise CallbackDelayError(
                f"{_shown(url)} presents a certificate that is not trusted ({error}); check the URL, or name the "
                "certificates of its authority by SSL_CERT_FILE or REQUESTS_CA_BUNDLE."
            ) from error
        return _redacted(f"{type(error).__name__}: {error}", token), 0.0
    if response.is_success and response.is_word:
        return None, 0.0
    problem = f"it answered {_phrase(response.status_code)}{_quoted(response, token)}"
    if response.is_success:
        raise CallbackError(
            f"{_shown(url)} did not take the message: {problem}, "
            "which is a page for people and no word of an API; check the callback URL."
        )
    if response.is_redirect:
        place = _redacted(response.headers.get("location", "nowhere"), token)
        raise CallbackError(
            f"{_shown(url)} redirects ({response.status_code}) to {_shown_text(place)!r}; "
            "give the final address, as the token is sent to no other."
        )
    if response.status_code in _LATER or response.is_server_error:
        return problem, _retry_after(response, policy)
    raise CallbackError(f"{_shown(url)} refused the message: {problem}. {_advice(response.status_code)}")


def _post(client: httpx.Client, url: httpx.URL, content: bytes, headers: dict[str, str], token: SecretStr | None) -> Answer:
    """Send the message once and return the answer, of which no more is read than is needed to understand it."""
    auth = _Bearer(token) if token is not None else httpx.Auth()
    with client.stream("POST", url, content=content, headers=headers, auth=auth) as response:
        return read_answer(response)


def _retry_after(response: Answer, policy: RetryPolicy) -> float:
    """Return the wait that `Retry-After` asks for, in seconds or as a date, within the policy's limit."""
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        wait_s = float(text)
    else:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return 0.0
        wait_s = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(wait_s, 0.0), policy.longest_retry_after_s)


def _advice(status: int) -> str:
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return "Check the token: it may be wrong or expired."
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.GONE}:
        return "Check the callback URL."
    return f"The body is in {CALLBACK_NAME}; compare it with what the API expects."


def _phrase(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _quoted(response: Answer, token: SecretStr | None) -> str:
    """Return the beginning of the server's reply, on one line and without the token, which some servers echo."""
    words = " ".join(_redacted(response.text, token).split())
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in words)  # it may end at a terminal
    return f" ({text[:_QUOTED_CHARACTERS]})" if text else ""


def _redacted(text: str, token: SecretStr | None) -> str:
    return text.replace(token.get_secret_value(), "**********") if token is not None else text


def _bad_certificate(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _shown(url: httpx.URL) -> str:
    """Return the URL without its query and fragment, where people put secrets."""
    return str(url.copy_with(query=None, fragment=None, username=None, password=None))


def _shown_text(url: str) -> str:
    try:
        return _shown(httpx.URL(url))
    except httpx.InvalidURL:
        return "an address that cannot be understood"
