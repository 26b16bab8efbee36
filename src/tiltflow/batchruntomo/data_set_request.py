"""What is asked for a data set: its steps, its recipe, its name and folder, and its stack."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from tiltflow.batchruntomo.arguments import AFTER_ALIGNMENT, DataSet
from tiltflow.batchruntomo.batch_log import BatchLog
from tiltflow.batchruntomo.data_set_files import STACK_EXTENSIONS
from tiltflow.batchruntomo.directive_policy import Judgement
from tiltflow.ctf.requests import Wish
from tiltflow.engines.native import ENGINE
from tiltflow.errors import LocationError, MissingValueError, ParameterError
from tiltflow.recipe import Recipe, draft_recipe

ALIGNMENT_STEP, POSITIONING_STEP, STACK_STEP, VOLUME_STEP, TRIM_STEP = 5.0, AFTER_ALIGNMENT, 8.0, 14.0, 20.0
"""Steps that leave files.  Both 5 and 6 end after the alignment: IMOD 4 and some wrappers number it 5."""
_CTF_STEP, _GOLD_STEP, _FILTER_STEP, _DIFFUSION_STEP = 11.0, 12.0, 13.0, 21.0
"""Steps whose work is done as the aligned stack is made, the last one after trimming."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The first and the last step that are asked for."""

    first: float
    last: float

    def reach(self, step: float) -> bool:
        """Return whether a step is among them."""
        return self.first <= step <= self.last

    @property
    def align(self) -> bool:
        """Whether the alignment is made, not read."""
        return self.first < POSITIONING_STEP and self.last >= ALIGNMENT_STEP


def recipe_of(data_set: DataSet, steps: Steps) -> Recipe:
    """Return the recipe of a directive file, unchecked; name and folder of the command line override those in the file.

    Raises
    ------
    DirectiveError
        If a line of the file is not a directive.
    """
    overrides = []
    if data_set.name is not None:
        overrides.append(("setupset.copyarg.name", data_set.name))
    if data_set.folder is not None:
        overrides.append(("setupset.datasetDirectory", str(data_set.folder)))
    # Absolute, so that a file is never taken for a template of tiltflow's own.
    file = data_set.directive_file.absolute()
    return draft_recipe(template=file, overrides=overrides, engine=ENGINE.name, volume=steps.reach(VOLUME_STEP))


def with_fixed_variables(recipe: Recipe) -> Recipe:
    """Return the recipe with what the directives fix of tiltalign's variables fixed in markerless alignment too.

    Programs that ask for one rotation and no magnification (RELION) read only a rotation and a shift from `NAME.xf`, and would be
    wrong by up to half a degree for views that were magnified.
    """
    solve = recipe.solve
    refine = replace(
        recipe.refine,
        refine_rotation=solve.rotation in ("each", "grouped"),
        refine_magnification=solve.magnification != "fixed",
        refine_tilt=solve.tilt != "fixed",
    )
    return replace(recipe, refine=refine)


def within(recipe: Recipe, steps: Steps) -> Recipe:
    """Return the recipe without the corrections of views, and the diffusion of the volume, whose steps are not run.

    Raises
    ------
    ParameterError
        If views are to be corrected, and the aligned stack, which is corrected as it is made, is not made.
    """
    filtered = steps.reach(_FILTER_STEP)
    no: Wish = "no"
    kept = replace(
        recipe,
        ctf=recipe.ctf if steps.reach(_CTF_STEP) else replace(recipe.ctf, correct=no),
        erase=recipe.erase if steps.reach(_GOLD_STEP) else None,
        filter=recipe.filter if filtered else None,
        exposure=recipe.exposure if filtered else replace(recipe.exposure, weight=no),
        diffuse=recipe.diffuse if steps.reach(_DIFFUSION_STEP) else None,
    )
    asked = kept.ctf.correct != no or kept.exposure.weight != no or kept.erase is not None or kept.filter is not None
    if asked and not steps.reach(STACK_STEP):
        raise ParameterError(
            f"-StartingStep {steps.first:g} is not supported where views are corrected (CTF, gold, filter): that is done as the aligned "
            f"stack is made, so start at {STACK_STEP:g} or before"
        )
    return kept


def directive_values(recipe: Recipe) -> dict[str, str]:
    """Return the text of every directive in force, by name."""
    return {each.name: each.value for each in recipe.directives}


def place_of(data_set: DataSet, recipe: Recipe) -> tuple[str, Path]:
    """Return the name of a data set and its folder, the present one if none is given.

    Raises
    ------
    MissingValueError
        If it has no name.
    ParameterError
        If its name is a path.
    """
    values = directive_values(recipe)
    name = values.get("setupset.copyarg.name", "")
    if not name:
        raise MissingValueError(f"{data_set.directive_file} gives no setupset.copyarg.name, and there is no -RootName: give one")
    if "/" in name:
        raise ParameterError(f"{name!r} is not the name of a data set, but a path: give its folder by -CurrentLocation")
    return name, Path(values.get("setupset.datasetDirectory") or ".")


def accept(judgement: Judgement, log: BatchLog) -> bool:
    """Print which directives are wrong or not followed, and return whether the work can begin."""
    if judgement.wrong:
        log.say("ERROR: Incorrect directive(s) as listed below:")
        _list(log, judgement.wrong)
        log.abort("Bad directives")
        return False
    if judgement.stops:
        log.say("ERROR: batchruntomo - tiltflow cannot do what these directives ask for:")
        _list(log, judgement.stops)
        log.abort("Directives that cannot be followed")
        return False
    if judgement.not_followed:
        log.say("WARNING: Directive(s) that are NOT followed:")
        _list(log, judgement.not_followed)
    if judgement.otherwise:
        log.say("Directive(s) without effect, as tiltflow works in another way:")
        _list(log, judgement.otherwise)
    return True


def _list(log: BatchLog, sentences: Iterable[str]) -> None:
    for sentence in sentences:
        log.say(f"   {sentence}")


def find_stack(folder: Path, name: str, directives: dict[str, str]) -> Path:
    """Return the raw stack of a data set: with the extension that a directive gives, else with one of the usual ones.

    Raises
    ------
    LocationError
        If there is none.
    """
    given = directives.get("setupset.currentStackExt") or directives.get("setupset.copyarg.stackext") or ""
    candidates = [f"{name}.{extension}" for extension in dict.fromkeys((given.lstrip("."), *STACK_EXTENSIONS)) if extension]
    found = next((folder / file for file in candidates if (folder / file).is_file()), None)
    if found is None:
        raise LocationError(f"Stack file does not exist in {folder} with any of these names: {', '.join(candidates)}")
    return found
