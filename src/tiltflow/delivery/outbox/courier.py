"""Sending what the outbox holds: each message in its turn, tried again for days, never two at once.

A portal that is down is asked again after a minute, then at growing intervals, and every hour in the end; when one message to it cannot
be sent, the others to it wait for the next round too.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import httpx
from pydantic import SecretStr

from tiltflow import stopping
from tiltflow.delivery.body import StatusBody
from tiltflow.delivery.callback import NOTICE_POLICY, RetryPolicy, send
from tiltflow.delivery.outbox.book import Outbox
from tiltflow.delivery.outbox.entries import Message
from tiltflow.errors import CallbackDelayError, CallbackError, DeliveryError, SettingsError

_FIRST_WAIT_S = 60.0
_LONGEST_WAIT_S = 3600.0
_LONGEST_ASKED_S = 86400.0
"""Longest `Retry-After` that is honoured: a day; the message is in nobody's way."""
_MARGIN_S = 60.0
"""What a message is taken for beyond the time that sending it may last."""
_LOOK_S = 5.0
"""How often a courier looks for what is due."""

_log = logging.getLogger(__name__)

SiteToken = Callable[[], SecretStr | None]
"""Returns the token of the site, for messages of runs that it may go along with."""
_ONCE = RetryPolicy(total_s=0.0, longest_retry_after_s=_LONGEST_ASKED_S)
_ONCE_SHORTLY = replace(NOTICE_POLICY, total_s=0.0, longest_retry_after_s=_LONGEST_ASKED_S)
"""So that work that ends does not wait long for the answer to a message."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of the messages of one round.

    Attributes
    ----------
    sent
        Those that the portal took.
    refused
        Those that it will not take.
    waiting
        Those that could not be sent, and what is behind them is not counted.
    problem
        What went wrong last.
    """

    sent: tuple[Message, ...] = ()
    refused: tuple[Message, ...] = ()
    waiting: tuple[Message, ...] = ()
    problem: CallbackError | SettingsError | None = None


def deliver(
    outbox: Outbox,
    site_token: SiteToken,
    *,
    run: str | None = None,
    only_due: bool = True,
    policy: RetryPolicy | None = None,
    transport: httpx.BaseTransport | None = None,
    sleep: Callable[[float], None] = stopping.pause,
    enough: Callable[[], bool] = lambda: False,
    beside: str | None = None,
) -> Delivered:
    """Send what waits, and return what became of it.

    Parameters
    ----------
    outbox
        The book.
    site_token
        Gives the site's token.
    run
        Send the messages of this run only.
    only_due
        Leave out those whose time has not come.
    policy
        How long each message is tried; each once, if not given.
    transport, sleep
        The network and the wait between attempts, replaceable.
    enough
        Asked before each message: whether no further one is to be sent.
    beside
        Leave out those of runs that live, which send them themselves, but for this one's.

    Raises
    ------
    DeliveryError
        If the book cannot be read or written.
    """
    policy = policy or _ONCE
    sent: list[Message] = []
    refused: list[Message] = []
    waiting: list[Message] = []
    problem: CallbackError | SettingsError | None = None
    down: set[str] = set()
    tried: set[int] = set()
    living = _living(outbox, beside) if beside is not None else set()
    outbox.free_those_of_the_dead()
    while not enough() and (message := _next(outbox, run, down, tried, living, only_due=only_due)):
        tried.add(message.number)
        if not outbox.take(message, policy.total_s + policy.attempt_s + _MARGIN_S):
            continue
        try:
            attempts = send(
                message.url,
                message.body,
                _token_of(message, site_token),
                key=message.key,
                policy=policy,
                certificates=outbox.certificates,
                transport=transport,
                sleep=sleep,
            )
        except _NoTokenError as error:
            problem = error
            waiting.append(message)
            outbox.later(message, 0, str(error), message.due)  # another process may have it
        except CallbackDelayError as error:
            problem = error
            down.add(httpx.URL(message.url).host)
            waiting.append(message)
            outbox.later(message, error.attempts, str(error), outbox.clock() + _pause_s(message.attempts + 1, error.wait_s))
        except SettingsError as error:  # of this site, which may be put right
            problem = error
            waiting.append(message)
            outbox.later(message, 0, str(error), outbox.clock() + _pause_s(message.attempts + 1, 0.0))
        except CallbackError as error:
            problem = error
            refused.append(message)
            outbox.refused(message, error.attempts, str(error), StatusBody(status="error").model_dump_json())
        except BaseException:  # the work is asked to end: the message waits
            with contextlib.suppress(DeliveryError):
                outbox.let_go(message)
            raise
        else:
            sent.append(message)
            outbox.sent(message, attempts)
    return Delivered(tuple(sent), tuple(refused), tuple(waiting), problem)


