"""Many series in one process: whether memory, open handles and the time of a series stay as they are.

    python benchmarks/load.py [--series 300] [--window 50] [--size 96] [--views 11] [--ways cli,flow] [--jobs 1] [--record]

One small simulated series is copied so many times, and the copies are done by one `tiltflow run`, and by one flow with the runner
`threads` against a Prefect server of its own.  A second process looks at the one that works, four times a second: at its resident
memory, its open handles, and how many series have their page.  Compared are the medians while the first series are done and while the
last are; the very first series is left out, as its kernels are loaded meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from record import Figures, add_option

LOOK_S = 0.25
FLOW = "import json, sys; from tiltflow_flows.brt import brt_flow; brt_flow(**json.loads(sys.argv[1]))"
IMOD_PARAMETERS = {
    "montage": 0,
    "gold": 10,
    "focus": 0,
    "fiducialless": 1,
    "trackingMethod": 1,
    "TwoSurfaces": 0,
    "TargetNumberOfBeads": 20,
    "LocalAlignments": 0,
    "THICKNESS": 24,
}


@dataclass
class Look:
    """What was seen at a moment: how many series were done by then, and the process."""

    seconds: float
    cpu: float
    done: int
    resident_mb: float
    handles: int


@dataclass
class Watched:
    """All that was seen of a process, and how many series succeeded."""

    looks: list[Look] = field(default_factory=list)
    good: int = 0

    def between(self, first: int, last: int) -> tuple[float, float, float, float]:
        """Return wall and CPU seconds for each series, resident MB and handles while series `first` to `last` were done."""
        within = [look for look in self.looks if first <= look.done < last]
        begin, end = (next(look for look in self.looks if look.done >= done) for done in (first, last))
        each = last - first
        resident, handles = ([getattr(look, name) for look in within] for name in ("resident_mb", "handles"))
        return (
            (end.seconds - begin.seconds) / each,
            (end.cpu - begin.cpu) / each,
            statistics.median(resident),
            statistics.median(handles),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=300)
    parser.add_argument("--window", type=int, default=50, help="how many of the first and of the last series are compared")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--views", type=int, default=11)
    parser.add_argument("--ways", default="cli,flow")
    parser.add_argument("--jobs", type=int, default=1, help="series at once")
    add_option(parser)
    asked = parser.parse_args()
    figures = Figures("load")
    with figures.printed():
        print(f"{asked.series} series of {asked.views} views of {asked.size} x {asked.size} px, {asked.jobs} at once;")
        print(f"of the first {asked.window} (without the first) and of the last {asked.window}\n")
        print(f"{'way':5}{'good':>6}{'wall s a series':>18}{'CPU s a series':>18}{'memory, MB':>16}{'open handles':>16}")
    for way in asked.ways.split(","):
        with tempfile.TemporaryDirectory(prefix="tiltflow-load-") as folder:
            seen = watch(way, Path(folder), asked)
        first, last = seen.between(1, asked.window), seen.between(asked.series - asked.window, asked.series)
        with figures.printed():
            pairs = [
                f"{one:>9.{digits}f}{other:>7.{digits}f}" for one, other, digits in zip(first, last, (2, 2, 0, 0), strict=True)
            ]
            print(f"{way:5}{seen.good:>6}{'  '.join(pairs)}", flush=True)
        for name, each in (("first", first), ("last", last)):
            for what, value, unit, digits in zip(
                ("wall", "cpu", "memory", "handles"), each, ("s", "s", "MB", ""), (2, 2, 0, 0), strict=True
            ):
                figures.keep(f"{way}_{what}_{name}", value, unit, digits)
        figures.keep(f"{way}_good", seen.good, "", 0)
    figures.keep("series", asked.series, "", 0)
    figures.keep("window", asked.window, "", 0)
    figures.save(asked)


def watch(way: str, folder: Path, asked: argparse.Namespace) -> Watched:
    """Do all series in a process of its own, and return what was seen of it."""
    share = folder / "share"
    inputs = share / "Projects" / "Load"
    inputs.mkdir(parents=True)
    one = simulated(folder / "one.st", asked.size, asked.views)
    for number in range(asked.series):
        shutil.copyfile(one, inputs / f"s{number:04d}.st")
    environment = os.environ | {
        "TILTFLOW_MOUNTS": f"lab={share}",
        "TILTFLOW_SCRATCH": str(folder / "scratch"),
        "TILTFLOW_WORKERS": str(asked.jobs),
        "TILTFLOW_ENGINE": "native",
    }
    output = share / "Assets" / "Load"
    run = [sys.executable, "-m", "tiltflow", "run", str(inputs), "--output", str(output), "--jobs", str(asked.jobs)]
    run += ["--fiducialless", "--tracking-method", "1", "--thickness", str(IMOD_PARAMETERS["THICKNESS"])]
    flow = [sys.executable, "-c", FLOW, json.dumps(IMOD_PARAMETERS | {"file_share": "lab", "input_dir": "Load"})]
    with server(folder) if way == "flow" else contextlib.nullcontext({}) as more, (folder / "log").open("w") as log:
        process = subprocess.Popen(flow if way == "flow" else run, env=environment | more, stdout=log, stderr=log)
        seen = Watched()
        try:
            while process.poll() is None:
                with contextlib.suppress(OSError):  # it may end meanwhile
                    seen.looks += look(process.pid, output)
                time.sleep(LOOK_S)
        finally:
            process.kill()
    seen.looks.append(replace(seen.looks[-1], seconds=time.monotonic(), done=asked.series))
    seen.good = sum(json.loads(record.read_text())["status"] == "success" for record in output.glob("s*/run.json"))
    if process.returncode or seen.good == 0:
        raise SystemExit((folder / "log").read_text()[-3000:])
    return seen


def look(pid: int, output: Path) -> list[Look]:
    """Return what there is to be seen of a process now: nothing of one that has just ended."""
    status = Path(f"/proc/{pid}/status").read_text()
    done = sum(1 for _ in output.glob("s*/report.html"))
    handles = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    resident = [int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS:")]
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]  # its own, and those of its children that ended
    cpu = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    return [Look(time.monotonic(), cpu, done, each, handles) for each in resident]


@contextlib.contextmanager
def server(folder: Path) -> Iterator[dict[str, str]]:
    """Run a Prefect server for a flow, and yield what its environment needs."""
    os.environ |= {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    from prefect.settings import get_current_settings
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=300):
        yield {"PREFECT_API_URL": str(get_current_settings().api.url)}


def simulated(path: Path, size: int, views: int) -> Path:
    """Write a simulated series without gold."""
    from tiltflow.demo import write_series
    from tiltflow.simulate.parameters import SimulationParams
    from tiltflow.simulate.simulated_series import simulate

    write_series(path, simulate(SimulationParams(size=size, views=views, beads=0)))
    return path


if __name__ == "__main__":
    main()
