"""The folders of a session: where results go, priorities, collisions, and tables of settings that change."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiltflow.errors import DirectiveError, LocationError, ParameterError
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.watch.folders import FolderRecipes, assign, refuse_other_places
from tiltflow.watch.ledger import Entry, State


@pytest.fixture
def folders(tmp_path):
    made = [tmp_path / "a" / "one", tmp_path / "b" / "two"]
    for folder in made:
        folder.mkdir(parents=True)
    return made


OUT = Path("/out")


def test_one_folder_has_its_results_as_a_run_has_and_several_have_folders_of_their_names(folders):
    (alone,) = assign(folders[:1], OUT)
    assert (alone.results, alone.priority) == (OUT, 0)
    assert [each.results for each in assign(folders, OUT)] == [OUT / "one", OUT / "two"]


@pytest.mark.parametrize(
    ("given", "numbers"),
    [((), [0, 0]), (("two=10",), [0, 10]), (("one=-1", "two=10"), [-1, 10]), (("{one}=3",), [3, 0]), (("one=1", "one=2"), [2, 0])],
)
def test_priorities_name_a_folder_by_its_path_or_its_name(folders, given, numbers):
    watched = assign(folders, OUT, [text.format(one=folders[0]) for text in given])
    assert [each.priority for each in watched] == numbers


@pytest.mark.parametrize(
    ("given", "word"), [("three=1", "give FOLDER=NUMBER"), ("one", "give FOLDER=NUMBER"), ("one=high", "'high' is no whole number")]
)
def test_a_priority_that_is_not_understood_is_refused(folders, given, word):
    with pytest.raises(ParameterError, match=word):
        assign(folders, OUT, [given])


def test_a_folder_is_given_once(folders, monkeypatch):
    monkeypatch.chdir(folders[0])
    with pytest.raises(ParameterError, match="more than once"):
        assign([folders[0], Path()], OUT)


@pytest.mark.parametrize("name", ["one", "ONE"])
def test_two_folders_of_one_name_are_refused_with_both(folders, tmp_path, name):
    other = tmp_path / "c" / name
    other.mkdir(parents=True)
    with pytest.raises(LocationError, match=r"a/one and .*c/.* share the name .*rename one"):
        assign([*folders, other], OUT)


def test_a_folder_whose_name_the_results_need_is_refused_beside_others(folders, tmp_path):
    taken = tmp_path / "run.json"
    taken.mkdir()
    with pytest.raises(LocationError, match="cannot name a folder of results"):
        assign([*folders, taken], OUT)
    assert assign([taken], OUT)[0].results == OUT


@pytest.mark.parametrize(
    ("results", "several", "refused"), [("B", False, False), ("one/B", True, False), ("B", True, True), ("one/B", False, True)]
)
def test_results_do_not_move_between_sessions(folders, results, several, refused):
    path = folders[0] / "B.st"
    entry = Entry(path=path, results=results, size=1, mtime_ns=1, beside="{}", state=State.DONE, changed=0.0, since=0.0)
    watched = assign(folders if several else folders[:1], OUT)
    if not refused:
        refuse_other_places(watched, [entry], OUT)
        return
    with pytest.raises(LocationError, match="since an earlier session, and would now go to"):
        refuse_other_places(watched, [entry], OUT)


RECIPE = make_recipe(BrtParameters(thickness=50), engine="native")


def refreshed(recipes):
    """Look twice, as a change counts when it is seen a second time."""
    recipes.refresh()
    return recipes.refresh()


def test_a_table_that_changes_is_read_again_and_counts_for_series_that_are_still_to_come(tmp_path):
    recipes, b, c = FolderRecipes(tmp_path, RECIPE, None), tmp_path / "B.st", tmp_path / "C.st"
    recipes.require()
    assert recipes.digest(b) == recipes.digest(c) == RECIPE.digest
    table = tmp_path / "series.csv"
    table.write_text("name,thickness\nB,60\n")
    assert refreshed(recipes) == ""
    assert recipes.all.of(b).parameters.thickness == 60
    assert recipes.digest(b) != recipes.digest(c) == RECIPE.digest
    first = recipes.all
    assert refreshed(recipes) == ""
    assert recipes.all is first, "it is read when it changes"
    table.write_text("name,thick")
    assert "series.csv" in refreshed(recipes)
    assert recipes.all is first
    table.write_text("name,thickness\nB,70000\n")
    assert refreshed(recipes) == ""
    assert recipes.all.of(b).parameters.thickness == 70000
    table.unlink()
    assert refreshed(recipes) == ""
    assert recipes.digest(b) == RECIPE.digest


def test_a_table_that_is_gone_while_it_is_saved_changes_no_recipe(tmp_path):
    table = tmp_path / "series.csv"
    table.write_text("name,thickness\nB,60\nC,70\n")
    recipes = FolderRecipes(tmp_path, RECIPE, None)
    recipes.require()
    first, before = recipes.all, table.read_text()
    table.rename(tmp_path / "series.csv~")
    assert (recipes.refresh(), recipes.settled, recipes.all) == ("", False, first)
    table.write_text("name,thickness\nB,60\n")
    assert (recipes.refresh(), recipes.settled, recipes.all) == ("", False, first)
    table.write_text(before)
    assert (recipes.refresh(), recipes.settled, recipes.all) == ("", False, first)
    assert (recipes.refresh(), recipes.settled) == ("", True)
    assert recipes.all.own.keys() == {"B", "C"}


def test_a_wrong_row_is_refused_before_its_series_comes(tmp_path):
    (tmp_path / "series.csv").write_text("name,comparam.tilt.tilt.RADIUS\nB,1\n")
    with pytest.raises(DirectiveError, match="series B"):
        FolderRecipes(tmp_path, RECIPE, None).require()


def test_a_table_given_by_name_counts_instead(tmp_path):
    (tmp_path / "mine.csv").write_text("name,thickness\nB,60\n")
    (tmp_path / "series.csv").write_text("name,thickness\nB,70\n")
    recipes = FolderRecipes(tmp_path, RECIPE, tmp_path / "mine.csv")
    recipes.require()
    assert recipes.all.of(tmp_path / "B.st").parameters.thickness == 60
