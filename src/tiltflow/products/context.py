"""The table of products with their names, and the input and result of a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from tiltflow.errors import ParameterError
from tiltflow.formats.zarrlayout import BIOFORMATS2RAW, PyramidLayout
from tiltflow.work import Asset, AssetType, Quantity


class Source(StrEnum):
    """Files of the engine that products are made from."""

    ALIGNED = "aligned stack"
    VOLUME = "reconstruction"


@dataclass(frozen=True, slots=True)
class Product:
    """One kind of product.

    Attributes
    ----------
    asset_type
        Its type in the portal.
    pattern
        Its file name; `{name}` is that of the series and `{view}` the number of the middle view, counted from 0.
    description
        What it is, in words.
    inside
        The part of a folder that the asset's path leads to.
    """

    asset_type: AssetType
    pattern: str
    description: str
    inside: str = ""

    def file_name(self, name: str, views: int = 1) -> str:
        """Return the name of the file or folder, for a series of so many views."""
        digits = 3 if views < 1000 else 4
        return self.pattern.format(name=name, view=f"{views // 2:0{digits}d}")

    def asset_path(self, name: str, views: int = 1) -> str:
        """Return the path of the asset, relative to the folder of the products."""
        return self.file_name(name, views) + self.inside


@dataclass(frozen=True, slots=True)
class ProductContext:
    """The input of every step, simple enough to be sent to another process.

    Attributes
    ----------
    name
        Name of the series.
    aligned, volume
        Files of the engine.
    folder
        Folder of the products.
    threads
        Threads a step may use.
    layout
        How the pyramid is laid out.
    url
        Address under which the products will be served; empty for a server on the machine of the browser.
    """

    name: str
    aligned: Path
    volume: Path
    folder: Path
    threads: int = 1
    layout: PyramidLayout = BIOFORMATS2RAW
    url: str = ""

    def path(self, asset_type: AssetType) -> Path:
        """Return where a product is, or will be."""
        wanted = product(asset_type)
        return self.folder / wanted.file_name(self.name, self._views(wanted))

    def asset(self, asset_type: AssetType, metadata: Mapping[str, Any] | None = None) -> Asset:
        """Return a product as an asset for the portal."""
        wanted = product(asset_type)
        return Asset(asset_type, wanted.asset_path(self.name, self._views(wanted)), metadata)

    def _views(self, wanted: Product) -> int:
        from tiltflow.formats.mrc import read_header

        return read_header(self.aligned).shape[0] if "{view}" in wanted.pattern else 1


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step made: the assets, its numbers, and remarks for the user.

    Attributes
    ----------
    assets
        In the order of the step's `makes`.
    numbers
        Sizes, counts and statistics, with units.
    notes
        Sentences about anything unusual.
    """

    assets: tuple[Asset, ...]
    numbers: dict[str, Quantity] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def product(asset_type: AssetType) -> Product:
    """Return the entry of the catalogue."""
    for entry in PRODUCTS:
        if entry.asset_type is asset_type:
            return entry
    raise ParameterError(f"no product is of type {asset_type}; the catalogue has {', '.join(p.asset_type for p in PRODUCTS)}")


PRODUCTS: tuple[Product, ...] = (
    Product(
        AssetType.TILT_MOVIE,
        "tiltMov_{name}.mp4",
        "every view of the aligned stack, at a common mean, 4 frames per second",
    ),
    Product(AssetType.KEY_IMAGE, "{name}_ali.{view}.jpg", "the middle view of the aligned stack, full size"),
    Product(AssetType.THUMBNAIL, "keyimg_{name}_s.jpg", "the key image within 300 x 300, sharpened"),
    Product(AssetType.AVERAGED_VOLUME, "ave_{name}.mrc", "the reconstruction, each section the mean of five, at a common mean"),
    Product(AssetType.REC_MOVIE, "keyMov_{name}.mp4", "every section of the averaged volume, 8 frames per second"),
    Product(AssetType.VOLUME, "avebin8_{name}.mrc", "the averaged volume binned by 2 along x, y and z (8 voxels to one)"),
    Product(AssetType.NEUROGLANCER_ZARR, "{name}_rec.zarr", "OME-Zarr pyramid of the reconstruction, for Neuroglancer", "/0"),
)
"""Every product, in the order in which the steps make them."""

STATE_NAMES = ("{name}_neuroglancer.json", "{name}_neuroglancer.txt")
"""Names of the state of Neuroglancer and of the link that opens it: files beside the products, not products of their own."""
