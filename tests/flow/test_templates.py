"""Which templates a caller of the flow may name."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("prefect", reason="needs the extra [prefect]")

from tiltflow.errors import ParameterError
from tiltflow.settings import load_settings
from tiltflow_flows.templates import site_template

pytestmark = pytest.mark.attack("hostile caller of the flow")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ours.adoc").write_text("")
    (tmp_path / "second" / "theirs.adoc").write_text("")
    (tmp_path / "secret.adoc").write_text("")
    (tmp_path / "first" / "notes.txt").write_text("")
    monkeypatch.setenv("TILTFLOW_TEMPLATE_FOLDERS", f"{tmp_path / 'first'};{tmp_path / 'second'}")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("plastic_brt", "plastic_brt"),
        ("cryo_brt", "cryo_brt"),
        ("ours", "first/ours.adoc"),
        ("ours.adoc", "first/ours.adoc"),
        ("theirs", "second/theirs.adoc"),
    ],
)
def test_a_template_is_a_name(folder: Path, name: str, found: str) -> None:
    template = site_template(name, load_settings())
    assert template == (found if "/" not in found else folder / found)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../secret", "../secret.adoc", "secret", "notes.txt", "notes", "", ".", "first/ours"]
)
def test_no_other_file_is_one(folder: Path, name: str) -> None:
    for given in (name, str(folder / name)):
        if given in ("", "."):
            continue
        with pytest.raises(ParameterError, match="there are plastic_brt, cryo_brt, ours, theirs"):
            site_template(given, load_settings())
