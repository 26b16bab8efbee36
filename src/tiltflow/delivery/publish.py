"""Publishing of finished files in the folder of their series.

Readers never see half a file: everything is copied into a staging folder beside its destination and renamed only once all of it
is there, on the disk and not only in the system's memory, so that a power cut cannot leave an empty file under a final name.  A run
that is repeated replaces what an earlier one published; one that is killed leaves the published files as they were, and a staging
folder that the next one removes (:mod:`tiltflow.owner`).

Files of a scratch folder are copied, not linked or moved: a link would show later edits of a kept scratch folder to the portal, and
a move would make a second attempt impossible.  Large files are better made in a staging folder of the destination
(:func:`staging_folder`): they are linked, which takes no time and no space.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tiltflow import stopping
from tiltflow.atomic_write import remove_left_behind, write_text
from tiltflow.disk import NO_SPACE, copy_file, remove, size_bytes, size_text, sync, sync_folder
from tiltflow.errors import DeliveryError, ResourceError
from tiltflow.owner import new_token

_STAGING_PREFIX = ".tiltflow-staging-"

_log = logging.getLogger(__name__)


def publish(paths: Sequence[Path], destination: Path) -> tuple[Path, ...]:
    """Copy files and folders into `destination` under their own names, and return where they are now.

    Either all of them are copied before any is renamed into place, or the destination stays as it was.

    Raises
    ------
    ResourceError
        If the disk has no room for them.
    DeliveryError
        If two have the same name, or one cannot be read or written.
    """
    names = [path.name for path in paths]
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DeliveryError(f"Products of the same name cannot be published in {destination}: {', '.join(twice)}.")
    with _explained(destination):
        destination.mkdir(parents=True, exist_ok=True)
        remove_left_behind(destination)
        _require_space(paths, destination)
        with _staging(destination) as staging:
            fresh = staging / "new"
            fresh.mkdir()
            for path in paths:
                _copy(path, fresh / path.name, _link if _is_staged(path, destination) else copy_file)
            sync([fresh])
            _swap_all(names, fresh, destination, staging / "old")
            sync_folder(destination)
    return tuple(destination / name for name in names)


def staging_folder(destination: Path, name: str) -> Path:
    """Return a hidden folder of `destination`, named after the work that fills it, for files to be published there."""
    return destination / f"{_STAGING_PREFIX}{name}"


def publish_text(path: Path, text: str) -> None:
    """Write a text file so that it is there in full or not at all.

    Raises
    ------
    ResourceError, DeliveryError
        If the disk is full, or the file cannot be written.
    """
    with _explained(path.parent):
        write_text(path, text, durable=True)


def _is_staged(path: Path, destination: Path) -> bool:
    return path.parent.parent == destination and path.parent.name.startswith(_STAGING_PREFIX)


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # the file system has no such links
        copy_file(source, target)


def _copy(source: Path, target: Path, bring: Callable[[Path, Path], object]) -> None:
    # Contents only: files of scratch are private, and the share sets the permissions of its own.  shutil.copytree would copy the modes of
    # folders and go on after a full disk.
    stopping.ask()
    if source.is_dir():
        target.mkdir()
        for inner in source.iterdir():
            _copy(inner, target / inner.name, bring)
    else:
        bring(source, target)


def _swap_all(names: Sequence[str], fresh: Path, destination: Path, old: Path) -> None:
    """Rename everything from `fresh` into place; where one fails, what was there before comes back."""
    old.mkdir()
    done: list[str] = []
    try:
        for name in names:
            done.append(name)
            _swap_in(fresh / name, destination / name, old / name)
    except BaseException:
        for name in reversed(done):
            if os.path.lexists(old / name):
                remove(destination / name)
                (old / name).rename(destination / name)
            elif not os.path.lexists(fresh / name):
                remove(destination / name)
        raise


def _swap_in(fresh: Path, place: Path, old: Path) -> None:
    """Rename `fresh` to `place`, and keep what was there as `old`; a file is never missing between."""
    if place.is_dir() and not place.is_symlink():
        place.rename(old)
    elif os.path.lexists(place):
        try:
            old.hardlink_to(place)
        except OSError:  # the file system has no such links
            place.rename(old)
        if fresh.is_dir():
            place.unlink(missing_ok=True)
    fresh.rename(place)


def _require_space(paths: Sequence[Path], destination: Path) -> None:
    needed = sum(size_bytes(path) for path in paths if not _is_staged(path, destination))
    free = shutil.disk_usage(destination).free
    if needed > free:
        raise ResourceError(
            f"Publishing needs {size_text(needed)} in {destination}, where {size_text(free)} are free; "
            "make room and run the same command again; what is there already is unchanged."
        )


@contextmanager
def _staging(destination: Path) -> Iterator[Path]:
    folder = destination / f"{_STAGING_PREFIX}{new_token()}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _explained(destination: Path) -> Iterator[None]:
    try:
        yield
    except ResourceError:
        raise
    except OSError as error:
        if error.errno in NO_SPACE:
            raise ResourceError(
                f"No room left in {destination} ({error.strerror}); make room and run the same command again."
            ) from error
        raise DeliveryError(f"Cannot publish in {destination} ({error}); check its permissions and that it is mounted.") from error
