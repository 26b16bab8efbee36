"""What each number in the code is worth: every numeric constant changed alone, and what that does to simulated series.

    python benchmarks/sensitivity.py --package align [--constant TEXT ...] [--new] [--factors 0.5 2] [--list] [--output FILE.md]

The constants are found in the source of a package of floor 2: numbers, tuples and arrays of numbers at module level, and the
numeric defaults of `...Params` dataclasses.  One at a time is multiplied by each factor (whole numbers are rounded and stay at least
1), in every module that has imported it and where it is the default of a parameter, and the part of the program concerned is run on a
few small simulated series.  The table shows each measure as it is and with the changed constant; where a row hardly changes, the
constant need not be exact.  Numbers inside compiled kernels and instances made at import are not reached; two constants changed
together may do more than each alone, and series that are sound do not test limits that are there for others.

Without `--constant` the table of a whole package is written to `docs/sensitivity/PACKAGE.md`; `--new` takes over the rows of that
page whose constant still has the same name and value.

To add a package, write a function that returns measures and enter it into `EVALUATIONS`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import inspect
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from constants import Constant, changed, constants_of, scaled
from local import TILT, Specimen
from tiltflow.align.beads import BeadParams, track_beads
from tiltflow.align.beads import trust_warnings as bead_warnings
from tiltflow.align.bundle import LocalParams, SolveParams, solve
from tiltflow.align.coarse import CoarseParams, CoarseResult, align_coarse
from tiltflow.align.patches import PatchParams, track_patches
from tiltflow.align.projection import RefineParams, refine_by_projection
from tiltflow.align.projection import trust_warnings as projection_warnings
from tiltflow.model import Tracks
from tiltflow.parallel import one_thread_for_algebra
from tiltflow.recipe import make_recipe
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scoring import score
from tiltflow.simulate.simulated_series import SimulatedSeries, simulate

TRUST_LIMIT_PX: float = inspect.signature(make_recipe).parameters["trust_limit_px"].default

LIMIT_CPU_S = 60.0
"""An evaluation, which takes a few seconds, is given up after this time."""

DOCS = Path(__file__).resolve().parents[1] / "docs"

SERIES: Mapping[str, Mapping[str, Any]] = {
    "plastic": {"beads": 12, "pitch_deg": 2.0},
    "low dose": {"beads": 12, "dose": 25.0, "seed": 2},
    "two surfaces": {"beads": 20, "two_surfaces": True, "thickness_px": 50.0, "seed": 3},
    "large shifts": {"beads": 12, "shift_px": 10.0, "seed": 4},
    "axis 6 degrees off": {"beads": 8, "axis_error_deg": 6.0, "seed": 5},
    "cryo": {"regime": "cryo", "dose": 120.0, "beads": 10, "thickness_px": 50.0, "seed": 6},
}
"""Small series, 192 px and 21 views, whose seeds are fixed."""


@dataclasses.dataclass(frozen=True)
class Measure:
    """What came out: a figure of merit, the smaller the better, and whether a trust warning was raised."""

    name: str
    value: float
    warned: bool = False


@functools.cache
def series(name: str) -> SimulatedSeries:
    """Return a series of :data:`SERIES`."""
    base = {"size": 192, "views": 21, "thickness_px": 40.0, "hot_pixels": 0}
    return simulate(SimulationParams(**{**base, **SERIES[name]}))


@functools.cache
def coarse_start(name: str) -> CoarseResult:
    """Return the coarse alignment that the other methods start from, made before any constant is changed."""
    s = series(name)
    return align_coarse(s.images, s.nominal_deg, s.header_axis_deg)


def coarse() -> list[Measure]:
    """Coarse alignment: its true error and that of the axis angle, 5 degrees where it is not found."""
    measures = []
    for name in ("low dose", "large shifts", "axis 6 degrees off"):
        s = series(name)
        found = align_coarse(s.images, s.nominal_deg, s.header_axis_deg, params=CoarseParams())
        measures.append(Measure("coarse error, px", score(s.truth, found.transforms, s.nominal_deg).rms_px))
        off = abs(found.axis_angle_from_data_deg - float(s.truth.axis_deg.mean()))
        measures.append(Measure("axis error, degrees", 5.0 if np.isnan(off) else off))
    return measures


def gold() -> list[Measure]:
    """Gold from the coarse alignment on: the true error of what the beads' tracks solve to."""
    measures = []
    for name in ("low dose", "two surfaces", "large shifts", "cryo"):
        s, start = series(name), coarse_start(name)
        everything = np.ones(len(s.nominal_deg), bool)
        params = BeadParams(diameter_px=10.0, two_surfaces=name == "two surfaces")
        found = track_beads(s.images, start.transforms, s.nominal_deg, everything, params)
        solution = solve(found.tracks, s.nominal_deg, start.axis_angle_deg, SolveParams(), image_shape=s.images.shape[1:])
        warned = bool(bead_warnings(found)) or (solution.evidence.leave_out_px or 0.0) > TRUST_LIMIT_PX
        error = score(s.truth, solution.transforms, solution.aligned_tilt_deg).rms_px
        measures.append(Measure("gold error, px", error, warned))
    return measures


