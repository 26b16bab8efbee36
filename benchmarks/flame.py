"""What the wall time of a run is spent on, function by function: a flame graph of `tiltflow run`.

    python benchmarks/flame.py [--size 1024] [--views 61] [--series FILE] [--threads 2] [--least 0.7] [--record]

The command is run in a process of its own, once to fill the caches and once while a thread looks 200 times a second at what the program
is doing.  Where the main thread waits for threads, what these do takes its place; what copies of the process do beside it is not seen.
Of libraries only the name is shown.  Printed are the functions that take most with all that they call; `--record` draws the whole as
`docs/pictures/flame.svg`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from types import FrameType

from record import Figures, add_option
from speed.processes import Case, put_series, run_command, with_caches

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "flame.svg"
_EVERY_S = 0.005
_PASSED_OVER = {"map_threads", "map_views", "<lambda>", "<genexpr>", "<listcomp>", "<module>", "work_on", "one"}
"""Functions that say nothing of what is done."""
_WIDTH, _ROW, _LETTER = 1200.0, 17.0, 6.2
"""Pixels: of the picture, a row, and a letter."""
_COLOURS = ("#f6c89f", "#f3b3a6", "#f5dd9d", "#cfe3a8", "#a9d8c8", "#b3cdec", "#cdbfe6", "#e9bcd8")


@dataclass
class Node:
    """A function with all that it calls: in how many samples it was at work, and what it called."""

    samples: float = 0.0
    calls: dict[str, Node] = field(default_factory=dict)

    def add(self, names: list[str], weight: float) -> None:
        """Count a sample whose functions, outermost first, are named."""
        self.samples += weight
        if names:
            self.calls.setdefault(names[0], Node()).add(names[1:], weight)

    def as_json(self) -> list[object]:
        """Return the node as it goes through a pipe."""
        return [self.samples, {name: node.as_json() for name, node in self.calls.items()}]

    @classmethod
    def from_json(cls, kept: list) -> Node:
        """Return a node that came through a pipe."""
        return cls(kept[0], {name: cls.from_json(node) for name, node in kept[1].items()})


def main() -> None:
    if sys.argv[1:2] == ["--inside"]:
        _watch(Path(sys.argv[2]), sys.argv[3:])
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--views", type=int, default=61)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--series", type=Path, default=None, help="a series to run instead of a simulated one")
    parser.add_argument("--least", type=float, default=0.7, help="per cent of the run below which a function is not shown")
    add_option(parser)
    asked = parser.parse_args()
    figures = Figures("flame")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        source, case = put_series(root / "series", Case(asked.size, asked.views, threads=asked.threads), asked.series)
        tree, seconds = watched(source, case, root)
    with figures.printed():
        print(f"{case}: {seconds:.1f} s, share of it with all that a function calls")
        for name, share in largest(tree):
            print(f"{share:7.1%}  {name}")
    figures.keep("seconds", seconds, "s")
    figures.save(asked)
    if asked.record:
        PICTURE.write_text(drawn(tree, asked.least / 100, f"{case}: {seconds:.1f} s"), encoding="utf-8")


def watched(source: Path, case: Case, root: Path) -> tuple[Node, float]:
    """Run a series twice, watch the second run, and return what it did and its seconds."""
    kept = root / "samples.json"
    for turn in ("first", "then"):
        _, _, _, *command = run_command(source.parent, root / turn, case)
        begin = time.perf_counter()
        words = [sys.executable, __file__, "--inside", str(kept), *command]
        done = subprocess.run(words, env=with_caches(root / "cache"), capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"the run ended with {done.returncode}:\n{done.stderr[-3000:]}")
        seconds = time.perf_counter() - begin
    return Node.from_json(json.loads(kept.read_text())), seconds


def largest(tree: Node, most: int = 30) -> list[tuple[str, float]]:
    """Return the functions that take most, each with the share of its samples wherever it was called from."""
    shares: dict[str, float] = {}

    def visit(node: Node, above: frozenset[str]) -> None:
        for name, called in node.calls.items():
            if name not in above:  # a function that calls itself counts once
                shares[name] = shares.get(name, 0.0) + called.samples / tree.samples
            visit(called, above | {name})

    visit(tree, frozenset())
    return sorted(shares.items(), key=lambda each: -each[1])[:most]


def drawn(tree: Node, least: float, title: str) -> str:
    """Return the flame graph as SVG, the outermost functions on top."""
    boxes = list(_boxes(tree, 0.0, 0, least * tree.samples))
    rows = 1 + max(row for _, row, _, _ in boxes)
    view = f"0 0 {_WIDTH:g} {(rows + 1) * _ROW + 4:g}"
    style = "background:#fff; font-family:sans-serif; font-size:11px"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{view}" width="{_WIDTH:g}" style="{style}">',
        f'<text x="4" y="{_ROW - 4:g}">{escape(title)}</text>',
    ]
    for left, row, samples, name in boxes:
        x, wide, y = left / tree.samples * _WIDTH, samples / tree.samples * _WIDTH, (row + 1) * _ROW
        colour = _COLOURS[sum(name.split(".")[0].encode()) % len(_COLOURS)]
        words = name if len(name) * _LETTER < wide - 4 else name.rpartition(".")[2]
        words = words[: max(int((wide - 4) / _LETTER), 0)]
        tip = f"<title>{escape(name)}: {samples / tree.samples:.1%}</title>"
        box = f'<rect x="{x:.1f}" y="{y:g}" width="{max(wide - 0.5, 0.2):.1f}" height="{_ROW - 1:g}" fill="{colour}"/>'
        parts.append(f'<g>{tip}{box}<text x="{x + 2:.1f}" y="{y + 12:g}">{escape(words)}</text></g>')
    return "\n".join([*parts, "</svg>\n"])


def _boxes(node: Node, left: float, row: int, least: float) -> Iterator[tuple[float, int, float, str]]:
    """Yield where each function begins, its row, its samples and its name."""
    for name, called in sorted(node.calls.items(), key=lambda each: -each[1].samples):
        if called.samples >= least:
            yield left, row, called.samples, name
            yield from _boxes(called, left, row + 1, least)
            left += called.samples


def _watch(kept: Path, words: list[str]) -> None:
    """Run the command line with a thread that watches it, and write down what that saw."""
    tree, over, main_thread = Node(), threading.Event(), threading.get_ident()

    def look() -> None:
        while not over.wait(_EVERY_S):
            frames = sys._current_frames()  # noqa: SLF001  there is no other way to see what threads do
            own = _names(frames.pop(main_thread))
            frames.pop(threading.get_ident(), None)
            if own[-1:] == ["waiting"]:
                at_work = [names for names in map(_names, frames.values()) if names and names[-1] != "waiting"]
                for names in at_work:
                    tree.add([*own[:-1], *names], 1 / len(at_work))
                if at_work:
                    continue
            tree.add(own, 1.0)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    from tiltflow.beside import this_process_is_ours
    from tiltflow.cli import main as command

    this_process_is_ours()  # as it is in the command itself; what copies do is not seen
    sys.argv = ["tiltflow", *words]
    status: object = 0
    try:
        command()
    except SystemExit as ended:
        status = ended.code
    over.set()
    watcher.join()
    kept.write_text(json.dumps(tree.as_json()))
    sys.exit(status)  # type: ignore[arg-type]


def _names(frame: FrameType | None) -> list[str]:
    """Return the names of a thread's functions, outermost first, and of the library that it is in."""
    names: list[str] = []
    library = ""
    while frame is not None:
        module, function = frame.f_globals.get("__name__", ""), frame.f_code.co_name
        if module.startswith("tiltflow"):
            if function == "__call__" and module == "tiltflow.kernels":
                names.append(f"kernels.{frame.f_locals['self']._loop.__name__}")  # noqa: SLF001
            elif function not in _PASSED_OVER:
                names.append(f"{module.removeprefix('tiltflow.')}.{function}")
        elif not names and not library:
            library = "waiting" if module in {"threading", "queue", "concurrent.futures.thread"} else module.partition(".")[0]
        frame = frame.f_back
    imports = {"importlib", "_frozen_importlib", "_frozen_importlib_external"}
    return [*reversed(names), *(["imports" if library in imports else library] if library and library != "__main__" else [])]


if __name__ == "__main__":
    main()
