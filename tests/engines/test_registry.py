"""Which engine, and why."""

import ast
from pathlib import Path

import pytest

import tiltflow
from tiltflow.engines.registry import choose_engine
from tiltflow.errors import ParameterError
from tiltflow.recipe.engine_rules import engine_names


def test_auto_takes_imod_when_it_is_on_the_path(fake_imod):
    engine, reason = choose_engine("auto")
    assert engine.name == "imod"
    assert "batchruntomo is on the PATH" in reason


def test_auto_takes_the_native_engine_otherwise(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    engine, reason = choose_engine("auto")
    assert engine.name == "native"
    assert "batchruntomo is not on the PATH" in reason


@pytest.mark.parametrize("name", ["native", "imod"])
def test_an_engine_asked_for_is_taken(name):
    engine, reason = choose_engine(name)
    assert (engine.name, reason) == (name, "it was requested")


def test_an_unknown_engine_is_refused():
    with pytest.raises(ParameterError, match="'magic'"):
        choose_engine("magic")


ALLOWED = {
    "demo.py": "the demonstration shows tiltflow's own engine, wherever it runs",
    "formats/known_directives.py": "the column of tiltflow's own steps, which every engine without a column follows",
    "interchange/targets.py": "IMOD reads what is exported, whichever engine made it",
}
"""Files that may name an engine, and why."""


def test_no_file_outside_of_an_engines_package_names_it():
    source, engines = Path(tiltflow.__file__).parent, engine_names()
    naming = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in engines
    }
    assert {name for name in naming if not name.startswith(tuple(f"engines/{engine}/" for engine in engines))} == set(ALLOWED)
