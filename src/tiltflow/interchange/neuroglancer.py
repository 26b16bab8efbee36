"""Neuroglancer: a state that shows the pyramid, and the link that opens it.

The pyramid itself stays where it is, beside the products; the folder of the series has to be served for the viewer to read it
(:mod:`tiltflow.products.neuroglancer_state`).
"""

from __future__ import annotations

from pathlib import Path

from tiltflow.errors import FormatError, StageError
from tiltflow.interchange.series_geometry import SeriesGeometry
from tiltflow.products.neuroglancer_state import LOCAL_SERVER, make_state, state_link, write_state_files


def write(geometry: SeriesGeometry, folder: Path) -> list[Path]:
    """Write the state and its link into `folder`.

    Raises
    ------
    StageError
        If the series has no pyramid with a display window.
    """
    pyramid = geometry.folder / f"{geometry.name}_rec.zarr"
    try:
        state = make_state(pyramid / "0", f"{LOCAL_SERVER.rstrip('/')}/{pyramid.name}/0/")
    except FormatError as error:
        raise StageError(f"{geometry.name} has no pyramid to show: {error}") from error
    return list(write_state_files(folder, geometry.name, state, state_link(state)))


def remarks(geometry: SeriesGeometry) -> list[str]:
    """Return what a user of these files has to know."""
    served = f"the state reads {geometry.name}_rec.zarr from {LOCAL_SERVER}: serve {geometry.folder} there with the header"
    return [f"{served} Access-Control-Allow-Origin, or set assets_url and use the state beside the products"]
