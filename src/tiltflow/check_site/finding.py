"""A check and what it found."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tiltflow.errors import TiltflowError
from tiltflow.settings import Settings

_log = logging.getLogger(__name__)


class State(StrEnum):
    """How a check ended: `note` is what a site may want or not, and stops no work."""

    GOOD = "ok"
    NOTE = "note"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, and what to do about it."""

    state: State
    found: str
    remedy: str = ""


def good(found: str) -> Finding:
    """Return that all is well."""
    return Finding(State.GOOD, found)


def note(found: str, remedy: str = "") -> Finding:
    """Return what somebody should know, and that stops no work."""
    return Finding(State.NOTE, found, remedy)


def failed(found: str, remedy: str) -> Finding:
    """Return what has to be put right."""
    return Finding(State.FAILED, found, remedy)


@dataclass(frozen=True, slots=True)
class Site:
    """What is checked.

    Attributes
    ----------
    settings
        Those of the site.
    callback_url
        An address of the portal's API, if one is to be asked.
    token_file
        The file of the token, if not that of the settings.
    """

    settings: Settings
    callback_url: str | None = None
    token_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """A check: its name, and the function that looks."""

    name: str
    look: Callable[[Site], Finding]


@dataclass(frozen=True, slots=True)
class Checked:
    """A check that was done, and the time that it took, s."""

    name: str
    finding: Finding
    seconds: float


def run_checks(checks: Iterable[Check], site: Site) -> Iterator[Checked]:
    """Yield what each check found; one that raises has failed, and the others go on."""
    for check in checks:
        begin = time.monotonic()
        try:
            finding = check.look(site)
        except TiltflowError as error:
            finding = failed(str(error), "do what the message says")
        except Exception as error:  # noqa: BLE001  the boundary: one check costs no other
            _log.debug("the check %r", check.name, exc_info=error)
            finding = failed(f"the check itself failed ({type(error).__name__}: {error})", "report it as a defect of tiltflow")
        yield Checked(check.name, finding, time.monotonic() - begin)
