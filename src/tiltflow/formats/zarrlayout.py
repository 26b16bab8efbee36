"""How a pyramid is laid out: version of OME-Zarr, axes, direction of the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from tiltflow.errors import ParameterError

ZarrVersion: TypeAlias = Literal["0.4", "0.5"]
"""Version of OME-Zarr."""
ZarrAxes: TypeAlias = Literal["tczyx", "zyx"]
"""Axes of the arrays: with time and channel, of one each, as bioformats2raw writes them, or those of space alone."""
ZarrRows: TypeAlias = Literal["top-down", "bottom-up"]
"""Which way the rows run: the first one is the top of the picture, or, as in MRC files, its bottom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PyramidLayout:
    """How a pyramid is laid out.

    Attributes
    ----------
    version
        Version of OME-Zarr: 0.4 is Zarr 2, 0.5 is Zarr 3.
    axes
        `tczyx` as bioformats2raw, or `zyx`.
    rows
        Which way the rows run; the metadata say so.
    series_folder
        Whether the multiscales lie in the folder `0`, as bioformats2raw has it, and not in the root.

    Raises
    ------
    ParameterError
        If there is no such version, or no such axes or rows.
    """

    version: ZarrVersion = "0.4"
    axes: ZarrAxes = "tczyx"
    rows: ZarrRows = "top-down"
    series_folder: bool = True

    def __post_init__(self) -> None:
        for name, kinds in (("version", ZarrVersion), ("axes", ZarrAxes), ("rows", ZarrRows)):
            if (given := getattr(self, name)) not in get_args(kinds):
                raise ParameterError(f"a pyramid has no {name} {given!r}; choose {' or '.join(get_args(kinds))}")

    @property
    def zarr_format(self) -> Literal[2, 3]:
        """The version of Zarr."""
        return 2 if self.version == "0.4" else 3

    @property
    def extra_axes(self) -> int:
        """How many axes come before z."""
        return len(self.axes) - 3

    def attributes(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Return metadata as the version places them."""
        return dict(content) if self.version == "0.4" else {"ome": {"version": self.version, **content}}


BIOFORMATS2RAW = PyramidLayout()
"""The layout that bioformats2raw writes, rows as Bio-Formats reads MRC files."""
