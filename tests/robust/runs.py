"""A small series, the runs of it that are disturbed, and what is promised of each, compared with a run that nobody disturbed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import av
from tests.robust.shim import Arming, Event, read_log

from tiltflow.demo import write_series
from tiltflow.errors import FormatError
from tiltflow.pipeline import check_results
from tiltflow.record import read_record
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import simulate

ROOT = Path(__file__).parents[2]
NAME = "T"
_LABELS = slice(224, 1024)
"""Of an MRC header: they hold the time of writing."""
_OF_ITS_TIME = (".log", ".html", ".csv", "run.json", "_steps.json", "callback.json")
"""Files that say when they were made."""


def write_small_series(path: Path) -> None:
    """Write a simulated section with gold, small enough for hundreds of runs."""
    write_series(path, simulate(SimulationParams(seed=3, size=96, views=7, beads=10, thickness_px=20), threads=1))


UNREADABLE = "the record cannot be read"
"""A word for a lie that is none after a power cut: such a record says nothing, and the next run makes the work anew."""


@dataclass(frozen=True)
class Place:
    """Folders of one attack: the projects with the input, the results and the scratch."""

    root: Path

    @property
    def input(self) -> Path:
        return self.root / "Projects"

    @property
    def output(self) -> Path:
        return self.root / "out"

    @property
    def scratch(self) -> Path:
        return self.root / "scratch"

    @property
    def series(self) -> Path:
        return self.output / NAME

    @property
    def watched(self) -> tuple[str, ...]:
        """Folders in which the shim counts."""
        return (str(self.root),)

    def emptied(self) -> Place:
        """Return the place with neither results nor scratch."""
        for folder in (self.output, self.scratch):
            shutil.rmtree(folder, ignore_errors=True)
        return self


@dataclass(frozen=True)
class End:
    """How a run ended, and what it said."""

    status: int
    said: str
    seconds: float = 0.0
    peak_kb: int = 0


@dataclass
class Warm:
    """A warm process that runs the program in copies of itself (`warm.py`)."""

    shim: Path | None
    folder: Path
    process: subprocess.Popen[str] = field(init=False)
    said: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        write_small_series(self.folder / f"{NAME}.st")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TILTFLOW_")}
        environment |= {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}", "OPENBLAS_NUM_THREADS": "1"}
        environment |= {"XDG_STATE_HOME": str(self.folder / "state")}
        environment |= {"LD_PRELOAD": str(self.shim)} if self.shim else {}
        self.errors = (self.folder / "warm.log").open("w+")
        command = [sys.executable, str(Path(__file__).with_name("warm.py")), str(self.folder / f"{NAME}.st"), str(self.folder)]
        self.process = subprocess.Popen(
            command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors
        )
        if self._line() != "warm":
            raise RuntimeError((self.folder / "warm.log").read_text())

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def start(self, asked: Sequence[dict[str, object]]) -> list[int]:
        """Start runs at once, and return their processes."""
        assert self.process.stdin is not None
        self.said = [self.folder / f"said-{number}.txt" for number in range(len(asked))]
        requests = [{"said": str(path), "own_pids": False, **each} for path, each in zip(self.said, asked, strict=True)]
        self.process.stdin.write(json.dumps(requests) + "\n")
        self.process.stdin.flush()
        return list(json.loads(self._line()))

    def ends(self) -> list[End]:
        """Wait for the runs, and return how they ended."""
        ends = json.loads(self._line())
        return [End(said=path.read_text(errors="replace"), **end) for path, end in zip(self.said, ends, strict=True)]

    def run(
        self, place: Place, arming: Arming | None = None, more: Sequence[str] = (), environment: dict[str, str] | None = None
    ) -> End:
        """Run the program once."""
        self.start([request(place, arming, more, environment)])
        return self.ends()[0]

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)
        for stream in (self.process.stdout, self.errors):
            assert stream is not None
            stream.close()


def request(
    place: Place, arming: Arming | None = None, more: Sequence[str] = (), environment: dict[str, str] | None = None
) -> dict[str, object]:
    """Return what the warm process is asked for: the one command that every attack repeats."""
    arguments = ["run", str(place.input), "-o", str(place.output), "--workdir", str(place.scratch), "--engine", "native"]
    arguments += ["--threads", "1", "--thickness", "32", "--set", "runtime.AlignedStack.any.binByFactor=1", *more]
    return {
        "arguments": arguments,
        "environment": environment or {},
        "arming": asdict(arming) if arming else None,
    }


def contents(folder: Path) -> dict[str, str]:
    """Return the digest of every file below a folder whose contents do not depend on the time."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.endswith(_OF_ITS_TIME) and ".tiltflow-" not in str(path.relative_to(folder)):
            text = path.read_bytes()
            if path.suffix == ".mrc":
                text = text[: _LABELS.start] + text[_LABELS.stop :]
            found[str(path.relative_to(folder))] = frames_of(path) if path.suffix == ".mp4" else hashlib.sha256(text).hexdigest()
    return found


