"""The recipe: what decides a result, in the words of the stages, made from what the user said in IMOD's words.

The nine parameters fill in a template; the directives in it, those of the files below it and those of the command line are laid
over each other; :func:`from_directives` turns what is in force into the parameters of every stage and says what became of each
directive.  Whatever decides only how the work is done (threads, folders, tools) is a :class:`tiltflow.model.Site` and no part of
the recipe.
"""

from tiltflow.recipe.directive_status import EngineName
from tiltflow.recipe.make import Recipe, make_recipe, render_adoc, report_directives
from tiltflow.recipe.parameters import BrtParameters
from tiltflow.recipe.report import DirectiveReport, DirectiveRow
from tiltflow.recipe.stages import StageParams
from tiltflow.recipe.template import TEMPLATES
from tiltflow.recipe.translate import from_directives

__all__ = [
    "TEMPLATES",
    "BrtParameters",
    "DirectiveReport",
    "DirectiveRow",
    "EngineName",
    "Recipe",
    "StageParams",
    "from_directives",
    "make_recipe",
    "render_adoc",
    "report_directives",
]
