"""Fixtures that every room of the house shares."""

from __future__ import annotations

import stat
import sys
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
def shared() -> Path:
    """The folder of large inputs and reference outputs that lies beside a developer's checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs the folder of reference data beside the checkout")
    return folder


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
