"""Whether the audit tells the truth: alignments as another program might make them, claimed error against true error.

    python benchmarks/audit.py [--seeds 3] [--size 384] [--views 41] [--plot FILE.png] [--record]

Series are simulated.  Alignments are made from tracks with the errors that recorded runs of beadtrack and of patch tracking show, by a
bundle adjustment without priors, as tiltalign's; or from the true geometry with errors of the size given.  The true error is what blurs
the tomogram (:func:`tiltflow.simulate.scoring.score`).  Wanted are ratios between 2/3 and 4/3 with tracks, and within a
factor of 2 without.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from record import Figures, add_option
from tiltflow import geometry
from tiltflow.align.audit import AuditParams, audit_alignment
from tiltflow.align.bundle import SolveParams, solve
from tiltflow.errors import StageError
from tiltflow.model import Alignment, Tracks
from tiltflow.parallel import one_thread_for_algebra
from tiltflow.preprocess.preparation import RepairingStack
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import SimulatedSeries, simulate

Floats = NDArray[np.float64]
Foreign = tuple[Alignment, Tracks | None]


@dataclass(frozen=True)
class Kind:
    """How alignments of a kind are made, and whether gold is measured anew."""

    make: Callable[[SimulatedSeries, np.random.Generator], Foreign]
    gold_nm: float = 0.0
    factor: float = 4 / 3


def of_tracks(series: SimulatedSeries, xy: Floats, kind: str, method: str) -> Foreign:
    """Return the alignment of tracks by a bundle adjustment without priors."""
    tracks = Tracks(xy, kind)
    params = SolveParams(adapt=False, restrict=True, leave_out=False)
    axis = float(series.series.axis_angle_deg)
    solution = solve(tracks, series.truth.nominal_deg, axis, params, image_shape=series.images.shape[1:])
    return solution.alignment(method), tracks


def beads(common_px: float, own_px: float, count: int) -> Callable[[SimulatedSeries, np.random.Generator], Foreign]:
    """Return a maker of bead tracks: an error common to all beads of a view, and one of each position."""

    def make(series: SimulatedSeries, rng: np.random.Generator) -> Foreign:
        true = np.asarray(series.truth.probes_xy).swapaxes(0, 1)[:count]
        common = rng.normal(0, common_px, (1, true.shape[1], 2))
        return of_tracks(series, true + common + rng.normal(0, own_px, true.shape), "bead", "gold")

    return make


def patches(step_px: float, count: int) -> Callable[[SimulatedSeries, np.random.Generator], Foreign]:
    """Return a maker of patch tracks, which drift from view to view."""

    def make(series: SimulatedSeries, rng: np.random.Generator) -> Foreign:
        true = np.asarray(series.truth.probes_xy).swapaxes(0, 1)[:count]
        drift = np.cumsum(rng.normal(0, step_px, true.shape), axis=1)
        return of_tracks(series, true + drift - drift.mean(axis=1, keepdims=True), "patch", "patches")

    return make


def displaced(shift_px: float, axis_deg: float = 0.0) -> Callable[[SimulatedSeries, np.random.Generator], Foreign]:
    """Return a maker of alignments without tracks: the true geometry, with errors of the shifts and of the tilt axis."""

    def make(series: SimulatedSeries, rng: np.random.Generator) -> Foreign:
        true = series.truth.transforms()
        wrong = geometry.transform(
            np.broadcast_to(geometry.rotation(axis_deg), (len(true), 2, 2)), rng.normal(0, shift_px, (len(true), 2))
        )
        found = geometry.compose(true, wrong)
        nominal = np.asarray(series.truth.nominal_deg, float)
        return Alignment(found, nominal, np.ones(len(true), bool), "coarse"), None

    return make


KINDS: Mapping[str, Kind] = {
    "beads, as recorded": Kind(beads(0.055, 0.075, 16), gold_nm=10),
    "beads, common error 0.3 px": Kind(beads(0.3, 0.1, 16), gold_nm=10),
    "6 beads, error 0.3 px": Kind(beads(0.0, 0.3, 6), gold_nm=10),
    "64 patches, drift 0.1 px": Kind(patches(0.1, 64)),
    "16 patches, drift 0.1 px": Kind(patches(0.1, 16)),
    "16 patches, drift 0.5 px": Kind(patches(0.5, 16)),
    "no tracks, shifts 0.3 px": Kind(displaced(0.3), factor=2),
    "no tracks, shifts 1 px": Kind(displaced(1.0), factor=2),
    "no tracks, shifts 3 px": Kind(displaced(3.0), factor=2),
    "no tracks, axis 2 degrees off": Kind(displaced(0.1, 2.0), factor=2),
}


def main() -> None:
    """Print the table, and draw the plot."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--views", type=int, default=41)
    parser.add_argument("--plot", type=Path)
    add_option(parser)
    asked = parser.parse_args()
    figures, points = Figures("audit"), {}
    with figures.printed(), one_thread_for_algebra():
        print("| alignment | true px | claimed px | ratios | within the factor |\n|---|---|---|---|---|")
        for name, kind in KINDS.items():
            points[name] = found = [audited(kind, asked.size, asked.views, seed) for seed in range(1, asked.seeds + 1)]
            ratios = [claimed / true for true, claimed in found]
            right = sum(1 / (kind.factor if kind.factor == 2 else 3 / 2) < ratio < kind.factor for ratio in ratios)
            columns = (" ".join(f"{value:.2f}" for value in column) for column in (*zip(*found, strict=True), ratios))
            print(f"| {name} | {' | '.join(columns)} | {right} of {len(found)} |", flush=True)
    figures.save(asked)
    if asked.plot:
        draw(points, asked.plot)


def audited(kind: Kind, size: int, views: int, seed: int) -> tuple[float, float]:
    """Return the true and the claimed error of one alignment; NaN where nothing is claimed."""
    series = simulate(SimulationParams(seed=seed, size=size, views=views, beads=25 if kind.gold_nm else 0), threads=2)
    alignment, tracks = kind.make(series, np.random.default_rng(seed))
    try:
        evidence = audit_alignment(
            RepairingStack(series.images),
            alignment,
            series.truth.nominal_deg,
            float(series.series.axis_angle_deg),
            10.0,
            AuditParams(gold_nm=kind.gold_nm),
            tracks=tracks,
            threads=2,
        ).evidence
    except StageError:
        return series.error_of(alignment).rms_px, np.nan
    return series.error_of(alignment).rms_px, np.nan if evidence.error_px is None else evidence.error_px


def draw(points: Mapping[str, list[tuple[float, float]]], path: Path) -> None:
    """Draw claimed against true errors."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 6), layout="constrained")
    line = np.array([0.02, 10])
    axes.fill_between(line, line * 2 / 3, line * 4 / 3, color="0.9", label="2/3 to 4/3")
    axes.plot(line, line, color="0.4", linewidth=0.8)
    for mark, (name, found) in zip("ooo^^^ssss", points.items(), strict=True):
        axes.plot(*zip(*found, strict=True), mark, label=name, markersize=5)
    axes.set(xscale="log", yscale="log", xlim=line, ylim=line, xlabel="true error, px", ylabel="claimed error, px")
    axes.legend(fontsize=8, loc="upper left")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
