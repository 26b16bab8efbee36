"""Names of a package that are imported when they are first used, so that a command waits for nothing that it does not need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module


def on_demand(package: str, modules: Mapping[str, str]) -> Callable[[str], object]:
    """Return the `__getattr__` (PEP 562) of a package, for names and the modules in it that define them.

    >>> on_demand("tiltflow.recipe", {"BrtParameters": "parameters"})("BrtParameters").__name__
    'BrtParameters'
    """

    def find(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{modules[name]}"), name)

    return find
