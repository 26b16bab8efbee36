"""Which engine does the work, and why that one."""

from __future__ import annotations

from tiltflow.command import find_program
from tiltflow.engines.base import Engine
from tiltflow.errors import ParameterError


def choose_engine(wanted: str) -> tuple[Engine, str]:
    """Return the engine asked for (`auto`, `native` or `imod`), and a sentence that says why it is this one.

    Raises
    ------
    ParameterError
        If there is no such engine.
    """
    from tiltflow.engines.imod.engine import PROGRAM, ImodEngine
    from tiltflow.engines.native.engine import NativeEngine

    if wanted == "native":
        return NativeEngine(), "it was asked for"
    if wanted == "imod":
        return ImodEngine(), "it was asked for"
    if wanted != "auto":
        raise ParameterError(f"There is no engine {wanted!r}: choose auto, native or imod")
    found = find_program(PROGRAM)
    if found is None:
        return NativeEngine(), f"{PROGRAM} is not on the PATH"
    return ImodEngine(), f"{PROGRAM} is on the PATH ({found})"
