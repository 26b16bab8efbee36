"""The numeric constants in the source of a package, and how to change one of them wherever it is used.

Found are numbers, tuples and arrays of numbers at module level, and the numeric defaults of `...Params` dataclasses.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import tiltflow

STRUCTURAL = {
    "align.bundle.variables": "indices of the seven parameters of a view",
    "align.bundle.expected_error._SHIFTS": "number of shifts of a view",
    "align.patches.coherence._BANDS": "number of bands whose edges are given",
    "align.projection.matching.PARAMETERS": "number of parameters of a view",
    "align.projection.posterior._DRIFTS": "index of a parameter",
    "align.projection.posterior._ESTIMATED": "indices of parameters",
}
"""Numbers that are no matter of choice, by module or constant: left out."""


# --- Series and measures ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Constant:
    """A number in the code: of a module, or the default of a field of a dataclass in it."""

    package: str
    module: str
    name: str
    value: Any
    owner: str = ""

    @property
    def label(self) -> str:
        """`module.NAME` or `module.Class.field`, below the package."""
        inner = self.module.removeprefix(f"tiltflow.{self.package}").lstrip(".")
        return ".".join(part for part in (inner, self.owner, self.name) if part)


def constants_of(package: str, structural: Mapping[str, str] = STRUCTURAL) -> list[Constant]:
    """Return the numeric constants of a package below `tiltflow`, in the order of the source, without `structural` ones."""
    root = importlib.import_module(f"tiltflow.{package}")
    names = [root.__name__]
    if hasattr(root, "__path__"):
        names += sorted(found.name for found in pkgutil.walk_packages(root.__path__, f"{root.__name__}."))
    found = []
    for name in names:
        if name.removeprefix("tiltflow.") in structural:
            continue
        module = importlib.import_module(name)
        for node in _tree(name).body:
            if isinstance(node, ast.ClassDef) and node.name.endswith("Params"):
                parameters = inspect.signature(getattr(module, node.name)).parameters.values()
                found += [
                    Constant(package, name, each.name, each.default, node.name) for each in parameters if _is_numeric(each.default)
                ]
            for target in _assigned(node):
                if _is_numeric(value := getattr(module, target)):
                    found.append(Constant(package, name, target, value))
    return [each for each in found if f"{each.module}.{each.name}".removeprefix("tiltflow.") not in structural]


@functools.cache
def _tree(module: str) -> ast.Module:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ImportError(f"{module} has no source")
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def _assigned(node: ast.stmt) -> list[str]:
    """Return the names that a statement of a module assigns."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    names = [part for target in targets for part in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return [name.id for name in names if isinstance(name, ast.Name)]


def _is_numeric(value: Any) -> bool:
    if isinstance(value, tuple):
        return bool(value) and all(map(_is_numeric, value))
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "fi"
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def scaled(value: Any, factor: float) -> Any:
    """Return a number, or each of several, times a factor; whole numbers stay whole and at least 1."""
    if isinstance(value, tuple):
        return tuple(scaled(part, factor) for part in value)
    if isinstance(value, np.ndarray):
        return value * factor if value.dtype.kind == "f" else np.maximum(np.rint(value * factor), 1).astype(value.dtype)
    return max(round(value * factor), 1) if isinstance(value, int) else value * factor


@contextlib.contextmanager
def changed(constant: Constant, value: Any) -> Iterator[None]:
    """Hold a constant at another value, wherever it has been imported, inside a `with` block."""
    with contextlib.ExitStack() as undo:
        if constant.owner:
            owner = getattr(sys.modules[constant.module], constant.owner)
            _change_default(undo, owner.__init__, constant.name, value)
        else:
            for module, name in _holders(constant.module, constant.name):
                undo.callback(setattr, module, name, getattr(module, name))
                setattr(module, name, value)
                for function, parameter in _defaults(module, name):
                    _change_default(undo, function, parameter, value)
        yield


def _change_default(undo: contextlib.ExitStack, function: Any, name: str, value: Any) -> None:
    keywords = function.__kwdefaults__ or {}
    if name in keywords:
        undo.callback(keywords.__setitem__, name, keywords[name])
        keywords[name] = value
        return
    parameters = [each for each in inspect.signature(function).parameters.values() if each.kind is not each.KEYWORD_ONLY]
    with_default = [each.name for each in parameters if each.default is not each.empty]
    before = function.__defaults__
    undo.callback(setattr, function, "__defaults__", before)
    function.__defaults__ = tuple(value if each == name else old for each, old in zip(with_default, before, strict=True))


def _defaults(module: ModuleType, name: str) -> Iterator[tuple[Any, str]]:
    """Yield the functions and methods of a module that have a constant as the default of a parameter, and the parameter."""
    for node in _tree(module.__name__).body:
        owner: Any = getattr(module, node.name) if isinstance(node, ast.ClassDef) else module
        for function in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(function, ast.FunctionDef):
                arguments = function.args
                positional = (*arguments.posonlyargs, *arguments.args)[::-1]
                pairs = [
                    *zip(positional, arguments.defaults[::-1], strict=False),
                    *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
                ]
                for argument, default in pairs:
                    if isinstance(default, ast.Name) and default.id == name:
                        yield getattr(owner, function.name), argument.arg


def _holders(module: str, name: str) -> list[tuple[ModuleType, str]]:
    """Return the modules that hold a constant, and under which name: its own and all that import it from there."""
    held, todo = [], [(module, name)]
    while todo:
        source, known_as = todo.pop()
        held.append((sys.modules[source], known_as))
        for other in [each for each in sys.modules if each.startswith(f"{tiltflow.__name__}.")]:
            for node in _tree(other).body:
                if isinstance(node, ast.ImportFrom) and node.module == source:
                    todo += [(other, each.asname or each.name) for each in node.names if each.name == known_as]
    return held
