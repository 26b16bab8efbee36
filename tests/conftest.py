"""Fixtures that every room of the house shares."""

from __future__ import annotations

import os

# OpenBLAS reads it when numpy is imported.  Its threads would spin on the cores that the tests' own threads need: a tenfold CPU time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import gc
import itertools
import logging
import lzma
import shutil
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings

from tiltflow.formats.mrc import MrcWriter

if TYPE_CHECKING:
    from tiltflow.pipeline import RunResult

gc.disable()  # until all is imported
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")

# Tests send Ctrl-C and SIGHUP to programs; a suite that a shell started in the background, or nohup, would hand on that they are ignored.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


DATA = Path(__file__).parent / "data"


def pytest_collection_finish() -> None:
    """Keep the garbage collector off what the imports made, which lives to the end: its rounds were an eighth of the CPU time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    gc.enable()


_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what programs keep for their user away from the user who runs the tests, and each test's from the others'."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / f"state-{next(_numbers)}"))


@pytest.fixture(scope="session")
def data() -> Path:
    """The small golden cases that travel with the project."""
    return DATA


@pytest.fixture(scope="session")
def unpacked(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the file that a golden case of a name holds packed, unpacked once; not to be written to."""
    folder = tmp_path_factory.mktemp("unpacked")

    def unpack(name: str) -> Path:
        path = folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(lzma.decompress((data / f"{name}.xz").read_bytes()))
        return path

    return unpack


@pytest.fixture(scope="session")
def real_series(unpacked: Callable[[str], Path]) -> Path:
    """A cryo series with gold of 10 px, `(21, 340, 340)`, that no program made."""
    return unpacked("series/empiar10499_00254.mrc")


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded generator, the same in every run."""
    return np.random.default_rng(20260711)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Take back the handlers that a command added: they write to a stream that ends with its test."""
    logger = logging.getLogger("tiltflow")
    before = list(logger.handlers)
    yield
    logger.handlers[:] = before


FAKE = Path(__file__).parent / "engines" / "imod" / "fake_batchruntomo.py"


def write_small_series(path: Path, views: int = 5, size: int = 64) -> Path:
    """Write a series of noise with its angles in the extended header."""
    rng = np.random.default_rng(1)
    label = "    Tilt axis angle = -8.0, binning = 1  spot = 8  camera = 0"
    tilt = np.linspace(-40, 40, views)
    with MrcWriter(
        path, (views, size, size), np.int16, pixel_size_angstrom=10, labels=[label], is_stack=True, tilt_deg=tilt
    ) as out:
        for _ in range(views):
            out.write(rng.normal(1000, 50, (size, size)).astype(np.float32))
    return path


@pytest.fixture
def write_series() -> Callable[..., Path]:
    """Return the function that writes a small series of noise: of a path, and the numbers of views and pixels."""
    return write_small_series


@pytest.fixture
def small_series(tmp_path: Path) -> Path:
    folder = tmp_path / "input"
    folder.mkdir()
    return write_small_series(folder / "B.st")


def install_fake_imod(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-in on the PATH; how it behaves is set by FAKE_BATCHRUNTOMO."""
    folder = parent / "imod" / "bin"
    folder.mkdir(parents=True)
    program = folder / "batchruntomo"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (folder.parent / "VERSION").write_text("4.12.99\n")
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setenv("FAKE_BATCHRUNTOMO", "good")


@pytest.fixture
def fake_imod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Put the stand-in on the PATH for one test."""
    install_fake_imod(tmp_path, monkeypatch)
    return monkeypatch


@dataclass(frozen=True)
class FinishedRun:
    """A run of two series, A, which is no image, and B, and the folder of what it left."""

    result: RunResult
    folder: Path


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """One run for all tests that only look at what it left; those that change something copy the folder."""
    from tiltflow.pipeline import run
    from tiltflow.recipe import BrtParameters, make_recipe
    from tiltflow.work import Site

    parent = tmp_path_factory.mktemp("finished")
    for name in ("input", "scratch"):
        (parent / name).mkdir()
    good, bad = write_small_series(parent / "input" / "B.st"), parent / "input" / "A.mrc"
    bad.write_text("this is no image")
    recipe = make_recipe(BrtParameters(thickness=50), engine="imod")
    with pytest.MonkeyPatch.context() as monkeypatch:
        install_fake_imod(parent, monkeypatch)
        result = run([bad, good], recipe, Site(scratch=parent / "scratch"), parent / "out")
    shutil.rmtree(parent / "input")
    return FinishedRun(result, parent / "out")
