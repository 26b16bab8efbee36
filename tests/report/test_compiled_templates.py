"""Templates that were compiled before: taken over when they are of the same text, and harmless when they are broken."""

import sys

import pytest
from jinja2 import DictLoader, Environment

from tiltflow.report.compiled_templates import CompiledTemplates


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """Python keeps what it compiles, in a folder of the test's own."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path / "kept"))
    return tmp_path / "kept"


def environment(folder, text="one {{ x }}"):
    return Environment(loader=DictLoader({"page": text}), autoescape=True, bytecode_cache=CompiledTemplates(folder))


def rendered(folder, text="one {{ x }}"):
    return environment(folder, text).get_template("page").render(x=1)


def test_a_template_is_compiled_once(tmp_path, kept, monkeypatch):
    assert rendered(tmp_path) == "one 1"
    (file,) = kept.rglob("*.template")
    monkeypatch.setattr(Environment, "_generate", None)  # what compiles
    assert rendered(tmp_path) == "one 1"
    assert [*kept.rglob("*.template")] == [file]


def test_a_template_that_was_changed_is_compiled_anew(tmp_path):
    assert rendered(tmp_path) == "one 1"
    assert rendered(tmp_path, "two {{ x }}") == "two 1"


@pytest.mark.parametrize("broken", [b"", b"j2", b"j2\x05\x00\x00", bytes(1000)])
def test_a_broken_file_is_replaced(tmp_path, kept, broken):
    rendered(tmp_path)
    (file,) = kept.rglob("*.template")
    whole = file.read_bytes()
    for cut in (broken, whole[:20], whole[: len(whole) // 2]):
        file.write_bytes(cut)
        assert rendered(tmp_path) == "one 1"
        assert file.read_bytes() == whole


def test_where_nothing_can_be_kept_pages_are_made_all_the_same(tmp_path, kept):
    kept.write_text("a file where a folder is wanted")
    assert rendered(tmp_path) == "one 1"


def test_nothing_is_kept_where_python_is_to_keep_nothing(tmp_path, kept, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert rendered(tmp_path) == "one 1"
    assert not kept.exists()
