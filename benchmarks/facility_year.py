"""What a facility-year costs: cores, disk and network, from what one series costs, and how long series wait for a machine.

    python benchmarks/facility_year.py [--microscopes 10] [--series-a-day 40] [--record]
                                       [--measure] [--series FILE] [--size 4096] [--views 61]

One series is measured with `--measure` (CPU and wall seconds on two threads, bytes read and written, sizes of what stays); without it the
figures recorded last are used.  The queue is simulated: microscopes end a series every 36 minutes on average, give or take half of that,
and each goes to the first machine of two cores that is free.
"""

from __future__ import annotations

import argparse
import heapq
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import record
from record import Figures, add_option
from speed.processes import Case, cost_of, put_series, run_command, with_caches

DAY_S = 86_400.0
DAYS = 365
SIMULATED_DAYS = 30
JITTER = 0.5
"""A series takes its microscope so much longer or shorter than the average, as a share of it."""
MACHINES = (1, 2, 4)
OUTAGE_S = 8 * 3600.0
"""A night in which nothing is processed, after which the machines catch up."""

MEASURED = {
    "cpu": "CPU seconds",
    "wall": "s",
    "read": "MB",
    "written": "MB",
    "raw": "MB",
    "volumes": "MB",
    "products": "MB",
    "pages": "MB",
}
"""What is measured of one series, and the units: all that it reads and writes; what stays on disk."""


@dataclass(frozen=True)
class Site:
    """What a facility does: how many microscopes, and how many series each of them takes a day."""

    microscopes: int = 10
    series_a_day: int = 40

    @property
    def series_each_day(self) -> int:
        """Series of all microscopes."""
        return self.microscopes * self.series_a_day


def measure(case: Case, series: Path | None, root: Path) -> dict[str, float]:
    """Run one series, simulated unless it is given, after a run that fills the caches, and return what it costs."""
    folder, cache = root / "series", with_caches(root / "cache")
    source, case = put_series(folder, case, series)
    print(f"measured: {case}")
    cost_of(run_command(folder, root / "warm", case), cache)
    cost = cost_of(run_command(folder, root / "out", case), cache)
    return {
        "cpu": cost.cpu,
        "wall": cost.wall,
        "read": cost.read_mb,
        "written": cost.written_mb,
        "raw": source.stat().st_size / 1e6,
        **sizes(root / "out"),
    }


def sizes(output: Path) -> dict[str, float]:
    """Return the megabytes that stay: aligned stack and volume, products, records with pages and logs."""
    found = dict.fromkeys(("volumes", "products", "pages"), 0.0)
    for path in (path for path in output.rglob("*") if path.is_file() and not path.is_symlink()):
        if path.name.endswith(("_ali.mrc", "_rec.mrc")):
            kind = "volumes"
        elif path.suffix in {".html", ".json", ".log", ".txt"} and ".zarr" not in str(path):
            kind = "pages"
        else:
            kind = "products"
        found[kind] += path.stat().st_size / 1e6
    return found


def recorded() -> dict[str, float] | None:
    """Return what was measured when figures were recorded last; None if they never were."""
    path = record.FOLDER / "facility_year.json"
    figures = json.loads(path.read_text(encoding="utf-8"))["figures"] if path.is_file() else {}
    return {name: float(figures[name]["value"]) for name in MEASURED} if MEASURED.keys() <= figures.keys() else None


def show_year(site: Site, each: dict[str, float]) -> None:
    """Print what one series costs, all of a day, and all of a year."""
    day, year = site.series_each_day, site.series_each_day * DAYS
    print(f"{site.microscopes} microscopes, {site.series_a_day} series a day each: {day} a day, {year} a year\n")
    print(f"{'':34}{'a series':>12}{'a day':>14}{'a year':>14}")
    print(f"{'CPU time':34}{each['cpu']:10.0f} s{day * each['cpu'] / 3600:12.1f} h{year * each['cpu'] / 3600:12.0f} h")
    for name, what in (
        ("read", "read, also from the page cache"),
        ("written", "written, scratch and results"),
        ("raw", "kept: raw series"),
        ("volumes", "kept: aligned stack and volume"),
        ("products", "kept: products"),
        ("pages", "kept: records, pages and logs"),
    ):
        print(f"{what:34}{each[name]:9.1f} MB{day * each[name] / 1e3:11.1f} GB{year * each[name] / 1e6:11.1f} TB")
    print(f"\ncores busy on average: {day * each['cpu'] / DAY_S:.2f}")
    sent = each["raw"] + each["volumes"] + each["products"] + each["pages"]
    print(f"network, raw series there and results back: {day * sent / DAY_S:.1f} MB/s on average", end="; ")
    print(f"{sent / each['wall']:.0f} MB/s while a machine works on a series")


