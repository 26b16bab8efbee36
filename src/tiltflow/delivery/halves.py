"""Two files that hold one series: each half is aligned well by itself, and its volume is drawn out for lack of the other's tilts.

Names give the pairs to look at, as `TS_05_pos` and `TS_05_neg`; images of one size, one pixel size and tilts that go on where those of
the other end make a pair two halves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from tiltflow.errors import TiltflowError
from tiltflow.formats.series import read_series
from tiltflow.model import TiltSeries

_PARTS = (
    (r"(?<![a-z])pos(?![a-z])", "neg"),
    (r"(?<![a-z])plus(?![a-z])", "minus"),
    (r"(?<![a-z])positive(?![a-z])", "negative"),
    (r"(?<![a-z])p(?=\d*$)", "m"),
    (r"(?<![a-z])p(?=\d*$)", "n"),
    (r"a(?=\d*$)", "b"),
    (r"(?<!\d)0*1(?!\d)", "2"),
    (r"\+", "-"),
)
"""What the base name of one half holds, in small letters, and what stands there in that of the other; zeros before a number stay."""
_SAME_PIXEL = 1e-3
_OVERLAP, _APART = -1.5, 2.5
"""Tilts of one half to those of the other, in steps: the view at zero may be in both, and a view or two may be missing between."""


def half_pairs(sources: Iterable[Path]) -> tuple[tuple[Path, Path], ...]:
    """Return the files that look like the halves of one series."""
    sources = tuple(sources)
    by_place = {(path.parent, path.stem.lower()): path for path in sources}
    pairs = dict.fromkeys(pair for path in sources for pair in _named_alike(path, by_place))
    return tuple(pair for pair in pairs if _meet(*pair))


def describe_halves(a: Path, b: Path) -> str:
    """Return the remark on two files that look like the halves of one series."""
    return (
        f"{a.name} and {b.name} look like the two halves of one tilt series, as the tilts of one go on where those of the other end: "
        "each is done as a series of its own, whose volume is drawn out along z; join the stacks (newstack) and run again"
    )


def _named_alike(path: Path, by_place: Mapping[tuple[Path, str], Path]) -> Iterator[tuple[Path, Path]]:
    """Yield the path with each file beside it that is called as its other half would be."""
    stem = path.stem.lower()
    for pattern, other in _PARTS:
        for found in re.finditer(pattern, stem):
            zeros = "0" * (len(found[0]) - 1) if found[0].endswith("1") else ""
            beside = by_place.get((path.parent, stem[: found.start()] + zeros + other + stem[found.end() :]))
            if beside is not None and beside != path:
                yield path, beside


def _meet(a: Path, b: Path) -> bool:
    """Return whether two series have images of one kind, and tilts that go on where those of the other end."""
    try:
        one, two = sorted((read_series(a), read_series(b)), key=lambda series: float(np.mean(series.tilt_deg)))
    except (TiltflowError, OSError):
        return False  # what is wrong with it is said when it is read to be processed
    if one.shape[1:] != two.shape[1:] or abs(one.pixel_size_angstrom / two.pixel_size_angstrom - 1) > _SAME_PIXEL:
        return False
    step = max(_step(one), _step(two))
    between = float(two.tilt_deg.min() - one.tilt_deg.max())
    return _OVERLAP * step <= between <= _APART * step


def _step(series: TiltSeries) -> float:
    steps = np.diff(np.unique(np.round(series.tilt_deg, 1)))
    return float(np.median(steps)) if len(steps) else 0.0
