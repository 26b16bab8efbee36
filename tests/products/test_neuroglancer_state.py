from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from tiltflow.errors import FormatError
from tiltflow.formats.zarrlayout import PyramidLayout, ZarrAxes, ZarrVersion
from tiltflow.products.neuroglancer_state import VIEWER, write_state
from tiltflow.products.pyramid import make_pyramid, neuroglancer_metadata

MakeVolume = Callable[..., Path]


@pytest.mark.parametrize("axes", ["tczyx", "zyx"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_state_shows_x_y_z_in_nanometres_at_the_contrast_of_the_asset(
    make_volume: MakeVolume, rng: np.random.Generator, tmp_path: Path, version: ZarrVersion, axes: ZarrAxes
) -> None:
    volume = make_volume(rng.normal(0, 300, (6, 40, 300)).astype(np.int16), pixel_size=(13.0, 13.0, 26.0))
    made = make_pyramid(volume, tmp_path / "B_rec.zarr", layout=PyramidLayout(version=version, axes=axes))
    path, _ = write_state(tmp_path, "B", url="https://host/Assets/Lab/B/")
    state = json.loads(path.read_text())
    assert path.name == "B_neuroglancer.json"
    assert list(state["dimensions"])[:3] == ["x", "y", "z"]
    sizes = [state["dimensions"][axis] for axis in "xyz"]
    assert [size for size, _ in sizes] == pytest.approx([1.3e-9, 1.3e-9, 2.6e-9])
    assert {unit for _, unit in sizes} == {"m"}
    assert state["position"][:3] == [150, 20, 3]
    # Time is a dimension of the viewer where the pyramid has it; the channel is one of the layer.
    assert ("t" in state["dimensions"]) == (axes == "tczyx")
    assert len(state["position"]) == len(state["dimensions"])
    (layer,) = state["layers"]
    assert layer["source"]["url"] == "zarr://https://host/Assets/Lab/B/B_rec.zarr/0/"
    assert layer["shaderControls"]["normalized"] == neuroglancer_metadata(made.statistics)["shaderParameters"]


def test_the_link_holds_the_whole_state(make_volume: MakeVolume, tmp_path: Path) -> None:
    name = 'a "b" 100%#'
    make_pyramid(make_volume(np.arange(24, dtype=np.int16).reshape(2, 3, 4)), tmp_path / f"{name}_rec.zarr")
    path, link = write_state(tmp_path, name)
    viewer, _, fragment = link.read_text().strip().partition("#!")
    assert viewer == VIEWER
    assert json.loads(unquote(fragment)) == json.loads(path.read_text())
    assert json.loads(path.read_text())["layers"][0]["source"]["url"].endswith("/a%20%22b%22%20100%25%23_rec.zarr/0/")
    assert not set(fragment) & set(' "#{}<>')


def test_what_is_no_pyramid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="is not a pyramid with a display window"):
        write_state(tmp_path, "B")