def patches() -> list[Measure]:
    """Patch tracking from the coarse alignment on: the true error of what the patches solve to, and what is stated of it."""
    measures = []
    for name in ("low dose",):
        s, start = series(name), coarse_start(name)
        found = track_patches(s.images, start.transforms, s.nominal_deg, PatchParams(size_px=(80, 80)))
        params = SolveParams(weight_whole_tracks=True)
        solution = solve(found.tracks, s.nominal_deg, start.axis_angle_deg, params, image_shape=s.images.shape[1:])
        error = score(s.truth, solution.transforms, solution.aligned_tilt_deg).rms_px
        measures.append(Measure("patches error, px", error, found.error_limit_px > TRUST_LIMIT_PX))
        measures.append(Measure("patches error, estimated / true", max(found.error_px, 1e-3) / max(error, 1e-3)))
    return measures


def projection() -> list[Measure]:
    """Projection matching from the coarse alignment on: its true error, and what is stated of it."""
    measures = []
    for name in ("low dose",):
        s, start = series(name), coarse_start(name)
        found = refine_by_projection(
            s.images, start.transforms, s.nominal_deg, start.axis_angle_deg, np.ones(len(s.nominal_deg), bool), RefineParams()
        )
        change = found.tilt_deg - s.nominal_deg
        warned = bool(projection_warnings(found.recognised, found.error_px, change, TRUST_LIMIT_PX))
        error = score(s.truth, found.transforms, found.tilt_deg).rms_px
        measures.append(Measure("projection error, px", error, warned))
        measures.append(Measure("projection error, estimated / true", found.error_px / max(error, 1e-3)))
    return measures


def tracks() -> list[Measure]:
    """Bundle adjustment of measured points alone, one in thirty an outlier: the true error, the stated one and the leave-out error."""
    measures = []
    for seed, name in enumerate(("plastic", "two surfaces", "large shifts")):
        s, rng = series(name), np.random.default_rng(seed)
        xy = np.swapaxes(s.truth.beads_xy, 0, 1)
        xy = xy + rng.normal(0, 0.15, xy.shape)
        outlier = rng.random(xy.shape[:2]) < 1 / 30
        xy[outlier] += rng.normal(0, 3, (int(outlier.sum()), 2))
        xy[rng.random(xy.shape[:2]) < 0.1] = np.nan
        solution = solve(Tracks(xy, "bead"), s.nominal_deg, s.header_axis_deg, SolveParams(), image_shape=s.images.shape[1:])
        error = score(s.truth, solution.transforms, solution.aligned_tilt_deg).rms_px
        leave_out, stated = solution.evidence.leave_out_px or np.nan, solution.evidence.error_px or np.nan
        measures.append(Measure("solved points error, px", error, leave_out > TRUST_LIMIT_PX))
        measures.append(Measure("leave-out error, px", leave_out))
        measures.append(Measure("solved points error, estimated / true", stated / error))
    return measures


