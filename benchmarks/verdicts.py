"""Whether the verdict tells the truth: simulated series of mixed quality, judged by the report, against their true error.

    python benchmarks/verdicts.py [--seeds 3] [--size 384] [--views 41] [--jobs 2] [--kind NAME ...] [--details FILE.csv]
                                  [--record]

Each kind is aligned and reconstructed by the native engine as a user would ask for it.  The true error is what blurs the tomogram:
root mean square over beads and the views that take part (:func:`tiltflow.simulate.scoring.score`).  No series above 1 px may be called
good, and at least nine of ten below 0.3 px should be; of these, series are counted apart whose views are too few or lie too close
together for a good tomogram, however well they are aligned, and those whose axis nothing tells, since they may be mirrored.
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
from tiltflow.formats.alignment_archive import read_alignment
from tiltflow.pipeline import Job, reconstruct_step
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import SeriesRecord, read_record
from tiltflow.report import judge
from tiltflow.report.checks import examine
from tiltflow.report.verdict import faults
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import simulate
from tiltflow.work import Site, Thresholds, Trust

FINE_PX, BLURRED_PX = 0.3, 1.0


@dataclass(frozen=True)
class Kind:
    """A kind of series, and how a user would have it processed."""

    simulated: Mapping[str, Any] = field(default_factory=dict)
    asked: Mapping[str, Any] = field(default_factory=dict)
    of_size: Mapping[str, float] = field(default_factory=dict)
    """Lengths as parts of the size."""
    enough: bool = True
    """Whether its views suffice for a good tomogram."""

    @property
    def axis_told(self) -> bool:
        """Whether the header tells the axis; else the tomogram may be mirrored, which is a doubt whatever its alignment."""
        return bool(self.simulated.get("axis_told", True))


GOLD: Mapping[str, Any] = {}
PATCHES: Mapping[str, Any] = {"tracking_method": 1}
MARKERLESS: Mapping[str, Any] = {"fiducialless": 1}
CRYO: Mapping[str, Any] = {"regime": "cryo", "dose": 60.0, "beads": 15, "thickness_px": 150.0}

NO_GOLD: Mapping[str, Any] = {"beads": 0}
JUMPS: Mapping[str, Any] = {"jumped_views": (6, 17, 30)}
FOREIGN: Mapping[str, Any] = {"foreign_views": (8, 27)}
LINES: Mapping[str, Any] = {
    "dead_areas": ((97, 0, 1, 9999), (0, 150, 9999, 2), (60, 60, 12, 9)),
    "hot_areas": ((201, 0, 1, 9999), (30, 210, 8, 8)),
}
EIGHT_BITS: Mapping[str, Any] = {"stored": "uint8", "saturated": 0.02}
BAR: Mapping[str, float] = {"bar_px": 1.2, "bar_depth_px": 0.8}
"""A bar that covers a fifth of the field at 45 degrees, and half of it at 60, on one side."""

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
    "gold, deforms by 2 px": Kind({"deformation_px": 2.0}),
    "gold, deforms by 8 px": Kind({"deformation_px": 8.0}),
    "patches, deforms by 4 px": Kind({**NO_GOLD, "deformation_px": 4.0}, PATCHES),
    "patches, deforms by view, 6 px": Kind({**NO_GOLD, "deformation_px": 6.0, "deformation": "by view"}, PATCHES),
    "markerless, deforms by 6 px": Kind({**NO_GOLD, "deformation_px": 6.0}, MARKERLESS),
    "markerless, particle": Kind(NO_GOLD, MARKERLESS, {"particle_px": 0.4}),
    "patches, particle, light": Kind({**NO_GOLD, "regime": "haadf", "thickness_px": 20.0}, PATCHES, {"particle_px": 0.4}),
    "patches, lattice": Kind({**NO_GOLD, "lattice_px": 16.0}, PATCHES),
    "markerless, lattice, cryo": Kind({**CRYO, **NO_GOLD, "lattice_px": 24.0}, MARKERLESS),
    "gold, light": Kind({"regime": "haadf"}),
    "patches, light": Kind({**NO_GOLD, "regime": "haadf"}, PATCHES),
    "markerless, light": Kind({**NO_GOLD, "regime": "haadf"}, MARKERLESS),
    "gold, jumps": Kind(JUMPS, {}, {"jump_px": 0.2}),
    "patches, jumps": Kind({**NO_GOLD, **JUMPS}, PATCHES, {"jump_px": 0.2}),
    "markerless, jumps": Kind({**NO_GOLD, **JUMPS}, MARKERLESS, {"jump_px": 0.2}),
    "gold, foreign views": Kind(FOREIGN),
    "patches, foreign views": Kind({**NO_GOLD, **FOREIGN}, PATCHES),
    "markerless, foreign views": Kind({**NO_GOLD, **FOREIGN}, MARKERLESS),
    "gold, cryo, foreign views": Kind({**CRYO, **FOREIGN}),
    "gold, views of noise": Kind({"noise_views": (8, 27)}),
    "markerless, views of noise": Kind({**NO_GOLD, "noise_views": (8, 27)}, MARKERLESS),
    "gold, ten foreign views": Kind({"foreign_views": tuple(range(2, 42, 4))}, enough=False),
    "gold, wrapped": Kind({"stored": "wrapped"}),
    "markerless, wrapped, cryo": Kind({**CRYO, **NO_GOLD, "stored": "wrapped"}, MARKERLESS),
    "gold, 8 bits": Kind(EIGHT_BITS),
    "patches, 8 bits": Kind({**NO_GOLD, **EIGHT_BITS}, PATCHES),
    "gold, bad lines": Kind(LINES),
    "markerless, bad lines": Kind({**NO_GOLD, **LINES}, MARKERLESS),
    "gold, NaN": Kind({"stored": "float32", "nan_pixels": 200}),
    "gold, beam drifts": Kind({"beam_drift": 0.6}),
    "markerless, beam drifts": Kind({**NO_GOLD, "beam_drift": 0.6}, MARKERLESS),
    "gold, grid bar": Kind({}, {}, BAR),
    "patches, grid bar": Kind(NO_GOLD, PATCHES, BAR),
    "markerless, grid bar": Kind(NO_GOLD, MARKERLESS, BAR),
    "gold, axis untold": Kind({"axis_told": False}),
    "gold, axis of 84 degrees untold": Kind({"axis_deg": 84.0, "axis_told": False}),
    "patches, axis untold": Kind({**NO_GOLD, "axis_told": False}, PATCHES),
    "markerless, axis of 84 degrees untold": Kind({**NO_GOLD, "axis_deg": 84.0, "axis_told": False}, MARKERLESS),
    "gold, tilts to 30 degrees": Kind({"max_tilt_deg": 30.0}, enough=False),
    "markerless, tilts to 20 degrees": Kind({**NO_GOLD, "max_tilt_deg": 20.0}, MARKERLESS, enough=False),
    "gold, half a series": Kind({"dropped_views": tuple(range(20))}, enough=False),
    "markerless, half a series": Kind({**NO_GOLD, "dropped_views": tuple(range(20))}, MARKERLESS, enough=False),
    "gold, 9 views": Kind({"views": 9}, enough=False),
    "patches, 9 views": Kind({**NO_GOLD, "views": 9}, PATCHES, enough=False),
    "gold, 6 beads on two surfaces": Kind({"beads": 6, "two_surfaces": True}, {"two_surfaces": 1}),
    "gold, tilts to 75 degrees": Kind({"max_tilt_deg": 75.0}),
    "patches, tilts to 75 degrees": Kind({**NO_GOLD, "max_tilt_deg": 75.0}, PATCHES),
    "gold, pitch 12 degrees": Kind({"pitch_deg": 12.0}),
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
    print("\nWrong verdicts:", *map(line, offenders(outcomes)), sep="\n", file=sys.stderr)
    figures.save(asked)


def judge_one(name: str, seed: int, size: int, views: int) -> Outcome:
    """Simulate a series, process it, judge it, and measure its true error."""
    kind = KINDS[name]
    lengths = {name: part * size for name, part in kind.of_size.items()}
    params = SimulationParams(**{"seed": seed, "size": size, "views": views, **kind.simulated, **lengths})
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
        true = series.error_of(read_alignment(scratch / "B_align.npz"))
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
        why="; ".join(verdict.reasons[: max(faults(verdict, examine(record, Thresholds())), 1)]),
    )


def line(outcome: Outcome) -> str:
    true = "      " if outcome.true_px is None else f"{outcome.true_px:6.2f}"
    own = "    - " if outcome.error_px is None else f"{outcome.error_px:6.2f}"
    return (
        f"{outcome.kind:38} seed {outcome.seed}  true {true} px  claimed {own} px  {outcome.level:9} {outcome.method:10} "
        f"{outcome.why[:110]}"
    )


def confusion(outcomes: Sequence[Outcome]) -> str:
    """Return the table of true error against verdict, in Markdown, and whether what is wanted is reached."""
    sets = {
        f"below {FINE_PX:g} px": sound(outcomes),
        f"below {FINE_PX:g} px, axis not told": [one for one in fine(outcomes) if not KINDS[one.kind].axis_told],
        f"below {FINE_PX:g} px, too few views": [one for one in fine(outcomes) if not KINDS[one.kind].enough],
        f"{FINE_PX:g} to {BLURRED_PX:g} px": [one for one in aligned(outcomes) if FINE_PX <= one.true_px <= BLURRED_PX],
        f"above {BLURRED_PX:g} px": blurred(outcomes),
    }
    levels = (Trust.GOOD, Trust.DOUBTFUL, Trust.POOR)
    rows = ["| true error | series | good | doubtful | poor |", "|---|---:|---:|---:|---:|"]
    for name, within in sets.items():
        counts = Counter(one.level for one in within)
        rows.append(f"| {name} | {len(within)} | " + " | ".join(str(counts[level]) for level in levels) + " |")
    good = sound(outcomes)
    praised, called = sum(one.level == Trust.GOOD for one in blurred(outcomes)), sum(one.level == Trust.GOOD for one in good)
    rows.append(f"\n{praised} of {len(blurred(outcomes))} series above {BLURRED_PX:g} px are called good (wanted: none).")
    rows.append(
        f"{called} of {len(good)} series below {FINE_PX:g} px, whose axis is told and whose views are enough, are called good "
        "(wanted: nine of ten)."
    )
    failed = len(outcomes) - len(aligned(outcomes))
    return "\n".join(rows) + (f" {failed} of {len(outcomes)} series failed and say so." if failed else "")


def offenders(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the series whose verdict is wrong: blurred and good, or fine, with nothing else against them, and not good."""
    timid = [one for one in sound(outcomes) if one.level != Trust.GOOD]
    return [one for one in blurred(outcomes) if one.level == Trust.GOOD] + timid


def aligned(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [one for one in outcomes if one.true_px is not None]


def sound(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the series that are well aligned and have nothing else against them: too few views, or a hand that nobody knows."""
    return [one for one in fine(outcomes) if KINDS[one.kind].enough and KINDS[one.kind].axis_told]


def fine(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [one for one in aligned(outcomes) if one.true_px < FINE_PX]


def blurred(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [one for one in aligned(outcomes) if not one.true_px <= BLURRED_PX]


def write_details(path: Path, outcomes: Sequence[Outcome]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [column.name for column in dataclasses.fields(Outcome)])
        writer.writeheader()
        writer.writerows(dataclasses.asdict(one) for one in outcomes)


if __name__ == "__main__":
    main()
