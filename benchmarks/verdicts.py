"""Whether the verdict tells the truth: simulated series of mixed quality, judged by the report, against their true error.

    python benchmarks/verdicts.py [--seeds 3] [--size 384] [--views 41] [--jobs 2] [--kind NAME ...] [--details FILE.csv]
                                  [--record]

Each kind is aligned and reconstructed by the native engine as a user would ask for it.  The true error is what blurs the tomogram:
root mean square over beads and views (:func:`tiltflow.simulate.scoring.score`).  No series above 1 px may be called good,
and at least nine of ten below 0.3 px should be.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from record import Figures, add_option
from tiltflow.demo import write_series
from tiltflow.errors import TiltflowError
from tiltflow.formats.tilts import read_tilts
from tiltflow.formats.transforms import read_transforms
from tiltflow.model import Site, Thresholds, Trust
from tiltflow.pipeline import Job, reconstruct_step
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import SeriesRecord, read_record
from tiltflow.report import judge
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scoring import score
from tiltflow.simulate.simulated_series import simulate

FINE_PX, BLURRED_PX = 0.3, 1.0


@dataclass(frozen=True)
class Kind:
    """A kind of series, and how a user would have it processed."""

    simulated: Mapping[str, Any] = field(default_factory=dict)
    asked: Mapping[str, Any] = field(default_factory=dict)


GOLD: Mapping[str, Any] = {}
PATCHES: Mapping[str, Any] = {"tracking_method": 1}
MARKERLESS: Mapping[str, Any] = {"fiducialless": 1}
CRYO: Mapping[str, Any] = {"regime": "cryo", "dose": 60.0, "beads": 15, "thickness_px": 150.0}

KINDS: Mapping[str, Kind] = {
    "gold": Kind(),
    "gold, two surfaces": Kind({"beads": 30, "two_surfaces": True, "thickness_px": 120.0}, {"two_surfaces": 1}),
    "gold, 8 beads": Kind({"beads": 8}),
    "gold, 4 beads": Kind({"beads": 4}),
    "gold, dose 40": Kind({"dose": 40.0}),
    "gold, dose 6": Kind({"dose": 6.0}),
    "gold, large shifts": Kind({"shift_px": 14.0}),
    "gold, dark views": Kind({"dark_views": (5, 6, 20)}),
    "gold, header 6 degrees off": Kind({"axis_error_deg": 6.0}),
    "gold, cryo": Kind(CRYO),
    "patches": Kind({}, PATCHES),
    "patches, no beads, dose 40": Kind({"beads": 0, "dose": 40.0}, PATCHES),
    "patches, sparse, dose 20": Kind({"beads": 3, "dose": 20.0, "crowding": 0.3}, PATCHES),
    "patches, cryo": Kind(CRYO, PATCHES),
    "markerless": Kind({}, MARKERLESS),
    "markerless, dose 40": Kind({"dose": 40.0}, MARKERLESS),
    "markerless, header 4 degrees off": Kind({"axis_error_deg": 4.0}, MARKERLESS),
    "markerless, empty, dose 10": Kind({"beads": 0, "dose": 10.0, "crowding": 0.15}, MARKERLESS),
}


@dataclass(frozen=True)
class Outcome:
    """One series: what the report said, and the truth."""

    kind: str
    seed: int
    level: str
    method: str
    true_px: float | None
    error_px: float | None
    leave_out_px: float | None
    residual_px: float | None
    residual_weighted_px: float | None
    tracks: int | None
    contrast: float | None
    why: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=101)
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--views", type=int, default=41)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--kind", action="append", choices=sorted(KINDS))
    parser.add_argument("--details", type=Path, help="a table of every series")
    add_option(parser)
    asked = parser.parse_args()
    work = [
        (name, seed, asked.size, asked.views)
        for seed in range(asked.first_seed, asked.first_seed + asked.seeds)
        for name in asked.kind or KINDS
    ]
    outcomes = []
    with ProcessPoolExecutor(asked.jobs) as pool:
        for outcome in pool.map(judge_one, *zip(*work, strict=True)):
            outcomes.append(outcome)
            print(line(outcome), file=sys.stderr, flush=True)
            if asked.details:
                write_details(asked.details, outcomes)
    figures = Figures("verdicts")
    with figures.printed():
        print(confusion(outcomes))
    figures.save(asked)


def judge_one(name: str, seed: int, size: int, views: int) -> Outcome:
    """Simulate a series, process it, judge it, and measure its true error."""
    kind = KINDS[name]
    params = SimulationParams(**{"seed": seed, "size": size, "views": views, **kind.simulated})
    series = simulate(params)
    thickness = round(2.4 * params.thickness_px)  # nobody has told it where the section lies
    recipe = make_recipe(
        BrtParameters(thickness=thickness, **kind.asked), overrides=["runtime.AlignedStack.any.binByFactor=4"], engine="native"
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        source, scratch = root / "B.st", root / "scratch"
        scratch.mkdir()
        write_series(source, series)
        try:
            reconstruct_step(Job(source, recipe, Site(threads=1), root / "B", scratch))
        except (TiltflowError, ArithmeticError, ValueError) as error:  # in a run, whatever it is fails this series and no other
            return Outcome(name, seed, Trust.FAILED, "", None, None, None, None, None, None, None, str(error))
        record = read_record(root / "B" / "run.json")
        true = score(series.truth, read_transforms(scratch / "B.xf"), read_tilts(scratch / "B.tlt"))
    return outcome_of(name, seed, record, true.rms_px)


def outcome_of(name: str, seed: int, record: SeriesRecord, true_px: float) -> Outcome:
    """Return what the report says of a record whose series is reconstructed."""
    record.status = "success"
    verdict = judge(record, Thresholds())
    found = record.alignment
    assert found is not None
    return Outcome(
        kind=name,
        seed=seed,
        level=verdict.level,
        method=found.method,
        true_px=round(true_px, 3),
        error_px=found.error_px,
        leave_out_px=found.leave_out_px,
        residual_px=found.residual_mean_px,
        residual_weighted_px=found.residual_weighted_mean_px,
        tracks=found.tracks_used,
        contrast=record.volume.contrast if record.volume else None,
        why=verdict.reasons[0],
    )


def line(outcome: Outcome) -> str:
    true = "      " if outcome.true_px is None else f"{outcome.true_px:6.2f}"
    return f"{outcome.kind:32} seed {outcome.seed}  true {true} px  {outcome.level:9} {outcome.method:10} {outcome.why[:90]}"


def confusion(outcomes: Sequence[Outcome]) -> str:
    """Return the table of true error against verdict, in Markdown."""
    bands = {
        f"below {FINE_PX:g} px": lambda error: error < FINE_PX,
        f"{FINE_PX:g} to {BLURRED_PX:g} px": lambda error: FINE_PX <= error <= BLURRED_PX,
        f"above {BLURRED_PX:g} px": lambda error: error > BLURRED_PX,
    }
    levels = (Trust.GOOD, Trust.DOUBTFUL, Trust.POOR)
    rows = ["| true error | series | good | doubtful | poor |", "|---|---:|---:|---:|---:|"]
    for name, within in bands.items():
        counts = Counter(one.level for one in outcomes if one.true_px is not None and within(one.true_px))
        rows.append(f"| {name} | {sum(counts.values())} | " + " | ".join(str(counts[level]) for level in levels) + " |")
    failed = sum(one.true_px is None for one in outcomes)
    return "\n".join(rows) + (f"\n\n{failed} of {len(outcomes)} series failed and say so." if failed else "")


def write_details(path: Path, outcomes: Sequence[Outcome]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [column.name for column in dataclasses.fields(Outcome)])
        writer.writeheader()
        writer.writerows(dataclasses.asdict(one) for one in outcomes)


if __name__ == "__main__":
    main()
