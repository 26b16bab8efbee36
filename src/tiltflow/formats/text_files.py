"""The text of small files beside a stack, in the encodings and with the numbers that people's machines write.

Windows programs write UTF-16 with a mark at its start, and European ones decimal commas.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from pathlib import Path

from tiltflow.errors import FormatError

LARGEST_BYTES = 16 << 20
"""The longest `.mdoc` seen has a third of a megabyte."""
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d+,\d+\s*")


def bytes_of(path: Path) -> bytes:
    """Return the contents of a small file; what is larger than any text beside a stack is not read.

    Raises
    ------
    OSError
        The file cannot be opened.
    FormatError
        It is too large.
    """
    with path.open("rb") as file:
        raw = file.read(LARGEST_BYTES + 1)
        if len(raw) > LARGEST_BYTES:
            size = file.seek(0, 2)
            raise FormatError(f"{path}: has {size / 1e6:.3g} MB, too much for a text of this kind; is it the right file?")
    return raw


def read_text(path: Path, errors: str = "strict") -> str:
    """Return the text of a file in UTF-8 or UTF-16; `errors` says what becomes of bytes that are no text, as in `bytes.decode`.

    Raises
    ------
    OSError
        The file cannot be opened.
    FormatError
        It is too large.
    UnicodeDecodeError
        It is not text, and `errors` is `strict`.
    """
    return decode(bytes_of(path), errors)


def decode(raw: bytes, errors: str = "strict") -> str:
    r"""Return the text of bytes in UTF-8 or, with its mark at the start or its zeros at every second place, UTF-16.

    >>> decode("TiltAngle = 3".encode("utf-16")), decode(b"T\0i\0l\0t\0")
    ('TiltAngle = 3', 'Tilt')
    """
    for mark, encoding in _MARKS:
        if raw.startswith(mark):
            return raw.decode(encoding, errors)
    for start, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        start_of_file = raw[:64]
        if len(start_of_file) >= 4 and not any(start_of_file[start::2]) and all(start_of_file[1 - start :: 2]):
            return raw.decode(encoding, errors)
    return raw.decode("utf-8", errors)


def number(text: str) -> float:
    """Return a number, also one with a decimal comma.

    Raises
    ------
    ValueError
        It is none.

    >>> number("-60,02"), number(" 3.1 ")
    (-60.02, 3.1)
    """
    return float(text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) else text)


def are_decimal_commas(words: Sequence[str]) -> bool:
    """Return whether every word is a number with a decimal comma.

    >>> are_decimal_commas(["-60,00", "-57,00"]), are_decimal_commas(["-60,-57"]), are_decimal_commas(["-60,00", "-57.0"])
    (True, False, False)
    """
    return bool(words) and all(_DECIMAL_COMMA.fullmatch(word) for word in words)
