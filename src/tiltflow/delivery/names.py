"""Names of series: which can name a folder and its products, and which cannot."""

from __future__ import annotations

import unicodedata
from collections.abc import Container
from pathlib import Path

_LONGEST_NAME_BYTES = 255
"""Of a file, in the file systems that are used."""
_LONGEST_ADDED_BYTES = len("_neuroglancer.json") + len(".0123abcd.partial")
"""What the longest name of a product adds to the base name, and that of the file while it is written."""


def why_unusable(source: Path, taken: Container[str]) -> str:
    """Return in words why a series cannot be done under the name of its file; empty if it can.

    Everything that a name may hold is carried (blanks, umlauts, a leading dash, what a shell would read), but for what cannot name a
    folder of its own or stand in a record.

    Parameters
    ----------
    source
        The file.
    taken
        Names in the folder of the results that the run itself uses.

    >>> why_unusable(Path("in/ö -rf $(x).mrc"), ()), why_unusable(Path("in/run.json.mrc"), {"run.json"})
    ('', "'run.json.mrc': its products would lie in a folder 'run.json', which is the name of a file of the run; rename it")
    """
    name, stem = ascii(source.name), source.stem
    if stem.strip(".") == "":
        return f"{name}: without its ending nothing but dots is left, which cannot name the folder of its products; rename it"
    if stem.casefold() in taken:
        return f"{name}: its products would lie in a folder {stem!r}, which is the name of a file of the run; rename it"
    try:
        str(source).encode()
    except UnicodeEncodeError:
        return f"{str(source)!a}: the name is not UTF-8 text, which records and messages hold; rename it"
    if any(unicodedata.category(character) == "Cc" for character in source.name):
        return f"{name}: the name holds a control character; rename it"
    if (size := len(stem.encode()) + _LONGEST_ADDED_BYTES) > _LONGEST_NAME_BYTES:
        return (
            f"{name}: the names of its products would have up to {size} bytes, and a file system takes {_LONGEST_NAME_BYTES}; "
            "give it a shorter name"
        )
    return ""
