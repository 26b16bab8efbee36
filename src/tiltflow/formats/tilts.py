"""Tilt angle files, `.rawtlt` and `.tlt`: one angle a line, degrees, in the order of the views.

`.rawtlt` holds the angles as the microscope reported them, `.tlt` those after alignment; IMOD's tiltalign has already added
its angle offset to the latter, so it must not be added again.  Written in IMOD's form, `%7.2f`.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.errors import FormatError, LocationError


def parse_tilts(text: str, where: str = "tilt angles") -> NDArray[np.float64]:
    r"""Return the angles in a text, `(views,)`, degrees.

    Blank lines and what follows a `#` are left out; several numbers on a line count as several views.

    Raises
    ------
    FormatError
        A word is not an angle; the message begins with `where` and names the line.

    Examples
    --------
    >>> parse_tilts(" -60.00\n -57.00\n")
    array([-60., -57.])
    """
    angles = [
        _angle(word, f"{where}, line {number}")
        for number, line in enumerate(text.splitlines(), 1)
        for word in line.partition("#")[0].replace(",", " ").split()
    ]
    return np.array(angles, float)


def render_tilts(tilt_deg: ArrayLike, decimals: int = 2) -> str:
    r"""Return angles as IMOD writes them; its programs read more decimals too, and 0.005 degrees are 0.1 pixel at 1000 pixels.

    >>> render_tilts([-60.146, 0])
    ' -60.15\n   0.00\n'
    """
    return "".join(f"{angle:{5 + decimals}.{decimals}f}\n" for angle in np.asarray(tilt_deg, float).ravel())


def read_tilts(path: str | os.PathLike[str]) -> NDArray[np.float64]:
    """Return the angles in a file, `(views,)`, degrees.

    Raises
    ------
    LocationError
        The file cannot be opened.
    FormatError
        It is not text, or a word is not an angle.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: is not text, so it holds no tilt angles that can be read") from error
    except OSError as error:
        raise LocationError(f"{path}: cannot be read: {error.strerror}") from error
    return parse_tilts(text, str(path))


def write_tilts(path: str | os.PathLike[str], tilt_deg: ArrayLike) -> None:
    """Write angles, degrees, one a line."""
    Path(path).write_text(render_tilts(tilt_deg), "utf-8")


def _angle(word: str, where: str) -> float:
    try:
        angle = float(word)
    except ValueError:
        raise FormatError(f"{where}: {word!r} is not an angle; write one number of degrees a line") from None
    if not math.isfinite(angle) or abs(angle) > 360:
        raise FormatError(f"{where}: {word} degrees is not a tilt angle; write one number of degrees a line")
    return angle
