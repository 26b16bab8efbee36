"""How well tilt series are aligned: the true error of simulated series, of every kind and method, beside IMOD's.

    python benchmarks/alignment.py [--seeds 5] [--first-seed 1] [--jobs 2] [--row TEXT ...] [--series FOLDER] [--no-fallback]
                                   [--record]

The error is what blurs the tomogram, root mean square over beads and views, whatever origin, scale or tilt offset the alignment has
(:func:`tiltflow.simulate.scoring.score`).  IMOD's figures are those of version 4.8.2 with the plastic template, one seed
each.  `--series` reads `KIND_SEED.st` and `KIND_SEED.truth.json` from a folder where they are there, instead of simulating them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from record import Figures, add_option
from tiltflow.demo import write_series
from tiltflow.engines.base import EngineJob
from tiltflow.engines.native.engine import align
from tiltflow.engines.native.prepared_views import PreparedViews
from tiltflow.errors import TiltflowError
from tiltflow.formats.mrc import open_mrc
from tiltflow.formats.series import read_series
from tiltflow.model import Alignment
from tiltflow.parallel import one_thread_for_algebra
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import Recorder
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scoring import Truth, score
from tiltflow.simulate.simulated_series import simulate
from tiltflow.work import Site

KINDS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "two": {"beads": 30, "two_surfaces": True, "thickness_px": 120.0},
    "beads8": {"beads": 8},
    "dose40": {"dose": 40.0},
    "shift14": {"shift_px": 14.0},
    "cryo": {"regime": "cryo", "dose": 60.0, "beads": 15, "thickness_px": 150.0},
    "nobeads": {"beads": 0},
    "axis4": {"axis_error_deg": 4.0},
}


@dataclass(frozen=True)
class Row:
    """A kind of series aligned by one method: IMOD's error, and the one that is aimed at, pixels."""

    name: str
    kind: str
    method: str
    imod_px: float
    target_px: float


ROWS = (
    Row("default (25 beads)", "default", "gold", 0.10, 0.05),
    Row("30 beads on two surfaces, 120 px thick", "two", "gold", 0.09, 0.05),
    Row("8 beads", "beads8", "gold", 0.10, 0.07),
    Row("dose 40", "dose40", "gold", 0.15, 0.09),
    Row("shift sd 14 px", "shift14", "gold", 0.09, 0.05),
    Row("cryo, dose 60, 15 beads, 150 px", "cryo", "gold", 0.16, 0.10),
    Row("default", "default", "patches", 0.83, 0.25),
    Row("dose 40", "dose40", "patches", 1.06, 0.40),
    Row("no beads", "nobeads", "patches", 0.57, 0.25),
    Row("8 beads", "beads8", "patches", 2.0, 0.30),
    Row("cryo, dose 60, 150 px", "cryo", "patches", 6.6, 0.50),
    Row("default", "default", "markerless", 0.32, 0.15),
    Row("dose 40", "dose40", "markerless", 0.65, 0.30),
    Row("axis angle in the header 4 degrees off", "axis4", "markerless", 2.2, 0.25),
)
ASKED: Mapping[str, Mapping[str, int]] = {"gold": {}, "patches": {"tracking_method": 1}, "markerless": {"fiducialless": 1}}


@dataclass(frozen=True)
class Outcome:
    """One series aligned: its true error, its own estimates, and the CPU time."""

    row: Row
    seed: int
    method: str
    true_px: float
    error_px: float | None
    leave_out_px: float | None
    trust_warnings: tuple[str, ...]
    cpu_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--row", action="append", help="only rows whose method and name contain this text, as 'patches: dose'")
    parser.add_argument("--series", type=Path, help="a folder of series made before")
    parser.add_argument("--no-fallback", action="store_true", help="use the method asked for even when it raises trust warnings")
    add_option(parser)
    asked = parser.parse_args()
    rows = [row for row in ROWS if not asked.row or any(text in f"{row.method}: {row.name}" for text in asked.row)]
    seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
    work = [(row, seed, asked.size, asked.series, not asked.no_fallback) for row in rows for seed in seeds]
    outcomes = []
    with ProcessPoolExecutor(asked.jobs) as pool:
        for outcome in pool.map(align_one, *zip(*work, strict=True)):
            outcomes.append(outcome)
            print(line(outcome), file=sys.stderr, flush=True)
    figures = Figures("alignment")
    with figures.printed():
        print(table(outcomes))
    figures.save(asked)


