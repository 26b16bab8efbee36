"""What one run tells the portal: `running` before, its results, `success` or `error` after, also on a crash.

All of it goes through the outbox, in this order; the run itself waits for the portal for a bounded time only.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import SecretStr

from tiltflow import stopping
from tiltflow.delivery.body import CallbackBody, Mode, Status, StatusBody
from tiltflow.delivery.callback import NOTICE_POLICY, RetryPolicy, check_token, check_url
from tiltflow.delivery.outbox import Courier, Delivered, Kind, Message, Outbox, RunEntry, deliver
from tiltflow.errors import CallbackDelayError, CallbackError, DeliveryError, SettingsError

_LOOK_S = 0.2
"""How often it is looked whether another process has sent what it took."""
_log = logging.getLogger(__name__)


def new_run() -> str:
    """Return a name for a run that no other has."""
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The portal's API.

    Attributes
    ----------
    url
        Its address.
    token
        The caller's own token, if there is one.
    site_token
        Gives the site's token, if that goes along; None if it does not.

    Raises
    ------
    SettingsError
        If the address or the token cannot be used.
    """

    url: str
    token: SecretStr | None = None
    site_token: Callable[[], SecretStr | None] | None = None

    def __post_init__(self) -> None:
        check_url(self.url)
        token = self.token or (self.site_token() if self.site_token is not None else None)
        if token is not None:
            check_token(token)

    @property
    def site_goes_along(self) -> bool:
        """Whether the site's token goes along; if it cannot be read now, it is waited for."""
        try:
            return self.token is None and self.bearer() is not None
        except SettingsError:
            return True

    def bearer(self) -> SecretStr | None:
        """Return the site's token, for the messages that it goes along with."""
        return self.site_token() if self.site_token is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Portal:
    """The conversation of one run with the portal.

    Attributes
    ----------
    address
        Of the portal's API.
    outbox
        Where the messages are kept until the portal took them.
    patience_s
        How long the run waits for the portal at its end, s.
    run
        The name of the run in the outbox; that of a run that is taken up again stays.
    mode
        When results are told.
    """

    address: Address
    outbox: Outbox
    patience_s: float
    run: str
    mode: Mode = "run"
    _spare: list[Outbox] = field(default_factory=list, init=False, repr=False)
    """An outbox in memory, once the other one cannot be written: no result is lost for want of room in the state folder."""

    @contextmanager
    def following(self, about: str, plan: dict[str, Any] | None = None) -> Iterator[Courier]:
        """Tell `running` at the start, deliver while the `with` block works, and tell `error` if it ends by an exception.

        Parameters
        ----------
        about
            What the run works on, in words.
        plan
            What another process needs to end the run in order if this one dies.
        """
        address = self.address
        with self._written(about):
            self.outbox.begin(self._entry(about, plan or {}))
        self._put_status("running", "running", about)
        courier = Courier(self.outbox, self.run, address.bearer)
        try:
            with courier.at_work():
                yield courier
        except BaseException:  # an interrupt too: the portal must not wait for a run that is over
            with stopping.closing():
                self._put_status("final", "error", about)
                self._deliver(NOTICE_POLICY)
            raise

    def put(self, body: CallbackBody, about: str) -> None:
        """Write results down, to be told in their turn."""
        self._put("result", about, body.model_dump_json())

    def tell(self, body: CallbackBody, about: str) -> None:
        """Tell the results, where they were not told one by one, and the status of the run: `error` when no series succeeded.

        Raises
        ------
        CallbackDelayError
            If the API does not accept them in time; they stay in the outbox.
        CallbackError
            If the API refuses them.
        """
        self.put_all(body, about)
        self.deliver()

    def put_all(self, body: CallbackBody, about: str) -> None:
        """Write down the results, where they were not told one by one, and the status of the run."""
        if self.mode == "run":
            self.put(body, about)
        succeeded = any(file.status == "success" for file in body.files)
        self._put_status("final", "success" if succeeded else "error", about)

    def deliver(self) -> None:
        """Send what the outbox holds of this run, for as long as its patience lasts.

        Raises
        ------
        CallbackDelayError, CallbackError
            As :meth:`tell`.
        """
        # What another thread or process has in hand is sent, or not, within the time of an attempt.
        end = time.monotonic() + max(self.patience_s, NOTICE_POLICY.attempt_s)
        while True:
            made = self._deliver(RetryPolicy(total_s=self.patience_s))
            if made.problem is not None:
                raise made.problem
            left = [message for message in self._left() if message.run == self.run]
            refused = [message for message in left if message.state == "refused" and message.kind == "result"]
            if refused:  # by the hand of another process
                raise CallbackError(refused[0].problem)
            if not any(message.state == "waiting" for message in left):
                self._end_on_the_disk()
                return
            if time.monotonic() >= end:
                raise CallbackDelayError("what this run has to tell is being sent by another process", 0)
            stopping.pause(_LOOK_S)

    def _end_on_the_disk(self) -> None:
        """Let nobody tell of this run what it told from memory: on the disk it has not told its last word."""
        with contextlib.suppress(DeliveryError):
            entry = self.outbox.find(self.run) if self._spare else None
            if entry is not None and entry.ended is None:
                self.outbox.supersede(entry)

    def _left(self) -> Iterator[Message]:
        for book in (self.outbox, *self._spare):
            with contextlib.suppress(DeliveryError):
                yield from book.messages("waiting", "refused")

    @property
    def keeps(self) -> bool:
        """Whether what the portal is not told outlives the process."""
        return self.outbox.is_durable and not self._spare

    def _put_status(self, kind: Literal["running", "final"], status: Status, about: str) -> None:
        self._put(kind, about, StatusBody(status=status).model_dump_json())

    def _put(self, kind: Kind, about: str, text: str) -> None:
        if not self._spare:
            with self._written(about):
                self.outbox.put(self.run, kind, about, text)
                return
        self._spare[0].put(self.run, kind, about, text)

    @contextmanager
    def _written(self, about: str) -> Iterator[None]:
        """Go on with an outbox in memory if the one on the disk cannot be written."""
        try:
            yield
        except DeliveryError as error:
            _log.warning("what this run tells from now on is lost if the portal does not take it by its end: %s", error)
            spare = Outbox(None, certificates=self.outbox.certificates)
            spare.begin(self._entry(about, {}))
            self._spare.append(spare)

    def _entry(self, about: str, plan: dict[str, Any]) -> RunEntry:
        address = self.address
        return RunEntry(
            run=self.run, about=about, url=address.url, token=address.token, site_token=address.site_goes_along, plan=plan
        )

    def _deliver(self, policy: RetryPolicy) -> Delivered:
        """Send what waits: first what the book on the disk holds, if it can be read."""
        made = Delivered()
        for book in (self.outbox, *self._spare):
            try:
                more = deliver(book, self.address.bearer, run=self.run, only_due=False, policy=policy)
            except DeliveryError as error:
                _log.warning("what the outbox holds is not sent now: %s", error)
                continue
            made = Delivered(
                made.sent + more.sent, made.refused + more.refused, made.waiting + more.waiting, made.problem or more.problem
            )
        return made
