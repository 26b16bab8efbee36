"""Taking in the alignment of a series that another program made, without a volume: our files of it, and a record with its audit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tiltflow.pipeline.job import OnProgress, nobody
from tiltflow.pipeline.one_series import process
from tiltflow.recipe import BrtParameters, Recipe, make_recipe
from tiltflow.work import SeriesResult, Site


def import_alignment(source: Path, recipe: Recipe, site: Site, output: Path, *, on_progress: OnProgress = nobody) -> SeriesResult:
    """Write the alignment that a recipe gives of a series as `B.xf`, `B.tlt`, `B.xtilt` and `B_align.json`, with record and page.

    Parameters
    ----------
    source
        The stack.
    recipe
        Names the alignment.
    site
        Threads and thresholds of the verdict.
    output
        The folder of the series.
    on_progress
        Receives the running stage and the fraction of it that is done.

    Returns
    -------
    SeriesResult
        A failure is a result with its stage and reason.
    """
    return process(source, recipe, site, output=output, keep_volumes=False, parts=("alignment",), on_progress=on_progress)


def import_recipe(alignment: Path, gold_nm: int, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe for taking in an alignment.

    Raises
    ------
    DirectiveError, ParameterError
        If a directive is unknown or malformed, or a value is out of range.
    """
    return make_recipe(BrtParameters(gold=gold_nm), overrides=overrides, alignment=alignment)
