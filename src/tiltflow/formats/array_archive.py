"""Arrays in one `.npz` file that NumPy opens, with all that is no array as JSON in `about`."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tiltflow.atomic_write import write_bytes
from tiltflow.errors import FormatError, LocationError

T = TypeVar("T")


def write_archive(
    path: Path, about: Mapping[str, Any], arrays: Mapping[str, Any], default: Callable[[Any], Any] | None = None
) -> None:
    """Write arrays by their names and the rest as JSON (`default` as of :func:`json.dumps`); the file is there in full or not at all."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, about=np.array(json.dumps(about, default=default)), **arrays)
    write_bytes(path, buffer.getbuffer())


def read_archive(path: Path, build: Callable[[dict[str, Any], dict[str, Any]], T], otherwise: str) -> T:
    """Return what `build` makes of the JSON and the arrays of a file.

    Raises
    ------
    LocationError
        If the file cannot be opened.
    FormatError
        If nothing can be made of it; `otherwise` says what it is not.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return build(json.loads(str(arrays.pop("about"))), arrays)
    except OSError as error:
        raise LocationError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise FormatError(f"{path}: {otherwise} ({error})") from error
