"""The end of the process of a command: all that is registered for it is done, and memory is left to the system."""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def without_taking_apart() -> Iterator[None]:
    """End the process of a `with` block, when it comes to its end by `SystemExit`, without freeing every object first.

    Python frees one object after the other, which after an alignment takes a third of a second.  Threads are waited for and functions
    registered with :mod:`atexit` are called as ever: the one that ends the process is registered first, so that it is called last.
    """
    status: list[int] = []

    def end() -> None:
        if status:
            logging.shutdown()
            for stream in (sys.stdout, sys.stderr):
                with suppress(AttributeError, OSError, ValueError):  # there is none, it is closed, or nobody listens
                    stream.flush()
            os._exit(status[0])

    atexit.register(end)
    try:
        yield
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            status.append((ended.code or 0) & 0xFF)
        raise
