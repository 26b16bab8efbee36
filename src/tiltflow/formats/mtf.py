"""The modulation transfer function (MTF) of a camera: a text file of two columns, frequency in cycles per pixel and MTF.

IMOD's mtffilter reads such files (MtfFile).  Empty lines and what follows a `#` are passed over.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.errors import FormatError, LocationError
from tiltflow.formats.text_files import are_decimal_commas, number, read_text

_NYQUIST = 0.5
"""Cycles per pixel."""
_MOST = 2.0
"""The largest MTF that is believed: measured ones exceed 1 by some per cent at low frequencies."""


@dataclass(frozen=True, slots=True, eq=False)
class Mtf:
    """An MTF.

    Attributes
    ----------
    frequency
        `(points,)`, increasing, cycles per pixel.
    value
        `(points,)`, 1 for a frequency that the camera passes in full.
    """

    frequency: NDArray[np.float64]
    value: NDArray[np.float64]

    def at(self, frequency: ArrayLike) -> NDArray[np.float64]:
        """Return the MTF at frequencies, cycles per pixel: linear between the points and from 1 at 0; the last value beyond the end.

        >>> Mtf(np.array([0.25, 0.5]), np.array([0.5, 0.1])).at([0.0, 0.125, 0.25, 0.6])
        array([1.  , 0.75, 0.5 , 0.1 ])
        """
        points, values = self.frequency, self.value
        if points[0] > 0:
            points, values = np.append(0.0, points), np.append(1.0, values)
        return np.asarray(np.interp(np.asarray(frequency, float), points, values))


def read_mtf(path: str | os.PathLike[str]) -> Mtf:
    """Return the MTF in a file of two columns.

    Raises
    ------
    LocationError
        If the file cannot be read.
    FormatError
        If it does not hold two columns of numbers, the frequencies do not increase from at least 0 or end far from 0.5, or the MTF
        leaves 0 to 2; line and value are named.
    """
    path = Path(path)
    try:
        text = read_text(path)
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: is not text: give a file of two columns, frequency in cycles per pixel and MTF") from error
    except OSError as error:
        raise LocationError(f"{path}: the MTF file cannot be read: {error.strerror}") from error
    lines = ((at, line.partition("#")[0].strip()) for at, line in enumerate(text.splitlines(), 1))
    rows = [_row(line, f"{path}, line {at}") for at, line in lines if line]
    if len(rows) < 2:
        raise FormatError(f"{path}: an MTF needs at least two lines, frequency in cycles per pixel and MTF; {len(rows)} found")
    frequency, value = np.array(rows).T
    back = np.flatnonzero(np.diff(frequency) <= 0)
    if back.size:
        low, high = frequency[back[0] : back[0] + 2]
        raise FormatError(f"{path}: the frequencies of an MTF must increase, and {high:g} follows {low:g}; sort the lines")
    if not _NYQUIST / 2 < frequency[-1] <= 2 * _NYQUIST:
        raise FormatError(
            f"{path}: the frequencies of the MTF end at {frequency[-1]:g}, where cycles per pixel end at {_NYQUIST}: divide those that "
            f"are fractions of Nyquist, or lines per mm, accordingly"
        )
    return Mtf(frequency, value)


def _row(line: str, where: str) -> tuple[float, float]:
    words = line.split()
    if len(words) == 1 or not are_decimal_commas(words):
        words = line.replace(",", " ").split()
    try:
        frequency, value = map(number, words)
    except ValueError as error:
        raise FormatError(
            f"{where}: {line[:80]!r} is not two numbers, a frequency in cycles per pixel and the MTF there"
        ) from error
    if not (np.isfinite(frequency) and frequency >= 0 and 0 <= value <= _MOST):
        raise FormatError(f"{where}: {line[:80]!r}: a frequency is at least 0 and an MTF from 0 to {_MOST:g}")
    return frequency, value
