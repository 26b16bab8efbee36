"""A request for a folder, prepared: what it means, and what is refused before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiltflow.errors import LocationError, UnsupportedError
from tiltflow.pipeline import prepare
from tiltflow.recipe import Recipe, SeriesRecipes, make_recipe
from tiltflow.recipe.engine_rules import engine_info
from tiltflow.settings import Settings, load_settings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "in"
    place.mkdir()
    for name in ("A.st", "B.st"):
        (place / name).write_text("no images")
    (place / "series.csv").write_text("name,gold\nB,6\nC,6\n")
    return place


def test_a_table_gives_series_of_the_folder_settings_of_their_own(folder: Path) -> None:
    made = prepare(folder, make_recipe())
    assert [path.name for path in made.sources] == ["A.st", "B.st"]
    assert list(made.recipes.own) == ["B"]
    assert made.table == folder / "series.csv"
    assert ["there is no series 'C'" in remark.message for remark in made.remarks] == [True]


def test_recipes_of_every_series_stand_as_they_are(folder: Path) -> None:
    asked = SeriesRecipes(make_recipe())
    made = prepare(folder, asked)
    assert made.recipes is asked
    assert made.table is None
    assert [remark.message for remark in made.remarks] == ["series.csv is not read: --like decides all settings"]


def test_engines_here_are_asked_only_where_the_work_is_done_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_info("imod"), "available", lambda: "")
    asked = make_recipe(overrides=["comparam.tilt.tilt.XTILTFILE=a"])
    with pytest.raises(UnsupportedError, match="XTILTFILE"):
        prepare(folder, asked)
    assert prepare(folder, asked, here=False).recipes.common == asked


def test_a_file_of_one_alignment_is_refused_for_two_series(folder: Path) -> None:
    (folder / "A.xf").touch()
    asked = make_recipe(alignment=folder / "A.xf")
    with pytest.raises(LocationError, match="is the alignment of one series, and there are 2"):
        prepare(folder, asked)
    assert len(prepare(folder, asked, file="A.st").sources) == 1


def test_a_recipe_has_what_the_site_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILTFLOW_ENGINE", "native")
    monkeypatch.setenv("TILTFLOW_FALLBACK", "no")
    monkeypatch.setenv("TILTFLOW_ZARR_VERSION", "0.5")
    settings: Settings = load_settings()
    made: Recipe = make_recipe(**settings.recipe_defaults)
    assert (made.engine, made.fallback, made.pyramid) == ("native", False, settings.pyramid)
    assert made.fallback_engine == settings.fallback_engine