def local_areas() -> list[Measure]:
    """Local areas of a specimen that bends: the leave-out error and the error that is stated."""
    rng = np.random.default_rng(5)
    points = rng.uniform(-0.46, 0.46, (60, 3)) * [512, 512, 0]
    points[:, 2] = np.where(rng.random(len(points)) < 0.5, 25, -25)
    specimen, views = Specimen(points, 8.0, 256.0), range(0, len(TILT), 2)
    shifts = np.cumsum(rng.normal(0, 3, (len(TILT), 2)), axis=0)
    xy = np.stack([specimen.seen_at(view, shifts[view]) for view in views], axis=1)
    xy += rng.normal(0, 0.1, xy.shape)
    params = SolveParams(surfaces=2, local=LocalParams(target_size_px=(170.0, 170.0)))
    evidence = solve(Tracks(xy, "bead"), TILT[list(views)], -8.0, params, image_shape=(512, 512)).evidence
    leave_out, stated = evidence.leave_out_px or np.nan, evidence.error_px or np.nan
    return [Measure("local leave-out error, px", leave_out), Measure("local error stated, px", stated)]


EVALUATIONS: Mapping[str, Sequence[Callable[[], list[Measure]]]] = {
    "align.bundle": (tracks, local_areas),
    "align.patches": (patches,),
    "align.projection": (projection,),
    "align.beads": (gold,),
    "align.coarse": (coarse,),
}
"""What to run for the constants of each package, by its name below `tiltflow`.  `--package` takes a name or its beginning."""


# --- Table ------------------------------------------------------------------------------------------------------------------


HEAD = ("constant", "value", "largest change")


@dataclasses.dataclass(frozen=True)
class Result:
    """The mean of each measure and the number of warnings, or why there is none."""

    means: Mapping[str, float]
    warnings: int
    failure: str = ""


def evaluate(package: str) -> Result:
    """Run what is run for a package."""
    values: dict[str, list[float]] = {}
    warnings = 0
    try:
        with np.errstate(all="ignore"), _time_limit(LIMIT_CPU_S):
            for run in EVALUATIONS[package]:
                for measure in run():
                    values.setdefault(measure.name, []).append(measure.value)
                    warnings += measure.warned
    except Exception as error:  # noqa: BLE001 a constant out of range may fail in any way, and that is the result
        return Result({}, 0, type(error).__name__)
    return Result({name: float(np.mean(some)) for name, some in values.items()}, warnings)


@contextlib.contextmanager
def _time_limit(cpu_s: float) -> Iterator[None]:
    """Raise TimeoutError inside a `with` block that takes too long: a changed constant may make a loop endless."""

    def stop(signal_number: int, frame: object) -> None:
        raise TimeoutError(f"more than {cpu_s} CPU s, signal {signal_number} in {frame}")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, cpu_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def largest_change(as_is: Result, others: Sequence[Result]) -> float:
    """Return the largest relative change of any measure; infinity where something fails."""
    changes = [0.0]
    for other in others:
        if other.failure:
            return float("inf")
        changes += [abs(other.means[name] - value) / max(abs(value), 1e-12) for name, value in as_is.means.items()]
    return float(np.nanmax(changes))


def table(package: str, as_is: Result, rows: Sequence[str], factors: Sequence[float]) -> str:
    """Return the table of a package in Markdown."""
    order = " / ".join(f"x {factor:g}" if factor != 1 else "as is" for factor in sorted({*factors, 1.0}))
    head = [*HEAD, *as_is.means, "trust warnings"]
    rule = "|---|---|---:|" + "---|" * (len(head) - len(HEAD))
    return (
        "\n".join(
            [
                f"## {package}\n",
                f"Measures are given as {order}, or once where all are the same.\n",
                f"| {' | '.join(head)} |",
                rule,
                *rows,
            ]
        )
        + "\n"
    )


def row(constant: Constant, as_is: Result, others: Sequence[Result], factors: Sequence[float]) -> str:
    """Return the row of a constant in Markdown."""
    change = largest_change(as_is, others)
    by_factor = dict(zip(factors, others, strict=True)) | {1.0: as_is}
    ordered = [by_factor[factor] for factor in sorted(by_factor)]
    cells = ["fails" if np.isinf(change) else f"{change:.1%}"]
    cells += [_joined([each.failure or f"{each.means[name]:.3g}" for each in ordered]) for name in as_is.means]
    cells.append(_joined(["-" if each.failure else str(each.warnings) for each in ordered]))
    return f"{row_start(constant)}{' | '.join(cells)} |"


