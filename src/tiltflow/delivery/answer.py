"""Answers of the portal's API, read as far as they are needed and waited for as long as is sensible."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import httpx

from tiltflow import stopping

LARGEST_BYTES = 64 << 10
"""What is read of an answer: enough for any word of an API; one that never ends must fill no memory."""

_LOOK_S = 0.5
"""How often it is looked whether the work is asked to end."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered.

    Attributes
    ----------
    status_code
        HTTP status.
    headers
        Of the answer.
    text
        The beginning of the body.
    whole
        Whether that is all of it.
    """

    status_code: int
    headers: httpx.Headers = field(repr=False)  # servers echo what they are sent, the token too
    text: str = field(repr=False)
    whole: bool

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return self.status_code // 100 == 2

    @property
    def is_redirect(self) -> bool:
        """Whether the status is 3xx."""
        return self.status_code // 100 == 3

    @property
    def is_server_error(self) -> bool:
        """Whether the status is 5xx."""
        return self.status_code // 100 == 5

    @property
    def is_word(self) -> bool:
        """Whether the body is what an API says: nothing, or JSON."""
        text = self.text.strip()
        if not text:
            return True
        if not self.whole:
            return text[0] in "{["
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return False
        return True


def read_answer(response: httpx.Response) -> Answer:
    """Return an answer, with the first :data:`LARGEST_BYTES` of its body."""
    body = bytearray()
    for chunk in response.iter_bytes(4096):
        body += chunk
        if len(body) >= LARGEST_BYTES:
            break
    whole = len(body) < LARGEST_BYTES
    text = bytes(body[:LARGEST_BYTES]).decode("utf-8", errors="replace")  # the encodings that servers name are not all known
    return Answer(response.status_code, response.headers, text, whole)


class _Box(Generic[T]):
    """What a call in another thread came to."""

    value: T
    error: BaseException | None = None


def within(limit_s: float, call: Callable[[], T]) -> T:
    """Return what `call` returns, or raise what it raises.

    Time limits of a socket start again with every byte, so that a server can hold a connection for ever; here the call is left to itself
    in a thread of its own, which ends with the process.

    Raises
    ------
    TimeoutError
        If it takes longer than `limit_s`.
    """
    box: _Box[T] = _Box()

    def run() -> None:
        try:
            box.value = call()
        except BaseException as error:  # noqa: BLE001  it is raised where the result is waited for
            box.error = error

    thread = threading.Thread(target=run, name="portal", daemon=True)
    thread.start()
    end = time.monotonic() + limit_s
    while thread.is_alive() and (left := end - time.monotonic()) > 0:
        stopping.ask()
        thread.join(min(left, _LOOK_S))
    if thread.is_alive():
        raise TimeoutError
    if box.error is not None:
        raise box.error
    return box.value
