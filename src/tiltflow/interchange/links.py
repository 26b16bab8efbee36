"""Links from an export to the files that it is about, which are not copied."""

from __future__ import annotations

import os
from pathlib import Path


def link(target: Path, place: Path) -> Path | None:
    """Make `place` a relative symbolic link to a file or folder and return it; None where that is not there."""
    if not target.exists():
        return None
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(os.path.relpath(target.resolve(), place.parent.resolve()))
    return place


def present(*paths: Path | None) -> list[Path]:
    """Return the paths that were made."""
    return [path for path in paths if path is not None]
