"""Transform files, `.xf`, `.prexg`, `.tltxf`: one line `A11 A12 A21 A22 DX DY` a view.

A transform maps raw coordinates to aligned ones, both measured from the image centres, in unbinned pixels; see
:mod:`tiltflow.geometry`.  Written in IMOD's form, `%12.7f` four times and `%12.3f` twice, so that a file that is read and
written comes out the same to the byte.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.errors import FormatError, LocationError
from tiltflow.formats.text_files import bytes_of


def parse_transforms(text: str, where: str = "transforms") -> NDArray[np.float64]:
    """Return the transforms in a text, `(views, 2, 3)`, rows `[A | d]`.

    Raises
    ------
    FormatError
        A line is not six finite numbers; the message begins with `where` and names the line.

    Examples
    --------
    >>> parse_transforms("   1.0000005   0.0000000   0.0000000   1.0000005     -28.312       6.437")
    array([[[  1.0000005,   0.       , -28.312    ],
            [  0.       ,   1.0000005,   6.437    ]]])
    """
    rows = [_numbers(line, f"{where}, line {number}") for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    six = np.array(rows, float).reshape(-1, 6)
    return np.concatenate([six[:, :4].reshape(-1, 2, 2), six[:, 4:, None]], axis=2)


def render_transforms(transforms: ArrayLike) -> str:
    """Return transforms, `(views, 2, 3)`, as IMOD writes them."""
    return "".join(
        f"{a11:12.7f}{a12:12.7f}{a21:12.7f}{a22:12.7f}{dx:12.3f}{dy:12.3f}\n"
        for (a11, a12, dx), (a21, a22, dy) in np.asarray(transforms, float).reshape(-1, 2, 3).tolist()
    )


def read_transforms(path: str | os.PathLike[str]) -> NDArray[np.float64]:
    """Return the transforms in a file, `(views, 2, 3)`.

    Raises
    ------
    LocationError
        The file cannot be opened.
    FormatError
        It is not text, or a line is not six finite numbers.
    """
    path = Path(path)
    try:
        text = bytes_of(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: is not text, so it holds no transforms that can be read") from error
    except OSError as error:
        raise LocationError(f"{path}: cannot be read: {error.strerror}") from error
    return parse_transforms(text, str(path))


def write_transforms(path: str | os.PathLike[str], transforms: ArrayLike) -> None:
    """Write transforms, `(views, 2, 3)`, one a line."""
    Path(path).write_text(render_transforms(transforms), "utf-8")


def _numbers(line: str, where: str) -> list[float]:
    try:
        numbers = [float(word) for word in line.split()]
    except ValueError:
        numbers = []
    if len(numbers) != 6 or not np.isfinite(numbers).all():
        raise FormatError(f"{where}: {line.strip()[:80]!r} is not a transform; it takes six numbers, A11 A12 A21 A22 DX DY")
    return numbers