def finished(site: Site, wall_s: float, machines: int, outage_s: float = 0.0, seed: int = 1) -> np.ndarray:
    """Return arrival and end of each series of a simulated month, s, `(series, 2)`, in the order of their arrival.

    A machine does one series at a time, in `wall_s`; in the first `outage_s` none works.

    >>> times = finished(Site(1, 40), 10.0, 1)
    >>> bool((times[:, 1] - times[:, 0] >= 10.0).all())
    True
    """
    rng, interval = np.random.default_rng(seed), DAY_S / site.series_a_day
    count = SIMULATED_DAYS * site.series_a_day
    gaps = interval * rng.uniform(1 - JITTER, 1 + JITTER, (site.microscopes, count))
    arrivals = np.sort((rng.uniform(0, interval, (site.microscopes, 1)) + np.cumsum(gaps, axis=1)).ravel())
    free = [outage_s] * machines
    ends = []
    for arrival in arrivals:
        ends.append(max(arrival, heapq.heappop(free)) + wall_s)
        heapq.heappush(free, ends[-1])
    return np.stack([arrivals, ends], axis=1)


def show_queue(site: Site, wall_s: float) -> None:
    """Print how long results take, by the number of machines, and how long a night's outage is felt."""
    print(f"\na simulated month; a machine has two cores and takes {wall_s:.0f} s for a series")
    print(f"{'':17}{'minutes from series to results':>30}{'hours to catch up':>20}")
    print(f"{'machines':>8}{'in use':>9}{'median':>10}{'99 %':>10}{'longest':>10}{'after a night':>20}")
    for machines in MACHINES:
        in_use = site.series_each_day * wall_s / DAY_S / machines
        if in_use >= 1:
            print(f"{machines:8d}{in_use:9.0%}   too few: the queue grows without end")
            continue
        times = finished(site, wall_s, machines)
        waits = (times[:, 1] - times[:, 0]) / 60
        print(f"{machines:8d}{in_use:9.0%}{np.median(waits):10.1f}{np.percentile(waits, 99):10.1f}{waits.max():10.1f}", end="")
        print(f"{catching_up(site, wall_s, machines) / 3600:20.1f}")


def catching_up(site: Site, wall_s: float, machines: int) -> float:
    """Return the seconds from the end of an outage until a series waits no longer than half an hour again."""
    times = finished(site, wall_s, machines, OUTAGE_S)
    late = times[times[:, 1] - times[:, 0] > max(1800.0, 2 * wall_s)]
    return float(late[-1, 1] - OUTAGE_S) if len(late) else 0.0


def show_growth(site: Site, each: dict[str, float]) -> None:
    """Print which part grows while the others stay."""
    kept, raw_tb = each["volumes"] + each["products"] + each["pages"], site.series_each_day * DAYS * each["raw"] / 1e6
    print(
        f"\nwhat grows is the disk: {raw_tb:.0f} TB of raw series a year, and results of {kept / each['raw']:.1%} of that; ", end=""
    )
    print("cores and network stay as they are")
    done = done_s_a_series()
    if done is None:
        print("a run of a folder that holds N results looks at each: whole_run.py --done N measures it")
        return
    day = site.series_each_day
    print(f"and a run's look at what is done, {1000 * done:.1f} ms a series: {day * done:.1f} s for a folder of a day, ", end="")
    print(f"{DAYS * day * done / 60:.0f} min for one of a year, so have a folder a day or a session")


def done_s_a_series() -> float | None:
    """Return what each series of a folder adds to a run that has nothing to do, s, if `whole_run.py --done` has recorded it."""
    path = record.FOLDER / "whole_run.json"
    figures = json.loads(path.read_text(encoding="utf-8"))["figures"] if path.is_file() else {}
    if not {"all_done", "all_done_many", "done_series"} <= set(figures):
        return None
    one, many, count = (float(figures[name]["value"]) for name in ("all_done", "all_done_many", "done_series"))
    return max(0.0, (many - one) / max(1.0, count - 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--microscopes", type=int, default=10)
    parser.add_argument("--series-a-day", type=int, default=40, help="of each microscope")
    parser.add_argument("--measure", action="store_true", help="run a series instead of using the recorded figures")
    parser.add_argument("--series", type=Path, default=None, help="the series of --measure, instead of a simulated one")
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--views", type=int, default=61)
    add_option(parser)
    a = parser.parse_args()
    site, figures = Site(a.microscopes, a.series_a_day), Figures("facility_year")
    with figures.printed(), tempfile.TemporaryDirectory() as folder:
        case = Case(a.size, a.views)
        each = measure(case, a.series, Path(folder)) if a.measure else recorded()
        if each is None:
            print("no figures of a series are recorded: --measure --record runs one")
            return
        show_year(site, each)
        show_queue(site, each["wall"])
        show_growth(site, each)
    for name, unit in MEASURED.items():
        figures.keep(name, each[name], unit, 2)
    figures.save(a)


if __name__ == "__main__":
    main()
