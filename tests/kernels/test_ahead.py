"""Kernels compiled ahead of their first call, by processes with a cache of their own."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tiltflow.demo import write_series
from tiltflow.kernels.ahead import LIST, function, listed, longest_first, type_of
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import simulate

METHODS = tuple(json.loads(LIST.read_text("utf-8")))


def run(code: str, *arguments: object, kept: Path) -> str:
    """Run some code in a process that keeps what it compiles in a folder, and return what it prints."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(kept), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("method", METHODS)
def test_what_is_listed_can_be_called(method: str) -> None:
    for name, arguments in listed(method):
        assert len(inspect.signature(function(name).py_func).parameters) == len(arguments), name
        assert [str(type_of(each)) for each in arguments] == arguments


def test_a_type_that_no_kernel_takes_is_refused() -> None:
    with pytest.raises(ValueError, match="DictType"):
        type_of("DictType[int64, int64]")


def helper(number: int, helpers: int, kept: Path) -> subprocess.Popen[bytes]:
    """Start a helper, which works as long as its standard input is open."""
    code = f"from tiltflow.kernels.ahead import help_to_compile\nhelp_to_compile('gold', {number}, {helpers})"
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, env=os.environ | {"NUMBA_CACHE_DIR": str(kept)})


LOAD = """
from tiltflow.kernels.ahead import function, listed, longest_first, longest_first, type_of
for name, arguments in longest_first(listed("gold"))[3::16]:
    function(name).compile(tuple(map(type_of, arguments)))
    stats = function(name).stats
    print(name, sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


def test_what_a_helper_has_compiled_is_loaded(tmp_path: Path) -> None:
    chosen = [name for name, _ in longest_first(listed("gold"))[3::16]]
    with helper(3, 16, tmp_path) as compiling:
        assert compiling.wait(timeout=120) == 0
    assert run(LOAD, kept=tmp_path).splitlines() == [f"{name} 1 0" for name in chosen]
    assert len(chosen) > 1


def test_those_with_most_to_compile_are_first() -> None:
    """Those that call others before those that are called."""
    order = [name for name, _ in longest_first(listed("markerless"))]
    assert sorted(order[:4]) == ["covariance.explain", "covariance.foretell", "depths.explain", "depths.foretell"]
    assert order.index("xrays.examine") < order.index("xrays.find_candidates")
    assert set(order[-8:]) >= {"products.count_whole", "refine.take_band"}


START = """
import fcntl, os, subprocess, sys
from tiltflow.kernels import ahead
from tiltflow.kernels.compiling import folder_of
started = []
class Helper:
    def __init__(self, command, **more):
        started.append(command[-2:])
    def wait(self):
        pass
subprocess.Popen = Helper
method, helpers, before = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if before == "kept":
    name, arguments = ahead.listed(method)[-1]
    ahead.function(name).compile(tuple(map(ahead.type_of, arguments)))
if before == "begun":
    folder = os.open(folder_of(ahead.function(ahead.listed(method)[-1][0])), os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
ahead.compile_ahead(method, helpers)
ahead.compile_ahead(method, helpers)
print(started)
"""


@pytest.mark.parametrize(
    ("method", "spare", "before", "helpers"),
    [
        ("gold", 0, "nothing", 0),
        ("gold", 1, "nothing", 1),
        ("patches", 2, "nothing", 2),
        ("gold", 63, "nothing", 3),
        ("gold", 1, "kept", 0),
        ("gold", 1, "begun", 0),
        ("coarse", 1, "nothing", 0),
    ],
)
def test_helpers_are_started_where_nothing_is_kept_and_cores_are_left(
    tmp_path: Path, method: str, spare: int, before: str, helpers: int
) -> None:
    started = run(START, method, spare, before, kept=tmp_path)
    assert started.strip() == str([[str(number), str(helpers)] for number in range(helpers)])


def test_a_helper_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    compiling = helper(0, 1, tmp_path)
    with pytest.raises(subprocess.TimeoutExpired):
        compiling.wait(timeout=1.0)
    assert compiling.stdin is not None
    compiling.stdin.close()
    assert compiling.wait(timeout=30) == 0
    assert len(list(tmp_path.rglob("*.nbi"))) < len(listed("gold")) / 2


def test_nothing_of_the_helpers_is_left_when_they_are_done(tmp_path: Path) -> None:
    """No open file, no thread and no process that nobody asked for its end."""
    code = """
import os, threading, time, warnings
from tiltflow.kernels import ahead
ahead.listed = lambda method: [("products.count_whole", ["array(int16, 3d, C)", "int64", "array(int64, 1d, C)"])]
ahead._BEGIN = "pass"
ahead.compile_ahead("gold", 2)
before = time.monotonic()
while threading.active_count() > 1 and time.monotonic() < before + 60:
    time.sleep(0.05)
print(threading.active_count())
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no process")
"""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONDEVMODE": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout.splitlines() == ["1", "no process"], done.stderr
    assert "ResourceWarning" not in done.stderr


CALL = """
import importlib, pkgutil, sys
from tiltflow.cli.application import app
try:
    app(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
import tiltflow.kernels as kernels
from tiltflow.kernels.ahead import listed
modules = [importlib.import_module(f"tiltflow.kernels.{each.name}") for each in pkgutil.iter_modules(kernels.__path__)]
made = {id(each): (each, f"{module.__name__.rpartition('.')[2]}.{name}") for module in modules for name, each in vars(module).items()
    if isinstance(each, kernels._Kernel) and each._made and each.__module__ == module.__name__}
loops = [getattr(each, "py_func", getattr(each, "_loop", None)) for module in modules for each in vars(module).values()]
parts = {name for loop in loops if loop is not None for name in loop.__code__.co_names}
known = [(name, tuple(arguments)) for name, arguments in listed("gold")]
for each, name in made.values():
    for signature in each._made.signatures:
        if (name, tuple(map(str, signature))) not in known and name.rpartition(".")[2] not in parts:
            print("not listed:", name, *signature)
"""


def test_the_list_is_that_of_a_run(tmp_path: Path) -> None:
    """Written anew by `python benchmarks/signatures.py --record` where kernels or what they are given have changed."""
    source = tmp_path / "series"
    source.mkdir()
    write_series(source / "gold.st", simulate(SimulationParams(seed=1, size=256, views=31), threads=2))
    arguments = ["run", source, "-o", tmp_path / "out", "--engine", "native", "--gold", "10", "--thickness", "60", "--threads", "1"]
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path / "state"), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CALL, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("not listed")] == []
