"""Tilt angle files, `.rawtlt` and `.tlt`: one angle a line, degrees, in the order of the views.

`.rawtlt` holds the angles as the microscope reported them, `.tlt` those after alignment; IMOD's tiltalign has already added
its angle offset to the latter, so it must not be added again.  Written in IMOD's form, `%7.2f`.

Read with decimal commas, in UTF-16, and with other columns beside the angles (a number, the dose) where one column alone can be
the angles.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.errors import FormatError, LocationError
from tiltflow.formats.text_files import are_decimal_commas, number, read_text


def parse_tilts(text: str, where: str = "tilt angles") -> NDArray[np.float64]:
    r"""Return the angles in a text, `(views,)`, degrees.

    Blank lines and what follows a `#` are left out; several numbers on a line count as several views.  Commas are decimal commas if every
    number has one and no point, else they separate numbers.

    Raises
    ------
    FormatError
        A word is not an angle; the message begins with `where` and names the line.

    Examples
    --------
    >>> parse_tilts(" -60.00\n -57.00\n")
    array([-60., -57.])
    """
    angles = [_angle(word, f"{where}, line {line}") for line, words in _lines(text) for word in words]
    return np.array(angles, float)


def parse_tilt_column(text: str, views: int, where: str = "tilt angles") -> tuple[NDArray[np.float64], str]:
    r"""Return the angles in a text for a stack of `views` views, `(views,)`, degrees, and which column they are if there are several.

    Of several columns of one number a view, the angles are the only one with negative numbers.  Any other text is read as
    :func:`parse_tilts` does, whatever the count.

    Raises
    ------
    FormatError
        A word is not an angle, or several columns may be the angles.

    Examples
    --------
    >>> parse_tilt_column("1 -3.00\n2 0.00\n3 3.00\n", 3)
    (array([-3.,  0.,  3.]), 'column 2 of 2')
    """
    rows = [words for _, words in _lines(text)]
    columns = len(rows[0]) if rows else 0
    if columns < 2 or len(rows) != views or any(len(words) != columns for words in rows):
        return parse_tilts(text, where), ""
    table = np.array([[_finite(word) for word in words] for words in rows])
    with_negative = np.flatnonzero((table < 0).any(axis=0) & (np.abs(table) <= 360).all(axis=0))
    if len(with_negative) != 1:
        raise FormatError(
            f"{where}: has {columns} numbers on each of its {views} lines, and it cannot be told which column is the tilt; "
            f"write one angle a line"
        )
    column = int(with_negative[0])
    return table[:, column], f"column {column + 1} of {columns}"


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
    return parse_tilts(_text(Path(path)), str(path))


def read_tilts_of(path: Path, views: int) -> tuple[NDArray[np.float64], str]:
    """Return the angles in a file beside a stack of `views` views, and which column of the file they are, as :func:`parse_tilt_column`.

    Raises
    ------
    LocationError
        The file cannot be opened.
    FormatError
        It is not text, a word is not an angle, or several columns may be the angles.
    """
    return parse_tilt_column(_text(path), views, str(path))


def _text(path: Path) -> str:
    try:
        text = read_text(path)
    except UnicodeDecodeError:
        text = "\0"
    except OSError as error:
        raise LocationError(f"{path}: cannot be read: {error.strerror}") from error
    if "\0" in text or (text and not any(character.isascii() for character in text)):
        raise FormatError(f"{path}: is not text, so it holds no tilt angles that can be read")
    return text


def _lines(text: str) -> list[tuple[int, list[str]]]:
    """Return the number and the words of every line that has some."""
    lines = [line.partition("#")[0] for line in text.splitlines()]
    if not are_decimal_commas(" ".join(lines).split()):
        lines = [line.replace(",", " ") for line in lines]
    return [(place, words) for place, line in enumerate(lines, 1) if (words := line.split())]


def write_tilts(path: str | os.PathLike[str], tilt_deg: ArrayLike) -> None:
    """Write angles, degrees, one a line."""
    Path(path).write_text(render_tilts(tilt_deg), "utf-8")


def _angle(word: str, where: str) -> float:
    try:
        angle = number(word)
    except ValueError:
        raise FormatError(f"{where}: {word!r} is not an angle; write one number of degrees a line") from None
    if not math.isfinite(angle) or abs(angle) > 360:
        raise FormatError(f"{where}: {word} degrees is not a tilt angle; write one number of degrees a line")
    return angle


def _finite(word: str) -> float:
    """Return a number, NaN for a word that is none, so that its column is not taken."""
    try:
        return number(word)
    except ValueError:
        return math.nan
