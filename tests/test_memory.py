"""Peak memory and scratch of whole runs over large series, measured by the operating system, against the limits and the plan."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tiltflow.formats.mrc import MrcWriter
from tiltflow.record import read_record
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import simulate

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "wait4"), reason="the system does not tell what a child took"),
    pytest.mark.timeout(5400),
]

GB = 1e9
MEBIBYTE = 1 << 20
VIEWS = 61
SMALL = 512


@dataclass(frozen=True)
class Measured:
    """What a run took: bytes at most resident, bytes at most in the scratch folder, and its record."""

    memory: float
    scratch: int
    record: Path


def write_large(path: Path, size: int) -> None:
    """Write a simulated series whose pixels are repeated until its views have `size` of them to a side."""
    small = simulate(SimulationParams(size=SMALL, views=VIEWS, beads=25, bead_nm=8.0), threads=2)
    factor = size // SMALL
    label = f"    Tilt axis angle = {small.header_axis_deg:.1f}, binning = 1"
    with MrcWriter(
        path,
        (VIEWS, size, size),
        np.int16,
        pixel_size_angstrom=small.pixel_size_angstrom / factor,
        labels=[label],
        is_stack=True,
        tilt_deg=small.nominal_deg,
    ) as out:
        for image in small.images:
            out.write(np.repeat(np.repeat(image, factor, axis=0), factor, axis=1))


def run_large(folder: Path, size: int, binning: int, thickness: int) -> Measured:
    """Run the command on a large series, and watch its scratch folder while it works."""
    inputs, scratch, output = folder / "input", folder / "scratch", folder / "output"
    inputs.mkdir()
    write_large(inputs / "B.st", size)
    command = [sys.executable, "-m", "tiltflow", "run", inputs, "--output", output, "--workdir", scratch, "--engine", "native"]
    command += [
        "--gold",
        "8",
        "--thickness",
        thickness,
        "--threads",
        "2",
        "--set",
        f"runtime.AlignedStack.any.binByFactor={binning}",
    ]
    child = subprocess.Popen([str(word) for word in command])
    most, ended, usage = 0, 0, None
    while not ended:
        ended, status, usage = os.wait4(child.pid, os.WNOHANG)
        most = max(most, _bytes_in(scratch))
        time.sleep(0.2)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    assert usage is not None
    return Measured(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), most, output / "B" / "run.json")


def _bytes_in(folder: Path) -> int:
    """Return the bytes that the files of a folder take on the disk now; files may vanish meanwhile."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name)).st_blocks * 512  # noqa: PTH116, PTH118
            except FileNotFoundError:
                continue
    return total


@pytest.mark.parametrize(
    ("size", "binning", "thickness", "limit_gb"),
    [
        pytest.param(4096, 4, 480, 1.5, id="4096 x 4096 x 61, aligned binning 4"),
        pytest.param(2048, 1, 512, 3.0, id="2048 x 2048 x 61 to 2048 x 2048 x 512"),
    ],
)
def test_a_large_series_stays_within_its_limits_and_the_plan_tells_them(tmp_path, size, binning, thickness, limit_gb):
    measured = run_large(tmp_path, size, binning, thickness)
    plan = next(stage for stage in read_record(measured.record).stages if stage.name == "plan").numbers
    planned = {name: float(number.value) for name, number in plan.items()}
    print(f"\n{measured.memory / GB:.2f} GB of memory, {planned['memory'] / GB:.2f} planned; "
          f"{measured.scratch / GB:.2f} GB of scratch, {planned['scratch'] / GB:.2f} planned")  # fmt: skip
    assert measured.memory < limit_gb * GB
    assert measured.memory <= planned["memory"] <= 2 * measured.memory
    side, depth = size // binning, thickness // binning
    raw, aligned, volume = 2 * VIEWS * size**2, 2 * VIEWS * side**2, 2 * depth * side**2
    assert measured.scratch <= raw + aligned + volume
    assert measured.scratch <= planned["scratch"] + MEBIBYTE <= 1.1 * measured.scratch
    results = sum(product.bytes for product in read_record(measured.record).products) + aligned + volume
    assert results <= planned["results"] <= 2 * results