def frames_of(path: Path) -> str:
    """Return how many frames of which size a movie plays: its encoder does not give the same bytes each time."""
    try:
        with av.open(path) as movie:
            frames = [frame.to_ndarray(format="gray") for frame in movie.decode(video=0)]
    except (av.FFmpegError, ValueError, IndexError) as error:
        return f"{path.name} cannot be played: {error}"
    return f"{len(frames)} frames of {frames[0].shape}"


def input_state(place: Place) -> dict[str, tuple[int, int, str]]:
    """Return what nothing may change: the files under the projects, with their sizes, times and contents."""
    paths = [place.input, *sorted(place.input.rglob("*"))]
    return {
        str(path): (
            path.stat().st_size,
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in paths
    }


def names_in(folder: Path) -> frozenset[str]:
    """Return the names of all that lies below a folder."""
    return frozenset(str(path.relative_to(folder)) for path in folder.rglob("*"))


def left_over(place: Place, clean: Clean) -> list[str]:
    """Return what lies below the results that an undisturbed run does not leave (staging, locks), and whatever is in the scratch."""
    more = names_in(place.output) - clean.names
    tops = sorted(name for name in more if str(Path(name).parent) not in more)
    return [*tops, *sorted(f"scratch/{name}" for name in names_in(place.scratch) if "/" not in name)]


def lies(place: Place) -> Iterator[str]:
    """Yield what is on disk and not true: a record of a success that lacks a product, a status with no such product."""
    if not place.series.exists():
        return
    try:
        record = read_record(place.series / "run.json")
    except (FileNotFoundError, NotADirectoryError):
        return
    except FormatError as error:
        yield f"{UNREADABLE}: {error}"
        return
    if record.status == "success":
        yield from (
            f"a success is recorded, and {difference}" for each in check_results(place.series) for difference in each.differences
        )


def halves(place: Place, whole: dict[str, str]) -> Iterator[str]:
    """Yield products that stand under their final names and are not those of an undisturbed run."""
    for name, digest in contents(place.output).items():
        if whole.get(name, digest) != digest:
            yield f"{name} stands under its final name, and is not whole"


def broken_after_the_attack(place: Place, clean: Clean) -> list[str]:
    """Return which promises do not hold once the disturbed run has ended."""
    changed = [] if input_state(place) == clean.input else ["something under the projects has changed"]
    return [*changed, *lies(place), *halves(place, clean.contents)]


def broken_after_the_next(place: Place, clean: Clean, end: End) -> list[str]:
    """Return which promises do not hold after the same command was run again."""
    broken = [] if end.status == 0 else [f"run again it ended with {end.status}: {end.said[-600:]}"]
    now = contents(place.output)
    broken += [f"{name} is missing" for name in sorted(clean.contents.keys() - now.keys())]
    told = json.loads((place.output / "callback.json").read_text()) if (place.output / "callback.json").exists() else {}
    if [file.get("status") for file in told.get("files", [])] != ["success"]:
        broken.append(f"the callback does not say so: {str(told)[:200]}")
    return [*broken, *broken_after_the_attack(place, clean)]


@dataclass(frozen=True)
class Clean:
    """What an undisturbed run leaves, and every call that it makes."""

    names: frozenset[str]
    contents: dict[str, str]
    input: dict[str, tuple[int, int, str]]
    events: tuple[Event, ...]


def undisturbed(warm: Warm, place: Place) -> Clean:
    """Run the program undisturbed, and log its calls if there is a shim."""
    place.emptied()
    log = place.root / "calls"
    end = warm.run(place, Arming(place.watched, log=str(log)) if warm.shim else None)
    if end.status != 0:
        raise RuntimeError(end.said)
    return Clean(names_in(place.output), contents(place.output), input_state(place), tuple(read_log(log)) if warm.shim else ())
