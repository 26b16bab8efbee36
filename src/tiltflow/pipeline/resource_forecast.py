"""Forecast of the memory, disk space and time that a run over many series needs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tiltflow.engines.plan import Plan, expected_time, gigabytes
from tiltflow.engines.registry import choose_engine
from tiltflow.engines.system_memory import available_memory
from tiltflow.errors import TiltflowError
from tiltflow.formats.series import read_series
from tiltflow.pipeline.resume import look_back
from tiltflow.recipe import Recipe, SeriesRecipes
from tiltflow.work import Site


@dataclass(frozen=True, slots=True)
class Forecast:
    """One line on what the run needs, and a sentence for each resource that is not sufficient."""

    line: str
    shortages: tuple[str, ...] = ()


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
        f"{len(plans)} series to do: up to {gigabytes(memory)} of memory, {gigabytes(scratch)} of scratch, {gigabytes(results)} of "
        f"results, {expected_time(seconds, further)}"
    )
    return Forecast(line, tuple(_shortages(memory, scratch, results, site.scratch, output)))


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
        yield f"{gigabytes(available)} of memory are available: run fewer series at once (--jobs) or use fewer threads (--threads)"
    for what, size, folder in (("scratch", scratch, scratch_folder or Path(tempfile.gettempdir())), ("results", results, output)):
        place = next(parent for parent in [folder.absolute(), *folder.absolute().parents] if parent.exists())
        free = shutil.disk_usage(place).free
        if size > free:
            yield f"{place} has {gigabytes(free)} free for the {what}, so that the last series may fail: make room there"
