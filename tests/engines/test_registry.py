"""Which engine, and why."""

import pytest

from tiltflow.engines.registry import choose_engine
from tiltflow.errors import ParameterError


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
