"""The messages of one run to the portal: `running` before, the callback with its results, `success` or `error` after, also on a crash."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pydantic import SecretStr

from tiltflow.delivery.body import CallbackBody
from tiltflow.delivery.callback import RetryPolicy, check_token, check_url, notify, send


@dataclass(frozen=True, slots=True)
class Portal:
    """The portal's API.

    Attributes
    ----------
    url, token
        Its address, and its token, if it needs one.
    patience_s
        How long to retry while the API is down, s.

    Raises
    ------
    SettingsError
        If the address or the token cannot be used.
    """

    url: str
    token: SecretStr | None
    patience_s: float

    def __post_init__(self) -> None:
        check_url(self.url)
        if self.token is not None:
            check_token(self.token)

    @contextmanager
    def following(self) -> Iterator[None]:
        """Send `running` at the start, and `error` if the `with` block ends by an exception."""
        notify(self.url, "running", self.token)
        try:
            yield
        except BaseException:  # an interrupt too: the portal must not wait for a run that is over
            notify(self.url, "error", self.token)
            raise

    def tell(self, body: CallbackBody) -> None:
        """Send the callback, then the status of the run: `error` when no series succeeded.

        Raises
        ------
        CallbackError
            If the API does not accept the callback.
        """
        try:
            send(self.url, body, self.token, policy=RetryPolicy(total_s=self.patience_s))
        except BaseException:
            notify(self.url, "error", self.token)
            raise
        succeeded = any(file.status == "success" for file in body.files)
        notify(self.url, "success" if succeeded else "error", self.token)
