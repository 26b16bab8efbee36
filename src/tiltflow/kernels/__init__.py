"""Compiled loops over arrays and scalars: no checks, no allocation, no I/O, no decisions.

Every kernel is serial and releases the interpreter lock; stages run several at once through :mod:`tiltflow.parallel`.  numba's own
thread pool is not used: its portable layer aborts when two series run at once.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

Loop = TypeVar("Loop", bound=Callable[..., Any])

REORDERED = frozenset({"reassoc", "contract", "arcp", "nsz"})
"""Of what `fastmath` allows: sums and products in the order that is quickest, while what is no number stays none."""

_making = threading.RLock()


def kernel(*, fastmath: bool | frozenset[str] = False) -> Callable[[Loop], Loop]:
    """Return the decorator that compiles a kernel and keeps it; with `fastmath` sums are taken in the order that is quickest.

    Division by zero gives infinity, as in NumPy.  What is compiled is kept where numba keeps it (beside the module, else in the home
    folder), else in a private folder for temporary files; where nothing can be kept, it is compiled anew, and a remark says so.  numba
    itself is imported by the first call of a kernel.
    """

    def to_be_compiled(loop: Loop) -> Loop:
        return cast("Loop", functools.update_wrapper(_Kernel(loop, fastmath), loop))

    return to_be_compiled


def kept_in(loop: Callable[..., Any]) -> Path | None:
    """Return the folder in which what is compiled of a kernel is kept; None where nothing can be kept."""
    from tiltflow.kernels.compiling import folder_of

    return folder_of(numba_function(loop))


def numba_function(loop: Callable[..., Any]) -> Any:
    """Return numba's function for a kernel, which is compiled when it is first called."""
    return loop.made if isinstance(loop, _Kernel) else loop


class _Kernel:
    """A loop that becomes numba's function when it is first called."""

    def __init__(self, loop: Callable[..., Any], fastmath: bool | frozenset[str]) -> None:
        self._loop, self._fastmath = loop, fastmath
        self._made: Any = None

    def __call__(self, *arguments: Any) -> Any:
        """Run it."""
        return (self._made or self.made)(*arguments)

    @property
    def made(self) -> Any:
        """The function of numba."""
        with _making:
            if self._made is None:
                from tiltflow.kernels.compiling import compiled

                self._give_parts()
                self._made = compiled(self._loop, fastmath=self._fastmath)
        return self._made

    def _give_parts(self) -> None:
        """Put numba's functions in the place of the kernels that this one calls, since numba knows no others."""
        names = self._loop.__globals__
        for name in self._loop.__code__.co_names:
            if isinstance(part := names.get(name), _Kernel):
                names[name] = part.made
