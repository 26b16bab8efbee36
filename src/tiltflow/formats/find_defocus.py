"""The defocus that another program found of a series, whatever program it was: what a file holds tells its format, and not its name."""

from __future__ import annotations

import re
from pathlib import Path

from tiltflow.errors import FormatError
from tiltflow.formats.defocus import DefocusTable, parse_defocus
from tiltflow.formats.foreign_alignment import read_text
from tiltflow.formats.foreign_defocus import parse_ctffind, read_relion_defocus, read_warp_defocus
from tiltflow.formats.relion_star import relion_series_file

_WORDS_OF_IMOD = (5, 6)
"""Numbers of the first line of a `.defocus` file; a row of CTFFIND or AreTomo has 7, 8 or 10."""
_READ = "IMOD's .defocus, a table of CTFFIND or AreTomo, a tilt series of Warp (.xml) or of RELION (.star)"


def read_given_defocus(path: Path, name: str) -> DefocusTable:
    """Return the defocus in a file of IMOD, CTFFIND, AreTomo, Warp or RELION.

    Parameters
    ----------
    path
        The file.
    name
        Base name of the series, by which a table of all series of RELION has it.

    Raises
    ------
    LocationError, FormatError, MissingValueError
        If it cannot be read, is none of these, or holds no defocus of this series.
    """
    text = read_text(path, "a file of defocus")
    if _is_xml(text):
        return read_warp_defocus(path)
    if _is_star(text):
        return read_relion_defocus(path, name)
    first = next((line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")), [])
    if not first or not all(_NUMBER.fullmatch(word) for word in first):
        raise FormatError(f"{path}: is no file of defocus that can be read: give {_READ}")
    return parse_defocus(text, str(path)) if len(first) in _WORDS_OF_IMOD else parse_ctffind(text, str(path))


def defocus_files(path: Path, name: str) -> tuple[Path, ...]:
    """Return all files that the defocus of a series depends on: the one that is given, and that of the series which it names.

    Raises
    ------
    LocationError, FormatError, MissingValueError
        If it cannot be read, or a table of all series does not name the series.
    """
    text = read_text(path, "a file of defocus")
    return tuple(dict.fromkeys((path, relion_series_file(path, name)))) if _is_star(text) and not _is_xml(text) else (path,)


_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(inf|nan)", re.IGNORECASE)


def _is_xml(text: str) -> bool:
    return text.lstrip().startswith("<")


def _is_star(text: str) -> bool:
    return re.search(r"^\s*data_", text, re.MULTILINE) is not None
