"""What the work will take, from the header, and what is said when there is not that much."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tiltflow.engines import plan as planning
from tiltflow.engines.plan import Plan, check_room, duration
from tiltflow.engines.registry import find_engine
from tiltflow.engines.requirements import plan_series
from tiltflow.engines.thickness import whole_voxels
from tiltflow.errors import MemoryShortageError, ResourceError
from tiltflow.formats.mrc import MrcWriter
from tiltflow.formats.series import read_series
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.reconstruct.volume_slabs import slab_rows

GB = 10**9
PLAN = Plan({"raw views": GB, "pyramid": GB // 2}, scratch=3 * GB, results=4 * GB, seconds=100.0)


def series_of(path: Path, views: int, size: int | tuple[int, int], dtype: type = np.int16):
    """Return a series whose file is a hole: nothing but a header is written; `size` is that of both sides, or of y and x."""
    ny, nx = (size, size) if isinstance(size, int) else size
    label = "    Tilt axis angle = -8.0, binning = 1"
    tilt = np.linspace(-60, 60, views)
    with MrcWriter(path, (views, ny, nx), dtype, pixel_size_angstrom=10, labels=[label], is_stack=True, tilt_deg=tilt) as out:
        out.set_statistics(0, 1, 0.5)
        _ = out.data
    return read_series(path)


def recipe_of(thickness: int, binning: int, *more: str):
    return make_recipe(
        BrtParameters(thickness=thickness), overrides=[f"runtime.AlignedStack.any.binByFactor={binning}", *more], engine="native"
    )


def test_the_sizes_are_those_of_the_files(tmp_path):
    series = series_of(tmp_path / "B.st", 21, 512)
    plan = plan_series(series, recipe_of(100, 2), 2)
    stack, volume = 21 * 256 * 256 * 2, 50 * 256 * 256 * 2
    assert plan.scratch == stack + volume
    assert plan.results > stack + 2 * volume  # the averaged volume is as large
    assert plan.results < stack + 4 * volume + 10e6
    without = plan_series(series, recipe_of(100, 2), 2, keep_volumes=False)
    assert plan.results - without.results == stack + volume


def test_real_numbers_halves_and_bytes_are_counted(tmp_path):
    whole = series_of(tmp_path / "B.st", 11, 256)
    real = series_of(tmp_path / "R.st", 11, 256, np.float32)
    volume = 64 * 256 * 256 * 2
    base = plan_series(whole, recipe_of(64, 1), 1).scratch
    assert plan_series(real, recipe_of(64, 1), 1).scratch == 2 * base
    unsigned = series_of(tmp_path / "U.st", 11, 256, np.uint16)
    assert plan_series(unsigned, recipe_of(64, 1), 1).scratch == 2 * base, "their aligned stack is of real numbers"
    halves = recipe_of(64, 1, "runtime.Tiltflow.any.halfVolumes=1")
    assert plan_series(whole, halves, 1).scratch - base == 2 * volume


def test_one_aligned_stack_of_half_the_frames_is_counted_where_halves_are_made_of_them(tmp_path):
    series_of(tmp_path / "B_EVN.mrc", 11, 256)
    series_of(tmp_path / "B_ODD.mrc", 11, 256, np.float32)
    series = series_of(tmp_path / "B.st", 11, 256)
    assert series.frame_stacks is not None
    halves = recipe_of(64, 2, "runtime.Tiltflow.any.halfVolumes=1")
    with_frames, without = (plan_series(each, halves, 1) for each in (series, replace(series, frame_stacks=None)))
    assert with_frames.scratch - without.scratch == 11 * 128 * 128 * 4  # of the larger one: they are there one after the other
    assert with_frames.results == without.results
    assert plan_series(series, recipe_of(64, 2), 1) == plan_series(replace(series, frame_stacks=None), recipe_of(64, 2), 1)


def test_imod_needs_room_for_its_copies_of_the_raw_stack(tmp_path):
    series = series_of(tmp_path / "B.st", 11, 256)
    ours = plan_series(series, recipe_of(64, 2), 1)
    imods = find_engine("imod").plan(series, recipe_of(64, 2), 1)
    assert imods.scratch - ours.scratch >= 3 * 11 * 256 * 256 * 2
    assert imods.results == ours.results


def test_memory_grows_with_a_view_and_a_thread_and_not_with_the_number_of_views(tmp_path):
    few, many = series_of(tmp_path / "B.st", 5, 4096), series_of(tmp_path / "C.st", 61, 4096)
    one, two = (plan_series(few, recipe_of(200, 4), threads).memory for threads in (1, 2))
    assert two - one > 4096 * 4096 * 7
    assert plan_series(many, recipe_of(200, 4), 2).memory == pytest.approx(two, rel=0.05)


@pytest.mark.parametrize(
    ("how", "tracked"),
    [
        pytest.param({"tracking_method": 1}, True, id="patches"),
        pytest.param({"fiducialless": 1}, True, id="no markers, as patches check them"),
        pytest.param({}, True, id="gold, which may fall back to them"),
    ],
)
def test_patches_take_memory_where_they_may_be_tracked(tmp_path, how, tracked):
    plan = plan_series(series_of(tmp_path / "B.st", 61, 1024), make_recipe(BrtParameters(thickness=100, **how), engine="native"), 2)
    assert str(plan).startswith("up to 0.7 GB of memory (patches)") == tracked


def test_patches_take_no_memory_where_gold_alone_is_followed(tmp_path):
    recipe = replace(make_recipe(BrtParameters(thickness=100), engine="native"), fallback=False)
    assert plan_series(series_of(tmp_path / "B.st", 61, 1024), recipe, 2).memory < 0.5 * GB


def test_looking_for_the_specimen_takes_memory_where_it_is_asked_for(tmp_path):
    series = series_of(tmp_path / "B.st", 61, 1024)
    with_it, without = (
        plan_series(series, recipe_of(100, 4, *more), 1).memory_by_stage
        for more in (("runtime.Positioning.any.sampleType=1", "runtime.Positioning.any.thickness=400"), ())
    )
    small, heights = 256 * 256, 2 * 400 // 4
    assert with_it["positioning"] - without["positioning"] > 12 * small * (61 + heights)
    assert with_it["positioning"] - without["positioning"] < 0.4 * GB
    assert {**with_it, "positioning": 0} == {**without, "positioning": 0}


@pytest.mark.parametrize(
    ("hungriest", "size", "thickness", "binning", "least"),
    [
        ("raw views", 4096, 100, 8, 0.8 * GB),
        ("reconstruction", 2048, 1200, 1, 1.5 * GB),
        ("reconstruction", 1024, 300, 1, 0.9 * GB),
    ],
)
def test_the_peak_is_that_of_the_stage_that_holds_most(tmp_path, hungriest, size, thickness, binning, least):
    plan = plan_series(series_of(tmp_path / "B.st", 21, size), recipe_of(thickness, binning), 2)
    assert plan.memory == plan.memory_by_stage[hungriest] > least
    assert f"({hungriest})" in str(plan)


MIB = 1 << 20
RAW, ALIGNED, VOXELS = 768 * 1024, 384 * 512, 100 * 384 * 512
SLAB = slab_rows(100, 512)


@pytest.fixture
def counted(tmp_path) -> Plan:
    """What 41 views of 768 x 1024, binned by 2 into 100 sections, take with two threads."""
    return plan_series(series_of(tmp_path / "B.st", 41, (768, 1024)), recipe_of(200, 2), 2)


@pytest.mark.parametrize(
    ("stage", "size"),
    [
        pytest.param("positioning", 0, id="nothing but the program where it is not asked for"),
        pytest.param("raw views", 2 * RAW * (2 * 2 + 8), id="each thread has a view, its copy, and real numbers"),
        pytest.param("patches", 41 * 20 * ALIGNED, id="all views binned to 512 px, and spectra"),
        pytest.param(
            "aligned stack", 2 * (2 * 2 * RAW + 8 * ALIGNED) + 5 * 4 * ALIGNED, id="views on their way and those that wait"
        ),
        pytest.param("reconstruction", 4 * 100 * 512 * (11 * SLAB + 6 + 2) + 2 * 41 * 16 * 512 * 8, id="slabs, pitch and lines"),
        pytest.param(
            "movies", 2 * 3 * 8 * ALIGNED + 80 * ALIGNED * 3 // 2, id="pictures of each thread, and frames of the encoder"
        ),
        pytest.param(
            "pyramid", 4 * 2 * 100 * 128 * 512 + 2 * 8 * 128**3, id="a row of chunks of each level, and one of each thread"
        ),
    ],
)
def test_the_memory_of_a_stage_is_that_of_the_arrays_that_it_holds(counted, stage, size):
    assert counted.memory_by_stage[stage] == 400 * MIB + size


def test_frames_of_a_movie_have_a_largest_size(tmp_path):
    plan = plan_series(series_of(tmp_path / "B.st", 41, 4096), recipe_of(20, 2), 1)
    assert plan.memory_by_stage["movies"] == 400 * MIB + 3 * 8 * 2048**2 + 80 * 3 * MIB // 2


def test_of_a_high_narrow_volume_a_picture_is_a_section_and_a_chunk_no_broader_than_it(tmp_path):
    memory = plan_series(series_of(tmp_path / "B.st", 41, (64, 1024)), recipe_of(400, 1), 1).memory_by_stage
    assert memory["movies"] == 400 * MIB + 3 * 8 * 64 * 1024 + 80 * 64 * 1024 * 3 // 2
    assert memory["pyramid"] == 400 * MIB + 4 * 2 * 128 * 64 * 1024 + 8 * 128**3


def test_results_are_volumes_a_binned_one_a_pyramid_and_what_is_small(counted):
    stack, volume = 2 * 41 * ALIGNED, 2 * VOXELS
    assert counted.scratch == stack + volume
    assert counted.results - counted.scratch == pytest.approx(volume * (1 + 1 / 8 + 8 / 7) + stack / 4 + 8 * MIB, abs=2)


def test_time_is_that_of_pixels_voxels_and_voxels_of_each_view_of_which_threads_share_a_part(tmp_path, counted):
    work = 1e-9 * (40 * 41 * RAW + 60 * VOXELS + 0.35 * 41 * VOXELS) + 41 * (0.07 + 0.06)
    assert counted.seconds == pytest.approx(10 + work * (0.3 + 0.7 / 2))
    series = series_of(tmp_path / "C.st", 41, (768, 1024))
    for threads in (0, 1):
        assert plan_series(series, recipe_of(200, 2), threads).seconds == pytest.approx(10 + work)


@pytest.mark.parametrize(
    ("parameters", "fallback", "asked", "further"),
    [
        ({}, True, 0.07 + 0.06, 0.2 + 0.13),
        ({"tracking_method": 1}, True, 0.07 + 0.2, 0.13),
        ({"fiducialless": 1}, True, 0.07 + 0.13 + 0.2, 0.0),
        ({}, False, 0.07 + 0.06, 0.0),
    ],
)
def test_the_methods_of_fallback_have_a_time_of_their_own(tmp_path, parameters, fallback, asked, further):
    series = series_of(tmp_path / "B.st", 41, 64)
    recipe = make_recipe(BrtParameters(thickness=100, **parameters), engine="native", fallback=fallback)
    plan = plan_series(series, recipe.for_series(10.0), 1)
    assert plan.seconds == pytest.approx(10 + 41 * asked, abs=0.1)
    assert plan.fallback_seconds == pytest.approx(41 * further)


def test_an_alignment_that_is_given_takes_no_time(tmp_path):
    series = series_of(tmp_path / "B.st", 41, 64)
    plan = plan_series(series, make_recipe(BrtParameters(thickness=100)).with_alignment(tmp_path).for_series(10.0), 1)
    assert (plan.seconds, plan.fallback_seconds) == (pytest.approx(10, abs=0.1), 0.0)


@pytest.mark.parametrize(("thickness", "whole"), [(100.0, 100), (100.1, 104), (97, 100), (0.3, 4), (0.0, 4), (-9.0, 4)])
def test_a_thickness_is_rounded_up_to_whole_voxels_and_to_one_at_least(thickness, whole):
    assert whole_voxels(thickness, recipe_of(200, 4)) == whole


def test_more_voxels_and_fewer_threads_take_longer(tmp_path):
    series = series_of(tmp_path / "B.st", 41, 1024)
    quick = plan_series(series, recipe_of(200, 4), 2).seconds
    assert plan_series(series, recipe_of(200, 1), 2).seconds > 1.5 * quick
    assert plan_series(series, recipe_of(200, 4), 1).seconds > quick


def test_it_is_said_in_one_line():
    assert str(PLAN) == "up to 1.0 GB of memory (raw views), 3.0 GB of scratch, 4.0 GB of results, about 2 min"
    longer = replace(PLAN, fallback_seconds=200.0)
    assert str(longer) == f"{PLAN!s} (5 min with the fallback methods)"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "10 s"),
        (14, "10 s"),
        (16, "20 s"),
        (89, "90 s"),
        (90, "2 min"),
        (149, "2 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
        (7200, "2.0 h"),
    ],
)
def test_a_time_is_said_in_seconds_minutes_or_hours(seconds, text):
    assert duration(seconds) == text


def test_the_memory_is_that_of_the_stage_that_needs_most_and_it_is_named():
    plan = Plan({"a": GB, "b": 3 * GB, "c": 2 * GB}, scratch=0, results=0, seconds=0)
    assert plan.memory == 3 * GB
    assert str(plan).startswith("up to 3.0 GB of memory (b), ")


@pytest.fixture
def machine(monkeypatch):
    """A machine whose free memory and disk a test sets."""
    has = SimpleNamespace(memory=16 * GB, disk=100 * GB)
    monkeypatch.setattr(planning, "available_memory", lambda: has.memory)
    monkeypatch.setattr(planning.shutil, "disk_usage", lambda _path: SimpleNamespace(free=has.disk))
    return has


def test_work_that_fits_is_taken_on(machine, tmp_path):
    check_room(PLAN, "B.st", tmp_path, tmp_path)
    machine.memory = None
    check_room(PLAN, "B.st", tmp_path, tmp_path)


def test_too_little_memory_is_refused_with_figures_and_advice(machine, tmp_path):
    machine.memory = GB // 2
    with pytest.raises(
        MemoryShortageError, match=r"B\.st: the work needs 1\.0 GB of memory, and 0\.5 GB are available: .*--threads"
    ):
        check_room(PLAN, "B.st", tmp_path, tmp_path)


def test_one_disk_must_hold_scratch_and_results(machine, tmp_path):
    machine.disk = 6 * GB
    with pytest.raises(ResourceError, match=r"B\.st: scratch and results need 7\.0 GB in .*, which has 6\.0 GB free.*binByFactor"):
        check_room(PLAN, "B.st", tmp_path, tmp_path)


@pytest.fixture
def two_disks(monkeypatch, tmp_path) -> tuple[Path, Path]:
    """Return a folder for scratch and one for results, each on a disk of its own."""
    real = Path.stat
    monkeypatch.setattr(
        Path, "stat", lambda path, **k: SimpleNamespace(st_dev=path.name) if path.parent == tmp_path else real(path, **k)
    )
    return tmp_path / "scratch", tmp_path / "results"


def test_of_two_disks_each_must_hold_its_own(machine, two_disks):
    machine.disk = 6 * GB
    check_room(PLAN, "B.st", *two_disks)
    machine.disk = int(3.5 * GB)
    with pytest.raises(ResourceError, match=r"the results need 4\.0 GB in .*results"):
        check_room(PLAN, "B.st", *two_disks)


def fits(scratch: Path, results: Path) -> bool:
    try:
        check_room(PLAN, "B.st", scratch, results)
    except ResourceError:
        return False
    return True


@pytest.mark.parametrize(("memory", "taken"), [(GB, True), (GB - 1, False)])
def test_memory_may_be_used_up_to_the_last_byte(machine, tmp_path, memory, taken):
    machine.memory = memory
    assert fits(tmp_path, tmp_path) is taken


@pytest.mark.parametrize(("disk", "taken"), [(7.36, True), (7.34, False)])
def test_a_twentieth_of_what_is_needed_stays_free_on_a_disk(machine, tmp_path, disk, taken):
    """Scratch and results, 3 and 4 GB, lie on one disk."""
    machine.disk = int(disk * GB)
    assert fits(tmp_path, tmp_path) is taken


@pytest.mark.parametrize(("disk", "taken"), [(4.21, True), (4.19, False), (3.1, False)])
def test_of_two_disks_none_must_hold_what_the_other_does(machine, two_disks, disk, taken):
    machine.disk = int(disk * GB)
    assert fits(*two_disks) is taken
