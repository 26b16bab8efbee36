"""The container that views come in makes no difference to what is made of them."""

import numpy as np
import pytest
import tifffile

from tiltflow.engines.base import EngineJob
from tiltflow.engines.native import NativeEngine
from tiltflow.engines.requirements import plan_series
from tiltflow.formats.mrc import MrcWriter, open_mrc
from tiltflow.formats.series import read_series
from tiltflow.formats.tilts import read_tilts, write_tilts
from tiltflow.formats.transforms import read_transforms
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import Recorder
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scoring import score
from tiltflow.simulate.simulated_series import simulate
from tiltflow.work import Site

pytestmark = pytest.mark.whole


def write_mrc(path, views):
    with MrcWriter(path, views.shape, views.dtype, pixel_size_angstrom=10) as out:
        out.write(views)


def write_apart(path, views):
    with tifffile.TiffWriter(path) as out:
        for view in views[:, ::-1]:
            out.write(view, contiguous=False, metadata=None, photometric="minisblack", compression="lzw")


@pytest.fixture(scope="module")
def simulated():
    return simulate(SimulationParams(size=128, views=15, beads=8, thickness_px=30, shift_px=2, hot_pixels=10), threads=2)


@pytest.fixture(scope="module")
def reconstruct(simulated, tmp_path_factory):
    """Return a function that writes the series by a writer, reconstructs it, and returns the job and its result."""

    def work(name, write, views=simulated.images):
        folder = tmp_path_factory.mktemp("series")
        write(folder / name, views)
        write_tilts((folder / name).with_suffix(".rawtlt"), simulated.nominal_deg)
        overrides = [f"setupset.copyarg.rotation={simulated.header_axis_deg}", "setupset.copyarg.pixel=1"]
        recipe = make_recipe(
            BrtParameters(gold=10, thickness=50, target_number_of_beads=8),
            overrides=[*overrides, "runtime.AlignedStack.any.binByFactor=1"],
            engine="native",
        )
        series = read_series(folder / name, recipe.hints)
        recorder = Recorder.start(folder / "run.json", folder / name, "test")
        job = EngineJob(series, recipe, Site(threads=2), folder, recorder)
        return job, NativeEngine().reconstruct(job)

    return work


@pytest.fixture(scope="module")
def from_mrc(reconstruct):
    return reconstruct("B.mrc", write_mrc)


def test_the_series_is_aligned_at_all(from_mrc, simulated):
    _, result = from_mrc
    assert score(simulated.truth, read_transforms(result.transforms), read_tilts(result.tilts)).rms_px < 0.3


def test_alignment_and_volume_are_the_same_from_tiff_as_from_mrc(from_mrc, reconstruct):
    _, mrc = from_mrc
    _, tiff = reconstruct("B.tif", write_apart)
    assert tiff.transforms.read_bytes() == mrc.transforms.read_bytes()
    assert tiff.tilts.read_bytes() == mrc.tilts.read_bytes()
    for made, known in ((tiff.aligned, mrc.aligned), (tiff.volume, mrc.volume)):
        assert made.name == known.name
        np.testing.assert_array_equal(open_mrc(made).read_block(), open_mrc(known).read_block())


def test_integers_that_mrc_does_not_know_go_through_the_whole_engine(reconstruct, simulated):
    job, result = reconstruct("B.tif", write_apart, simulated.images.astype(np.int32))
    found = score(simulated.truth, read_transforms(result.transforms), read_tilts(result.tilts))
    assert found.rms_px < 0.3
    assert open_mrc(result.aligned).dtype == np.float32
    assert plan_series(job.series, job.recipe, 2).memory > 0
