"""The examples in docstrings show what the code does; those of the front door are run by its own tests."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import tiltflow

SOURCE = Path(tiltflow.__file__).parent
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in SOURCE.rglob("*.py")
    if path.name != "front_door.py" and ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_module_give_what_they_show(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
