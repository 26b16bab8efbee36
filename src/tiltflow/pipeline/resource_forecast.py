"""Forecast of the memory, disk space and time that a run over many series needs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tiltflow.disk import size_text
from tiltflow.engines.plan import Plan, expected_time
from tiltflow.engines.registry import choose_engine, find_engine
from tiltflow.engines.system_memory import available_memory
from tiltflow.errors import TiltflowError
from tiltflow.formats.series import read_series
from tiltflow.model import TiltSeries
from tiltflow.pipeline.resume import look_back
from tiltflow.recipe import Recipe, SeriesRecipes
from tiltflow.recipe.engine_rules import AUTO, BEST, OFF, engine_names
from tiltflow.work import Site


@dataclass(frozen=True, slots=True)
class Forecast:
    """One line on what the run needs, a sentence for each resource that is not sufficient, and one on cores that would be idle."""

    line: str
    shortages: tuple[str, ...] = ()
    advice: str | None = None


def forecast(
    sources: Sequence[Path], recipe: Recipe | SeriesRecipes, site: Site, output: Path, *, jobs: int = 1, redo: bool = False
) -> Forecast | None:
    """Return what the series that are still to be done need, `jobs` of them at once; None if it cannot be estimated for any.

    Nothing is refused here: a series that does not fit is refused when its turn comes, and the others are done.  A series that cannot
    be read is skipped here; the run reports why.
    """
    plans = list(_plans(sources, SeriesRecipes.of_all(recipe), site, output, redo))
    if not plans:
        return None
    together = min(max(jobs, 1), len(plans))
    memory = sum(sorted((plan.memory for plan in plans), reverse=True)[:together])
    scratch = sum(sorted((plan.scratch for plan in plans), reverse=True)[:together])
    results = sum(plan.results for plan in plans)
    seconds, further = (
        sum(each) / together for each in zip(*((plan.seconds, plan.fallback_seconds) for plan in plans), strict=True)
    )
    line = (
        f"{len(plans)} series to do: up to {size_text(memory)} of memory, {size_text(scratch)} of scratch, {size_text(results)} of "
        f"results, {expected_time(seconds, further)}"
    )
    advice = _advice(plans, site.threads) if jobs <= 1 else None
    return Forecast(line, tuple(_shortages(memory, scratch, results, site.scratch, output)), advice)


def _advice(plans: Sequence[Plan], cores: int) -> str | None:
    """Return how many series the cores would do at once, as far as memory goes, if one after the other is asked for."""
    available, needed, at_once = available_memory(), 0, 0
    for memory in sorted((plan.memory for plan in plans), reverse=True)[:cores]:
        needed += memory
        if available is not None and needed > available:
            break
        at_once += 1
    if at_once <= 1:
        return None
    return f"a series keeps little more than one of {cores} cores busy: --jobs {at_once} does {at_once} at once"


def planner(
    sources: Sequence[Path], recipes: SeriesRecipes, output_of: Callable[[Path], Path], *, redo: bool = False
) -> Callable[[int], list[Plan]]:
    """Return the function that gives, for a number of threads, what each series needs that is still to be done, wherever it is done.

    It may be done by any engine that can follow the recipe, also by one that is not installed here, and again by the fallback engine: the
    memory is the most that one of them needs, the time that of all.  A series that cannot be read needs nothing.
    """
    known: list[list[Callable[[int], Plan]]] = []
    for source in sources:
        recipe = recipes.of(source)
        if not redo and look_back(source, recipe, output_of(source)).result is not None:
            continue
        with suppress(TiltflowError):
            series = read_series(source, recipe.hints, ask_images=False)
            known.append(list(_by_each_engine(recipe, series)))
    return lambda threads: [_of_all([plan(threads) for plan in plans]) for plans in known if plans]


def _by_each_engine(recipe: Recipe, series: TiltSeries) -> Iterator[Callable[[int], Plan]]:
    first = engine_names() if recipe.engine in (AUTO, BEST) else (recipe.engine,)
    second = () if recipe.fallback_engine == OFF else (recipe.fallback_engine,)
    for name in dict.fromkeys((*first, *second)):
        with suppress(TiltflowError):  # an engine that cannot follow the recipe does not do it
            yield partial(find_engine(name).plan, series, recipe.for_engine(name).for_series(series.pixel_size_angstrom))


def _of_all(plans: Sequence[Plan]) -> Plan:
    """Return what the work of several engines needs, one after the other."""
    stages = {stage for plan in plans for stage in plan.memory_by_stage}
    return Plan(
        memory_by_stage={stage: max(plan.memory_by_stage.get(stage, 0) for plan in plans) for stage in stages},
        scratch=max(plan.scratch for plan in plans),
        results=max(plan.results for plan in plans),
        seconds=sum(plan.seconds for plan in plans),
        fallback_seconds=max(plan.fallback_seconds for plan in plans),
    )


def _plans(sources: Sequence[Path], recipes: SeriesRecipes, site: Site, output: Path, redo: bool) -> Iterator[Plan]:
    for source in sources:
        recipe = recipes.of(source)
        if not redo and look_back(source, recipe, output / source.stem).result is not None:
            continue
        try:
            engine = choose_engine(recipe.engine)[0]
            fitted = recipe.for_engine(engine.name)
            series = read_series(source, recipe.hints, ask_images=False)
            yield engine.plan(series, fitted.for_series(series.pixel_size_angstrom), site.threads)
        except TiltflowError:
            continue


def _shortages(memory: int, scratch: int, results: int, scratch_folder: Path | None, output: Path) -> Iterator[str]:
    available = available_memory()
    if available is not None and memory > available:
        yield f"{size_text(available)} of memory are available: run fewer series at once (--jobs) or use fewer threads (--threads)"
    for what, size, folder in (("scratch", scratch, scratch_folder or Path(tempfile.gettempdir())), ("results", results, output)):
        place = next(parent for parent in [folder.absolute(), *folder.absolute().parents] if parent.exists())
        free = shutil.disk_usage(place).free
        if size > free:
            yield f"{place} has {size_text(free)} free for the {what}, so that the last series may fail: make room there"