def align_one(row: Row, seed: int, size: int, folder: Path | None, fallback: bool) -> Outcome:
    """Simulate or find one series, align it as a user would ask for it, and measure its true error."""
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        source, truth = _series(row.kind, seed, size, folder, work)
        begin = time.process_time()
        try:
            found = align_series(source, ASKED[row.method], work, fallback=fallback)
        except TiltflowError as error:
            return Outcome(row, seed, "failed", float("nan"), None, None, (str(error),), time.process_time() - begin)
    true = score(truth, found.transforms, found.tilt_deg)
    evidence = found.evidence
    spent = time.process_time() - begin
    return Outcome(row, seed, found.method, true.rms_px, evidence.error_px, evidence.leave_out_px, evidence.trust_warnings, spent)


def align_series(
    source: Path, asked: Mapping[str, int], work: Path, *, overrides: Sequence[str] = (), fallback: bool = True, threads: int = 1
) -> Alignment:
    """Align one series with the native engine, as a user would ask for it."""
    recipe = make_recipe(BrtParameters(**asked), overrides=overrides, engine="native", fallback=fallback)
    series = read_series(source, recipe.hints)
    recorder = Recorder.start(work / "run.json", source, "")
    recipe = recipe.for_engine("native").for_series(series.pixel_size_angstrom)
    with one_thread_for_algebra(), open_mrc(source) as raw:
        job = EngineJob(series, recipe, Site(threads=threads), work, recorder)
        return align(job, PreparedViews(job, raw))


def _series(kind: str, seed: int, size: int, folder: Path | None, work: Path) -> tuple[Path, Truth]:
    if folder is not None and (source := folder / f"{kind}_{seed}.st").exists():
        return source, _read_truth(source.with_suffix(".truth.json"))
    series = simulate(SimulationParams(**{"seed": seed, "size": size, **KINDS[kind]}))
    source = work / f"{kind}_{seed}.st"
    write_series(source, series)
    return source, series.truth


def _read_truth(path: Path) -> Truth:
    """Return the truth of a series, scored at its beads, or over the field where it has none."""
    told = json.loads(path.read_text())
    axis, tilt, pitch = (np.deg2rad(told[key]) for key in ("axis_deg", "true_deg", "pitch_deg"))
    beads = np.array(told["beads_px"], float).reshape(-1, 3)
    side = np.array([-0.4, 0.0, 0.4])
    grid = np.stack(np.meshgrid(side * told["size"], side * told["size"], side * told["thickness_px"]), axis=-1).reshape(-1, 3)

    def seen(points: np.ndarray) -> np.ndarray:
        x, y, z = points.T
        y, z = y * np.cos(pitch) - z * np.sin(pitch), y * np.sin(pitch) + z * np.cos(pitch)
        u = np.cos(tilt)[:, None] * x + np.sin(tilt)[:, None] * z
        c, s = np.cos(axis)[:, None], np.sin(axis)[:, None]
        flat = np.stack([c * u - s * y, s * u + c * y], axis=-1)
        return told["size"] / 2 + np.array(told["magnification"])[:, None, None] * flat + np.array(told["shift_px"])[:, None]

    return Truth(
        size=told["size"],
        nominal_deg=np.array(told["nominal_deg"]),
        true_deg=np.array(told["true_deg"]),
        axis_deg=np.array(told["axis_deg"]),
        magnification=np.array(told["magnification"]),
        shift_px=np.array(told["shift_px"]),
        beads_px=beads,
        beads_xy=seen(beads),
        probes_xy=seen(beads if len(beads) else grid),
        dark_views=tuple(told["arguments"]["dark_views"]),
    )


def line(outcome: Outcome) -> str:
    own, seen = (f"{value:5.2f}" if value is not None else "    -" for value in (outcome.error_px, outcome.leave_out_px))
    return (
        f"{outcome.row.method:10} {outcome.row.name:40} seed {outcome.seed}  true {outcome.true_px:6.3f} px  own {own}"
        f"  leave-out {seen}  {outcome.cpu_s:5.1f} CPU s  {outcome.method}  {'; '.join(outcome.trust_warnings)[:100]}"
    )


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the rows with the median and the worst seed, in Markdown."""
    lines = [
        "| series | mode | IMOD px | aim px | median px | worst px | reached | IMOD / ours | trust warnings | CPU s |",
        "|---|---|---:|---:|---:|---:|---|---:|---:|---:|",
    ]
    for row in dict.fromkeys(outcome.row for outcome in outcomes):
        ours = [outcome for outcome in outcomes if outcome.row == row]
        errors = [outcome.true_px for outcome in ours]
        median = statistics.median(errors)
        doubtful = sum(bool(outcome.trust_warnings) for outcome in ours)
        lines.append(
            f"| {row.name} | {row.method} | {row.imod_px:.2f} | {row.target_px:.2f} | {median:.3f} | {max(errors):.3f} "
            f"| {'yes' if median <= row.target_px else 'no'} | {row.imod_px / median:.1f} | {doubtful} of {len(ours)} "
            f"| {statistics.median(outcome.cpu_s for outcome in ours):.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
