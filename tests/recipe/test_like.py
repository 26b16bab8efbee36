"""The recipe that a record holds, made again: the same parameters, the same digest, without the files it came from."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tiltflow import describe
from tiltflow.errors import FormatError, LocationError, ParameterError, UnsupportedError
from tiltflow.formats.zarrlayout import PyramidLayout
from tiltflow.recipe import BrtParameters, Recipe, make_recipe
from tiltflow.recipe.like import recipe_like, recipes_like
from tiltflow.recipe.per_series import SeriesRow, recipe_of_row
from tiltflow.record import RunRecord, RunSeriesEntry, SeriesRecord
from tiltflow.version import __version__


def own_template(folder: Path) -> Path:
    (folder / "scope.adoc").write_text("setupset.copyarg.rotation = 84.1\n")
    path = folder / "mine.adoc"
    path.write_text(
        "setupset.scopeTemplate = scope.adoc\nruntime.AlignedStack.any.binByFactor = 2\n"
        "comparam.tilt.tilt.THICKNESS = {{ THICKNESS }}\nsetupset.copyarg.gold = {{ gold }}\n"
        "comparam.prenewst.newstack.BinByFactor = {{ trackingBinning }}\n"
    )
    return path


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"parameters": BrtParameters(thickness=77, gold=6, fiducialless=1), "engine": "native"},
        {"template": "cryo_brt", "overrides": ["setupset.copyarg.skip=1,2", "comparam.tilt.tilt.LOG="], "engine": "imod"},
        {"engine": "best", "fallback": False, "trust_limit_px": 2.5, "fallback_engine": "native"},
        {"pyramid": PyramidLayout(version="0.5", axes="zyx")},
        {"template": "own"},
        {"alignment": Path("/given/alignments")},
    ],
    ids=str,
)
def test_a_recipe_is_made_again_from_the_record_alone(tmp_path: Path, options: dict) -> None:
    if options.get("template") == "own":
        options = options | {"template": own_template(tmp_path)}
    made = make_recipe(**options)
    entry = describe.recipe(made, requested=made)
    for path in tmp_path.iterdir():
        path.unlink()
    assert entry.request is not None
    again = recipe_like(type(entry.request).model_validate_json(entry.request.model_dump_json()))
    assert again == made
    assert again.digest == made.digest
    assert again.for_series(2.5) == made.for_series(2.5)


def record_of(recipe: Recipe, path: Path, version: str = __version__) -> Path:
    record = SeriesRecord(name=path.parent.name, source="x.st", tiltflow=version, started=datetime.now(UTC))
    record.recipe = describe.recipe(recipe, requested=recipe)
    path.parent.mkdir(exist_ok=True)
    path.write_text(record.model_dump_json(by_alias=True))
    return path


def run_of(recipe: Recipe, names: list[str], path: Path) -> Path:
    series = [RunSeriesEntry(name=name, source=f"{name}.st", record=f"{name}/run.json") for name in names]
    run = RunRecord(
        tiltflow=__version__,
        started=datetime.now(UTC),
        template=recipe.template,
        digest=recipe.digest,
        request=describe.request(recipe),
        series=series,
    )
    path.write_text(run.model_dump_json(by_alias=True))
    return path


def test_the_record_of_a_series_gives_its_recipe_to_all(tmp_path: Path) -> None:
    recipe = make_recipe(BrtParameters(thickness=77))
    recipes = recipes_like(record_of(recipe, tmp_path / "A" / "run.json"))
    assert recipes.of(Path("Z.st")) == recipe
    assert not recipes.own
    assert not recipes.remarks


def test_the_record_of_a_run_gives_each_series_the_recipe_that_it_had(tmp_path: Path) -> None:
    common = make_recipe(BrtParameters(thickness=77))
    own = recipe_of_row(common, SeriesRow("B", "series.csv:2", {"gold": 6}))
    record_of(common, tmp_path / "A" / "run.json")
    record_of(own, tmp_path / "B" / "run.json")
    recipes = recipes_like(run_of(common, ["A", "B", "C"], tmp_path / "run.json"))
    assert recipes.of(Path("A.st")) == common
    assert recipes.of(Path("B.st")) == own
    assert recipes.of(Path("new.st")) == common
    (remark,) = recipes.remarks
    assert remark.message.startswith("C: its record cannot be read, so that it gets the recipe for all")


def test_another_version_is_remarked_upon(tmp_path: Path) -> None:
    recipes = recipes_like(record_of(make_recipe(), tmp_path / "A" / "run.json", "0.0.9"))
    assert "was written by tiltflow 0.0.9" in recipes.remarks[0].message


def test_a_recipe_that_means_something_else_today_is_remarked_upon(tmp_path: Path) -> None:
    path = record_of(make_recipe(), tmp_path / "A" / "run.json")
    content = json.loads(path.read_text())
    content["recipe"]["requested"] = "0" * 64
    path.write_text(json.dumps(content))
    assert "means something else in this build" in recipes_like(path).remarks[0].message


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, LocationError, "the record cannot be read"),
        ("no json", FormatError, "is not the record of a run"),
        ("[1]", FormatError, "is not the record of a run"),
        ("{}", FormatError, "is not a record"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path: Path, content: str | None, error: type, message: str) -> None:
    path = tmp_path / "run.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(error, match=message):
        recipes_like(path)


def test_a_record_without_the_template_is_refused_with_advice(tmp_path: Path) -> None:
    path = record_of(make_recipe(), tmp_path / "A" / "run.json")
    content = json.loads(path.read_text())
    del content["recipe"]["request"]
    path.write_text(json.dumps(content))
    with pytest.raises(FormatError, match="did not keep the template; give the options of that run instead"):
        recipes_like(path)


def test_a_given_alignment_is_used_again_by_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "al").mkdir()
    monkeypatch.chdir(tmp_path)
    path = record_of(make_recipe(alignment=Path("al")), tmp_path / "A" / "run.json")
    monkeypatch.chdir("/")
    recipes = recipes_like(path)
    assert recipes.common.alignment == tmp_path / "al"
    assert not recipes.remarks


def test_a_given_alignment_that_is_gone_is_asked_for(tmp_path: Path) -> None:
    path = record_of(make_recipe(alignment=tmp_path / "gone"), tmp_path / "A" / "run.json")
    with pytest.raises(ParameterError, match=rf"used the alignment in {tmp_path}/gone, which is not there: give it by --alignment"):
        recipes_like(path)
    recipes = recipes_like(path, tmp_path / "moved")
    assert recipes.common.alignment == tmp_path / "moved"
    assert not recipes.remarks


def test_an_alignment_beside_a_record_is_for_every_series(tmp_path: Path) -> None:
    common = make_recipe(BrtParameters(thickness=77), fallback_engine="imod")
    own = recipe_of_row(common, SeriesRow("B", "series.csv:2", {"gold": 6}))
    record_of(common, tmp_path / "A" / "run.json")
    record_of(own, tmp_path / "B" / "run.json")
    recipes = recipes_like(run_of(common, ["A", "B"], tmp_path / "run.json"), tmp_path / "al")
    assert not recipes.remarks
    for name, gold in (("A", common.parameters.gold), ("B", 6)):
        recipe = recipes.of(Path(f"{name}.st"))
        assert (recipe.alignment, recipe.engine, recipe.fallback_engine) == (tmp_path / "al", "native", "off")
        assert recipe.parameters.gold == gold


def test_an_alignment_is_refused_for_an_engine_that_cannot_use_it(tmp_path: Path) -> None:
    path = record_of(make_recipe(engine="imod"), tmp_path / "A" / "run.json")
    with pytest.raises(UnsupportedError, match="imod aligns by itself"):
        recipes_like(path, tmp_path / "al")
