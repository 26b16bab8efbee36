"""A state of Neuroglancer that shows the pyramid at once: x, y and z on its axes, in nanometres, at the contrast of the asset.

`B_neuroglancer.json` is the state, `B_neuroglancer.txt` a link that opens it.  Both lie beside the pyramid and name it by the address
under which the folder is served, as Neuroglancer knows no relative addresses.  The server must allow other pages to read from it (CORS)
and answer 404 for what is not there.

Everything is read from the pyramid itself.  Of a state, Neuroglancer shows the first three dimensions: without x, y, z in this order it
would show zy sections.  Rows run down in its xy panel, so that the picture is that of the key image and the movies.

Source: https://github.com/google/neuroglancer, the JSON of a viewer's state.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import zarr

from tiltflow.atomic_write import write_text
from tiltflow.errors import FormatError
from tiltflow.products.context import STATE_NAMES

VIEWER = "https://neuroglancer-demo.appspot.com/"
"""The viewer that links lead to: Google's, which reads the data from the browser and keeps none."""
LOCAL_SERVER = "http://localhost:9000/"
"""The address of a folder that is served on the machine of the browser."""

_PANEL_PX = 400
"""Side of a panel of the window, roughly: the volume fills it when the state is opened."""
_METRE_PER_ANGSTROM = 1e-10
_SHADER = "#uicontrol invlerp normalized\nvoid main(){emitGrayscale(normalized());}\n"


def write_state(folder: Path, name: str, *, url: str = LOCAL_SERVER, viewer: str = VIEWER) -> tuple[Path, Path]:
    """Write the state for the pyramid `NAME_rec.zarr` of a folder, and its link; return their paths.

    Parameters
    ----------
    folder
        Folder of the pyramid, which receives both files.
    name
        Name of the series.
    url
        Address under which `folder` is, or will be, served.
    viewer
        Address of Neuroglancer.

    Raises
    ------
    FormatError
        If there is no such pyramid.
    """
    state = make_state(folder / f"{name}_rec.zarr" / "0", f"{url.rstrip('/')}/{quote(name)}_rec.zarr/0/")
    return write_state_files(folder, name, state, state_link(state, viewer))


def write_state_files(folder: Path, name: str, state: Mapping[str, Any], link: str) -> tuple[Path, Path]:
    """Write a state and its link into a folder; return their paths."""
    state_path, link_path = (folder / pattern.format(name=name) for pattern in STATE_NAMES)
    write_text(state_path, json.dumps(state, indent=1) + "\n")
    write_text(link_path, link + "\n")
    return state_path, link_path


def make_state(pyramid: Path, url: str) -> dict[str, Any]:
    """Return the state that shows a pyramid.

    Parameters
    ----------
    pyramid
        The folder with the multiscales.
    url
        Its address.

    Raises
    ------
    FormatError
        If it is not a pyramid of OME-Zarr with a display window.
    """
    try:
        group = zarr.open_group(pyramid, mode="r")
        content = cast("Mapping[str, Any]", group.attrs.asdict())
        content = content.get("ome", content)
        multiscale, (channel, *_) = content["multiscales"][0], content["omero"]["channels"]
        scale = multiscale["datasets"][0]["coordinateTransformations"][0]["scale"]
        axes = [axis["name"] for axis in multiscale["axes"]]
        nz, ny, nx = cast("zarr.Array[Any]", group[multiscale["datasets"][0]["path"]]).shape[-3:]
    except (OSError, KeyError, IndexError, TypeError, ValueError) as error:
        raise FormatError(f"{pyramid} is not a pyramid with a display window ({error}); make it again") from error
    window = channel["window"]
    layer = {
        "type": "image",
        "name": multiscale["name"],
        "source": {"url": f"zarr://{url}"},
        "shader": _SHADER,
        "shaderControls": {
            "normalized": {"range": [window["start"], window["end"]], "window": [window["min"], window["max"]]},
        },
        "tab": "rendering",
    }
    z, y, x = (step * _METRE_PER_ANGSTROM for step in scale[-3:])
    with_time = "t" in axes
    return {
        "dimensions": {"x": [x, "m"], "y": [y, "m"], "z": [z, "m"], **({"t": [1, ""]} if with_time else {})},
        "position": [nx / 2, ny / 2, nz / 2, *([0] if with_time else [])],
        "crossSectionScale": max(nx, ny) / _PANEL_PX,
        "projectionScale": 1.5 * max(nx, ny, nz),
        "layers": [layer],
        "selectedLayer": {"visible": True, "layer": multiscale["name"]},
        "layout": "4panel",
        "showScaleBar": True,
    }


def state_link(state: Mapping[str, Any], viewer: str = VIEWER) -> str:
    """Return the link that opens a state.

    >>> state_link({"layout": "xy"}, "https://viewer/")
    'https://viewer/#!%7B%22layout%22%3A%22xy%22%7D'
    """
    return f"{viewer}#!{quote(json.dumps(state, separators=(',', ':')), safe='')}"
