"""Output that cannot fail: a full disk behind it, a reader that left or a name that the terminal has no letters for changes no result."""

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
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Write text, if that is possible, and return its length."""
        try:
            self._stream.write(text)
        except (OSError, ValueError):  # ValueError: it is closed
            self._leave()
        return len(text)

    def flush(self) -> None:
        """Pass on what was written, if that is possible."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._leave()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _leave(self) -> None:
        """Write to nowhere from now on: what is still in the buffer would fail again at the end of the process."""
        try:
            descriptor = self._stream.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
        except (OSError, ValueError):
            self._stream = io.StringIO()


def forgive_output() -> None:
    """Let nothing that is printed from now on fail."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None:
            setattr(sys, name, Forgiving(stream))
