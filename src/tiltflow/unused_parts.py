"""Parts of libraries that nobody here uses, and that are imported with them unless they are left out."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

_OF_NUMPY = "f2py", "testing"
"""NumPy itself imports these where they are asked for.  SciPy copies all its names, and so asks: 60 modules, a percent of a run."""


class _Part(ModuleType):
    """A module that is imported when something of it is used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self.__name__), name)


def leave_out_unused_parts() -> None:
    """Have what imports NumPy's Fortran compiler and its tools for tests import them when they are used; for a process that is ours."""
    import numpy as np

    for name in _OF_NUMPY:
        vars(np).setdefault(name, _Part(f"{np.__name__}.{name}"))
