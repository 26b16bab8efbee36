"""Series that this project did not make, aligned without gold and with it, against what is known of them.

    python benchmarks/foreign.py FOLDER [--series TEXT ...] [--method METHOD ...] [--no-fallback] [--threads 2] [--record]

FOLDER holds the series of :data:`CASES` (where they come from is in its README).  Printed is the root mean square distance from the
reference over the specimen, raw pixels, whatever the origin, scale or hand of each; the hand itself where the sign of the tilts is
known; the tilt axis; and what the alignment says of itself.  A series whose axis no file tells is aligned as it is, and with the axis
as a user would give it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alignment import ASKED, align_series
from record import Figures, add_option
from tiltflow import geometry
from tiltflow.errors import TiltflowError
from tiltflow.formats.series import read_series
from tiltflow.model import Alignment, TiltSeries

Floats = NDArray[np.float64]
_WITHIN = 0.35
"""Points of the specimen reach so far from the middle, as a fraction of the field."""
_DEPTH_PX = 100.0
"""And over so much depth."""


@dataclass(frozen=True)
class Reference:
    """An alignment to compare with: transforms `(views, 2, 3)` and tilts, degrees; and whether its hand means anything."""

    transforms: Floats
    tilt_deg: Floats
    hand_known: bool


@dataclass(frozen=True)
class Case:
    """A series, its reference, and the axis that is told beside what its files tell; None for nothing."""

    stack: str
    reference: Callable[[Path, TiltSeries], Reference | None]
    told_deg: float | None = None


def by_gold(_: Path, __: TiltSeries) -> None:
    """Compare with our own alignment by gold."""


def of_xf(name: str) -> Callable[[Path, TiltSeries], Reference]:
    """Compare with an alignment of a file, whose hand is unknown."""

    def read(folder: Path, series: TiltSeries) -> Reference:
        rows = np.loadtxt(folder / name)
        transforms = np.concatenate([rows[:, :4].reshape(-1, 2, 2), rows[:, 4:, None]], axis=2)
        return Reference(transforms, series.tilt_deg, hand_known=False)

    return read


def identity(_: Path, series: TiltSeries) -> Reference:
    """Compare with views that are aligned as they are, the axis along y."""
    return Reference(geometry.from_axis_and_shifts(0.0, np.zeros((len(series.tilt_deg), 2))), series.tilt_deg, hand_known=True)


def of_shifts(name: str, axis_deg: float) -> Callable[[Path, TiltSeries], Reference]:
    """Compare with shifts, dy and dx, that were applied to views whose axis is known."""

    def read(folder: Path, series: TiltSeries) -> Reference:
        shifts = np.loadtxt(folder / name)[:, ::-1]
        return Reference(geometry.from_axis_and_shifts(axis_deg, shifts), series.tilt_deg, hand_known=False)

    return read


CASES: Mapping[str, Case] = {
    "EMPIAR-10499 00254": Case("empiar10499_00254.mrc", by_gold),
    "lysosome": Case("czi_lysosome/lyso.mrc", of_xf("reference_from_movies.xf")),
    "lysosome, axis told": Case("czi_lysosome/lyso.mrc", of_xf("reference_from_movies.xf"), 83.55),
    "virus": Case("ot2rec_TS_01/TS_01.mrc", identity),
    "catalyst": Case("etspy_catalyst/cat.mrc", of_shifts("shifts_dy_dx.txt", 90.0)),
    "catalyst, axis told": Case("etspy_catalyst/cat.mrc", of_shifts("shifts_dy_dx.txt", 90.0), 90.0),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--series", nargs="+", default=[""], help="only those whose name contains one of these")
    parser.add_argument("--method", nargs="+", default=["markerless", "patches"])
    parser.add_argument("--no-fallback", action="store_true", help="use the method asked for whatever it says of itself")
    parser.add_argument("--threads", type=int, default=2)
    add_option(parser)
    asked = parser.parse_args()
    figures = Figures("foreign")
    with figures.printed():
        print("| series | asked | used | from the reference px | hand | axis deg | claimed px | doubts | s |")
        print("|---|---|---|---:|---|---:|---:|---|---:|")
        for name, case in CASES.items():
            if any(text in name for text in asked.series):
                print_case(name, case, asked)
    figures.save(asked)


def print_case(name: str, case: Case, asked: argparse.Namespace) -> None:
    """Print one row for each method."""
    series = read_series(asked.folder / case.stack)
    told = () if case.told_deg is None else (f"setupset.copyarg.rotation={case.told_deg}",)

    def aligned(method: str) -> Alignment:
        with tempfile.TemporaryDirectory() as work:
            return align_series(
                series.path, ASKED[method], Path(work), overrides=told, fallback=not asked.no_fallback, threads=asked.threads
            )

    reference = case.reference(series.path.parent, series)
    if reference is None:
        gold = aligned("gold")
        reference = Reference(gold.transforms, gold.tilt_deg, hand_known=True)
    for method in asked.method:
        begin = time.perf_counter()
        try:
            found = aligned(method)
        except TiltflowError as error:
            print(f"| {name} | {method} | failed: {error} |", flush=True)
            continue
        seconds = time.perf_counter() - begin
        px, same_hand = disagreement(reference, found, series.shape[1:])
        hand = ("right" if same_hand else "WRONG") if reference.hand_known else "unknown"
        axis = geometry.common_axis_angle(found.transforms[found.included])
        own = found.evidence.error_px
        claimed = "" if own is None else f"{own:.2f}"
        doubts = "; ".join(found.evidence.trust_warnings) or "none"
        print(
            f"| {name} | {method} | {found.method} | {px:.2f} | {hand} | {axis:.2f} | {claimed} | {doubts} | {seconds:.1f} |",
            flush=True,
        )


def disagreement(reference: Reference, found: Alignment, shape: tuple[int, ...]) -> tuple[float, bool]:
    """Return how far two alignments disagree over the specimen, raw pixels, and whether their hand is the same.

    Points are projected into the raw views by the reference and carried into the aligned frame by what was found; the best point is
    fitted to each, and what is left would blur the tomogram.
    """
    ny, nx = shape
    grid = (
        np.linspace(-_WITHIN * nx, _WITHIN * nx, 6),
        np.linspace(-_WITHIN * ny, _WITHIN * ny, 6),
        _DEPTH_PX * np.array([-0.5, 0, 0.5]),
    )
    x, y, z = (axis.ravel() for axis in np.meshgrid(*grid))
    tilts = np.deg2rad(reference.tilt_deg)[:, None]
    there = np.stack([x * np.cos(tilts) + z * np.sin(tilts), np.broadcast_to(y, (len(tilts), y.size))], axis=2)
    raw = np.stack([geometry.apply(one, points) for one, points in zip(geometry.invert(reference.transforms), there, strict=True)])
    again = np.stack([geometry.apply(one, points) for one, points in zip(found.transforms, raw, strict=True)])[found.included]
    angle = np.deg2rad(found.tilt_deg[found.included])
    design = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    across, *_ = np.linalg.lstsq(design, again[..., 0], rcond=None)
    u, v = again[..., 0] - design @ across, again[..., 1] - again[..., 1].mean(axis=0)
    # Where the points are in the other specimen: a map that mirrors them has a negative determinant.
    seen = np.stack([across[0], again[..., 1].mean(axis=0), across[1]], axis=1)
    linear, *_ = np.linalg.lstsq(np.stack([x, y, z, np.ones_like(x)], axis=1), seen, rcond=None)
    return float(np.sqrt(np.mean(u**2 + v**2))), bool(np.linalg.det(linear[:3]) > 0)


if __name__ == "__main__":
    main()
