"""Links from a page to what lies beside it: products, alignment, log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, unquote

from tiltflow.record import SeriesRecord
from tiltflow.report.embed import Embedder
from tiltflow.work import AssetType

_PRODUCTS = {
    AssetType.NEUROGLANCER_ZARR: "Pyramid",
    AssetType.AVERAGED_VOLUME: "Averaged volume",
    AssetType.VOLUME: "Binned volume",
    AssetType.REC_MOVIE: "Movie of the volume",
    AssetType.TILT_MOVIE: "Movie of the tilt series",
    AssetType.KEY_IMAGE: "Key image",
    AssetType.THUMBNAIL: "Thumbnail",
}
_FIRST = {
    "{name}_rec.mrc": "Volume",
    "{name}_deconv.mrc": "Deconvolved volume",
    "{name}_nad.mrc": "Diffused volume",
    "{name}_rec_even.mrc": "Volume of even views",
    "{name}_rec_odd.mrc": "Volume of odd views",
    "{name}_ali.mrc": "Aligned stack",
}
_LAST = {
    "{name}_neuroglancer.json": "State of Neuroglancer",
    "{name}.xf": ".xf",
    "{name}.tlt": ".tlt",
    "{name}.xtilt": ".xtilt",
    "{name}_align.json": "Alignment",
    "{name}_local.json": "Local areas",
    "{name}_fid.txt": "Tracks",
    "{name}.defocus": "Defocus",
    "{name}_montage.npz": "Places of the pieces",
    "{name}.adoc": "Directives",
    "{name}.log": "Log",
    "batchruntomo.log": "Log of batchruntomo",
    "run.json": "Record",
}
_ADDRESS = "{name}_neuroglancer.txt"
_MOST_ADDRESS = 20_000
_LOCAL = "//localhost"


@dataclass(frozen=True, slots=True)
class Link:
    """A link: its words, where it leads, and the file it names."""

    text: str
    target: str
    path: str


def links(record: SeriesRecord, embedder: Embedder) -> tuple[Link, ...]:
    """Return the links to all that is there of a series, the volume first."""
    return tuple(_links(record, embedder))


def _links(record: SeriesRecord, embedder: Embedder) -> Iterator[Link]:
    address = _address(record, embedder)
    yield from _beside(_FIRST, record, embedder)
    if address is not None:
        yield address
    made = {product.type: product.path for product in record.products}
    for kind, text in _PRODUCTS.items():
        if kind in made and embedder.find(made[kind], folders=True) is not None:
            yield Link(text, quote(made[kind]), made[kind])
    yield from _beside(_LAST, record, embedder)


def _beside(names: dict[str, str], record: SeriesRecord, embedder: Embedder) -> Iterator[Link]:
    for pattern, text in names.items():
        path = pattern.replace("{name}", record.name)
        if embedder.find(path) is not None:
            yield Link(text, quote(path), path)


def _address(record: SeriesRecord, embedder: Embedder) -> Link | None:
    """Return the link that opens the pyramid in Neuroglancer, if the site serves it; what a user has to serve first is no button."""
    path = embedder.find(_ADDRESS.replace("{name}", record.name))
    if path is None or path.stat().st_size > _MOST_ADDRESS:
        return None
    target = path.read_text(encoding="utf-8", errors="replace").strip()
    if not target.startswith(("https://", "http://")) or _LOCAL in unquote(target):
        return None
    return Link("Open in Neuroglancer", target, path.name)
