"""How well the section is found: pitch, tilt offset, centre and thickness of simulated series, against the truth.

    python benchmarks/positioning.py [--series 36] [--set 1] [--own 4] [--jobs 1] [--cache FOLDER] [--correction 0.11]

Plastic and cryo sections of 60 to 150 pixels, pitched by up to 6 degrees, up to half their thickness off centre, tilted by up to 4
degrees, at doses from 40 to 400, without gold (in a field of 768 pixels), with it on one surface or on both (384 or 512 pixels).  They
are positioned with their true alignment.  `--own` series with gold go through the native engine from raw views; as an alignment may
level and centre a section already, what counts there is where the engine puts the true surfaces of the section: level, centred,
and at the thickness found.  `--set` chooses other series of the same kind, and `--cache` keeps them.  `--correction 0` switches the
correction of the thickness off (:data:`tiltflow.position.section_edges.THICKNESS_CORRECTION`): the median error of the series
without gold then is what it has to make up for.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tiltflow import geometry
from tiltflow.demo import write_series
from tiltflow.engines.base import EngineJob
from tiltflow.engines.native.engine import align
from tiltflow.formats.mrc import open_mrc
from tiltflow.formats.series import read_series
from tiltflow.parallel import one_thread_for_algebra
from tiltflow.position import section_edges
from tiltflow.position.specimen_search import PositionParams, PositionResult, position_section, small_binning
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.reconstruct.aligned_stack import StackParams, align_stack
from tiltflow.record import Recorder
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scoring import Truth
from tiltflow.simulate.simulated_series import SimulatedSeries, simulate
from tiltflow.work import Site

PITCH_DEG, CENTRE_PX, THICKNESS = 0.5, 4.0, 0.10
"""Largest errors within the limits; the last is a part of the thickness."""


@dataclass(frozen=True)
class Case:
    """A series, and by how much its tilt angles are off."""

    simulated: SimulationParams
    tilt_off_deg: float


def make_cases(count: int, chosen: int = 1) -> list[Case]:
    """Return one of many sets of series, of which every property is spread evenly over its range, in an order of its own."""
    rng = np.random.default_rng(2 + chosen)

    def spread(lowest: float, highest: float) -> list[float]:
        return [float(value) for value in rng.permutation(np.linspace(lowest, highest, count))]

    def mixed(*values: float | str) -> list[float | str]:
        return [values[i % len(values)] for i in rng.permutation(count)]

    columns = zip(
        mixed("plastic", "plastic", "cryo"),
        mixed(40.0, 100.0, 200.0, 400.0),
        spread(60, 150),
        spread(-6, 6),
        spread(-0.5, 0.5),
        spread(-4, 4),
        mixed(0, 0, 12, 25),
        mixed(0, 1),
        mixed(384, 384, 384, 512),
        strict=True,
    )
    return [
        Case(
            SimulationParams(
                seed=100 * chosen + i,
                size=int(size) if beads else 768,
                regime="cryo" if regime == "cryo" else "plastic",
                dose=float(dose),
                thickness_px=thickness,
                pitch_deg=pitch,
                z_offset_px=offset * thickness,
                beads=int(beads),
                two_surfaces=bool(two),
            ),
            tilt_off,
        )
        for i, (regime, dose, thickness, pitch, offset, tilt_off, beads, two, size) in enumerate(columns)
    ]


@dataclass(frozen=True)
class Outcome:
    """What was found, and how far it is from the truth."""

    case: Case
    found: PositionResult
    tilt_deg: float
    pitch_deg: float
    centre_px: float
    thickness: float
    cpu_s: float
    own: bool

    @property
    def beyond_limits(self) -> bool:
        """Whether something that the result calls known is not within its limit."""
        slopes = self.found.slopes_known and abs(self.pitch_deg) > PITCH_DEG
        thickness = self.found.thickness_known and abs(self.thickness) > THICKNESS
        return slopes or thickness or (self.found.confident and abs(self.centre_px) > CENTRE_PX)

    @property
    def within(self) -> bool:
        """Whether pitch, centre and thickness are all within their limits."""
        return abs(self.pitch_deg) <= PITCH_DEG and abs(self.centre_px) <= CENTRE_PX and abs(self.thickness) <= THICKNESS


def position_with_truth(case: Case, cache: Path | None) -> Outcome:
    """Find the section of a series whose alignment is known, but for the common tilt offset."""
    series = simulated(case, cache)
    binning = small_binning(series.images.shape)
    views = np.stack(list(align_stack(series.images, series.truth.transforms(), StackParams(binning=binning))))
    begin = time.process_time()
    found = position_section(views, series.truth.true_deg + case.tilt_off_deg, PositionParams(sample_type=1), binning=binning)
    spent = time.process_time() - begin
    params = case.simulated
    return Outcome(
        case,
        found,
        tilt_deg=found.tilt_offset_deg + case.tilt_off_deg,
        pitch_deg=-found.x_axis_tilt_deg - params.pitch_deg,
        centre_px=found.z_shift - params.z_offset_px,
        thickness=found.thickness / params.thickness_px - 1,
        cpu_s=spent,
        own=False,
    )


def position_with_engine(case: Case, cache: Path | None) -> Outcome:
    """Align a series with the native engine, find its section, and compare with where that alignment puts the true section."""
    series = simulated(case, cache)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_series(folder / "B.st", series)
        asked = BrtParameters(gold=10, thickness=200, two_surfaces=int(case.simulated.two_surfaces))
        recipe = make_recipe(asked, engine="native").for_engine("native").for_series(series.pixel_size_angstrom)
        job = EngineJob(
            read_series(folder / "B.st", recipe.hints),
            recipe,
            Site(),
            folder,
            Recorder.start(folder / "r.json", folder / "B.st", ""),
        )
        with one_thread_for_algebra(), open_mrc(folder / "B.st") as raw:
            stack, alignment = align(job, raw)
            binning = small_binning(stack.shape)
            views = np.stack(list(align_stack(stack, alignment.transforms, StackParams(binning=binning))))
    begin = time.process_time()
    found = position_section(views, alignment.tilt_deg, PositionParams(sample_type=1), binning=binning, included=alignment.included)
    spent = time.process_time() - begin
    tilt, pitch, centre = section_in(series.truth, case.simulated, alignment.transforms, alignment.tilt_deg)
    return Outcome(
        case,
        found,
        tilt_deg=-found.tilt_offset_deg - tilt,
        pitch_deg=-found.x_axis_tilt_deg - pitch,
        centre_px=found.z_shift - centre,
        thickness=found.thickness / case.simulated.thickness_px - 1,
        cpu_s=spent,
        own=True,
    )


def section_in(truth: Truth, params: SimulationParams, transforms: np.ndarray, tilt_deg: np.ndarray) -> tuple[float, float, float]:
    """Return tilt, pitch and height of the true section in the volume of an alignment."""
    side = np.array([-0.4, 0.0, 0.4]) * params.size
    x, y = (grid.ravel() for grid in np.meshgrid(side, side))
    points = np.column_stack([x, y, np.full(x.size, params.z_offset_px)])
    turned = geometry.project(points @ _pitch(params.pitch_deg).T, truth.true_deg)
    axes = np.stack([geometry.rotation(a) for a in truth.axis_deg]) * truth.magnification[:, None, None]
    raw = np.einsum("vij,vpj->vpi", axes, turned) + truth.shift_px[:, None]
    seen = geometry.apply(np.asarray(transforms)[:, None], raw)
    t = np.deg2rad(tilt_deg)
    (x, z), *_ = np.linalg.lstsq(np.stack([np.cos(t), np.sin(t)], axis=1), seen[..., 0], rcond=None)
    y = seen[..., 1].mean(axis=0)
    (slope_x, slope_y, height), *_ = np.linalg.lstsq(np.stack([x, y, np.ones_like(x)], axis=1), z, rcond=None)
    tilt, pitch = np.arctan([slope_x, slope_y])
    return float(np.rad2deg(tilt)), float(np.rad2deg(pitch)), float(height * np.cos(tilt) * np.cos(pitch))


def _pitch(degrees: float) -> np.ndarray:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def simulated(case: Case, cache: Path | None) -> SimulatedSeries:
    """Simulate a series, or read it from the cache."""
    if cache is None:
        return simulate(case.simulated)
    name = f"{zlib.crc32(repr(case.simulated).encode()):08x}"
    images, truth_file = cache / f"{name}.npz", cache / f"{name}.json"
    if not truth_file.exists():
        made = simulate(case.simulated)
        np.savez(images, images=made.images)
        truth_file.write_text(json.dumps(made.truth.to_json()))
        return made
    fields = {
        key: np.array(value) if isinstance(value, list) else value for key, value in json.loads(truth_file.read_text()).items()
    }
    truth = Truth(**{**fields, "dark_views": tuple(fields["dark_views"])})
    params = case.simulated
    return SimulatedSeries(np.load(images)["images"], truth.nominal_deg, params.axis_deg, params.pixel_nm * 10, truth)


def line(outcome: Outcome) -> str:
    case, found = outcome.case.simulated, outcome.found
    gold = f"{case.beads} beads on {1 + case.two_surfaces}" if case.beads else "no gold"
    return (
        f"| {'own' if outcome.own else 'true'} | {case.regime} {case.dose:.0f} | {case.size} | {gold} | {case.thickness_px:.0f} "
        f"| {case.z_offset_px:.0f} | {case.pitch_deg:.1f} | {outcome.pitch_deg:+.2f} ± {found.pitch_error_deg:.2f} "
        f"| {outcome.tilt_deg:+.2f} ± {found.tilt_error_deg:.2f} | {outcome.centre_px:+.1f} ± {found.centre_error:.1f} "
        f"| {100 * outcome.thickness:+.0f} ± {100 * found.thickness_error / case.thickness_px:.0f} "
        f"| {'yes' if outcome.within else 'no'} | {known(found)} | {outcome.cpu_s:.1f} |"
    )


def known(found: PositionResult) -> str:
    """Return what the result calls known."""
    if not found.confident:
        return found.reason
    unknown = [name for name, certain in (("slopes", found.slopes_known), ("thickness", found.thickness_known)) if not certain]
    return f"all but {' and '.join(unknown)}" if unknown else "all"


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return how many series are within the limits, and the median and the worst error of those that are trusted."""
    trusted = [outcome for outcome in outcomes if outcome.found.confident]
    errors = {
        "pitch (degrees)": [abs(outcome.pitch_deg) for outcome in trusted],
        "tilt (degrees)": [abs(outcome.tilt_deg) for outcome in trusted],
        "centre (px)": [abs(outcome.centre_px) for outcome in trusted],
        "thickness (%)": [100 * abs(outcome.thickness) for outcome in trusted],
    }
    within = sum(outcome.within for outcome in trusted)
    lines = [f"trusted: {len(trusted)} of {len(outcomes)}; all three within their limits: {within} of these"]
    slopes, thicknesses = sum(o.found.slopes_known for o in trusted), sum(o.found.thickness_known for o in trusted)
    beyond = sum(outcome.beyond_limits for outcome in trusted)
    lines.append(f"slopes known to half a degree: {slopes}, thickness known: {thicknesses}; known and beyond its limit: {beyond}")
    lines += [f"{name}: median {statistics.median(each):.2f}, worst {max(each):.2f}" for name, each in errors.items() if each]
    if signed := [100 * outcome.thickness for outcome in trusted if not outcome.case.simulated.beads]:
        lines.append(f"thickness without gold (%): median of the signed error {statistics.median(signed):+.1f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=36)
    parser.add_argument("--set", type=int, default=1)
    parser.add_argument("--own", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--correction", type=float, help="of the thickness, instead of the one in the code")
    asked = parser.parse_args()
    if asked.correction is not None:
        section_edges.THICKNESS_CORRECTION = asked.correction
    cases = make_cases(asked.series, asked.set)
    own = [case for case in cases if case.simulated.beads][: asked.own]
    heads = "alignment,kind and dose,field,gold,thickness,offset,pitch,pitch error,tilt error,centre error,thickness error %,within"
    print(f"| {' | '.join([*heads.split(','), 'known', 'CPU s'])} |\n|{'---|' * 14}")
    with ProcessPoolExecutor(asked.jobs) as pool:
        outcomes = []
        for function, some in ((position_with_truth, cases), (position_with_engine, own)):
            for outcome in pool.map(function, some, [asked.cache] * len(some)):
                outcomes.append(outcome)
                print(line(outcome), flush=True)
    for name, some in (("true alignment", False), ("alignment of the engine", True)):
        chosen = [outcome for outcome in outcomes if outcome.own is some]
        if chosen:
            print(f"\n{name}\n{summary(chosen)}")


if __name__ == "__main__":
    main()
