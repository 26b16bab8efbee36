"""Scratch folders: one for each series, removed when it is done."""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tiltflow.disk import NO_SPACE
from tiltflow.errors import DeliveryError, LocationError, ResourceError
from tiltflow.owner import is_left_behind, new_token

_MARKER = ".tiltflow-scratch"
_LONGEST_NAME = 60

_log = logging.getLogger(__name__)


def make_scratch(source: Path, scratch: Path | None = None, *, keep: bool = False) -> Path:
    """Return a new folder for the work on one series, in `scratch` or in the system's temporary folder.

    Its name begins with the series' base name and is unique.  Folders that processes left there which are gone are removed, but for those
    that were to be kept.

    Parameters
    ----------
    keep
        Whether the folder is to outlive the work.

    Raises
    ------
    LocationError, ResourceError
        If no folder can be made there, or the disk is full.
    """
    readable = re.sub(r"[^A-Za-z0-9._-]", "_", source.stem).lstrip(".-")[:_LONGEST_NAME]
    parent = scratch or Path(tempfile.gettempdir())
    try:
        parent.mkdir(parents=True, exist_ok=True)
        remove_scratch_left_behind(parent)
        folder = parent / f"{readable}-{secrets.token_hex(8) if keep else new_token()}"
        folder.mkdir(mode=0o700)
        (folder / _MARKER).write_text(f"{source}\n", encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        if error.errno in NO_SPACE:
            raise ResourceError(
                f"No room for scratch in {parent} ({error.strerror}); make room or set TILTFLOW_SCRATCH."
            ) from error
        raise LocationError(
            f"No scratch folder can be made in {parent} ({error.strerror}); set TILTFLOW_SCRATCH to a folder that can be written to."
        ) from error
    return folder


def remove_scratch_left_behind(scratch: Path) -> None:
    """Remove the scratch folders of processes that are gone."""
    for marker in scratch.glob(f"*/{_MARKER}"):
        folder = marker.parent
        with contextlib.suppress(OSError):  # another run may do the same
            if not folder.is_symlink() and is_left_behind(folder):
                _log.info("removing %s, which a killed run left", folder)
                shutil.rmtree(folder)


def require_writable(folder: Path, what: str) -> None:
    """Raise if no file can be written in a folder, which is made if it is not there; `what` is to lie there.

    Raises
    ------
    LocationError, ResourceError
        With the reason.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"tiltflow")
            file.flush()
    except OSError as error:
        if error.errno in NO_SPACE:
            raise ResourceError(
                f"No room for {what} in {folder} ({error.strerror}); make room, and run the same command again."
            ) from error
        why = "it is a file" if folder.is_file() else error.strerror
        raise LocationError(
            f"Nothing can be written to {folder}, which is to hold {what} ({why}); give a folder that can be written to."
        ) from error


def remove_scratch(folder: Path) -> bool:
    """Remove a scratch folder and return whether it is gone; what cannot be removed is a warning, as the results are safe.

    Raises
    ------
    DeliveryError
        If `folder` was not made by :func:`make_scratch`: nothing else is ever removed.
    """
    if not folder.exists():
        return True
    if not (folder / _MARKER).is_file():
        raise DeliveryError(f"{folder} is not a scratch folder of tiltflow (it has no {_MARKER}); it is not removed.")
    try:
        shutil.rmtree(folder)
    except OSError as error:
        _log.warning("scratch folder %s could not be removed (%s); remove it by hand", folder, error)
        return False
    return True


@contextmanager
def scratch_folder(source: Path, scratch: Path | None = None, *, keep: bool = False) -> Iterator[Path]:
    """Give a scratch folder for the length of a `with` block; it is removed even after an exception, unless `keep`."""
    folder = make_scratch(source, scratch, keep=keep)
    try:
        yield folder
    finally:
        if keep:
            _log.info("scratch folder kept: %s", folder)
        else:
            remove_scratch(folder)
