"""Whether files and numbers that directives give can be right for a series, said before any work, with the directive's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tiltflow.engines.base import EngineJob
from tiltflow.engines.native.corrections import known_exposures
from tiltflow.engines.native.given_defocus import check_given_defocus
from tiltflow.errors import InputError

_DEFOCUS = "runtime.Tiltflow.any.defocusFile"
_EXPOSURES = "comparam.mtffilter.mtffilter.DoseWeightingFile"
_MTF = "comparam.mtffilter.mtffilter.MtfFile"


def check_given_values(job: EngineJob) -> None:
    """Read the files that directives name, as far as they are used, and compare them and stated orders with the series.

    Raises
    ------
    LocationError, FormatError, MissingValueError
        If a file cannot be read, or does not fit the series.
    ParameterError
        If a number that is stated is not possible for this series.
    StageError
        If weighting by exposure is required, and the exposures are not known.
    """
    recipe, series = job.recipe, job.series
    if recipe.ctf.correct != "no" and recipe.ctf.file:
        _named(_DEFOCUS, lambda: check_given_defocus(Path(recipe.ctf.file), series))
    if recipe.exposure.weight != "no":
        _named(_EXPOSURES, lambda: known_exposures(series, recipe.exposure))
    if recipe.filter is not None and recipe.filter.mtf_file:
        _named(_MTF, recipe.filter.params)


def _named(directive: str, read: Callable[[], object]) -> None:
    """Read something, so that what is wrong with it is said with the directive that names it."""
    try:
        read()
    except InputError as error:
        raise type(error)(f"{directive}: {error}") from error
