"""Every number that a step rests on stands beside its reason: a formula, a paper, or the benchmark that set it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "tiltflow"
ROOMS = ("align", "ctf", "erase", "filters", "position", "preprocess", "reconstruct", "simulate")
MODULES = sorted(path for room in ROOMS for path in (SOURCE / room).rglob("*.py"))


def constants_without_reason(source: str) -> Iterator[str]:
    """Yield the module-level numeric constants that neither a docstring nor a comment stands beside.

    A docstring may serve several constants that stand together above it.
    """
    lines, body = source.splitlines(), ast.parse(source).body
    for index, statement in enumerate(body):
        if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None or not is_number(statement.value):
            continue
        after = next((other for other in body[index + 1 :] if not isinstance(other, ast.Assign | ast.AnnAssign)), None)
        documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if not documented and "#" not in lines[statement.lineno - 1]:
            yield lines[statement.lineno - 1]


def is_number(value: ast.expr) -> bool:
    """Whether an expression is made of numbers alone: a number, a tuple or an array of them."""
    leaves = [node.value for node in ast.walk(value) if isinstance(node, ast.Constant)]
    return (
        bool(leaves) and all(isinstance(leaf, int | float) and not isinstance(leaf, bool) for leaf in leaves) and not calls(value)
    )


def calls(value: ast.expr) -> bool:
    """Whether an expression makes an object of a class (`Spots(...)`), which is no number."""
    return any(isinstance(node, ast.Call) and isinstance(node.func, ast.Name) for node in ast.walk(value))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_every_number_of_a_module_has_its_reason_beside_it(path):
    assert list(constants_without_reason(path.read_text(encoding="utf-8"))) == []


def test_a_number_without_a_reason_is_found():
    assert list(constants_without_reason('_A = 3\n"""Why."""\n_B = (1, 2.5)\n\n\ndef f(): ...\n')) == ["_B = (1, 2.5)"]
    assert list(constants_without_reason("_A = 3  # why\n_NAMES = ('a', 'b')\n")) == []
