"""Observers: steps report stages, numbers, remarks and progress to them, and know nothing of records or terminals.

The recorder of a series (:class:`tiltflow.record.Recorder`) is an observer; :data:`SILENT` is one that does nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from tiltflow import stopping

if TYPE_CHECKING:
    from tiltflow.model import Progress

StageProgress = Callable[[str, float], None]
"""Receives the name of a stage and the fraction of it that is done, 0 to 1."""


class StageObserver(Protocol):
    """Receives the reports of one stage."""

    def number(self, name: str, value: float | str | None, unit: str = "") -> None:
        """Receive a number with its unit."""

    def note(self, text: str) -> None:
        """Receive a sentence that explains what was done."""

    def warn(self, text: str) -> None:
        """Receive a warning about this stage."""

    def progress(self, fraction: float) -> None:
        """Receive the fraction of the stage that is done, 0 to 1."""


class Observer(Protocol):
    """Receives the stages of a series, and warnings about the series."""

    def stage(self, name: str) -> AbstractContextManager[StageObserver]:
        """Return a context for the duration of a stage; an exception that leaves it means that the stage failed."""

    def warn(self, text: str) -> None:
        """Receive a warning about the series."""


class HeardStage:
    """Remembers the reports of a stage that goes on in another process, to tell them to the observer in this one.

    Parameters
    ----------
    progress
        Hears at once which fraction is done; it is no part of what is remembered.
    """

    def __init__(self, progress: Progress) -> None:
        self._heard: list[tuple[str, tuple[Any, ...]]] = []
        self._progress: Progress | None = progress

    def number(self, name: str, value: float | str | None, unit: str = "") -> None:
        """Remember a number."""
        self._heard.append(("number", (name, value, unit)))

    def note(self, text: str) -> None:
        """Remember a sentence."""
        self._heard.append(("note", (text,)))

    def warn(self, text: str) -> None:
        """Remember a warning."""
        self._heard.append(("warn", (text,)))

    def progress(self, fraction: float) -> None:
        """Pass on the fraction that is done."""
        if self._progress is not None:
            self._progress(fraction)

    def __getstate__(self) -> list[tuple[str, tuple[Any, ...]]]:
        return self._heard

    def __setstate__(self, heard: list[tuple[str, tuple[Any, ...]]]) -> None:
        self._heard, self._progress = heard, None

    def tell(self, notes: StageObserver) -> None:
        """Report all to another observer, in the order in which it came."""
        for what, values in self._heard:
            getattr(notes, what)(*values)


class _SilentStage:
    def number(self, name: str, value: float | str | None, unit: str = "") -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def warn(self, text: str) -> None:
        """Do nothing."""

    def progress(self, fraction: float) -> None:
        """Do nothing."""


class _Silent:
    def stage(self, name: str) -> AbstractContextManager[StageObserver]:  # noqa: ARG002  the protocol's
        """Return an observer that does nothing."""
        return nullcontext(_SilentStage())

    def warn(self, text: str) -> None:
        """Do nothing."""


SILENT: Observer = _Silent()
"""An observer that does nothing."""


def silent_progress(_stage: str, _fraction: float) -> None:
    """Ignore progress."""


def tell(progress: Progress | None, fraction: float) -> None:
    """Report a fraction done, if a progress is given; the work may be asked to end there (:mod:`tiltflow.stopping`)."""
    stopping.ask()
    if progress is not None:
        progress(fraction)


def part_of(progress: Progress | None, first: float, last: float) -> Progress | None:
    """Return a progress that reports its work as the part from `first` to `last` of another."""
    return None if progress is None else lambda fraction: progress(first + fraction * (last - first))
