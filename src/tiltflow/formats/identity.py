"""The identity of a tilt series: every file that its reading used or looked for."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tiltflow.errors import LocationError
from tiltflow.formats.sources import side_files


def identity_of(path: Path) -> dict[str, object]:
    """Return what tells one input from another, by name of file.

    The stack counts by its place, size and time of change (its contents are gigabytes); of the small files beside it the contents
    count, and where one that was looked for is absent, that counts too.

    Raises
    ------
    LocationError
        If a file cannot be read.
    """
    try:
        status = path.stat()
        beside = {each.name: hashlib.sha256(each.read_bytes()).hexdigest() if each.is_file() else None for each in side_files(path)}
    except OSError as error:
        raise LocationError(f"{error.filename or path}: cannot be read: {error.strerror}") from error
    return {"stack": [str(path), status.st_size, status.st_mtime_ns], "beside": beside}
