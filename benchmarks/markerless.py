"""Alignments without gold: true error, claimed error and tilt axis, asked for as markerless and as patches.

    python benchmarks/markerless.py [--seeds 6] [--first 101] [--size 512] [--views 41] [--regime plastic cryo] [--dose 400]
                                    [--method projection patches] [--plot FILE.png] [--record]

Series are simulated without a bead; the axis in the header is right.  Wanted are claims within a factor of 2 of the true error.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from record import Figures, add_option
from simulated import aligned
from tiltflow.errors import StageError
from tiltflow.geometry import axis_angles
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import simulate


def main() -> None:
    """Print the table, and draw the plot."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--first", type=int, default=101)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--views", type=int, default=41)
    parser.add_argument("--regime", nargs="+", default=["plastic", "cryo"])
    parser.add_argument("--dose", type=float, nargs="+", default=[400.0])
    parser.add_argument("--method", nargs="+", default=["projection"])
    parser.add_argument("--plot", type=Path)
    add_option(parser)
    asked = parser.parse_args()
    figures, points = Figures("markerless"), {}
    with figures.printed():
        print(
            "| series | asked | used | true px | claimed px | axis error deg | warnings | s |\n|---|---|---|---:|---:|---:|---:|---:|"
        )
        for regime in asked.regime:
            for dose in asked.dose:
                for method in asked.method:
                    rows = [row(regime, dose, method, asked, seed) for seed in range(asked.first, asked.first + asked.seeds)]
                    points[f"{regime}, dose {dose:g}, {method}"] = rows
                    summarise(f"{regime}, dose {dose:g}", method, rows)
    figures.save(asked)
    if asked.plot:
        draw(points, asked.plot)


def row(regime: str, dose: float, method: str, asked: argparse.Namespace, seed: int) -> tuple[float, float]:
    """Print the row of one series, and return its true and its claimed error."""
    params = SimulationParams(seed=seed, size=asked.size, views=asked.views, beads=0, regime=regime, dose=dose)
    series = simulate(params, threads=2)
    begin = time.perf_counter()
    try:
        found = aligned(series, method, threads=2)
    except StageError as error:
        print(f"| {regime} {seed}, dose {dose:g} | {method} | failed: {error} |")
        return np.nan, np.nan
    seconds = time.perf_counter() - begin
    true_px = series.error_of(found).rms_px
    claimed = np.nan if found.evidence.error_px is None else found.evidence.error_px
    off = float(np.mean(axis_angles(found.transforms)) - np.mean(series.truth.axis_deg))
    warnings = len(found.evidence.trust_warnings)
    name = f"{regime} {seed}, dose {dose:g}"
    print(
        f"| {name} | {method} | {found.method} | {true_px:.2f} | {claimed:.2f} | {off:+.2f} | {warnings} | {seconds:.1f} |",
        flush=True,
    )
    return true_px, claimed


def summarise(name: str, method: str, rows: list[tuple[float, float]]) -> None:
    """Print medians, the worst, and how many claims are within a factor of 2, and of 3 too small."""
    true, claimed = np.array(rows).T
    within = int(np.sum((claimed / true < 2) & (claimed / true > 0.5)))
    print(
        f"| **{name}** | {method} | median {np.nanmedian(true):.2f}, worst {np.nanmax(true):.2f} | | | within a factor of 2: {within} of "
        f"{len(rows)} | a factor of 3 too small: {int(np.sum(claimed / true < 1 / 3))} | |",
        flush=True,
    )


def draw(points: dict[str, list[tuple[float, float]]], path: Path) -> None:
    """Draw claimed against true errors."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 6), layout="constrained")
    line = np.array([0.05, 10])
    axes.fill_between(line, line / 2, line * 2, color="0.9", label="a factor of 2")
    axes.plot(line, line, color="0.4", linewidth=0.8)
    for name, found in points.items():
        axes.plot(*zip(*found, strict=True), "o", label=name, markersize=5)
    axes.set(xscale="log", yscale="log", xlim=line, ylim=line, xlabel="true error, px", ylabel="claimed error, px")
    axes.legend(fontsize=8, loc="upper left")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
