"""How well the pieces of a montage are put together: against the truth, over faults and seeds.

    python benchmarks/montage.py [--seeds 1 3 5] [--cases all cryo] [--against OTHER.py] [--record] [--plot FILE] [--picture FILE]

Series of 21 views of 2 x 2 pieces of 256 pixels with an overlap of 32, unless the case says otherwise.  The error of a piece is where it
was put less where it truly was, less the mean of its view, which any alignment takes up: rms over pieces and views of a series, both axes
together.  Of the seeds are given the median and the worst series.  `claimed` is the error over the standard error that came with it, rms
(median over the seeds): 1 is honest.  `gray` is the rms of the smooth logarithm of the ratio to the same view taken in one piece, each
view's mean and plane aside; 0.5 % of it is noise.  Time is that of finding offsets and blending all views, in seconds of one core.

`--against` takes a Python file with `stitch(stack, piece_list, tilts, level=False)` whose first three results are an object with the
corners as written (`nominal`), offsets `(views, pieces, 2)` and standard errors `(views, pieces)`.

`--plot` draws the true error of every view against the claimed one.  `--picture` draws the middle of a view as written, stitched, and
taken in one piece, and ends.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from record import Figures, add_option
from tiltflow.piece_grid import ABSENT
from tiltflow.preprocess.montage import GrayLevels, MontageParams, StitchedViews, measure_offsets
from tiltflow.simulate.montage import PieceFaults, SimulatedMontage, simulate_montage
from tiltflow.simulate.parameters import SimulationParams

SEEDS = 1, 3, 5, 7, 11, 12, 21, 31
GRAY_SEEDS = 2
"""Series of each case that are also taken in one piece, for their gray levels."""
GRAY_LARGEST = 512
"""Pieces larger than this are not: their frames take long to draw."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of series: what differs from the usual one."""

    words: str
    faults: PieceFaults = field(default_factory=PieceFaults)
    columns: int = 2
    rows: int = 2
    overlap: int = 32
    series: dict[str, Any] = field(default_factory=dict)
    focus: bool = False