def _joined(cells: Sequence[str]) -> str:
    """Return the entries of a cell, or one for all if they are the same."""
    return " / ".join(cells if len(set(cells)) > 1 else cells[:1])


def row_start(constant: Constant) -> str:
    """Return what a row begins with: the constant and its value."""
    return f"| `{constant.label}` | `{_shown(constant.value)}` | "


def old_rows(path: Path, package: str) -> list[str]:
    """Return the rows of a package on a page made before."""
    if not path.exists():
        return []
    _, _, section = path.read_text(encoding="utf-8").partition(f"## {package}\n")
    return [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("| `")]


def _shown(value: Any) -> str:
    values = value.tolist() if isinstance(value, np.ndarray) else value
    text = "(" + ", ".join(f"{part:.4g}" for part in np.ravel(values)) + ")" if np.ndim(values) else f"{value:g}"
    return text if len(text) < 40 else text[:36] + "...)"


def page(package: str, tables: Sequence[str]) -> str:
    """Return the page of a package in Markdown."""
    intro = (
        f"Made by `python benchmarks/sensitivity.py --package {package}`; up to rounding it does not depend on the machine. Each "
        "constant was changed alone, and the part of the program concerned was run on small simulated series with fixed seeds "
        "(192 px, 21 views; `SERIES` in the script). Measures are means over the series; errors are true errors. *Largest change* is "
        "that of any measure. Differences of some per cent are within what another set of seeds would give. A limit that these series "
        "do not reach shows no change: it is there for worse ones (`benchmarks/robustness.py`).\n"
    )
    return "\n".join([f"# How much the numbers in `{package}` matter\n", intro, *tables])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", required=True, help=f"one of {', '.join(EVALUATIONS)}, or the beginning of some")
    parser.add_argument("--constant", action="append", help="only constants whose name contains this text, as 'placement._NEIGH'")
    parser.add_argument("--new", action="store_true", help="keep the rows of constants that the page has")
    parser.add_argument("--factors", type=float, nargs="+", default=[0.5, 2.0])
    parser.add_argument("--list", action="store_true", help="print the constants found, and stop")
    parser.add_argument("--output", type=Path, help="the Markdown file; without it and with --constant none is written")
    asked = parser.parse_args()
    packages = [name for name in EVALUATIONS if name == asked.package or name.startswith(f"{asked.package}.")]
    if not packages:
        parser.error(f"no package {asked.package}: there are {', '.join(EVALUATIONS)}")
    output = asked.output or DOCS / "sensitivity" / f"{asked.package.replace('.', '-')}.md"
    tables = []
    with one_thread_for_algebra():
        for package in packages:
            every = constants_of(package)
            chosen = [each for each in every if not asked.constant or any(text in each.label for text in asked.constant)]
            if asked.list:
                print(*(f"{package}.{each.label} = {_shown(each.value)}" for each in chosen), sep="\n")
            elif chosen:
                known = old_rows(output, package) if asked.new else []
                tables.append(table_of(package, chosen, asked.factors, known))
    if asked.constant and not asked.list and not asked.output:
        print("\n".join(tables))
    elif tables:
        output.write_text(page(asked.package, tables), encoding="utf-8")


def table_of(package: str, chosen: Sequence[Constant], factors: Sequence[float], known: Sequence[str]) -> str:
    """Evaluate the constants of a package but for those whose rows are known; tells on the error output how it goes."""
    as_is = evaluate(package)
    if as_is.failure:
        raise RuntimeError(f"{package} fails as it is: {as_is.failure}")
    rows = []
    for constant in chosen:
        same = [line for line in known if line.startswith(row_start(constant))]
        if same:
            rows += same
            continue
        begin, others = time.process_time(), []
        for factor in factors:
            value = scaled(constant.value, factor)
            if np.array_equal(value, constant.value):
                others.append(as_is)
                continue
            with changed(constant, value):
                others.append(evaluate(package))
        rows.append(row(constant, as_is, others, factors))
        print(f"{rows[-1]} {time.process_time() - begin:.1f} CPU s", file=sys.stderr, flush=True)
    return table(package, as_is, rows, factors)


if __name__ == "__main__":
    main()
