"""A paragraph for the methods section of a paper: what was done to this series, with versions, parameters and citations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tiltflow.errors import ParameterError
from tiltflow.recipe.engine_rules import engine_info
from tiltflow.record import SeriesRecord
from tiltflow.record.sentences import Citation, EngineMethods, Sentence
from tiltflow.report.lengths import length, pixel_size_nm

MOORE = Citation(
    "Moore et al., 2023",
    "Moore J et al. (2023) OME-Zarr: a cloud-optimized bioimaging file format with international community support. "
    "Histochem Cell Biol 160:223-251",
    "10.1007/s00418-023-02209-1",
)


@dataclass(frozen=True, slots=True)
class Methods:
    """The paragraph and the papers it cites, in the order of their first mention."""

    text: str
    citations: tuple[Citation, ...]


def describe_methods(record: SeriesRecord) -> Methods:
    """Return what was done to a series that has its result."""
    engine = _engine(record)
    said = [
        _series(record, *engine.done),
        *engine.before,
        *_views_left_out(record),
        *engine.alignment,
        *_figures(record),
        *engine.volume,
        *_voxels(record),
        *_products(record),
    ]
    citations = dict.fromkeys(citation for _, cited in said for citation in cited)
    return Methods(" ".join(sentence for sentence, _ in said), tuple(citations))


def _engine(record: SeriesRecord) -> EngineMethods:
    """Return what the engine says; of one that is not installed here any more, that it did the work."""
    if record.engine is None:
        return EngineMethods((f"was aligned and reconstructed with tiltflow {record.tiltflow}{{recipe}}", ()))
    try:
        return engine_info(record.engine.name).methods(record)
    except ParameterError:
        return EngineMethods((f"was aligned and reconstructed by {record.engine.name} {record.engine.version}{{recipe}}", ()))


def _series(record: SeriesRecord, done: str, cited: tuple[Citation, ...]) -> Sentence:
    views = _value(record, "views")
    tilts = _value(record, "tilt_angles")
    pixel = _value(record, "pixel_size")
    what = f"A tilt series of {views} views" if views else "A tilt series"
    if isinstance(tilts, list) and tilts:
        what += f" between {min(tilts):.1f}° and {max(tilts):.1f}°"
    if isinstance(pixel, (int, float)):
        what += f" with a pixel size of {pixel:.4g} Å"
    recipe = f", template {record.recipe.template}, recipe {record.recipe.digest[:12]}" if record.recipe else ""
    return f"{what} {done.format(recipe=recipe)}.", cited


def _views_left_out(record: SeriesRecord) -> Iterator[Sentence]:
    found = record.alignment
    if found is not None and (out := len(found.included) - sum(found.included)):
        yield f"{_count(out)} left out of alignment and reconstruction.", ()


def _figures(record: SeriesRecord) -> Iterator[Sentence]:
    found = record.alignment
    if found is None:
        return
    figures = {
        "a mean residual of": found.residual_mean_px,
        "a leave-out error of": found.leave_out_px,
        "an estimated alignment error of": found.error_px,
    }
    known = [f"{words} {length(value, pixel_size_nm(record))}" for words, value in figures.items() if value is not None]
    if known:
        yield f"The alignment has {_join(known)}.", ()


def _voxels(record: SeriesRecord) -> Iterator[Sentence]:
    seen = record.volume
    if seen is not None:
        yield f"The volume has {seen.width_px} x {seen.height_px} x {seen.sections} voxels of {seen.voxel_nm:.4g} nm.", ()


def _products(record: SeriesRecord) -> Iterator[Sentence]:
    if any(product.type == "neuroglancerZarr" for product in record.products):
        yield f"A multi-resolution copy was stored as OME-Zarr ({MOORE.short}).", (MOORE,)


def _value(record: SeriesRecord, name: str) -> Any:
    known = record.input.get(name)
    return known.value if known is not None else None


def _count(views: int) -> str:
    return "One view was" if views == 1 else f"{views} views were"


def _join(parts: list[str]) -> str:
    return ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else parts[0]
