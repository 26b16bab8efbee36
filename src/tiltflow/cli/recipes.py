"""The recipes that the options of a command ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tiltflow.cli.options import WorkOptions
from tiltflow.errors import ParameterError
from tiltflow.recipe.parameters import PARAMETERS

if TYPE_CHECKING:
    from tiltflow.recipe import Recipe, SeriesRecipes
    from tiltflow.settings import Settings


def recipes_asked(
    context: typer.Context, asked: WorkOptions, settings: Settings, like: Path | None, alignment: Path | None = None
) -> Recipe | SeriesRecipes:
    """Return the recipe for all series, or those of an earlier run.

    Raises
    ------
    TiltflowError
        If the options contradict each other, or cannot be followed.
    """
    from tiltflow.recipe import make_recipe
    from tiltflow.recipe.like import recipes_like

    if like is not None:
        _refuse_beside_like(context)
        return recipes_like(like, alignment)
    return make_recipe(asked.parameters, asked.template, asked.overrides or (), alignment=alignment, **settings.recipe_defaults)


def _refuse_beside_like(context: typer.Context) -> None:
    """Raise if an option is given that the record decides.

    Raises
    ------
    ParameterError
        With the option.
    """
    decided = {*PARAMETERS, "template", "overrides", "engine", "fallback_engine", "per_series"}
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if option.name in decided and source is not None and source.name == "COMMANDLINE":
            raise ParameterError(f"{option.opts[0]} and --like cannot both be given: the record decides it; leave one of them out")
