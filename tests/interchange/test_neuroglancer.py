"""The export for Neuroglancer: a state that reads the pyramid beside the products."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tiltflow.errors import StageError
from tiltflow.formats.mrc import MrcWriter
from tiltflow.interchange.export import export_series
from tiltflow.products.pyramid import make_pyramid


def test_the_state_shows_the_pyramid_of_the_series(write_known, tmp_path):
    known = write_known()
    volume = tmp_path / "TS_01_rec.mrc"
    with MrcWriter(volume, (8, 20, 30), np.int16, pixel_size_angstrom=8) as out:
        for z in range(8):
            out.write(np.full((20, 30), z, np.float32))
    make_pyramid(volume, known.folder / "TS_01_rec.zarr")
    (made,) = export_series(known.folder, ["neuroglancer"])
    state = json.loads((made.folder / "TS_01_neuroglancer.json").read_text())
    assert state["layers"][0]["source"]["url"].endswith("/TS_01_rec.zarr/0/")
    assert state["dimensions"]["x"] == [pytest.approx(8e-10), "m"]
    assert (made.folder / "TS_01_neuroglancer.txt").read_text().startswith("https://")
    assert any("serve" in remark for remark in made.remarks)


def test_without_a_pyramid_it_is_refused_in_words(write_known):
    known = write_known()
    with pytest.raises(StageError, match="TS_01 has no pyramid to show"):
        list(export_series(known.folder, ["neuroglancer"]))
