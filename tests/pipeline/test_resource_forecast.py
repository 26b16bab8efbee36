"""What a run takes as the sum of its series: each figure, how many series at once count, and what is said to be short."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tiltflow.disk import size_text
from tiltflow.engines.plan import Plan, expected_time
from tiltflow.engines.registry import find_engine
from tiltflow.formats.mrc import MrcWriter
from tiltflow.formats.series import read_series
from tiltflow.pipeline import forecast, planner, resource_forecast
from tiltflow.recipe import BrtParameters, SeriesRecipes, make_recipe
from tiltflow.work import Site

RECIPE = make_recipe(BrtParameters(thickness=500), overrides=["runtime.AlignedStack.any.binByFactor=1"], engine="native")
SIDES = (1024, 512, 2048)


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    """Three series of different size, of which nothing but the headers is written."""
    paths = [tmp_path / f"B{side}.st" for side in SIDES]
    for path, side in zip(paths, SIDES, strict=True):
        with MrcWriter(
            path, (41, side, side), np.int16, pixel_size_angstrom=10, is_stack=True, tilt_deg=np.linspace(-60, 60, 41)
        ) as out:
            out.set_statistics(0, 1, 0.5)
            _ = out.data
    return paths


def plans_of(sources: list[Path], threads: int) -> list[Plan]:
    engine, fitted = find_engine("native"), RECIPE.for_engine("native")
    known = [read_series(source, RECIPE.hints) for source in sources]
    return [engine.plan(series, fitted.for_series(series.pixel_size_angstrom), threads) for series in known]


@pytest.fixture
def machine(monkeypatch):
    """A machine whose free memory and disk a test sets."""
    has = SimpleNamespace(memory=10**15, disk=10**15)
    monkeypatch.setattr(resource_forecast, "available_memory", lambda: has.memory)
    monkeypatch.setattr(resource_forecast, "shutil", SimpleNamespace(disk_usage=lambda _: shutil._ntuple_diskusage(0, 0, has.disk)))
    return has


@pytest.mark.parametrize(("jobs", "together"), [(0, 1), (1, 1), (2, 2), (3, 3), (9, 3)])
def test_as_many_as_work_at_once_count_the_largest_of_them_and_all_results(sources, machine, tmp_path, jobs, together):
    plans = plans_of(sources, threads=3)
    memory, scratch = (
        sum(sorted((getattr(plan, what) for plan in plans), reverse=True)[:together]) for what in ("memory", "scratch")
    )
    results, seconds = sum(plan.results for plan in plans), sum(plan.seconds for plan in plans) / together
    further = sum(plan.fallback_seconds for plan in plans) / together
    told = forecast(sources, RECIPE, Site(threads=3), tmp_path, jobs=jobs)
    assert told.line == (
        f"3 series to do: up to {size_text(memory)} of memory, {size_text(scratch)} of scratch, {size_text(results)} of results, "
        f"{expected_time(seconds, further)}"
    )
    assert told.shortages == ()


def test_a_series_that_cannot_be_read_is_left_to_the_run_and_those_after_it_count(sources, machine, tmp_path):
    bad = tmp_path / "A.st"
    bad.write_text("this is no image")
    told = forecast([bad, *sources], RECIPE, Site(), tmp_path)
    assert told == forecast(sources, RECIPE, Site(), tmp_path)
    assert forecast([bad], RECIPE, Site(), tmp_path) is None


@pytest.mark.parametrize(
    ("jobs", "threads", "left_over", "advised"),
    [(1, 2, 0, 2), (1, 3, 0, 3), (1, 64, 0, 3), (1, 1, 0, None), (2, 2, 0, None), (1, 3, -1, 2), (1, 3, None, 3)],
)
def test_idle_cores_are_told_as_far_as_there_are_series_and_memory(sources, machine, tmp_path, jobs, threads, left_over, advised):
    memory = sum(plan.memory for plan in plans_of(sources, threads))
    machine.memory = None if left_over is None else memory + left_over
    told = forecast(sources, RECIPE, Site(threads=threads), tmp_path, jobs=jobs).advice
    if advised is None:
        assert told is None
    else:
        assert told == f"a series keeps little more than one of {threads} cores busy: --jobs {advised} does {advised} at once"


def test_a_single_series_needs_no_advice(sources, machine, tmp_path):
    assert forecast(sources[:1], RECIPE, Site(threads=8), tmp_path).advice is None


@pytest.mark.parametrize("what", ["memory", "disk"])
def test_what_there_is_just_enough_of_is_not_short_and_a_byte_less_is(sources, machine, tmp_path, what):
    (plan,) = plans_of(sources[:1], threads=1)
    site, new = Site(threads=1, scratch=tmp_path), tmp_path / "not" / "yet"
    needed = plan.memory if what == "memory" else max(plan.scratch, plan.results)
    setattr(machine, what, needed)
    assert forecast(sources[:1], RECIPE, site, new).shortages == ()
    setattr(machine, what, needed - 1)
    (short,) = forecast(sources[:1], RECIPE, site, new).shortages
    if what == "memory":
        assert short.startswith(f"{size_text(needed - 1)} of memory are available: run fewer series at once (--jobs)")
    else:
        assert (
            short
            == f"{tmp_path} has {size_text(needed - 1)} free for the results, so that the last series may fail: make room there"
        )


def test_a_system_that_does_not_tell_its_memory_is_not_short_of_it(sources, machine, tmp_path):
    machine.memory = None
    assert forecast(sources, RECIPE, Site(), tmp_path).shortages == ()


def test_the_planner_gives_the_plans_of_every_series_still_to_be_done_for_any_number_of_threads(sources, tmp_path):
    needs = planner(sources, SeriesRecipes.of_all(RECIPE), lambda source: tmp_path / source.stem)
    for threads in (1, 4):
        alone = plans_of(sources, threads)
        assert [plan.memory for plan in needs(threads)] == [plan.memory for plan in alone]
        assert [plan.seconds for plan in needs(threads)] == [plan.seconds for plan in alone]
    broken = tmp_path / "broken.st"
    broken.write_bytes(b"no images")
    assert len(planner([*sources, broken], SeriesRecipes.of_all(RECIPE), lambda source: tmp_path / source.stem)(1)) == 3


def test_the_planner_counts_every_engine_that_may_do_the_work_one_after_the_other(sources, tmp_path):
    def plan_by(engine: str, fallback: str) -> Plan:
        recipe = make_recipe(BrtParameters(thickness=500), engine=engine, fallback_engine=fallback)
        return planner(sources[:1], SeriesRecipes.of_all(recipe), lambda source: tmp_path / source.stem)(2)[0]

    imod, native, both = plan_by("imod", "off"), plan_by("native", "off"), plan_by("imod", "native")
    assert both.memory == max(imod.memory, native.memory)
    assert both.seconds == imod.seconds + native.seconds
    assert plan_by("auto", "off") == both
