"""What stands in the outbox: runs, and messages to the portal."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self, TypeAlias

from pydantic import SecretStr

from tiltflow.owner import is_gone, kernel

Kind: TypeAlias = Literal["running", "result", "final"]
State: TypeAlias = Literal["waiting", "sent", "refused", "dropped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEntry:
    """A run of which the portal is told.

    Attributes
    ----------
    run
        Its name, which no other run has.
    about
        What it works on, in words: a folder or a file.
    url
        Address of the portal's API; None for a run that tells nobody.
    token
        The caller's own, if there is one.
    site_token
        Whether the site's token goes along, which is not written down.
    plan
        What another process needs to end the run in order if its own dies (:mod:`tiltflow.pipeline.dead_runs`).
    owner, host, kernel
        Token of its process (:mod:`tiltflow.owner`), and the machine, as it was started then.
    times
        How often it began, after it had ended.
    begun, seen, ended
        When it began, when its process was last heard of, and when it told its last word (None: not yet), s since 1970.
    """

    run: str
    about: str
    url: str | None
    token: SecretStr | None = None
    site_token: bool = False
    plan: dict[str, Any] = field(default_factory=dict)
    owner: str = ""
    host: str = ""
    kernel: str = ""
    times: int = 1
    begun: float = 0.0
    seen: float = 0.0
    ended: float | None = None

    @property
    def is_dead(self) -> bool | None:
        """Whether its process is gone, with the machine's last start for instance; None where that cannot be told from here."""
        if self.host == socket.gethostname() and self.kernel != kernel():
            return True
        return is_gone(self.owner)

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Self:
        """Return the run of a row of the book."""
        return cls(**_plain(cls, row) | {"plan": json.loads(row["plan"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message to the portal.

    Attributes
    ----------
    number
        Its place in the book.
    run, url, token, site_token
        As the run has them.
    times
        Of the beginnings of the run, the one that it belongs to.
    kind
        `running`, a result, or the final status.
    about
        What it is on, in words.
    body
        JSON.
    key
        Of the header `Idempotency-Key`.
    state
        `refused` is what the portal will not take however often it is sent.
    attempts
        How often it was sent.
    written, due, changed
        When it was written, is to be sent next, and got its state, s since 1970.
    problem
        What went wrong last.
    """

    number: int
    run: str
    url: str
    token: SecretStr | None
    site_token: bool
    times: int
    kind: Kind
    about: str
    body: str
    key: str
    state: State
    attempts: int
    written: float
    due: float
    changed: float
    problem: str

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Self:
        """Return the message of a row of the book, with what the row of its run says."""
        return cls(**_plain(cls, row))


def _plain(kind: type[RunEntry | Message], row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an entry from a row, with the token out of sight."""
    token = row["token"]
    secret = {"token": None if token is None else SecretStr(token), "site_token": bool(row["site_token"])}
    return {each.name: row[each.name] for each in fields(kind)} | secret
