"""Sentences on the work of IMOD for the methods section of a paper."""

from __future__ import annotations

from collections.abc import Mapping

from tiltflow.record import SeriesRecord
from tiltflow.record.sentences import Citation, EngineMethods

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

_BY_METHOD: Mapping[str, str] = {
    "gold": "Views were aligned by tracking gold fiducials through the series.",
    "patches": "Views were aligned by patch tracking.",
    "coarse": "Views were aligned by cross-correlation alone.",
}


def describe(record: SeriesRecord) -> EngineMethods:
    """Return the sentences on the programs and the alignment."""
    version = record.engine.version if record.engine is not None else "IMOD"
    done = (
        f"was aligned and reconstructed by batchruntomo of {version} ({KREMER.short}; {MASTRONARDE.short}), run by tiltflow "
        f"{record.tiltflow}{{recipe}}"
    )
    found = record.alignment
    aligned = () if found is None else ((_BY_METHOD.get(found.method, "Views were aligned by IMOD."), ()),)
    return EngineMethods((done, (KREMER, MASTRONARDE)), alignment=(*_pieces(record), *aligned))


def _pieces(record: SeriesRecord) -> tuple[tuple[str, tuple[Citation, ...]], ...]:
    known = record.input.get("montage")
    if known is None:
        return ()
    return (
        (
            f"Every view was blended from {known.value} by blendmont, which placed them by their overlaps as tiltflow matched them.",
            (),
        ),
    )
