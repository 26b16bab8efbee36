"""A small simulated series as RELION-5 and teamtomo's wrapper hand it over: float images without a pixel size, and `NAME.rawtlt`."""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tiltflow.batchruntomo import main
from tiltflow.formats.mrc import MrcWriter
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import SimulatedSeries, simulate

NAME = "TS_01"


@dataclass(frozen=True)
class Outcome:
    """What a run printed, and its exit status."""

    status: int
    text: str

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


def _call(*words: object) -> Outcome:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = main([str(word) for word in words])
    return Outcome(status, out.getvalue())


@pytest.fixture(scope="session")
def phantom() -> SimulatedSeries:
    return simulate(SimulationParams(size=192, views=21, beads=14, thickness_px=40, two_surfaces=True, shift_px=3), threads=2)


@pytest.fixture(scope="session")
def call():
    """Calls the stand-in in this process, with words of any type."""
    return _call


@pytest.fixture(scope="session")
def write_data_set():
    """Writes a series into a folder: its stack and its angles."""
    return _write_data_set


@pytest.fixture(scope="session")
def command():
    """Returns the words that RELION-5 and the wrapper put behind the program's name, for a directive file and a folder."""
    return _command


@pytest.fixture
def folder(phantom, tmp_path) -> Path:
    """The folder of the data set."""
    return _write_data_set(tmp_path / NAME, phantom)


def _write_data_set(folder: Path, series: SimulatedSeries, name: str = NAME) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with MrcWriter(folder / f"{name}.mrc", series.images.shape, np.float32, pixel_size_angstrom=1.0, is_stack=True) as out:
        for image in series.images:
            out.write(image.astype(np.float32))
    (folder / f"{name}.rawtlt").write_text("".join(f"{angle:g}\n" for angle in series.nominal_deg))
    return folder


def _command(file: Path, folder: Path) -> list[str]:
    return ["-DirectiveFile", str(file), "-CurrentLocation", f"{folder}/", "-RootName", NAME, "-EndingStep", "6"]
