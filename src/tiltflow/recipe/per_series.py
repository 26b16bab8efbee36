"""Settings of single series: a table with a row for each, in the folder of the series or given by name.

`series.csv` has a column `name` with the base names and a column for each setting; an empty cell leaves what holds for all::

    name,  thickness, gold, exclude, comparam.tilt.tilt.RADIAL
    TS_01, 300,           , 1 4-5,
    TS_02,          , 6   ,        , 0.3 0.05

`series.toml` has a table for each series::

    [TS_01]
    thickness = 300
    exclude = "1,4-5"

A setting is one of the nine parameters (`thickness`, or IMOD's `THICKNESS`), `exclude` (views to leave out, counted from 1, in place of
those that the template leaves out) or any directive.  The recipe of a series is the one for all with its settings on top.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from tiltflow.errors import DirectiveError, LocationError, ParameterError, UnsupportedError
from tiltflow.formats.directives import Directive
from tiltflow.formats.known_directives import find_known
from tiltflow.formats.stacks import ENDINGS
from tiltflow.model import Problem
from tiltflow.recipe.make import Recipe
from tiltflow.recipe.parameters import PARAMETERS

TABLE_NAMES = ("series.csv", "series.toml")
"""Names of a table in the folder of the series."""
NAME, EXCLUDE = "name", "exclude"
SKIP = "setupset.copyarg.skip"
"""The directive that leaves views out."""

_LARGEST_BYTES = 4 << 20
_SETTINGS: Mapping[str, str] = {
    **{each.name: each.name for each in PARAMETERS.values()},
    **{each.imod_name: each.name for each in PARAMETERS.values()},
    **{each.option.removeprefix("--"): each.name for each in PARAMETERS.values()},
}
"""Parameters by every name that they have."""


@dataclass(frozen=True, slots=True)
class SeriesRow:
    """The settings of one series.

    Attributes
    ----------
    name
        Base name of the series.
    origin
        The file and the line.
    parameters
        Fields of :class:`tiltflow.recipe.BrtParameters`.
    directives
        In the order of the columns.
    """

    name: str
    origin: str
    parameters: Mapping[str, int] = field(default_factory=dict)
    directives: tuple[Directive, ...] = ()


@dataclass(frozen=True, slots=True)
class SeriesRecipes:
    """The recipe of every series of a run.

    Attributes
    ----------
    common
        The recipe of all that have none of their own.
    own
        Base name to recipe.
    remarks
        What to tell the user.
    """

    common: Recipe
    own: Mapping[str, Recipe] = field(default_factory=dict)
    remarks: tuple[Problem, ...] = ()

    @classmethod
    def of_all(cls, recipe: Recipe | SeriesRecipes) -> SeriesRecipes:
        """Return the recipes of each series, where there may be one for all."""
        return recipe if isinstance(recipe, SeriesRecipes) else cls(recipe)

    def of(self, source: Path) -> Recipe:
        """Return the recipe of a series."""
        return self.own.get(source.stem, self.common)

    @property
    def all(self) -> tuple[Recipe, ...]:
        """Every recipe, the common one first."""
        return (self.common, *self.own.values())


def find_table(folder: Path) -> Path | None:
    """Return the table of a folder, or None.

    Raises
    ------
    LocationError
        If there are two.
    """
    found = [path for name in TABLE_NAMES if (path := folder / name).is_file()]
    if len(found) > 1:
        raise LocationError(f"{folder} has both {' and '.join(TABLE_NAMES)}; keep one of them")
    return found[0] if found else None


def recipes_for(recipe: Recipe, table: Path | None, names: Iterable[str], *, within: Path | None = None) -> SeriesRecipes:
    """Return the recipe of every series.

    Parameters
    ----------
    recipe
        The one for all.
    table
        The table of the series with settings of their own; None for none.
    names
        Base names of all series of the folder.  A name of the table that is not among them has a remark.
    within
        A folder that the table and the files that it names must lie in, links followed: whoever may write the table may not have other
        files read.  None for anywhere.

    Raises
    ------
    LocationError
        If the table cannot be read, or it or a file that it names lies elsewhere.
    DirectiveError, ParameterError, UnsupportedError
        If something in it is wrong, with file, line and column.
    """
    if table is None:
        return SeriesRecipes(recipe)
    if within is not None and not table.resolve().is_relative_to(within.resolve()):
        raise LocationError(f"{table} is a symbolic link out of {within}, to {table.resolve()}; copy the file into the share")
    known, own, remarks = tuple(names), {}, []
    for row in read_table(table):
        if within is not None:
            _refuse_files_elsewhere(row, within)
        if row.name not in known:
            remarks.append(Problem(f"{row.origin}: there is no series {row.name!r}{_meant(row.name, known)}", str(table)))
        else:
            own[row.name] = recipe_of_row(recipe, row)
    return SeriesRecipes(recipe, own, tuple(remarks))


def _refuse_files_elsewhere(row: SeriesRow, within: Path) -> None:
    for directive in row.directives:
        known = find_known(directive.name)
        if known is None or known.type != "file" or not directive.value:
            continue
        if not Path(directive.value).resolve().is_relative_to(within.resolve()):
            raise LocationError(
                f"{row.origin}, series {row.name}: {directive.name} names a file that does not lie in {within}: copy it into the share, "
                "and give its full path"
            )


def recipe_of_row(recipe: Recipe, row: SeriesRow) -> Recipe:
    """Return a recipe with the settings of one series on top.

    Raises
    ------
    DirectiveError, ParameterError, UnsupportedError
        If the engine cannot follow it.
    """
    try:
        return recipe.with_settings(replace(recipe.parameters, **row.parameters), row.directives)
    except (DirectiveError, ParameterError, UnsupportedError) as error:
        raise type(error)(f"{row.origin}, series {row.name}: {error}") from error


def read_table(path: Path) -> tuple[SeriesRow, ...]:
    """Return the rows of a table, CSV or, by its ending `.toml`, TOML.

    Raises
    ------
    LocationError
        If the file cannot be read.
    DirectiveError, ParameterError
        If it is not such a table, or a name or a value in it is wrong, with file, line and column.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise LocationError(f"{path}: the table of the series cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DirectiveError(f"{path}: is not text in UTF-8 (byte {error.start}); save the table again as UTF-8") from error
    if len(raw) > _LARGEST_BYTES:
        raise DirectiveError(f"{path}: has more than {_LARGEST_BYTES >> 20} MB, too much for a table of series; check the file")
    rows = tuple(_toml_rows(text, path) if path.suffix.lower() == ".toml" else _csv_rows(text, path))
    lines: dict[str, str] = {}
    for row in rows:
        if row.name in lines:
            raise DirectiveError(f"{row.origin}: {row.name} has a row already ({lines[row.name]}); keep one of them")
        lines[row.name] = row.origin
    return rows


def _csv_rows(text: str, path: Path) -> Iterator[SeriesRow]:
    lines = text.splitlines()
    first = next((index for index, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), None)
    if first is None:
        raise DirectiveError(f"{path}: is empty; its first line names the columns: {NAME}, then the settings")
    delimiter = max(",;\t", key=lines[first].count)
    reader = csv.reader(io.StringIO("\n".join(lines[first:])), delimiter=delimiter, skipinitialspace=True, strict=True)
    columns: list[str] = []
    try:
        for cells in reader:
            line, values = first + reader.line_num, [cell.strip() for cell in cells]
            if not any(values) or values[0].startswith("#"):
                continue
            if not columns:
                columns = _checked_columns(values, f"{path}:{line}")
                continue
            yield _csv_row(columns, values, path, line)
    except csv.Error as error:
        raise DirectiveError(f"{path}:{first + reader.line_num}: is not CSV: {error}") from error


def _checked_columns(names: list[str], origin: str) -> list[str]:
    """Return the names of the columns, those of empty ones at the end left out."""
    while names and not names[-1]:
        names.pop()
    if NAME not in names:
        raise DirectiveError(
            f"{origin}: no column is called {NAME!r}; it holds the base names of the series. Found: {', '.join(names)}"
        )
    for number, name in enumerate(names, start=1):
        _check_setting(name, f"{origin}, column {number}")
    _check_no_setting_has_two_names(names, origin)
    return names


def _check_no_setting_has_two_names(names: Iterable[str], origin: str) -> None:
    """Raise if two names mean the same setting, of which only one could count."""
    seen: dict[str, str] = {}
    for name in names:
        setting = _meaning(name)
        if name == seen.get(setting):
            raise DirectiveError(f"{origin}: {name!r} is there twice; keep one of them")
        if setting in seen:
            raise DirectiveError(f"{origin}: {seen[setting]!r} and {name!r} are the same setting; keep one of them")
        seen[setting] = name


def _meaning(name: str) -> str:
    """Return the one name that all names of a setting stand for; directives that differ in capitals only are one."""
    return {EXCLUDE: SKIP}.get(name) or _SETTINGS.get(name) or name.casefold()


def _csv_row(columns: list[str], values: list[str], path: Path, line: int) -> SeriesRow:
    if any(values[len(columns) :]):
        raise DirectiveError(
            f"{path}:{line}: has {len(values)} cells for {len(columns)} columns; put a value with commas into double quotes"
        )
    given = dict(zip(columns, values, strict=False))
    name = given.pop(NAME, "")
    if not name:
        raise DirectiveError(f"{path}:{line}, column {NAME}: is empty; give the base name of the series")
    return _row(name, {key: value for key, value in given.items() if value}, path, line, {})


def _toml_rows(text: str, path: Path) -> Iterator[SeriesRow]:
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DirectiveError(f"{path}: is not TOML: {error}") from error
    for name, given in _tables(content):
        line = _line_of(text, rf"\[\s*[\"']?{re.escape(name)}[\"']?\s*\]")
        if not isinstance(given, dict):
            line = _line_of(text, re.escape(name))
            raise DirectiveError(f"{path}:{line}: {name!r} belongs to no series; write [NAME] with the base name of one above it")
        values, lines = {}, {}
        _check_no_setting_has_two_names((key for key, _ in _flat(given)), f"{path}:{line}")
        for key, value in _flat(given):
            lines[key] = _line_of(text, rf"[\"']?{re.escape(key)}[\"']?\s*=", after=line)
            at = f"{path}:{lines[key]}, {key}"
            _check_setting(key, at)
            values[key] = _toml_text(value, at)
        yield _row(name, values, path, line, lines)


def _tables(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield names and settings of series; the name of a file that is not in quotes, `[TS_01.mrc]`, is a table within a table."""
    for name, given in content.items():
        files = [key for key in given if f".{key}" in ENDINGS and isinstance(given[key], dict)] if isinstance(given, dict) else []
        yield from ((f"{name}.{key}", given[key]) for key in files)
        if not files:
            yield name, given
        elif len(files) < len(given):
            yield name, {key: value for key, value in given.items() if key not in files}


def _flat(given: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield keys and values; a directive that is not in quotes is a table within a table."""
    for key, value in given.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _toml_text(value: Any, at: str) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, (int, float, str)):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, (int, float, str)) for item in value):
        return ",".join(map(str, value))
    raise DirectiveError(f"{at}: {value!r} is no setting; give a number, a text or a list of them")


