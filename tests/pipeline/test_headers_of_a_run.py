"""Every MRC file that a run leaves passes mrcfile's validator: statistics of the stored voxels, labels, stamps, sizes."""

from __future__ import annotations

import io
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile

from tiltflow.demo import write_series
from tiltflow.engines.imod.stack_copy import copy_stack
from tiltflow.formats.mrc import MrcWriter
from tiltflow.formats.series import read_series
from tiltflow.pipeline import run
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import SimulatedSeries, simulate
from tiltflow.work import Site

COMMON = ["runtime.AlignedStack.any.binByFactor=1", "runtime.Tiltflow.any.halfVolumes=1"]
TO_BYTES = [f"runtime.Trimvol.any.scaleFrom{axis}=0.5" for axis in "XYZ"]
LEFT = {"B_ali.mrc", "B_rec.mrc", "B_rec_even.mrc", "B_rec_odd.mrc", "ave_B.mrc", "avebin8_B.mrc"}


def complaints(path: Path) -> str:
    report = io.StringIO()
    return "" if mrcfile.validate(path, print_file=report) else f"{path.name}: {report.getvalue()}"


@pytest.fixture(scope="module")
def simulated() -> SimulatedSeries:
    return simulate(SimulationParams(seed=3, size=192, views=15, two_surfaces=True), threads=2)


@pytest.mark.whole
@pytest.mark.parametrize("directives", [[], TO_BYTES, ["comparam.tilt.tilt.MODE=2"]], ids=["whole", "bytes", "real"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.float32])
def test_every_volume_of_a_run_is_valid(
    simulated: SimulatedSeries, tmp_path: Path, kind: type[np.generic], directives: list[str]
) -> None:
    """Views of odd sides, of every type that microscopes write."""
    images = simulated.images[:, :187, :189].astype(np.float32)
    low, high = float(images.min()), float(images.max())
    scaled = (images - low) * (250 / (high - low)) if kind == np.uint8 else images - min(low, 0)
    source = tmp_path / "B.st"
    with MrcWriter(
        source, scaled.shape, kind, pixel_size_angstrom=10.0, labels=["Tilt axis angle = -8.0"], tilt_deg=simulated.nominal_deg
    ) as out:
        for image in scaled:
            out.write(image)
    recipe = make_recipe(
        BrtParameters(fiducialless=1, thickness=61), overrides=[*COMMON, *directives], engine="native", fallback=False
    )
    (result,) = run([source], recipe, Site(scratch=tmp_path), tmp_path / "out").results
    assert result.ok, result.message
    files = sorted((tmp_path / "out" / "B").glob("*.mrc"))
    assert {path.name for path in files} == LEFT
    assert [found for path in [source, *files] if (found := complaints(path))] == []


def test_the_series_of_the_demonstration_is_valid(simulated: SimulatedSeries, tmp_path: Path) -> None:
    write_series(tmp_path / "demo.st", simulated)
    assert complaints(tmp_path / "demo.st") == ""


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.float32])
def test_the_copy_for_imod_is_valid(tmp_path: Path, rng: np.random.Generator, kind: type[np.generic]) -> None:
    views = rng.normal(120, 30, (3, 41, 37)).clip(0, 255).astype(kind)
    tifffile.imwrite(tmp_path / "B.tif", views, photometric="minisblack")
    sections = [f"[ZValue = {z}]\nTiltAngle = {tilt}" for z, tilt in enumerate((-40, 0, 40))]
    text = "\n".join(["PixelSpacing = 10", "[T =     Tilt axis angle = -8.0, binning = 1]", *sections])
    (tmp_path / "B.tif.mdoc").write_text(text)
    (tmp_path / "work").mkdir()
    assert complaints(copy_stack(read_series(tmp_path / "B.tif"), tmp_path / "work")) == ""
