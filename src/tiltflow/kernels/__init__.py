"""Compiled loops over arrays and scalars: no checks, no allocation, no I/O, no decisions.

Every kernel is serial and releases the interpreter lock; stages run several at once through :mod:`tiltflow.parallel`.  numba's own
thread pool is not used: its portable layer aborts when two series run at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Loop = TypeVar("Loop", bound=Callable[..., Any])


def kernel(*, fastmath: bool = False) -> Callable[[Loop], Loop]:
    """Return the decorator that compiles a kernel and keeps it; with `fastmath` sums are taken in the order that is quickest.

    Division by zero gives infinity, as in NumPy.
    """
    return cast("Callable[[Loop], Loop]", njit(nogil=True, cache=True, fastmath=fastmath, error_model="numpy"))
