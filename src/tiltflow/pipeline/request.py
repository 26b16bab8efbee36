"""What a request for a folder means: its series, the recipe of each, and what to tell the user, before any work is done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tiltflow.delivery.find_series import find_series, look_alikes, stems
from tiltflow.engines.registry import choose_engine
from tiltflow.formats.find_alignment import check_alignment_path
from tiltflow.model import Problem
from tiltflow.recipe import Recipe
from tiltflow.recipe.per_series import SeriesRecipes, find_table, recipes_for


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that can be followed.

    Attributes
    ----------
    sources
        The files of the series, in natural order.
    recipes
        The recipe of each.
    remarks
        What to tell the user.
    table
        The table that settings of single series were read from; None for none.
    """

    sources: tuple[Path, ...]
    recipes: SeriesRecipes
    remarks: tuple[Problem, ...]
    table: Path | None = None


def prepare(
    folder: Path,
    asked: Recipe | SeriesRecipes,
    *,
    file: str | None = None,
    per_series: Path | None = None,
    within: Path | None = None,
    by_mdoc: bool = True,
    here: bool = True,
) -> Prepared:
    """Return the series of a folder with their recipes, and refuse what cannot be done.

    Parameters
    ----------
    folder
        Where the series are.
    asked
        The recipe for all, to which a table adds settings of single series; or the recipe of every series, for which no table is read.
    file
        Only this file.
    per_series
        The table; None for the one in the folder, if there is one.
    within, by_mdoc
        As for :func:`tiltflow.delivery.find_series.find_series`; a table, and the files that it names, must lie in `within` too.
    here
        Whether the work is done on this machine, so that its engines must be able to follow the recipes.

    Raises
    ------
    LocationError
        If there are no series, no such table or no such alignment.
    FormatError
        If the given alignment is a file of another kind.
    DirectiveError, ParameterError, UnsupportedError
        If the table is wrong, or no engine can follow a recipe.
    """
    sources = find_series(folder, file, within=within, by_mdoc=by_mdoc)
    table = per_series or find_table(folder)
    remarks = look_alikes(sources)
    if isinstance(asked, SeriesRecipes) and table is not None:
        remarks += (Problem(f"{table.name} is not read: --like decides all settings", str(table)),)
        table = None
    recipes = recipes_of_series(asked, table, stems(folder), within=within, here=here)
    if (given := recipes.common.alignment) is not None:
        check_alignment_path(given, [path.stem for path in sources])
    return Prepared(sources, recipes, (*remarks, *recipes.remarks), table)


def recipes_of_series(
    asked: Recipe | SeriesRecipes,
    table: Path | None,
    names: Iterable[str],
    *,
    within: Path | None = None,
    here: bool = True,
) -> SeriesRecipes:
    """Return the recipe of each series of a folder, and refuse those that cannot be followed.

    Parameters
    ----------
    asked, here
        As for :func:`prepare`.
    table
        The table of settings of single series; not read where `asked` has the recipe of every series.
    names
        Base names of the series.
    within
        As for :func:`tiltflow.recipe.per_series.recipes_for`.

    Raises
    ------
    LocationError, DirectiveError, ParameterError, UnsupportedError
        As :func:`prepare`.
    """
    recipes = asked if isinstance(asked, SeriesRecipes) else recipes_for(asked, table, names, within=within)
    if here:
        for recipe in recipes.all:
            recipe.for_engine(choose_engine(recipe.engine)[0].name)
    return recipes
