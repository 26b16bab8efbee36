"""Pixels that no camera counts lose no series, whatever aligns it."""

import numpy as np
import pytest

import tiltflow
from tiltflow.formats.mrc import MrcWriter
from tiltflow.pipeline import process
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.work import Site

PLACES = {
    "one": (10, slice(100, 101), slice(120, 121)),
    "a column": (slice(None), slice(None), slice(77, 78)),
    "a block": (5, slice(40, 80), slice(60, 110)),
    "a view": (3, slice(None), slice(None)),
}
CASES = [
    ("gold", "one", -1e38),
    ("gold", "a view", 1e38),
    ("gold", "a block", np.nan),
    ("patches", "a block", float(np.finfo(np.float32).max)),
    ("patches", "a view", 1e38),
    ("projection", "a column", -1e38),
    ("projection", "one", np.inf),
]


@pytest.fixture(scope="module")
def simulated():
    return tiltflow.simulate(size=256, views=21, beads=14, thickness_px=50, pixel_nm=2, bead_nm=20)


@pytest.mark.parametrize(("method", "place", "value"), CASES)
def test_the_alignment_is_what_it_is_without_them(simulated, method, place, value):
    images = np.array(simulated.images, np.float32)
    images[PLACES[place]] = value
    found = tiltflow.align(
        images, method, False, gold_nm=20, tilt_deg=simulated.nominal_deg, axis_angle_deg=-8.0, pixel_size_angstrom=20
    )
    assert found.included.sum() >= 20
    assert simulated.error_of(found).rms_px < {"gold": 0.05, "patches": 0.15, "projection": 0.08}[method]


def test_a_whole_run_on_such_a_series_succeeds(tmp_path):
    made = tiltflow.simulate(size=128, views=11, beads=8, thickness_px=30, pixel_nm=2, bead_nm=20)
    images = np.array(made.images, np.float32)
    images[5, 60, 60], images[2, 10:30, 10:40], images[:, :, 90], images[0, 3, 3] = -1e38, 1e38, np.nan, np.finfo(np.float32).max
    path = tmp_path / "B.st"
    label = "    Tilt axis angle = -8.0, binning = 1  spot = 8  camera = 0"
    with MrcWriter(
        path, images.shape, np.float32, pixel_size_angstrom=20, labels=[label], is_stack=True, tilt_deg=made.nominal_deg
    ) as out:
        for view in images:
            out.write(view)
    recipe = make_recipe(BrtParameters(thickness=40, gold=20), engine="native")
    result = process(path, recipe, Site(scratch=tmp_path / "scratch", threads=2), output=tmp_path / "out")
    assert result.ok, result.message
