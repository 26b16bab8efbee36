"""What one run tells the portal: `running` before, its results, `success` or `error` after, also on a crash.

All of it goes through the outbox, in this order; the run itself waits for the portal for a bounded time only.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pydantic import SecretStr

from tiltflow import stopping
from tiltflow.delivery.body import CallbackBody, Status, StatusBody
from tiltflow.delivery.callback import NOTICE_POLICY, RetryPolicy, check_token, check_url
from tiltflow.delivery.outbox import Courier, Delivered, Outbox, RunEntry, deliver
from tiltflow.errors import DeliveryError

Mode: TypeAlias = Literal["run", "series"]
"""Whether the results are told all together at the end of a run, or each as its series ends."""


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

    @contextmanager
    def following(self, about: str, plan: dict[str, Any] | None = None) -> Iterator[Courier]:
        """Tell `running` at the start, deliver while the `with` block works, and tell `error` if it ends by an exception.

        Parameters
        ----------
        about
            What the run works on, in words.
        plan
            What another process needs to end the run in order if this one dies.

        Raises
        ------
        DeliveryError
            If the outbox cannot be written.
        """
        address = self.address
        entry = RunEntry(
            run=self.run,
            about=about,
            url=address.url,
            token=address.token,
            site_token=address.token is None and address.bearer() is not None,
            plan=plan or {},
        )
        self.outbox.begin(entry)
        self._put_status("running", "running", about)
        courier = Courier(self.outbox, self.run, address.bearer)
        try:
            with courier.at_work():
                yield courier
        except BaseException:  # an interrupt too: the portal must not wait for a run that is over
            with stopping.closing(), contextlib.suppress(DeliveryError):
                self._put_status("final", "error", about)
                self._deliver(NOTICE_POLICY)
            raise

    def put(self, body: CallbackBody, about: str) -> None:
        """Write results down, to be told in their turn.

        Raises
        ------
        DeliveryError
            If the outbox cannot be written.
        """
        self.outbox.put(self.run, "result", about, body.model_dump_json())

    def tell(self, body: CallbackBody, about: str) -> None:
        """Tell the results, where they were not told one by one, and the status of the run: `error` when no series succeeded.

        Raises
        ------
        CallbackDelayError
            If the API does not accept them in time; they stay in the outbox.
        CallbackError
            If the API refuses them.
        DeliveryError
            If the outbox cannot be written.
        """
        self.put_all(body, about)
        self.deliver()

    def put_all(self, body: CallbackBody, about: str) -> None:
        """Write down the results, where they were not told one by one, and the status of the run.

        Raises
        ------
        DeliveryError
            If the outbox cannot be written.
        """
        if self.mode == "run":
            self.put(body, about)
        succeeded = any(file.status == "success" for file in body.files)
        self._put_status("final", "success" if succeeded else "error", about)

    def deliver(self) -> None:
        """Send what the outbox holds of this run, for as long as its patience lasts.

        Raises
        ------
        CallbackDelayError, CallbackError, DeliveryError
            As :meth:`tell`.
        """
        made = self._deliver(RetryPolicy(total_s=self.patience_s))
        if made.problem is not None:
            raise made.problem

    def _put_status(self, kind: Literal["running", "final"], status: Status, about: str) -> None:
        self.outbox.put(self.run, kind, about, StatusBody(status=status).model_dump_json())

    def _deliver(self, policy: RetryPolicy) -> Delivered:
        return deliver(self.outbox, self.address.bearer, run=self.run, only_due=False, policy=policy)
