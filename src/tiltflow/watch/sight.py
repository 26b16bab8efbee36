"""What one look at a folder shows: which series it has, and size and time of their files.

A look is one listing of the folder and a question for each file that matters; nothing is opened, but for a new `.mdoc` of an image that
is a series only with one.  It works on any share: nothing waits for messages of the file system, which network shares do not send.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tiltflow.delivery.find_series import series_among
from tiltflow.formats.frame_stacks import frame_files
from tiltflow.formats.sources import side_files
from tiltflow.formats.stacks import ENDINGS, describes_views


@dataclass(frozen=True, slots=True)
class FileState:
    """Size in bytes and time of the last change of a file, ns since 1970 by the clock of its server."""

    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Sight:
    """A series as one look shows it: its stack, and the files beside it by name."""

    path: Path
    stack: FileState
    beside: Mapping[str, FileState] = field(default_factory=dict)

    @property
    def identity(self) -> tuple[int, int, str]:
        """Size and time of the stack, and those of the files beside it as text: it changes when one of them does."""
        beside = {name: (state.size, state.mtime_ns) for name, state in sorted(self.beside.items())}
        return self.stack.size, self.stack.mtime_ns, json.dumps(beside)

    @property
    def changed(self) -> float:
        """When the last of its files was changed, s since 1970, by the clock of the server."""
        return max(state.mtime_ns for state in (self.stack, *self.beside.values())) / 1e9


class Lookout:
    """Looks at one folder again and again, and remembers which `.mdoc` describes views."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._describing: dict[tuple[str, FileState], bool] = {}

    def look(self) -> list[Sight]:
        """Return the series of the folder in natural order; several may share a base name.

        Raises
        ------
        OSError
            If the folder cannot be read.
        """
        with os.scandir(self.folder) as entries:
            found = {entry.name: entry for entry in entries}
        states: dict[str, FileState | None] = {}

        def state_of(name: str) -> FileState | None:
            if name not in states:
                states[name] = _state(found[name]) if name in found else None
            return states[name]

        def mdoc_of(path: Path) -> Path | None:
            return next((mdoc for mdoc in _own_mdocs(path) if self._describes(mdoc, state_of(mdoc.name))), None)

        files = [self.folder / name for name in found if name.endswith(ENDINGS)]
        return [
            Sight(
                path,
                stack,
                {
                    side.name: state
                    for side in (*side_files(path), *frame_files(path))
                    if (state := state_of(side.name)) is not None
                },
            )
            for path in series_among(files, mdoc_of)
            if (stack := state_of(path.name)) is not None
        ]

    def _describes(self, mdoc: Path, state: FileState | None) -> bool:
        if state is None:
            return False
        key = (mdoc.name, state)
        if key not in self._describing:
            self._describing[key] = describes_views(mdoc)
        return self._describing[key]


def _own_mdocs(path: Path) -> tuple[Path, Path]:
    return path.with_name(f"{path.name}.mdoc"), path.with_name(f"{path.stem}.mdoc")


def _state(entry: os.DirEntry[str]) -> FileState | None:
    """Return the state of a regular file, links followed; None for anything else, and for what is gone again."""
    try:
        status = entry.stat()
    except OSError:
        return None
    return FileState(status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None
