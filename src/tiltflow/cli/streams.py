"""Output whose failures change no result.

A reader may have left, the terminal have no letters for a name and, of commands whose results are on disk, the disk behind it be full.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any, TextIO


class Forgiving:
    """A text stream whose failures to write are forgotten; characters that it cannot show are written as escapes.

    Parameters
    ----------
    stream
        The stream of the system.

    Attributes
    ----------
    whatever
        Whether every failure is forgotten, of all streams; else only that of a reader that left.
    """

    whatever = False

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Write text, if that is possible, and return its length."""
        try:
            self._stream.write(text)
        except (OSError, ValueError) as error:  # ValueError: it is closed
            self._forgive(error)
        return len(text)

    def flush(self) -> None:
        """Pass on what was written, if that is possible."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._forgive(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _forgive(self, error: OSError | ValueError) -> None:
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError) and not Forgiving.whatever:
            raise error
        if not isinstance(error, BlockingIOError):  # what is slow now may take the next word
            self._leave()

    def _leave(self) -> None:
        """Write to nowhere from now on: what is still in the buffer would fail again at the end of the process."""
        try:
            descriptor = self._stream.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
        except (OSError, ValueError):
            self._stream = io.StringIO()


def forgive_whatever() -> None:
    """Let nothing that is printed from now on fail: the results are on disk."""
    Forgiving.whatever = True


def forgive_output() -> None:
    """Let a reader that left, or a name without letters, end no command."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None:
            setattr(sys, name, Forgiving(stream))
