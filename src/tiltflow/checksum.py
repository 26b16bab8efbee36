"""Checksums of files and folders."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tiltflow import stopping

_BLOCK = 1 << 20


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder, what `find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum` prints in it.

    Raises
    ------
    OSError
        If a file cannot be read.
    """
    if path.is_dir():
        return _of_folder(path)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            stopping.ask()
            digest.update(block)
    return digest.hexdigest()


def _of_folder(folder: Path) -> str:
    names = sorted(os.fsencode(f"./{path.relative_to(folder).as_posix()}") for path in folder.rglob("*") if path.is_file())
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{sha256_of(folder / os.fsdecode(name))}  ".encode() + name + b"\n")
    return digest.hexdigest()
