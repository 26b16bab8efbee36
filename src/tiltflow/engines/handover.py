"""The policy of handing over: when another engine does the work of one that failed or did it poorly, and whose result is used.

An engine that fails hands over to the fallback engine.  One whose alignment is poor by the thresholds of the verdict does so too, and
the better of the two alignments is used (:func:`tiltflow.align.fallback.best_attempt`).  With `best` both engines always work.
"""

from __future__ import annotations

from typing import cast

from tiltflow.align.fallback import best_attempt
from tiltflow.engines.base import Engine
from tiltflow.model import Alignment
from tiltflow.recipe.engine_rules import BEST, OFF, all_engines, engine_info


def successor(wanted: str, first: str, fallback_engine: str) -> Engine | None:
    """Return the engine that may do the work after the first one; None if there is none.

    Parameters
    ----------
    wanted
        The engine that was asked for: `auto`, `best` or a name.
    first
        The name of the engine that works first.
    fallback_engine
        The name of the fallback engine, or `off`.

    Raises
    ------
    ParameterError
        If there is no such engine.
    """
    if fallback_engine not in (OFF, first):
        engine = cast("Engine", engine_info(fallback_engine))
        return engine if engine.available() else None
    if wanted != BEST:
        return None
    return next((cast("Engine", engine) for engine in all_engines() if engine.name != first and engine.available()), None)


def why_hand_over(title: str, failure: str | None, poor: str | None, *, best: bool) -> str | None:
    """Return in words why the second engine works; None where the first result stands alone.

    Parameters
    ----------
    title
        What the first engine is called.
    failure
        Its message, if it failed.
    poor
        What the verdict says against its alignment, if it is poor.
    best
        Whether both engines are to work in any case.
    """
    if failure is not None:
        return f"{title} failed: {failure}"
    if poor is not None:
        return f"the alignment by {title} is poor: {poor}"
    return "the better of two alignments is to be used" if best else None


def second_is_better(first: Alignment | None, second: Alignment | None) -> bool:
    """Return whether the second alignment is to be used; an alignment of which nothing is known loses."""
    known = [alignment for alignment in (first, second) if alignment is not None]
    return second is not None and best_attempt(known) is second
