"""How many views of a series have arrived, and how many are announced: by the header, the `.mdoc` and the `.rawtlt`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tiltflow.errors import FormatError, TiltflowError
from tiltflow.formats.mdoc import read_mdoc
from tiltflow.formats.stacks import count_views
from tiltflow.formats.text_files import read_text
from tiltflow.watch.sight import Sight


@dataclass(frozen=True, slots=True)
class Arrival:
    """What has arrived of a series.

    Attributes
    ----------
    held
        Whole views in the stack.
    announced
        The most views that anything announces.
    by
        What announces them: `its header`, or the name of a file beside it.
    unread
        In words why the stack says nothing of its views; empty where it does.
    """

    held: int = 0
    announced: int = 0
    by: str = ""
    unread: str = ""

    @property
    def lacks(self) -> str:
        """In words what has not arrived; empty if all has.

        >>> Arrival(12, 31, "B.mdoc").lacks, Arrival(31, 31, "its header").lacks
        ('12 of 31 views of B.mdoc have arrived', '')
        """
        if self.unread:
            return f"it cannot be read yet: {self.unread}"
        return f"{self.held} of {self.announced} views of {self.by} have arrived" if self.held < self.announced else ""


def read_arrival(sight: Sight) -> Arrival:
    """Return what has arrived of a series; of its stack nothing but the header is read, if that tells.

    Fewer views in an `.mdoc` or a `.rawtlt` than in the stack are no sign that something is still to come: what such a file is worth
    the reading of the series decides.
    """
    try:
        announced, held = count_views(sight.path)
    except TiltflowError as error:
        return Arrival(unread=str(error))
    counts = [("its header", announced), *_described(sight)]
    by, most = max(reversed(counts), key=lambda count: count[1])
    return Arrival(held, most, by)


def _described(sight: Sight) -> Iterator[tuple[str, int]]:
    """Yield the names of the files beside a series that list its views, with the number of these."""
    beside = [sight.path.with_name(name) for name in sight.beside]
    for path in beside:
        if path.suffix == ".mdoc":  # the first is the one that the reading of the series takes
            with contextlib.suppress(TiltflowError):
                yield path.name, len(read_mdoc(path).views)
            break
    for path in beside:
        if path.suffix == ".rawtlt":
            yield path.name, _count_angles(path)


def _count_angles(path: Path) -> int:
    """Return how many views a list of angles has: one a line, or all on one line; 0 where it cannot be read."""
    try:
        lines = [line.split() for line in read_text(path).splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError, FormatError):
        return 0
    return len(lines[0]) if len(lines) == 1 else len(lines)
