"""Keeps what a benchmark measured in `docs/figures/NAME.json`, from where the pages of the documentation take it.

A benchmark makes one :class:`Figures`, keeps single figures and its printed table in it, and ends with `save`; nothing is written
without the option `--record`.  `docs/generate.py` puts the figures into the pages, and a test keeps the two equal.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "docs" / "figures"


@dataclass
class Figures:
    """Figures of one benchmark by name, and what it printed.

    Attributes
    ----------
    name
        Of the file that they are kept in, and of the benchmark unless `script` is given: its file without the ending.
    kept
        Name to value and unit.
    table
        What was printed within :meth:`printed`.
    script
        Name of the benchmark, where that keeps several files.
    """

    name: str
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    table: str = ""
    script: str = ""

    def keep(self, name: str, value: float | str, unit: str, digits: int = 1) -> None:
        """Keep a figure, written with so many digits after the point; words stay as they are."""
        self.kept[name] = {"value": value if isinstance(value, str) else f"{value:.{digits}f}", "unit": unit}

    @contextlib.contextmanager
    def printed(self) -> Iterator[None]:
        """Keep what is printed meanwhile; it is shown all the same."""
        copy = _Copy(sys.stdout)
        with contextlib.redirect_stdout(copy):
            yield
        self.table += copy.kept.getvalue()

    def save(self, asked: argparse.Namespace) -> None:
        """Write the file where `--record` was given."""
        if not asked.record:
            return
        lines = [line.rstrip() for line in self.table.strip("\n").splitlines()]
        text = {
            "command": " ".join(
                [
                    "python",
                    f"benchmarks/{self.script or self.name}.py",
                    *(_named(word) for word in sys.argv[1:] if word != "--record"),
                ]
            ),
            "date": datetime.now(UTC).date().isoformat(),
            "machine": machine(),
            "figures": self.kept,
            "table": lines,
        }
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / f"{self.name}.json").write_text(json.dumps(text, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _named(word: str) -> str:
    """Return a word of the command; of a file elsewhere on this machine its name alone."""
    return Path(word).name if Path(word).is_absolute() else word


class _Copy(io.TextIOBase):
    """Writes to a stream and keeps what it wrote."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.kept = stream, io.StringIO()

    def write(self, text: str) -> int:
        self.kept.write(text)
        return int(self.stream.write(text))

    def flush(self) -> None:
        self.stream.flush()


def add_option(parser: argparse.ArgumentParser) -> None:
    """Give a benchmark the option `--record`."""
    parser.add_argument("--record", action="store_true", help="write the figures to docs/figures, for the documentation")


def machine() -> str:
    """Return what the benchmark ran on, in a sentence, and how much else was running."""
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"{cores} {'core' if cores == 1 else 'cores'} of {_processor()}, {memory:.0f} GB of memory, "
        f"Python {platform.python_version()}; load average {os.getloadavg()[1]:.1f} while it ran"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
