"""The recipe: all parameters that determine a result, translated from IMOD's directives into the parameters of the stages.

The nine parameters fill in a template; the directives in it, those of the files below it and those of the command line are
layered; :func:`from_directives` turns those in force into the parameters of every stage and reports the status of each
directive.  What determines only how the work is done (threads, folders, tools) is a :class:`tiltflow.work.Site` and not part of
the recipe.

The names below are imported when they are first used: the command line needs :mod:`tiltflow.recipe.parameters` for its help, and
that must not wait for the stages and what they import.
"""

from typing import TYPE_CHECKING

from tiltflow.names_on_demand import on_demand

if TYPE_CHECKING:
    from tiltflow.recipe.make import Recipe, draft_recipe, make_recipe, render_adoc, report_directives
    from tiltflow.recipe.parameters import PARAMETERS, BrtParameters
    from tiltflow.recipe.per_series import SeriesRecipes
    from tiltflow.recipe.report import DirectiveReport, DirectiveRow
    from tiltflow.recipe.stages import StageParams
    from tiltflow.recipe.template import TEMPLATES
    from tiltflow.recipe.translate import from_directives

__all__ = [
    "PARAMETERS",
    "TEMPLATES",
    "BrtParameters",
    "DirectiveReport",
    "DirectiveRow",
    "Recipe",
    "SeriesRecipes",
    "StageParams",
    "draft_recipe",
    "from_directives",
    "make_recipe",
    "render_adoc",
    "report_directives",
]

__getattr__ = on_demand(
    __name__,
    {
        "PARAMETERS": "parameters",
        "TEMPLATES": "template",
        "BrtParameters": "parameters",
        "DirectiveReport": "report",
        "DirectiveRow": "report",
        "Recipe": "make",
        "SeriesRecipes": "per_series",
        "StageParams": "stages",
        "draft_recipe": "make",
        "from_directives": "translate",
        "make_recipe": "make",
        "render_adoc": "make",
        "report_directives": "make",
    },
)