def _line_of(text: str, pattern: str, after: int = 0) -> int:
    """Return the line, counted from 1, that begins like a pattern, behind line `after`."""
    for number, line in enumerate(text.splitlines(), start=1):
        if number > after and re.match(rf"\s*{pattern}", line):
            return number
    return max(after, 1)


def _row(name: str, given: Mapping[str, str], path: Path, line: int, lines: Mapping[str, int]) -> SeriesRow:
    parameters: dict[str, int] = {}
    directives = []
    for key, value in given.items():
        at = f"{path}:{lines.get(key, line)}, {key}"
        if key in _SETTINGS:
            parameters[_SETTINGS[key]] = _whole(key, value, at)
        elif key == EXCLUDE:
            directives.append(Directive(SKIP, ",".join(re.split(r"[\s,;]+", value.strip())), str(path), lines.get(key, line)))
        else:
            directives.append(Directive(key, value, str(path), lines.get(key, line)))
    ending = next((end for end in ENDINGS if name.endswith(end)), "")
    return SeriesRow(name.removesuffix(ending), f"{path}:{line}", parameters, tuple(directives))


def _whole(key: str, value: str, at: str) -> int:
    try:
        return cast("int", PARAMETERS[_SETTINGS[key]].checked(int(value)))
    except ValueError:
        expected = PARAMETERS[_SETTINGS[key]].expected
        raise ParameterError(f"{at}: {value!r}; give {expected}") from None


def _check_setting(name: str, at: str) -> None:
    """Raise unless a name is a setting; directives are checked with those of the template."""
    if name in (NAME, EXCLUDE) or name in _SETTINGS or "." in name:
        return
    known = [NAME, EXCLUDE, *dict.fromkeys(_SETTINGS)]
    raise DirectiveError(f"{at}: {name!r} is no setting{_meant(name, known)}; give a parameter, {EXCLUDE} or a directive")


def _meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f". Did you mean {close[0]!r}?" if close else ""
