"""The recipe of an earlier run, made again from its record."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from tiltflow.errors import FormatError, LocationError, ParameterError, TiltflowError
from tiltflow.formats.directives import Directive
from tiltflow.formats.zarrlayout import PyramidLayout
from tiltflow.model import Problem
from tiltflow.recipe.make import Recipe, draft_recipe, recipe_from
from tiltflow.recipe.parameters import BrtParameters
from tiltflow.recipe.per_series import SeriesRecipes
from tiltflow.recipe.template import Template
from tiltflow.record import RUN_SCHEMA, GivenDirective, RequestEntry, read_record, read_run
from tiltflow.version import __version__


def recipes_like(path: Path, alignment: Path | None = None) -> SeriesRecipes:
    """Return the recipes of the run whose record is given: that for all, and those of series that had settings of their own.

    Parameters
    ----------
    path
        A `run.json`: of a run, or of one series, whose recipe then holds for all.
    alignment
        A file or a folder of alignments for every series, in place of what that run used.

    Raises
    ------
    LocationError
        If the file cannot be read.
    FormatError
        If it is no record, or one of a version that did not keep what a recipe was made from.
    ParameterError
        If that run used a given alignment that is no longer there, and no other is given.
    DirectiveError, ParameterError, UnsupportedError
        If this version cannot follow the recipe.
    """
    try:
        schema = json.loads(path.read_bytes()).get("schema")
    except OSError as error:
        raise LocationError(
            f"{path}: the record cannot be read: {error.strerror}; give the run.json of a run or a series"
        ) from error
    except (ValueError, RecursionError, AttributeError) as error:
        raise FormatError(f"{path} is not the record of a run; give the run.json of a run or a series") from error
    recipes = _of_run(path) if schema == RUN_SCHEMA else _of_series(path)
    if alignment is None:
        _refuse_missing_alignment(recipes, path)
        return recipes
    own = {name: recipe.with_alignment(alignment) for name, recipe in recipes.own.items()}
    return replace(recipes, common=recipes.common.with_alignment(alignment), own=own)


def recipe_like(request: RequestEntry) -> Recipe:
    """Return the recipe that was made from what a record holds.

    Raises
    ------
    DirectiveError, ParameterError, UnsupportedError
        If this version cannot follow it.
    """
    source = Template(
        name=request.template,
        text=request.text,
        layers=tuple(tuple(map(_directive, layer)) for layer in request.layers),
        missing=tuple(request.missing),
        overrides=tuple(map(_directive, request.overrides)),
    )
    frame = replace(
        draft_recipe(engine=request.engine),
        fallback_engine=request.fallback_engine,
        fallback=request.fallback,
        trust_limit_px=request.trust_limit_px,
        pyramid=PyramidLayout(**request.pyramid),  # type: ignore[arg-type]  # it checks its values
        alignment=None if request.alignment is None else Path(request.alignment),
    )
    return recipe_from(source, BrtParameters(**request.parameters), like=frame)


def _refuse_missing_alignment(recipes: SeriesRecipes, path: Path) -> None:
    for recipe in recipes.all:
        if recipe.alignment is not None and not recipe.alignment.exists():
            raise ParameterError(
                f"The run of {path} used the alignment in {recipe.alignment}, which is not there: give it by --alignment"
            )


def _of_run(path: Path) -> SeriesRecipes:
    run = read_run(path)
    common = _again(run.request, path)
    own, remarks = {}, list(_unlike(common, run.digest, run.tiltflow, path))
    for entry in run.series:
        record_path = path.parent / entry.record
        try:
            asked = read_record(record_path).recipe
        except (OSError, TiltflowError) as error:
            remarks.append(
                Problem(f"{entry.name}: its record cannot be read, so that it gets the recipe for all: {error}", str(path))
            )
            continue
        if asked is not None and asked.request is not None and asked.requested != run.digest:
            own[entry.name] = _again(asked.request, record_path)
    return SeriesRecipes(common, own, tuple(remarks))


def _of_series(path: Path) -> SeriesRecipes:
    record = read_record(path)
    if record.recipe is None:
        raise FormatError(f"{path} holds no recipe: the series failed before it had one")
    common = _again(record.recipe.request, path)
    return SeriesRecipes(common, {}, tuple(_unlike(common, record.recipe.requested, record.tiltflow, path)))


def _again(request: RequestEntry | None, path: Path) -> Recipe:
    if request is None:
        raise FormatError(f"{path} was written by a version that did not keep the template; give the options of that run instead")
    return recipe_like(request)


def _unlike(made: Recipe, digest: str, version: str, path: Path) -> Iterable[Problem]:
    """Yield what may make the result another one, although the recipe is the same."""
    if version != __version__:
        yield Problem(f"{path} was written by tiltflow {version}, this is {__version__}: results may differ", str(path))
    elif made.digest != digest:
        yield Problem(f"the recipe of {path} means something else in this build of tiltflow: results may differ", str(path))


def _directive(given: GivenDirective) -> Directive:
    return Directive(given.name, given.value, given.where, given.line)
