"""The one way to write a file or a folder: it is there in full or not at all.

It is written under a hidden name beside its place and renamed when it is complete.  A reader never sees a part of it, a failure
leaves the former file, and a killed run leaves nothing under the final name.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tiltflow.disk import named_if_full, remove, sync, sync_folder
from tiltflow.owner import is_left_behind, new_token

PARTIAL_PREFIX = ".tiltflow-"
"""How the names of incomplete files begin.  They do not hold the name of the file, which may be as long as a name can be."""


@contextmanager
def atomic_write(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Give a hidden path beside `path` to write a file or a folder to, and rename it to `path` at the end.

    The hidden name ends in the suffix of `path`, since encoders choose the container by it.  After an exception it is
    removed, and the former file stays.  Folders above `path` are made; only a folder replaces a folder.  With `durable` it is on the disk
    before it gets its name, and has its name on the disk at the end: a power cut leaves it or the former one.

    Raises
    ------
    OSError
        If `path` cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{PARTIAL_PREFIX}{new_token()}{path.suffix}")
    try:
        with named_if_full(path, partial):
            yield partial
            if durable:
                sync([partial])
            if partial.is_dir() and path.is_dir() and not path.is_symlink():
                _replace_folder(partial, path)
            else:
                partial.replace(path)
            if durable:
                sync_folder(path.parent)
    finally:
        remove(partial)


def write_text(path: Path, text: str, *, errors: str = "strict", durable: bool = False) -> None:
    """Write a UTF-8 text file by :func:`write_bytes`."""
    write_bytes(path, text.encode("utf-8", errors=errors), durable=durable)


def write_bytes(path: Path, data: bytes | memoryview, *, durable: bool = False) -> None:
    """Write a file by :func:`atomic_write`, after looking whether all of it was taken.

    Libraries that write to a path of their own may take a short write, as on a full disk, for a whole one: what they make is made in
    memory.

    Raises
    ------
    OSError
        If not all of it can be written.
    """
    with atomic_write(path, durable=durable) as partial:
        with partial.open("xb") as file:  # it must not be there, not even as a link that somebody planted
            file.write(data)
        if (held := partial.lstat().st_size) != len(data):
            raise OSError(errno.EIO, f"{held} of {len(data)} bytes were written", str(path))


def remove_left_behind(folder: Path) -> None:
    """Remove the hidden files and folders in a folder that processes left which are gone (:mod:`tiltflow.owner`)."""
    for path in folder.glob(f"{PARTIAL_PREFIX}*"):
        with contextlib.suppress(OSError):  # another run may do the same
            if is_left_behind(path):
                remove(path)


def _replace_folder(partial: Path, path: Path) -> None:
    """Rename `partial` to `path`, a folder that holds files: it goes aside first, and comes back if that fails."""
    former = path.with_name(f"{PARTIAL_PREFIX}{new_token()}")
    path.rename(former)
    try:
        partial.rename(path)
    except OSError:
        former.rename(path)
        raise
    remove(former)
