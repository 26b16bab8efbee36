"""Files that are there in full or not at all: written beside their place, then renamed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What the system says when the disk or the quota is full."""


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Give a hidden place beside a file to write to; it takes the name of the file if all went well, and is removed if not."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
