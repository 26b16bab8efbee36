from __future__ import annotations

from pathlib import Path

import pytest

from tiltflow.errors import DirectiveError, LocationError, ParameterError, TiltflowError, UnsupportedError
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.recipe.per_series import SKIP, SeriesRecipes, find_table, read_table, recipes_for

NAMES = ("TS_01", "TS_02", "TS_10")


def table(folder: Path, text: str, name: str = "series.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def recipe():
    return make_recipe(BrtParameters(thickness=140), overrides=[f"{SKIP}=7"], engine="native")


@pytest.mark.parametrize(
    ("text", "parameters", "directives"),
    [
        ("name,thickness\nTS_01,300\n", {"thickness": 300}, {}),
        ("name,THICKNESS\nTS_01,300\n", {"thickness": 300}, {}),
        ("name,two-surfaces\nTS_01,1\n", {"two_surfaces": 1}, {}),
        ("gold,name\n6,TS_01\n", {"gold": 6}, {}),
        ("name;thickness;exclude\nTS_01;300;1,4-5\n", {"thickness": 300}, {SKIP: "1,4-5"}),
        ("name\tgold\nTS_01\t0\n", {"gold": 0}, {}),
        ('name,exclude\nTS_01,"2,40-41"\n', {}, {SKIP: "2,40-41"}),
        ("name,exclude\nTS_01,2 40-41\n", {}, {SKIP: "2,40-41"}),
        ("name,gold,exclude\nTS_01,,\n", {}, {}),  # an empty cell leaves what holds for all
        ("name,comparam.tilt.tilt.RADIAL\nTS_01,0.3 0.05\n", {}, {"comparam.tilt.tilt.RADIAL": "0.3 0.05"}),
        ("\ufeffname, gold\r\n# a remark\r\n\r\n TS_01 , 6 \r\n", {"gold": 6}, {}),
        ("name,gold,\nTS_01.mrc,6,\n", {"gold": 6}, {}),
    ],
)
def test_a_row_of_csv_gives_the_settings_of_its_series(
    tmp_path: Path, text: str, parameters: dict[str, int], directives: dict[str, str]
) -> None:
    (row,) = read_table(table(tmp_path, text))
    assert row.name == "TS_01"
    assert row.parameters == parameters
    assert {each.name: each.value for each in row.directives} == directives


@pytest.mark.parametrize(
    ("text", "parameters", "directives"),
    [
        ("[TS_01]\nthickness = 300\n", {"thickness": 300}, {}),
        ("[TS_01]\nfiducialless = true\n", {"fiducialless": 1}, {}),
        ("[TS_01]\nexclude = [2, 40]\n", {}, {SKIP: "2,40"}),
        ("[TS_01.mrc]\nthickness = 300\n", {"thickness": 300}, {}),
        ('["TS_01.st"]\nthickness = 300\n', {"thickness": 300}, {}),
        ("[TS_01.tif]\ncomparam.tilt.tilt.LOG = 0\n", {}, {"comparam.tilt.tilt.LOG": "0"}),
        ('["TS_01"]\nexclude = "2,40-41"\n', {}, {SKIP: "2,40-41"}),
        ('[TS_01]\n"comparam.tilt.tilt.LOG" = ""\n', {}, {"comparam.tilt.tilt.LOG": ""}),  # taken away
        ('[TS_01]\ncomparam.tilt.tilt.RADIAL = "0.3 0.05"\n', {}, {"comparam.tilt.tilt.RADIAL": "0.3 0.05"}),
    ],
)
def test_a_table_of_toml_gives_the_settings_of_its_series(
    tmp_path: Path, text: str, parameters: dict[str, int], directives: dict[str, str]
) -> None:
    (row,) = read_table(table(tmp_path, text, "series.toml"))
    assert (row.name, row.parameters) == ("TS_01", parameters)
    assert {each.name: each.value for each in row.directives} == directives


@pytest.mark.parametrize(
    ("name", "text", "error", "message"),
    [
        ("s.csv", "", DirectiveError, "s.csv: is empty; its first line names the columns"),
        ("s.csv", "series,gold\nTS_01,6\n", DirectiveError, "s.csv:1: no column is called 'name'"),
        (
            "s.csv",
            "\nname,thicknes\nTS_01,6\n",
            DirectiveError,
            "s.csv:2, column 2: 'thicknes' is no setting. Did you mean 'thickness'",
        ),
        ("s.csv", "name,gold,gold\nTS_01,6,7\n", DirectiveError, "s.csv:1: 'gold' is there twice; keep one"),
        (
            "s.csv",
            "name,thickness,THICKNESS\nTS_01,6,7\n",
            DirectiveError,
            "s.csv:1: 'thickness' and 'THICKNESS' are the same setting",
        ),
        (
            "s.csv",
            "name,two_surfaces,two-surfaces\nTS_01,0,1\n",
            DirectiveError,
            "s.csv:1: 'two_surfaces' and 'two-surfaces' are the same",
        ),
        ("s.csv", f"name,exclude,{SKIP}\nTS_01,1,2\n", DirectiveError, f"s.csv:1: 'exclude' and '{SKIP}' are the same setting"),
        (
            "s.csv",
            "name,comparam.tilt.tilt.LOG,comparam.tilt.tilt.log\nTS_01,1,2\n",
            DirectiveError,
            "s.csv:1: 'comparam.tilt.tilt.LOG' and 'comparam.tilt.tilt.log' are the same setting",
        ),
        ("s.csv", "name,name\nTS_01,TS_02\n", DirectiveError, "s.csv:1: 'name' is there twice"),
        ("s.csv", "# nothing else\n\n", DirectiveError, "s.csv: is empty; its first line names the columns"),
        ("s.csv", 'name,gold\nTS_01,"6', DirectiveError, "s.csv:2: is not CSV: .*unexpected end"),
        ("s.toml", "[A]\ngold = 6\n[B]\ngold = 6\nGOLD = 7\n", DirectiveError, "s.toml:3: 'gold' and 'GOLD' are the same setting"),
        (
            "s.toml",
            '[TS_01]\n"comparam.tilt.tilt.LOG" = 0\ncomparam.tilt.tilt.LOG = 1\n',
            DirectiveError,
            "s.toml:1: 'comparam.tilt.tilt.LOG' is there twice",
        ),
        ("s.toml", "[TS_01]\ngold = 6\n[TS_01.mrc]\ngold = 7\n", DirectiveError, "s.toml:1: TS_01 has a row already (.*s.toml:3)"),
        ("s.csv", "name,gold\nTS_01,many\n", ParameterError, "s.csv:2, gold: 'many'; give a diameter in nm"),
        ("s.csv", "name,gold\n\nTS_01,5000\n", ParameterError, "s.csv:3, gold: '5000'"),
        ("s.csv", "name,gold\nTS_01,6.5\n", ParameterError, "s.csv:2, gold: '6.5'"),
        ("s.csv", "name,exclude\nTS_01,2,40\n", DirectiveError, "s.csv:2: has 3 cells for 2 columns; put a value with commas"),
        ("s.csv", "name,gold\n,6\n", DirectiveError, "s.csv:2, column name: is empty"),
        ("s.csv", "name,gold\nTS_01,6\nTS_01.mrc,7\n", DirectiveError, "s.csv:3: TS_01 has a row already (.*s.csv:2)"),
        ("s.csv", "name,a.b.c.d.e\nTS_01,6\n", DirectiveError, "s.csv:2: 'a.b.c.d.e' is not a directive's name"),
        ("s.toml", "[TS_01\n", DirectiveError, "s.toml: is not TOML: .*line 1, column 7"),
        ("s.toml", "gold = 6\n", DirectiveError, "s.toml:1: 'gold' belongs to no series"),
        (
            "s.toml",
            "[A]\ngold = 6\n[TS_01]\ngolt = 6\n",
            DirectiveError,
            "s.toml:4, golt: 'golt' is no setting. Did you mean 'gold'",
        ),
        ("s.toml", "[TS_01]\ngold = 6.5\n", ParameterError, "s.toml:2, gold: '6.5'"),
        ("s.toml", "[TS_01]\ngold = 2020-01-01\n", DirectiveError, "s.toml:2, gold: .* is no setting; give a number"),
    ],
)
def test_what_is_wrong_is_said_with_file_line_and_column(
    tmp_path: Path, name: str, text: str, error: type[TiltflowError], message: str
) -> None:
    with pytest.raises(error, match=message.replace("(", r"\(").replace(")", r"\)") if "(" in message else message):
        read_table(table(tmp_path, text, name))


def test_a_file_that_is_no_text_or_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_bytes(b"name,gold\nTS\xff,6\n")
    with pytest.raises(DirectiveError, match="is not text in UTF-8"):
        read_table(tmp_path / "s.csv")
    with pytest.raises(LocationError, match="cannot be read"):
        read_table(tmp_path / "t.csv")
    (tmp_path / "s.csv").write_bytes(b"name,gold\n" + b"#" * (4 << 20))
    with pytest.raises(DirectiveError, match="has more than 4 MB"):
        read_table(tmp_path / "s.csv")


def test_each_series_has_the_recipe_for_all_with_its_own_settings_on_top(recipe, tmp_path: Path) -> None:
    path = table(tmp_path, 'name,thickness,exclude\nTS_02,300,"1,2"\n')
    recipes = recipes_for(recipe, path, NAMES)
    assert recipes.of(Path("x/TS_01.mrc")) is recipe
    own = recipes.of(Path("x/TS_02.st"))
    assert own.reconstruct.thickness == 300
    assert own.parameters.thickness == 300
    assert own.hints.exclude_views == (1, 2)  # in place of those that hold for all
    assert recipe.hints.exclude_views == (7,)
    assert own.digest != recipe.digest
    assert own.engine == recipe.engine
    assert [row.origin for row in own.report.rows if row.name == SKIP] == [f"{path}:2"]
    assert not recipes.remarks


def test_a_series_with_settings_of_its_own_keeps_the_given_alignment(tmp_path: Path) -> None:
    given = make_recipe(alignment=tmp_path / "al")
    recipes = recipes_for(given, table(tmp_path, "name,thickness\nTS_02,300\n"), NAMES)
    assert recipes.of(Path("TS_02.st")).alignment == tmp_path / "al"


def test_settings_that_change_nothing_leave_the_recipe_the_same(recipe, tmp_path: Path) -> None:
    recipes = recipes_for(recipe, table(tmp_path, "name,thickness\nTS_02,140\n"), NAMES)
    assert recipes.of(Path("TS_02.st")).digest == recipe.digest


def test_a_name_that_is_no_series_has_a_remark_with_the_nearest(recipe, tmp_path: Path) -> None:
    recipes = recipes_for(recipe, table(tmp_path, "name,gold\nTS_1O,6\nTS_02,6\n"), NAMES)
    assert list(recipes.own) == ["TS_02"]
    (remark,) = recipes.remarks
    assert remark.message.endswith("series.csv:2: there is no series 'TS_1O'. Did you mean 'TS_10'?")


@pytest.mark.parametrize(
    ("column", "value", "error", "message"),
    [
        (
            "comparam.tilt.tilt.THICKNES",
            "3",
            DirectiveError,
            "unknown directive: .*nearest known name is comparam.tilt.tilt.THICKNESS",
        ),
        ("comparam.tilt.tilt.MODE", "much", DirectiveError, "wrong value"),
        ("tracking_method", "2", UnsupportedError, "trackingMethod"),
    ],
)
def test_what_the_engine_cannot_follow_is_refused_with_the_row(
    recipe, tmp_path: Path, column: str, value: str, error: type[TiltflowError], message: str
) -> None:
    path = table(tmp_path, f"name,{column}\nTS_02,{value}\n")
    with pytest.raises(error, match=f"series.csv:2, series TS_02: .*{message}"):
        recipes_for(recipe, path, NAMES)


def test_the_table_of_a_folder_is_found_and_two_are_refused(tmp_path: Path) -> None:
    assert find_table(tmp_path) is None
    path = table(tmp_path, "name\n")
    assert find_table(tmp_path) == path
    table(tmp_path, "", "series.toml")
    with pytest.raises(LocationError, match=r"has both series\.csv and series\.toml; keep one"):
        find_table(tmp_path)


def test_without_a_table_all_have_one_recipe(recipe) -> None:
    recipes = recipes_for(recipe, None, NAMES)
    assert recipes == SeriesRecipes.of_all(recipe) == SeriesRecipes.of_all(recipes)
    assert recipes.all == (recipe,)


@pytest.mark.parametrize(
    ("directive", "link", "refused"),
    [
        ("runtime.Tiltflow.any.defocusFile", False, True),
        ("comparam.mtffilter.mtffilter.MtfFile", False, True),
        ("comparam.mtffilter.mtffilter.MtfFile", True, True),
        ("comparam.mtffilter.mtffilter.MtfFile", None, False),
    ],
)
def test_who_may_write_the_table_may_not_have_files_of_others_read(
    recipe, tmp_path: Path, directive: str, link: bool | None, refused: bool
) -> None:
    share = tmp_path / "share"
    share.mkdir()
    (tmp_path / "secret").write_text("of another user")
    named = tmp_path / "secret" if link is False else share / "camera.mtf"
    if link:
        named.symlink_to(tmp_path / "secret")
    (share / "series.csv").write_text(f"name, {directive}\nB, {named}\n")
    asked = (recipe, share / "series.csv", ["B"])
    assert "B" in recipes_for(*asked).own
    if not refused:
        assert "B" in recipes_for(*asked, within=share).own
        return
    with pytest.raises(LocationError, match=rf"series B: {directive} names a file that does not lie in") as error:
        recipes_for(*asked, within=share)
    assert "of another user" not in str(error.value)


def test_a_table_that_is_a_link_out_of_the_share_is_not_read(recipe, tmp_path: Path) -> None:
    share = tmp_path / "share"
    share.mkdir()
    (tmp_path / "secret").write_text("s3cr3t:x:0")
    (share / "series.csv").symlink_to(tmp_path / "secret")
    with pytest.raises(LocationError, match="is a symbolic link out of") as error:
        recipes_for(recipe, share / "series.csv", ["B"], within=share)
    assert "s3cr3t" not in str(error.value)
