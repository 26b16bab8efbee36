"""Sizes on disk, the system's errors for a full disk, and what makes files outlive a power cut."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from tiltflow import stopping

_COPIED_AT_ONCE = 8 << 20
"""A slow share takes 8 MiB in a second."""
_SYNCED_AT_ONCE = 16
"""Files that are brought to the disk together: a file system writes what several threads wait for in one go, ten times as fast as one
after the other for the small files of a pyramid."""

_UNITS = (("GB", 1e8, 1e9, 100), ("MB", 1e6, 1e6, 10), ("kB", 1e3, 1e3, 10))
"""Units of sizes, from which size on each is used, its bytes, and below how many of it tenths are said."""
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors of the system when the disk or the quota is full."""


def size_text(size: float) -> str:
    """Return a size in bytes with a unit of which it has a few, from 0.1 GB on in GB.

    >>> size_text(16_000), size_text(2_500_000), size_text(340_000_000), size_text(0)
    ('16 kB', '2.5 MB', '0.3 GB', '0 B')
    """
    for unit, least, factor, most_tenths in _UNITS:
        if size >= least:
            shown = size / factor
            return f"{shown:.{int(shown < most_tenths)}f} {unit}"
    return f"{size:.0f} B"


@contextmanager
def named_if_full(path: Path, *hidden: Path) -> Iterator[None]:
    """Let the error of a full disk name `path`: that of a write names no file, and one of the `hidden` files tells nobody anything."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE and error.filename in (None, *map(str, hidden)):
            # Anew: the names of errors that PyAV raises cannot be set.
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def no_room(error: OSError, *places: Path) -> str:
    """Return in words for what there was no room, how much is free there, and what to do.

    Parameters
    ----------
    error
        One of :data:`NO_SPACE`.
    places
        Folders that were written to, where the error names no file: the fullest of them is meant.
    """
    if error.filename:
        what = place = Path(os.fsdecode(error.filename))
    elif places:
        what = place = min(places, key=_free_bytes)
    else:
        return f"no room left on a disk ({error.strerror}); make room and run the same command again"
    return (
        f"no room for {what} ({error.strerror}): {size_text(_free_bytes(place))} are free there; "
        "make room and run the same command again"
    )


def _free_bytes(path: Path) -> int:
    return shutil.disk_usage(next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())).free


def size_bytes(path: Path) -> int:
    """Return the size of a file, or of all files in a folder."""
    if path.is_dir():
        return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
    return path.stat().st_size


def copy_file(source: Path, target: Path) -> Path:
    """Copy what a file holds to a new file, and return that; the work may be asked to end meanwhile (:mod:`tiltflow.stopping`).

    Raises
    ------
    OSError
        If one cannot be read or written, `target` is there already, as a link too, or not all of it could be written.
    """
    with named_if_full(target), source.open("rb") as read, target.open("xb") as written:
        size = os.fstat(read.fileno()).st_size
        while block := read.read(_COPIED_AT_ONCE):
            stopping.ask()
            written.write(block)
        written.flush()
        if (held := os.fstat(written.fileno()).st_size) != size:
            raise OSError(errno.EIO, f"has {held} bytes after a copy of {size}", str(target))
    return target


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync(paths: Iterable[Path]) -> None:
    """Wait until files and folders, with all that is in these, are on the disk, so that a power cut leaves them as they are.

    A link is as safe as the folder that holds it; what it leads to is left alone.

    Raises
    ------
    OSError
        If one cannot be written there.
    """
    every = list(_all_in(paths))
    if len(every) == 1:
        _sync_one(every[0])
        return
    with ThreadPoolExecutor(_SYNCED_AT_ONCE) as pool:
        for _ in pool.map(_sync_one, every):
            pass


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk.

    Raises
    ------
    OSError
        If they cannot be written there.
    """
    _sync_one(folder)


@contextmanager
def new_folders_kept(folder: Path) -> Iterator[None]:
    """Bring to the disk the names of a folder and of those above it, as far as they are made inside the `with` block.

    Else a power cut may take a folder with all that was synced in it.  Where a folder above may not be read, that is left to the system.
    """
    missing = [each for each in (folder.absolute(), *folder.absolute().parents) if not each.exists()]
    yield
    for each in missing:
        with suppress(OSError):
            sync_folder(each.parent)


def is_on_network(path: Path) -> bool:
    """Return whether a path lies on a file system that other machines may change, as far as Linux tells; False where nothing does."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    place = path.resolve()
    mounts = [(Path(_unescaped(fields[4])), line.rpartition(" - ")[2].split()[0]) for line in lines if (fields := line.split())]
    around = [(point, kind) for point, kind in mounts if place.is_relative_to(point)]
    kind = max(around, key=lambda mount: len(mount[0].parts), default=(place, ""))[1]
    return kind.startswith(_NETWORK)


def _unescaped(field: str) -> str:
    r"""Return a path of the list of mounts, which has blanks as numbers.

    >>> _unescaped("/mnt/my\\040share")
    '/mnt/my share'
    """
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def _all_in(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_symlink():
            continue
        if path.is_dir():
            yield from _all_in(path.iterdir())
        yield path


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(descriptor)


_NETWORK = ("nfs", "cifs", "smb", "lustre", "beegfs", "gpfs", "ceph", "afs", "9p", "fuse.")
"""How the kinds begin of file systems that machines share; those of user programs, as sshfs, count too."""
_CANNOT_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
"""Errors of file systems that do not know how to bring a folder to the disk."""
