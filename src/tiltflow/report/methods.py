"""A paragraph for the methods section of a paper: what was done to this series, with versions, parameters and citations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tiltflow.record import AlignmentEntry, SeriesRecord
from tiltflow.report.verdict import length, pixel_size_nm


@dataclass(frozen=True, slots=True)
class Citation:
    """A paper: how the text refers to it, the reference, and its DOI."""

    short: str
    text: str
    doi: str


KREMER = Citation(
    "Kremer et al., 1996",
    "Kremer JR, Mastronarde DN, McIntosh JR (1996) Computer visualization of three-dimensional image data using IMOD. "
    "J Struct Biol 116:71-76",
    "10.1006/jsbi.1996.0013",
)
MASTRONARDE = Citation(
    "Mastronarde and Held, 2017",
    "Mastronarde DN, Held SR (2017) Automated tilt series alignment and tomographic reconstruction in IMOD. "
    "J Struct Biol 197:102-113",
    "10.1016/j.jsb.2016.07.011",
)
RADERMACHER = Citation(
    "Radermacher, 2006",
    "Radermacher M (2006) Weighted back-projection methods. In: Frank J (ed) Electron Tomography. Springer, New York, pp 245-273",
    "10.1007/978-0-387-69008-7_9",
)
ZENG = Citation(
    "Zeng, 2012",
    "Zeng GL (2012) A filtered backprojection algorithm with characteristics of the iterative Landweber algorithm. "
    "Med Phys 39:603-607",
    "10.1118/1.3673956",
)
GILBERT = Citation(
    "Gilbert, 1972",
    "Gilbert P (1972) Iterative methods for the three-dimensional reconstruction of an object from projections. "
    "J Theor Biol 36:105-117",
    "10.1016/0022-5193(72)90180-4",
)
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
    said = [*_series(record), *_alignment(record), *_volume(record), *_products(record)]
    citations = dict.fromkeys(citation for _, cited in said for citation in cited)
    return Methods(" ".join(sentence for sentence, _ in said), tuple(citations))


_Sentence = tuple[str, tuple[Citation, ...]]


def _series(record: SeriesRecord) -> Iterator[_Sentence]:
    views = _value(record, "views")
    tilts = _value(record, "tilt_angles")
    pixel = _value(record, "pixel_size")
    what = f"A tilt series of {views} views" if views else "A tilt series"
    if isinstance(tilts, list) and tilts:
        what += f" between {min(tilts):.1f}° and {max(tilts):.1f}°"
    if isinstance(pixel, (int, float)):
        what += f" with a pixel size of {pixel:.4g} Å"
    recipe = f", template {record.recipe.template}, recipe {record.recipe.digest[:12]}" if record.recipe else ""
    if record.engine is not None and record.engine.name == "imod":
        done = f"was aligned and reconstructed by batchruntomo of {record.engine.version} ({KREMER.short}; {MASTRONARDE.short})"
        yield f"{what} {done}, run by tiltflow {record.tiltflow}{recipe}.", (KREMER, MASTRONARDE)
        return
    yield f"{what} was aligned and reconstructed with tiltflow {record.tiltflow} (its native engine{recipe}).", ()
    hits = _stage_number(record, "x-rays", "pixels_replaced")
    if hits:
        yield f"X-ray hits ({hits:g} {'pixel' if hits == 1 else 'pixels'}) were replaced from their surroundings.", ()


def _alignment(record: SeriesRecord) -> Iterator[_Sentence]:
    found = record.alignment
    if found is None:
        return
    out = len(found.included) - sum(found.included)
    if out:
        yield f"{_count(out)} left out of alignment and reconstruction.", ()
    if record.engine is not None and record.engine.name == "imod":
        yield _IMOD_METHODS.get(found.method, "Views were aligned by IMOD."), ()
    else:
        yield from _native_alignment(record, found)
    figures = {
        "a mean residual of": found.residual_mean_px,
        "a leave-out error of": found.leave_out_px,
        "an estimated alignment error of": found.error_px,
    }
    known = [f"{words} {length(value, pixel_size_nm(record))}" for words, value in figures.items() if value is not None]
    if known:
        yield f"The alignment has {_join(known)}.", ()


_IMOD_METHODS: Mapping[str, str] = {
    "gold": "Views were aligned by tracking gold fiducials through the series.",
    "patches": "Views were aligned by patch tracking.",
    "coarse": "Views were aligned by cross-correlation alone.",
}


def _native_alignment(record: SeriesRecord, found: AlignmentEntry) -> Iterator[_Sentence]:
    tracks = f"{found.tracks_used} " if found.tracks_used else ""
    coarse = "Views were aligned coarsely by cross-correlation with cosine stretching"
    solved = (
        f"and the shift, rotation, magnification and tilt angle of each view were solved for by bundle adjustment with robust weights, "
        f"with the variables of tiltalign ({MASTRONARDE.short})"
    )
    if found.method == "gold":
        size = _stage_params(record, "gold_nm")
        beads = f"gold fiducials of {size:g} nm" if size else "gold fiducials"
        yield f"{coarse}; {tracks}{beads} were then tracked through the series, {solved}.", (MASTRONARDE,)
    elif found.method == "patches":
        yield f"{coarse}; {tracks}image patches were then tracked through the series, {solved}.", (MASTRONARDE,)
    elif found.method == "projection":
        yield (
            f"{coarse} and refined without markers, by matching every view with the projection predicted from all other views.",
            (),
        )
    else:
        yield f"{coarse}, without further refinement.", ()
    if found.local_areas:
        yield f"The alignment was also solved for locally, in {found.local_areas} overlapping areas of the field.", ()


def _volume(record: SeriesRecord) -> Iterator[_Sentence]:
    if record.engine is None or record.engine.name != "imod":
        yield _native_volume(record)
    seen = record.volume
    if seen is not None:
        yield f"The volume has {seen.width_px} x {seen.height_px} x {seen.sections} voxels of {seen.voxel_nm:.4g} nm.", ()


def _native_volume(record: SeriesRecord) -> _Sentence:
    binning = (_stage_params(record, "stack") or {}).get("binning", 1)
    done = f"Aligned views were {f'binned by {binning} and ' if binning > 1 else ''}reconstructed by"
    sirt = _stage_params(record, "sirt")
    if sirt:
        return f"{done} {sirt['iterations']} iterations of SIRT ({GILBERT.short}).", (GILBERT,)
    how, cited = f"weighted back-projection ({RADERMACHER.short})", (RADERMACHER,)
    params = _stage_params(record, "reconstruct") or {}
    if "radial_cutoff" in params:
        how += (
            f" with a ramp filter up to {params['radial_cutoff']:g} cycles per pixel and a fall-off of {params['radial_falloff']:g}"
        )
    if params.get("fake_sirt_iterations"):
        how += f", modified to resemble {params['fake_sirt_iterations']} iterations of SIRT ({ZENG.short})"
        return f"{done} {how}.", (*cited, ZENG)
    return f"{done} {how}.", cited


def _products(record: SeriesRecord) -> Iterator[_Sentence]:
    if any(product.type == "neuroglancerZarr" for product in record.products):
        yield f"A multi-resolution copy was stored as OME-Zarr ({MOORE.short}).", (MOORE,)


def _value(record: SeriesRecord, name: str) -> Any:
    known = record.input.get(name)
    return known.value if known is not None else None


def _stage_params(record: SeriesRecord, name: str) -> Any:
    return record.recipe.stages.get(name) if record.recipe is not None else None


def _stage_number(record: SeriesRecord, stage: str, name: str) -> float | None:
    for entry in record.stages:
        number = entry.numbers.get(name)
        if entry.name == stage and number is not None and isinstance(number.value, (int, float)):
            return float(number.value)
    return None


def _count(views: int) -> str:
    return "One view was" if views == 1 else f"{views} views were"


def _join(parts: list[str]) -> str:
    return ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else parts[0]
