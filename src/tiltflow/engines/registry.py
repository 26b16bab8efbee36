"""The choice of the engine, with the reason."""

from __future__ import annotations

from typing import cast

from tiltflow.engines.base import Engine
from tiltflow.errors import UnsupportedError
from tiltflow.recipe.engine_rules import AUTO, BEST, all_engines, engine_info


def find_engine(name: str) -> Engine:
    """Return the engine of that name.

    Raises
    ------
    ParameterError
        If there is none.
    """
    return cast("Engine", engine_info(name))


def choose_engine(wanted: str) -> tuple[Engine, str]:
    """Return the requested engine, and the reason for the choice in words.

    With `auto` and `best` it is the preferred engine of those that can be used here.

    Raises
    ------
    ParameterError
        If there is no such engine.
    UnsupportedError
        If none can be used here.
    """
    if wanted not in (AUTO, BEST):
        return find_engine(wanted), "it was requested"
    reasons: list[str] = []
    for engine in all_engines():
        if because := engine.available():
            return cast("Engine", engine), "; ".join([*reasons, because])
        reasons.append(engine.unavailable())
    raise UnsupportedError(f"No engine can be used here: {'; '.join(reasons)}")
