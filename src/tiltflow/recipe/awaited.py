"""What the native engine does not do yet, although the directives are understood: refused, so that nothing is dropped in silence.

When the engine hands one of these parameters to its stage, its entry here goes, and with it the refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tiltflow.recipe.lookup import Lookup
from tiltflow.recipe.stages import StageParams

AWAITED: Mapping[str, Callable[[StageParams], bool]] = {
    "comparam.align.tiltalign.LocalAlignments": lambda params: params.solve.local is not None and params.method != "projection",
}
"""Directive to whether these parameters ask for it."""


def refuse_awaited(ask: Lookup, params: StageParams) -> None:
    """Take down which directives ask for what is still awaited."""
    for name, asks in AWAITED.items():
        if ask.has(name) and asks(params):
            ask.refuse(name, "the native engine does not do this yet: remove it, or run with --engine imod")
