"""A product appears under its name only when it is complete."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Give a hidden name beside `path` to write a file or a folder to; rename it at the end, replacing what was there.

    After an exception nothing of it is left, and what was there stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(4)
    # The suffix stays last: encoders choose the container by it.
    beside = path.with_name(f".{path.stem}.{token}{path.suffix}")
    try:
        yield beside
        if path.is_dir():
            # A folder cannot be renamed onto another that holds files.
            former = path.with_name(f".{path.stem}.{token}.former")
            path.rename(former)
            beside.rename(path)
            shutil.rmtree(former)
        else:
            beside.replace(path)
    finally:
        if beside.is_dir():
            shutil.rmtree(beside)
        else:
            beside.unlink(missing_ok=True)


def size_bytes(path: Path) -> int:
    """Return the size of a file, or of all files in a folder."""
    if path.is_dir():
        return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
    return path.stat().st_size
