"""Which templates a caller of the flow may name."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

pytest.importorskip("prefect", reason="needs the extra [prefect]")

from tiltflow.errors import ParameterError
from tiltflow.recipe import BrtParameters, make_recipe
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
        ("plastic_brt.adoc", "plastic_brt"),
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


@pytest.fixture
def niaid_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the names of NIAID's: capitals, a dash, an underscore, and tiltflow's own names among them."""
    folder = tmp_path / "templates"
    folder.mkdir()
    for name in ("TEM-Tomo", "SARsCoV2_1", "dirTemplate", "plastic_brt", "cryo_brt"):
        thickness = 120 if name != "cryo_brt" else "{{ THICKNESS }}"
        (folder / f"{name}.adoc").write_text(f"setupset.copyarg.gold={{{{ gold }}}}\ncomparam.tilt.tilt.THICKNESS={thickness}\n")
    monkeypatch.setenv("TILTFLOW_TEMPLATE_FOLDERS", str(folder))
    return folder


@pytest.mark.parametrize("ending", ["", ".adoc"])
@pytest.mark.parametrize("name", ["TEM-Tomo", "SARsCoV2_1", "dirTemplate", "plastic_brt"])
def test_the_names_that_niaid_has_become_recipes_with_and_without_their_ending(niaid_folder: Path, name: str, ending: str) -> None:
    template = site_template(name + ending, load_settings())
    assert template == niaid_folder / f"{name}.adoc"
    recipe = make_recipe(BrtParameters(gold=10, thickness=300), template)
    assert {each.name: each.value for each in recipe.directives}["comparam.tilt.tilt.THICKNESS"] == "120"


def test_a_template_of_the_site_takes_the_place_of_tiltflows_and_the_log_says_so(
    niaid_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "tiltflow_flows"):
        site_template("cryo_brt", load_settings())
        site_template("TEM-Tomo", load_settings())
    assert [line.getMessage() for line in caplog.records] == [
        f"the template cryo_brt is the site's own, {niaid_folder / 'cryo_brt.adoc'}"
    ]


def test_an_unknown_name_is_answered_by_those_there_are_and_the_nearest(
    niaid_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = "there are plastic_brt, cryo_brt, dirTemplate, SARsCoV2_1, TEM-Tomo"
    with pytest.raises(ParameterError, match=rf"no template 'tem_tomo' \(did you mean 'TEM-Tomo'\?\); {there}\. A template"):
        site_template("tem_tomo", load_settings())
    with pytest.raises(ParameterError, match=rf"no template 'room_temperature'; {there}\. "):
        site_template("room_temperature", load_settings())
    monkeypatch.setenv("TILTFLOW_TEMPLATE_FOLDERS", f"{niaid_folder};{tmp_path / 'unmounted'}")
    with pytest.raises(ParameterError, match=rf"Of the template_folders {tmp_path / 'unmounted'} cannot be read"):
        site_template("x", load_settings())