PLACED = PieceFaults().in_place()
CASES = {
    "none": Case("no fault of position", replace(PLACED, gain=0)),
    "constant": Case("constant pattern only", PieceFaults(drift_px=0, jitter_px=0, gain=0)),
    "jitter": Case("jitter and drift only", PieceFaults(pattern_px=0, calibration_px=0, tilt_px=0, gain=0)),
    "all": Case("all faults"),
    "xrays": Case("all faults, x-ray hits", series={"hot_pixels": 30}),
    "gain": Case("gain 5 %", replace(PLACED, gain=0.05)),
    "turned": Case("magnification 0.05 %, rotation 0.05°", PieceFaults(magnification=0.0005, rotation_deg=0.05)),
    "focus": Case("focus follows the height", PieceFaults(focus_magnification=0.01, focus_rotation_deg=1), focus=True),
    "jumps": Case("two pieces jumped by 16 px", PieceFaults(jumps=((4, 1, 13, -9), (15, 2, -16, 2)))),
    "missing": Case("one piece missing, one blank", PieceFaults(missing=((6, 1),), blank=((13, 2),))),
    "cryo": Case("cryo, 60 electrons a pixel", series={"regime": "cryo", "dose": 60.0}),
    "2x1": Case("2 x 1 pieces", rows=1),
    "3x3": Case("3 x 3 pieces", columns=3, rows=3),
    "overlap": Case("overlap of 64", overlap=64),
    "512": Case("pieces of 512, overlap of 52", overlap=52, series={"size": 512}),
    "1024": Case("pieces of 1024, overlap of 102", PieceFaults(pattern_px=8), overlap=102, series={"size": 1024, "views": 11}),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """Errors of one series: rms, and over the standard error; time; gray levels; NaN for what was not measured."""

    error: float
    claimed: float
    seconds: float
    gray: float = np.nan
    views: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    """Claimed and true error of each view."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--against", type=Path, help="Python file with another way of stitching")
    parser.add_argument("--plot", type=Path, help="where to draw true against claimed errors")
    parser.add_argument("--picture", type=Path, help="where to draw a seam before and after")
    add_option(parser)
    asked = parser.parse_args()
    if asked.picture:
        draw_seam(asked.picture)
        return
    figures, other = Figures("montage"), loaded(asked.against) if asked.against else None
    ours(drawn(CASES["all"], 1, whole=False), CASES["all"])  # compiled before time is taken
    heads = ["case", "as written", "tiltflow", "worst", "claimed", "gray, %", "CPU s"]
    heads += ["other", "worst", "claimed", "CPU s"] if other else []
    with figures.printed():
        print(f"| {' | '.join(heads)} |")
        print(f"|---|{'---:|' * (len(heads) - 1)}")
    figures.keep("seeds", len(asked.seeds), "series", 0)
    views: dict[str, Floats] = {}
    for name in asked.cases:
        with figures.printed():
            text, views[name] = row(name, asked.seeds, other, figures)
            print(text, flush=True)
        figures.save(asked)
    if asked.plot:
        draw_claims(views, asked.plot)


def loaded(path: Path) -> Callable[..., Any]:
    """Return the function `stitch` of a file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module.stitch  # type: ignore[no-any-return]


def row(name: str, seeds: list[int], other: Callable[..., Any] | None, figures: Figures) -> tuple[str, Floats]:
    """Return a row of the table, and the claimed and true errors of all views."""
    case, written, mine, theirs = CASES[name], [], [], []
    for number, seed in enumerate(seeds):
        whole = number < GRAY_SEEDS and case.series.get("size", 256) <= GRAY_LARGEST
        montage = drawn(case, seed, whole=whole)
        written.append(rms(montage.placement_error(np.zeros_like(montage.offset_px))))
        mine.append(ours(montage, case))
        if other is not None:
            theirs.append(others(montage, other))
    gray = [each.gray for each in mine if np.isfinite(each.gray)]
    cells = [case.words, f"{np.median(written):.2f}", *cells_of(mine)]
    cells.insert(-1, f"{np.median(gray):.2f}" if gray else "")
    for figure, values, unit in (
        ("error", [each.error for each in mine], "px"),
        ("seconds", [each.seconds for each in mine], "s"),
        ("claimed", [each.claimed for each in mine], "times"),
    ):
        figures.keep(f"{figure}_{name}", float(np.median(values)), unit, 3)
    figures.keep(f"worst_{name}", max(each.error for each in mine), "px", 3)
    figures.keep(f"written_{name}", float(np.median(written)), "px", 2)
    if gray:
        figures.keep(f"gray_{name}", float(np.median(gray)), "%", 2)
    if theirs:
        figures.keep(f"other_{name}", float(np.median([each.error for each in theirs])), "px", 3)
        cells += cells_of(theirs)
    return f"| {' | '.join(cells)} |", np.concatenate([each.views for each in mine])


def cells_of(series: list[Measured]) -> list[str]:
    """Return median and worst error, what was claimed, and the time."""
    errors = [each.error for each in series]
    return [
        f"{np.median(errors):.3f}",
        f"{max(errors):.3f}",
        f"{np.median([each.claimed for each in series]):.2f}",
        f"{np.median([each.seconds for each in series]):.2f}",
    ]


def drawn(case: Case, seed: int, *, whole: bool) -> SimulatedMontage:
    """Return a series of a case."""
    params = SimulationParams(**{"seed": seed, "size": 256, "views": 21, "hot_pixels": 0, **case.series})
    return simulate_montage(
        params, columns=case.columns, rows=case.rows, overlap_px=case.overlap, faults=case.faults, whole=whole, threads=2
    )


def ours(montage: SimulatedMontage, case: Case) -> Measured:
    """Return how well tiltflow does."""
    began = time.process_time()
    tilts = montage.truth.nominal_deg
    axis = SimulationParams().axis_deg
    found = measure_offsets(montage.images, montage.grid, tilts, MontageParams(focus=case.focus), axis_deg=axis)
    stack = StitchedViews(montage.images, montage.grid, found)
    stitched = [stack[view] for view in range(montage.grid.views)]
    seconds = time.process_time() - began
    error = montage.placement_error(found.offset_px)
    claimed = np.linalg.norm(found.error_px, axis=2)
    seen = np.where(found.blank, np.nan, error)
    views = np.stack([found.view_error_px, np.sqrt(np.nanmean(seen**2, axis=1))], axis=1)
    return Measured(rms(error), rms(error / np.maximum(claimed, 1e-9)), seconds, gray_error(montage, stitched), views)


def others(montage: SimulatedMontage, stitch: Callable[..., Any]) -> Measured:
    """Return how well another way of stitching does."""
    grid = montage.grid
    places = np.argsort(grid.section[grid.taken], kind="stable")
    views, pieces = (index[places] for index in np.nonzero(grid.section != ABSENT))
    listed = np.column_stack([grid.corner_px[pieces], views])
    began = time.process_time()
    series, offset, error, *_ = stitch(montage.images, listed, montage.truth.nominal_deg, level=False)
    seconds = time.process_time() - began
    corners = [tuple(corner) for corner in np.asarray(series.nominal).tolist()]
    order = [corners.index(tuple(corner)) for corner in grid.corner_px.tolist()]
    away = montage.placement_error(offset[:, order])
    return Measured(rms(away), rms(away / np.maximum(np.sqrt(2) * error[:, order], 1e-9)), seconds)


def gray_error(montage: SimulatedMontage, stitched: list[NDArray[np.float32]]) -> float:
    """Return how far gray levels are from those of the views in one piece, per cent."""
    if montage.whole is None:
        return float("nan")
    (x, y), (height, width) = montage.grid.margin_px, montage.grid.nominal_shape
    errors = []
    for image, one in zip(stitched, montage.whole, strict=True):
        smooth = [
            ndimage.gaussian_filter(np.maximum(each, 1).astype(float), 5) for each in (image[y : y + height, x : x + width], one)
        ]
        ratio = np.log(smooth[0] / smooth[1])[12:-12:3, 12:-12:3]
        v, u = np.mgrid[: ratio.shape[0], : ratio.shape[1]]
        design = np.stack([np.ones(ratio.size), u.ravel(), v.ravel()], axis=1)
        flat = ratio.ravel()
        keep = np.abs(flat - np.median(flat)) < 0.3
        plane = np.linalg.lstsq(design[keep], flat[keep], rcond=None)[0]
        errors.append(rms(flat[keep] - design[keep] @ plane))
    return 100 * rms(np.array(errors))


def draw_claims(views: dict[str, Floats], path: Path) -> None:
    """Draw the true error of every view against the claimed one."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5.2), dpi=120, layout="tight")
    axes = figure.subplots()
    ends = np.array([0.01, 4])
    axes.fill_between(ends, ends / 2, ends * 2, color="0.9", label="within a factor of 2")
    axes.plot(ends, ends, color="0.5", linewidth=1)
    colours = iter(
        ["tab:blue", "tab:red", "tab:green", "tab:orange", "tab:purple", "tab:brown", "tab:pink", "tab:olive", "tab:cyan"] * 2
    )
    for name, pairs in views.items():
        axes.plot(*pairs.T, ".", markersize=4, alpha=0.6, label=CASES[name].words, color=next(colours))
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="claimed error of a view, px", ylabel="true error, px")
    axes.legend(fontsize=7, loc="upper left")
    figure.savefig(path)


def draw_seam(path: Path) -> None:
    """Draw the middle of a view: pieces as written, stitched, and the view taken in one piece."""
    from matplotlib.figure import Figure

    montage = drawn(replace(CASES["all"], faults=PieceFaults(gain=0.05)), 5, whole=True)
    assert montage.whole is not None
    found = measure_offsets(montage.images, montage.grid, montage.truth.nominal_deg, MontageParams())
    even = GrayLevels.even(*montage.grid.section.shape)
    written = replace(found.with_offsets(np.zeros_like(found.offset_px), found.error_px), gray=even)
    view, side = montage.grid.views // 2, 110
    (mx, my), (ny, nx) = montage.grid.margin_px, montage.grid.nominal_shape
    images = [StitchedViews(montage.images, montage.grid, each)[view][my : my + ny, mx : mx + nx] for each in (written, found)]
    figure = Figure(figsize=(9, 3.3), dpi=120, layout="tight")
    titles = "as written", "stitched", "taken in one piece"
    for axes, image, title in zip(figure.subplots(1, 3), [*images, montage.whole[view].astype(float)], titles, strict=True):
        cut = ndimage.gaussian_filter(image, 0.7)[ny // 2 - side : ny // 2 + side, nx // 2 - side : nx // 2 + side]
        axes.imshow(cut, cmap="gray", origin="lower", vmin=np.quantile(cut, 0.005), vmax=np.quantile(cut, 0.995))
        axes.set_title(title, fontsize=10)
        axes.set_axis_off()
    figure.savefig(path)


def rms(values: Floats) -> float:
    return float(np.sqrt(np.nanmean(np.square(values))))


if __name__ == "__main__":
    main()
