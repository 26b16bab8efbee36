"""Whether any odd series ends far from the truth without a word of doubt.

    python benchmarks/robustness.py [--case TEXT ...] [--mode MODE ...] [--size 384] [--seeds 1] [--jobs 1] [--keep FOLDER]

Every case is a simulated series that is odd in one way, or spoilt in one way after it was made, and is aligned as a user would ask
for it, with gold, with patches and markerless, fallback on.  Printed are the true error
(:func:`tiltflow.simulate.scoring.score`), what the alignment believes its own to be, and its trust warnings.  A series
that is more than a pixel off and says nothing is a defect; the exit status is 1 when there is one.  `--keep` holds the series, so
that they are simulated once.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alignment import ASKED, align_series
from tiltflow.demo import write_series
from tiltflow.errors import TiltflowError
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scoring import Truth, score
from tiltflow.simulate.simulated_series import SimulatedSeries, simulate

LIMIT_PX = 1.0
"""A larger error must be owned up to."""
_ROOM = 1.5
"""Factor from a field to one that it can be cut from anywhere."""
Spoil = Callable[[SimulatedSeries], SimulatedSeries]


def as_it_is(series: SimulatedSeries) -> SimulatedSeries:
    return series


def fixed_pattern(series: SimulatedSeries) -> SimulatedSeries:
    """Multiply every view by one pattern of sharp and broad structure that does not move: a bad gain reference and dust."""
    shape, rng = series.images.shape[1:], np.random.default_rng(5)
    fine, coarse = (ndimage.gaussian_filter(rng.normal(size=shape), sigma) for sigma in (0.7, 4.0))
    gain = 1 + 0.03 * fine / fine.std() + 0.03 * coarse / coarse.std()
    return replace(series, images=np.asarray(np.clip(series.images * gain, -32_000, 32_000), np.int16))


def jump(series: SimulatedSeries) -> SimulatedSeries:
    """Move the last quarter of the views by a fifth of the field along x, and one view by as much along y."""
    views, fifth = len(series.images), _field(series) // 5
    moves = np.zeros((views, 2), int)
    moves[3 * views // 4 :, 0] = fifth
    moves[views // 3, 1] = fifth
    return _cut(series, moves)


def scattered(series: SimulatedSeries) -> SimulatedSeries:
    """Move every view by up to a fifth of the field in any direction, but the middle one."""
    views, fifth = len(series.images), _field(series) // 5
    moves = np.random.default_rng(5).integers(-fifth, fifth + 1, (views, 2))
    moves[views // 2] = 0
    return _cut(series, moves)


def strange_view(series: SimulatedSeries) -> SimulatedSeries:
    """Put views of something else in the place of three: the stage had moved away."""
    images = series.images.copy()
    strangers = (8, 19, 27)
    for view in strangers:
        images[view] = np.rot90(images[view], 2).T
    return replace(series, images=images, truth=replace(series.truth, lost_views=strangers))


def empty_view(series: SimulatedSeries) -> SimulatedSeries:
    """Leave only noise in two views: the beam was on, but the section was not in it."""
    images = series.images.copy()
    rng, lost = np.random.default_rng(5), (10, 26)
    for view in lost:
        level = float(np.median(images[view]))
        images[view] = rng.normal(level, 0.05 * abs(level), images[view].shape)
    return replace(series, images=images, truth=replace(series.truth, lost_views=lost))


def other_sign_of_axis(series: SimulatedSeries) -> SimulatedSeries:
    return replace(series, header_axis_deg=-series.header_axis_deg)


def other_sign_of_tilt(series: SimulatedSeries) -> SimulatedSeries:
    return replace(series, nominal_deg=-series.nominal_deg)


def tilts_in_reverse(series: SimulatedSeries) -> SimulatedSeries:
    """Give the angles in the wrong order, which is more than the wrong sign where views are missing on one side."""
    return replace(series, nominal_deg=series.nominal_deg[::-1].copy())


def negative(series: SimulatedSeries) -> SimulatedSeries:
    """Turn the contrast around, counts and all."""
    return replace(series, images=np.asarray(int(series.images.max()) - series.images.astype(int) + 10, np.int16))


def normalised(series: SimulatedSeries) -> SimulatedSeries:
    """Subtract the mean of each view: values of both signs, as some programs write them."""
    means = series.images.mean(axis=(1, 2), keepdims=True)
    return replace(series, images=np.asarray(np.clip(series.images - means, -32_000, 32_000), np.int16))


def _field(series: SimulatedSeries) -> int:
    """Return the side of the field that is cut out of a larger one."""
    return round(series.truth.size / _ROOM)


def _cut(series: SimulatedSeries, moves: NDArray[np.intp]) -> SimulatedSeries:
    """Return a smaller field, whose content lies `moves`, `(views, 2)` pixels along x and y, farther in each view."""
    size, truth = _field(series), series.truth
    corners = (truth.size - size) // 2 - moves
    images = np.stack([image[y : y + size, x : x + size] for image, (x, y) in zip(series.images, corners, strict=True)])
    inside = np.all(np.abs(truth.beads_px[:, :2]) < 0.46 * size, axis=1)
    beads = truth.beads_xy[:, inside] - corners[:, None]
    cut = replace(
        truth, size=size, shift_px=truth.shift_px + moves, beads_px=truth.beads_px[inside], beads_xy=beads, probes_xy=beads
    )
    return replace(series, images=images, truth=cut)


@dataclass(frozen=True)
class Case:
    """A series that is odd: how it is simulated, on a field how much larger, and what is done to it after."""

    params: Mapping[str, Any] = field(default_factory=dict)
    spoil: Spoil = as_it_is
    room: float = 1.0


CASES: Mapping[str, Case] = {
    "as usual": Case(),
    **{f"axis {axis} deg": Case({"axis_deg": float(axis)}) for axis in (0, 45, 84, -85, 90, 175)},
    "axis 8 deg off": Case({"axis_error_deg": 8.0}),
    "axis 20 deg off": Case({"axis_error_deg": 20.0}),
    "sign of the axis wrong": Case({"axis_deg": 12.0}, other_sign_of_axis),
    "sign of the axis wrong, 84": Case({"axis_deg": 84.0}, other_sign_of_axis),
    "axis a quarter turn off": Case({"axis_deg": 84.0, "axis_error_deg": 90.0}),
    "sign of the tilts wrong": Case({}, other_sign_of_tilt),
    "tilts in reverse, a gap": Case({"dropped_views": (8, 9, 10)}, tilts_in_reverse),
    "gap of 3 views": Case({"dropped_views": (12, 13, 14)}),
    "gap of 6 views": Case({"dropped_views": tuple(range(24, 30))}),
    "gap of 4 in the middle": Case({"dropped_views": (19, 20, 21, 22)}),
    "dark ends": Case({"dark_views": (0, 1, 2, 39, 40)}),
    "dark in the middle": Case({"dark_views": (18, 19, 20, 21)}),
    "tilts half a degree off": Case({"tilt_error_deg": 0.5}),
    "rotation jitter 0.5 deg": Case({"rotation_jitter_deg": 0.5}),
    "magnification jitter 0.5 %": Case({"magnification_jitter": 0.005}),
    "shift sd 14 px": Case({"shift_px": 14.0}),
    "crowded, 60 beads": Case({"crowding": 3.0, "beads": 60}),
    "60 beads on two surfaces": Case({"beads": 60, "two_surfaces": True, "thickness_px": 120.0}),
    "3 beads": Case({"beads": 3}),
    "no beads": Case({"beads": 0}),
    "pitch 6 deg": Case({"pitch_deg": 6.0}),
    "pitch -8 deg": Case({"pitch_deg": -8.0}),
    "z offset 60 px": Case({"z_offset_px": 60.0}),
    "thick, 200 px": Case({"thickness_px": 200.0}),
    "thin, 20 px": Case({"thickness_px": 20.0}),
    "dose 40": Case({"dose": 40.0}),
    "dose 10": Case({"dose": 10.0}),
    "dose 3": Case({"dose": 3.0}),
    "dose 3, no beads": Case({"dose": 3.0, "beads": 0}),
    "dose 1": Case({"dose": 1.0}),
    "cryo": Case({"regime": "cryo", "dose": 60.0, "beads": 15, "thickness_px": 150.0}),
    "cryo, dose 10": Case({"regime": "cryo", "dose": 10.0, "beads": 15, "thickness_px": 150.0}),
    "cryo, dose 3, no beads": Case({"regime": "cryo", "dose": 3.0, "beads": 0, "thickness_px": 150.0}),
    "tilts to 70 deg": Case({"max_tilt_deg": 70.0}),
    "21 views": Case({"views": 21}),
    "21 views, gap, dose 20": Case({"views": 21, "dropped_views": (6, 7), "dose": 20.0}),
    "gold and nothing else": Case({"crowding": 0.0}),
    "sparse, no beads": Case({"crowding": 0.05, "beads": 0}),
    "empty": Case({"crowding": 0.0, "beads": 0}),
    "empty, cryo": Case({"regime": "cryo", "crowding": 0.0, "beads": 0, "dose": 60.0}),
    "a jump of a fifth": Case({"beads": 50}, jump, _ROOM),
    "moved by up to a fifth": Case({"beads": 50}, scattered, _ROOM),
    "three strange views": Case({}, strange_view),
    "two views of noise": Case({}, empty_view),
    "fixed pattern": Case({}, fixed_pattern),
    "fixed pattern, dose 40, no beads": Case({"dose": 40.0, "beads": 0}, fixed_pattern),
    "negative": Case({}, negative),
    "normalised": Case({}, normalised),
}


@dataclass(frozen=True)
class Verdict:
    """One series aligned in one mode: how far it is from the truth, and what it says of itself."""

    case: str
    seed: int
    mode: str
    method: str
    true_px: float
    error_px: float | None
    trust_warnings: tuple[str, ...]
    cpu_s: float

    @property
    def word(self) -> str:
        """What the series comes to: good, better than its word, far off but said so, or a defect."""
        off = not self.true_px <= LIMIT_PX
        if self.method == "failed":
            return "refused"
        return ("off, said so" if self.trust_warnings else "DEFECT") if off else ("doubted" if self.trust_warnings else "good")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", help="only cases whose name contains this text")
    parser.add_argument("--mode", action="append", choices=list(ASKED), help="only these")
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a folder that series are kept in")
    asked = parser.parse_args()
    names = [name for name in CASES if not asked.case or any(text in name for text in asked.case)]
    seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
    work = [(name, seed, asked.size, tuple(asked.mode or ASKED), asked.keep) for name in names for seed in seeds]
    verdicts: list[Verdict] = []
    print("| case | seed | mode | aligned by | true px | own px | verdict | CPU s | warnings |")
    print("|---|---:|---|---|---:|---:|---|---:|---|")
    with ProcessPoolExecutor(asked.jobs) as pool:
        for found in pool.map(judge, *zip(*work, strict=True)):
            verdicts += found
            print("\n".join(map(line, found)), flush=True)
    defects = [verdict for verdict in verdicts if verdict.word == "DEFECT"]
    print(f"\n{len(defects)} of {len(verdicts)} are more than {LIMIT_PX:g} px off and say nothing", file=sys.stderr)
    sys.exit(1 if defects else 0)


def judge(name: str, seed: int, size: int, modes: Sequence[str], keep: Path | None) -> list[Verdict]:
    """Return what the modes make of one series."""
    with tempfile.TemporaryDirectory() as temporary:
        source, truth = _series(name, seed, size, keep or Path(temporary))
        return [_verdict(name, seed, mode, source, truth, Path(temporary)) for mode in modes]


def _verdict(name: str, seed: int, mode: str, source: Path, truth: Truth, work: Path) -> Verdict:
    begin = time.process_time()
    try:
        found = align_series(source, ASKED[mode], work)
    except TiltflowError as error:
        return Verdict(name, seed, mode, "failed", float("nan"), None, (str(error),), time.process_time() - begin)
    spent, true = time.process_time() - begin, score(truth, found.transforms, found.tilt_deg)
    return Verdict(name, seed, mode, found.method, true.rms_px, found.evidence.error_px, found.evidence.trust_warnings, spent)


def _series(name: str, seed: int, size: int, folder: Path) -> tuple[Path, Truth]:
    """Return a series and its truth, made when it is not there."""
    case = CASES[name]
    source = folder / f"{''.join(c if c.isalnum() else '_' for c in name)}_{size}_{seed}.st"
    told = source.with_suffix(".json")
    if told.exists():
        fields = json.loads(told.read_text())
        arrays = {key: np.array(value) if isinstance(value, list) else value for key, value in fields.items()}
        return source, Truth(**arrays | {name: tuple(fields.get(name, ())) for name in ("dark_views", "lost_views")})
    series = case.spoil(simulate(SimulationParams(**{"seed": seed, "size": round(case.room * size), **case.params})))
    write_series(source, series)
    told.write_text(json.dumps(series.truth.to_json()))
    return source, series.truth


def line(verdict: Verdict) -> str:
    own = "-" if verdict.error_px is None else f"{verdict.error_px:.2f}"
    return (
        f"| {verdict.case} | {verdict.seed} | {verdict.mode} | {verdict.method} | {verdict.true_px:.2f} | {own} | {verdict.word} "
        f"| {verdict.cpu_s:.0f} | {'; '.join(verdict.trust_warnings)[:160]} |"
    )


if __name__ == "__main__":
    main()
