"""Who listens to the work: steps report stages, numbers, remarks and progress to an observer, and know nothing of records or terminals.

The recorder of a series (:class:`tiltflow.record.Recorder`) is an observer; :data:`SILENT` is one that hears nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tiltflow.model import Progress

StageProgress = Callable[[str, float], None]
"""Receives the name of a stage and the fraction of it that is done, 0 to 1."""


class StageObserver(Protocol):
    """Hears what one stage has to say."""

    def number(self, name: str, value: float | str | None, unit: str = "") -> None:
        """Take a number with its unit."""

    def note(self, text: str) -> None:
        """Take a sentence that explains what was done."""

    def warn(self, text: str) -> None:
        """Take a warning about this stage."""

    def progress(self, fraction: float) -> None:
        """Take the fraction of the stage that is done, 0 to 1."""


class Observer(Protocol):
    """Hears which stages are worked on, and warnings about the whole."""

    def stage(self, name: str) -> AbstractContextManager[StageObserver]:
        """Return a context for the duration of a stage; an exception that leaves it is that of a stage that failed."""

    def warn(self, text: str) -> None:
        """Take a warning about the series."""


class _SilentStage:
    def number(self, name: str, value: float | str | None, unit: str = "") -> None:
        """Hear nothing."""

    def note(self, text: str) -> None:
        """Hear nothing."""

    def warn(self, text: str) -> None:
        """Hear nothing."""

    def progress(self, fraction: float) -> None:
        """Hear nothing."""


class _Silent:
    def stage(self, name: str) -> AbstractContextManager[StageObserver]:  # noqa: ARG002  the protocol's
        """Hear nothing of a stage."""
        return nullcontext(_SilentStage())

    def warn(self, text: str) -> None:
        """Hear nothing."""


SILENT: Observer = _Silent()
"""An observer for work that nobody listens to."""


def silent_progress(_stage: str, _fraction: float) -> None:
    """Report progress to nobody."""


def tell(progress: Progress | None, fraction: float) -> None:
    """Report a fraction done to whoever listens."""
    if progress is not None:
        progress(fraction)


def part_of(progress: Progress | None, first: float, last: float) -> Progress | None:
    """Return a progress that fills the part of another from `first` to `last`."""
    return None if progress is None else lambda fraction: progress(first + fraction * (last - first))
