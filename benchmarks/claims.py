"""Whether the error that an alignment claims is the true one, for every method at every dose.

    python benchmarks/claims.py [--seeds 2] [--first 601] [--size 384 512] [--views 41] [--row TEXT ...] [--threads 2]
                                [--plot FILE.png] [--record]

Series are simulated and aligned by one method, and by others only where it fails or is not trusted.  Wanted are claims within a factor
of 2 of the true error in nine of ten series, and none that is a factor of 3 too small.  An alignment that raises trust warnings says
itself that its figures prove little: such series are counted apart.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from record import Figures, add_option
from simulated import aligned
from tiltflow.errors import StageError
from tiltflow.geometry import axis_angles
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import SimulatedSeries, simulate

DOSES = {"plastic": (400.0, 40.0, 10.0, 1.0), "cryo": (100.0, 40.0, 10.0)}
METHODS = {"gold": (25,), "patches": (25, 0), "projection": (25, 0)}
"""Beads of the series that each method is asked to align."""


@dataclass(frozen=True)
class Row:
    """One kind of series, and the method it is aligned by."""

    method: str
    regime: str
    dose: float
    beads: int

    def __str__(self) -> str:
        return f"{self.method}, {self.regime}, dose {self.dose:g}, {'gold' if self.beads else 'no gold'}"


@dataclass(frozen=True)
class Claim:
    """What one series says of its error, pixels; NaN where it says nothing."""

    row: Row
    size: int
    seed: int
    used: str
    true_px: float
    claimed_px: float
    axis_error_deg: float
    warnings: tuple[str, ...]

    @property
    def ratio(self) -> float:
        """Claimed over true error."""
        return self.claimed_px / self.true_px


ROWS = [
    Row(method, regime, dose, beads)
    for method, with_beads in METHODS.items()
    for regime, doses in DOSES.items()
    for dose in doses
    for beads in with_beads
]


def main() -> None:
    """Print the table, and draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first", type=int, default=601)
    parser.add_argument("--size", type=int, nargs="+", default=[384, 512])
    parser.add_argument("--views", type=int, default=41)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--row", action="append", help="only rows whose name contains this text")
    parser.add_argument("--plot", type=Path)
    add_option(parser)
    asked = parser.parse_args()
    figures, claims = Figures("claims"), []
    with figures.printed():
        print("| series | size | seeds | used | true px | claimed px | claimed / true | trust warnings |")
        print("|---|---:|---:|---|---:|---:|---:|---:|")
        for size in asked.size:
            for row in ROWS:
                if not asked.row or any(text in str(row) for text in asked.row):
                    found = list(claims_of(row, size, asked))
                    claims += found
                    print(summary(row, size, found), flush=True)
        print(f"\n{criteria(claims)}")
    figures.save(asked)
    print("\nClaims more than a factor of 2 off, without a word of doubt:", *map(told, wrong(claims)), sep="\n")
    if asked.plot:
        draw(claims, asked.plot)


def claims_of(row: Row, size: int, asked: argparse.Namespace) -> Iterator[Claim]:
    """Yield what each seed says of its error."""
    for seed in range(asked.first, asked.first + asked.seeds):
        params = SimulationParams(
            seed=seed, size=size, views=asked.views, beads=row.beads, regime=row.regime, dose=row.dose, thickness_px=90.0
        )
        yield claim(row, size, seed, simulate(params, threads=asked.threads), asked.threads)


def claim(row: Row, size: int, seed: int, series: SimulatedSeries, threads: int) -> Claim:
    """Align a series, and compare."""
    begin = time.perf_counter()
    try:
        found = aligned(series, row.method, threads)
    except StageError as error:
        return Claim(row, size, seed, "failed", np.nan, np.nan, np.nan, (str(error),))
    own = found.evidence.error_px
    off = float(np.mean(axis_angles(found.transforms)) - np.mean(series.truth.axis_deg))
    true = series.error_of(found).rms_px
    made = Claim(row, size, seed, found.method, true, np.nan if own is None else own, off, found.evidence.trust_warnings)
    print(f"{told(made)}  {time.perf_counter() - begin:.0f} s", flush=True, file=sys.stderr)
    return made


def told(one: Claim) -> str:
    """Return one series on a line."""
    return (
        f"{one.row!s:42} {one.size} seed {one.seed}  {one.used:10}  true {one.true_px:6.2f}  claimed {one.claimed_px:5.2f}"
        f"  axis {one.axis_error_deg:+.2f}  {'; '.join(one.warnings)[:120]}"
    )


def summary(row: Row, size: int, found: Sequence[Claim]) -> str:
    """Return the row of a kind: medians, the range of the ratios, and how many series doubt themselves."""
    used = ", ".join(sorted({one.used for one in found}))
    true, own = (np.array([getattr(one, name) for one in found]) for name in ("true_px", "claimed_px"))
    both = np.isfinite(true) & np.isfinite(own)
    ratios = own[both] / true[both]
    figures = (
        f"{np.median(true[both]):.2f} | {np.median(own[both]):.2f} | {ratios.min():.2f} to {ratios.max():.2f}"
        if both.any()
        else "| |"
    )
    return f"| {row} | {size} | {len(found)} | {used} | {figures} | {sum(bool(one.warnings) for one in found)} |"


def criteria(claims: Sequence[Claim]) -> str:
    """Return how many claims are as near as wanted."""
    sure = trusted(claims)
    within = sum(0.5 <= one.ratio <= 2 for one in sure)
    return (
        f"Of {len(sure)} claims without a word of doubt {within} are within a factor of 2 (wanted: nine of ten), and "
        f"{sum(one.ratio < 1 / 3 for one in sure)} more than a factor of 3 too small (wanted: none); "
        f"{len(claims) - len(sure)} of {len(claims)} series failed, are doubted, or claim nothing."
    )


def trusted(claims: Sequence[Claim]) -> list[Claim]:
    return [one for one in claims if not one.warnings and np.isfinite(one.ratio)]


def wrong(claims: Sequence[Claim]) -> list[Claim]:
    return [one for one in trusted(claims) if not 0.5 <= one.ratio <= 2]


def draw(claims: Sequence[Claim], path: Path) -> None:
    """Draw claimed against true errors: a colour for each method, hollow without gold, crosses where a series doubts itself."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 6), layout="constrained")
    span = np.array([0.015, 30])
    axes.fill_between(span, span / 2, span * 2, color="0.9", label="a factor of 2")
    axes.plot(span, span, color="0.4", linewidth=0.8)
    axes.plot(span, span / 3, color="0.4", linewidth=0.8, linestyle=":", label="a factor of 3 too small")
    for colour, method in zip(("goldenrod", "tab:blue", "tab:green"), METHODS, strict=True):
        for gold, sure in ((True, True), (False, True), (True, False), (False, False)):
            shown = [
                one
                for one in claims
                if one.row.method == method
                and bool(one.row.beads) == gold
                and bool(one.warnings) != sure
                and np.isfinite(one.ratio)
            ]
            if not shown:
                continue
            name = f"{method}{'' if gold else ', no gold'}" if sure else None
            axes.plot(
                [one.true_px for one in shown],
                [one.claimed_px for one in shown],
                "o" if sure else "x",
                color=colour,
                fillstyle="full" if gold else "none",
                markersize=5,
                label=name,
            )
    axes.set(xscale="log", yscale="log", xlim=span, ylim=span, xlabel="true error, px", ylabel="claimed error, px")
    axes.legend(fontsize=8, loc="upper left", title="crosses: doubted by a trust warning", title_fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
