"""The messages of one run to the portal: `running` before, the callback with its results, `success` or `error` after, also on a crash."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pydantic import SecretStr

from tiltflow.delivery.body import CallbackBody, Status
from tiltflow.delivery.callback import RetryPolicy, check_token, check_url, notify, send
from tiltflow.delivery.certificates import Certificates, verification


@dataclass(frozen=True, slots=True)
class Portal:
    """The portal's API.

    Attributes
    ----------
    url, token
        Its address, and its token, if it needs one.
    patience_s
        How long to retry while the API is down, s.
    certificates
        Those that the API's is checked by; None for the usual ones.

    Raises
    ------
    SettingsError
        If the address, the token or the certificates cannot be used.
    """

    url: str
    token: SecretStr | None
    patience_s: float
    certificates: Certificates | None = None

    def __post_init__(self) -> None:
        check_url(self.url)
        if self.token is not None:
            check_token(self.token)
        verification(self.certificates)

    @contextmanager
    def following(self) -> Iterator[None]:
        """Send `running` at the start, and `error` if the `with` block ends by an exception."""
        self._notify("running")
        try:
            yield
        except BaseException:  # an interrupt too: the portal must not wait for a run that is over
            self._notify("error")
            raise

    def tell(self, body: CallbackBody) -> None:
        """Send the callback, then the status of the run: `error` when no series succeeded.

        Raises
        ------
        CallbackError
            If the API does not accept the callback.
        """
        try:
            send(self.url, body, self.token, policy=RetryPolicy(total_s=self.patience_s), certificates=self.certificates)
        except BaseException:
            self._notify("error")
            raise
        succeeded = any(file.status == "success" for file in body.files)
        self._notify("success" if succeeded else "error")

    def _notify(self, status: Status) -> None:
        notify(self.url, status, self.token, certificates=self.certificates)