class Courier:
    """Delivers in a thread of its own while a run works; what it cannot deliver stays in the outbox."""

    def __init__(self, outbox: Outbox, run: str, site_token: SiteToken) -> None:
        self._outbox = outbox
        self._run = run
        self._site_token = site_token
        self._wake = threading.Event()
        self._end = threading.Event()

    def wake(self) -> None:
        """Say that there is something to deliver."""
        self._wake.set()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Deliver during a `with` block; at its end the message that is being sent is waited for, and no other begun."""
        thread = threading.Thread(target=self._deliver, name="courier", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            self._wake.set()
            thread.join(NOTICE_POLICY.attempt_s)

    def _deliver(self) -> None:
        told = False
        with stopping.closing():  # work that is asked to end has words for the portal too
            while not self._end.is_set():
                try:
                    self._outbox.seen(self._run)
                    deliver(self._outbox, self._site_token, policy=_ONCE_SHORTLY, enough=self._end.is_set, beside=self._run)
                except Exception as error:  # noqa: BLE001  the boundary: what cannot be sent now is sent later
                    _log.log(logging.DEBUG if told else logging.WARNING, "nothing is sent to the portal meanwhile: %s", error)
                    told = True
                self._wake.wait(_LOOK_S)
                self._wake.clear()


def _next(outbox: Outbox, run: str | None, down: set[str], tried: set[int], living: set[str], *, only_due: bool) -> Message | None:
    """Return the message whose turn it is."""
    for message in outbox.heads(run):
        due = message.due <= outbox.clock() or not only_due
        left = message.number in tried or message.run in living or httpx.URL(message.url).host in down
        if due and not left:
            return message
    return None


def _living(outbox: Outbox, beside: str) -> set[str]:
    """Return the runs with messages that have a process of their own, but for one; of other machines, those that were lately heard of."""
    names = {message.run for message in outbox.messages("waiting")} - {beside}
    entries = [entry for name in names if (entry := outbox.find(name)) is not None]
    recent = outbox.clock() - _LONGEST_WAIT_S
    return {entry.run for entry in entries if entry.is_dead is False or (entry.is_dead is None and entry.seen > recent)}


class _NoTokenError(CallbackDelayError):
    """The site's token, which is to go along, is not to be had now: without it the portal would refuse the message for good."""


def _token_of(message: Message, site_token: SiteToken) -> SecretStr | None:
    """Return the token that goes along with a message."""
    if not message.site_token:
        return message.token
    try:
        token = site_token()
    except SettingsError as error:
        raise _NoTokenError(str(error), 0) from error
    if token is None:
        raise _NoTokenError("the token of the site, which is to go along, is not set here", 0)
    return token


def _pause_s(attempts: int, asked_s: float) -> float:
    """Return how long to wait after so many attempts, at least as long as the portal asks for."""
    wait_s = min(_FIRST_WAIT_S * 2.0 ** min(attempts - 1, 10), _LONGEST_WAIT_S) * random.uniform(0.5, 1.0)
    return max(wait_s, min(asked_s, _LONGEST_ASKED_S))
