"""Fixtures that every room of the house shares."""

from __future__ import annotations

import os

# OpenBLAS reads it when numpy is imported; its threads would spin on cores that the tests' own threads need.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import lzma
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from tiltflow.formats.mrc import MrcWriter

settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")

DATA = Path(__file__).parent / "data"


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
def small_series(tmp_path: Path) -> Path:
    folder = tmp_path / "input"
    folder.mkdir()
    return write_small_series(folder / "B.st")


@pytest.fixture
def fake_imod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Put the stand-in on the PATH; how it behaves is set by FAKE_BATCHRUNTOMO."""
    folder = tmp_path / "imod" / "bin"
    folder.mkdir(parents=True)
    program = folder / "batchruntomo"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (folder.parent / "VERSION").write_text("4.12.99\n")
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setenv("FAKE_BATCHRUNTOMO", "good")
    return monkeypatch
