"""Records as JSON, without losing an interrupt that comes meanwhile."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

_HELD = (signal.SIGINT, signal.SIGTERM)


def as_json(model: BaseModel) -> str:
    """Return a record as indented JSON; names of files that are not UTF-8 are escaped.

    pydantic's serializer may drop an exception that a signal's handler raises, so that Ctrl-C would be lost: it is raised when the text
    is complete.
    """
    with interrupts_held():
        try:
            return model.model_dump_json(indent=1, by_alias=True)
        except PydanticSerializationError:
            return json.dumps(model.model_dump(mode="json", by_alias=True), indent=1)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until the block is done, then give them to their handlers.

    Only the main thread receives signals; in others, and where a signal has no handler of Python's, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    before = {number: handler for number in _HELD if callable(handler := signal.getsignal(number))}
    for number in before:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for signalled in dict.fromkeys(came):
            signal.raise_signal(signalled)
