"""Files of exposures, as IMOD's mtffilter reads them (DoseWeightingFile): one line a view, electrons per square ångström.

What the numbers of a line are is told beside the file (TypeOfDoseFile): 1 the exposure of the view; 2 what came before it, and that of
the view; 3 what came before it, and what had come after it.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiltflow.errors import FormatError, LocationError
from tiltflow.formats.text_files import are_decimal_commas, number, read_text


def read_exposures(path: str | os.PathLike[str], views: int, columns: int) -> NDArray[np.float64]:
    """Return the numbers of a file of exposures, `(views, columns)`; further numbers of a line are passed over.

    Raises
    ------
    LocationError
        If the file cannot be read.
    FormatError
        If it does not have a line with so many numbers of at least 0 for every view; the line is named.
    """
    path = Path(path)
    try:
        text = read_text(path)
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: is not text: give a file of exposures, one line a view") from error
    except OSError as error:
        raise LocationError(f"{path}: the file of exposures cannot be read: {error.strerror}") from error
    lines = [(at, line) for at, line in enumerate(text.splitlines(), 1) if line.strip()]
    if len(lines) != views:
        raise FormatError(f"{path}: has {len(lines)} lines for {views} views; a file of exposures has one a view")
    return np.array([_numbers(line, columns, f"{path}, line {at}") for at, line in lines])


def _numbers(line: str, columns: int, where: str) -> list[float]:
    words = line.split()
    if len(words) < columns or not are_decimal_commas(words):  # a single word with a comma is two numbers where two are wanted
        words = line.replace(",", " ").split()
    wanted = f"{columns} number{'s' if columns > 1 else ''} of at least 0, electrons per square ångström"
    try:
        values = [number(word) for word in words[:columns]]
    except ValueError as error:
        raise FormatError(f"{where}: {line.strip()[:80]!r} does not begin with {wanted}") from error
    if len(values) < columns or not all(0 <= value < np.inf for value in values):
        raise FormatError(f"{where}: {line.strip()[:80]!r} does not begin with {wanted}")
    return values
