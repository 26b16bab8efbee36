"""Which kernels a run calls, in which order and with what: the list that a first run is compiled ahead by.

    python benchmarks/signatures.py [--record]

A simulated series is run by each method in a process of its own with nothing compiled.  Printed is how many kernels each calls, and
what is not listed; `--record` writes `src/tiltflow/kernels/signatures.json` anew.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from speed.processes import METHODS, Case, run_command, simulated, with_caches
from tiltflow.kernels.ahead import LIST, Call, listed

_CASE = Case(size=1024, views=41, threads=1)
"""With a thread to spare kernels would be compiled elsewhere, and not heard of here."""


def main() -> None:
    if sys.argv[1:2] == ["--inside"]:
        _listen(Path(sys.argv[2]), sys.argv[3:])
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--record", action="store_true")
    asked = parser.parse_args()
    found: dict[str, list[Call]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "series").mkdir()
        simulated(root / "series" / "gold.st", _CASE)
        for method in METHODS:
            found[method] = called(root, method)
            unlisted = [call for call in found[method] if call not in listed(method)]
            print(f"{method}: {len(found[method])} kernels, {len(unlisted)} of them not listed")
            for name, arguments in unlisted:
                print(f"    {name}({', '.join(arguments)})")
    if asked.record:
        lines = (json.dumps(method) + ": [\n" + ",\n".join(map(json.dumps, calls)) + "\n]" for method, calls in found.items())
        LIST.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def called(root: Path, method: str) -> list[Call]:
    """Return the kernels that a run calls, in the order of their first calls."""
    answer, cache = root / f"{method}.json", root / f"{method}_cache"
    command = run_command(root / "series", root / method, _CASE, method)
    command[1:3] = [__file__, "--inside", str(answer)]  # instead of -m tiltflow
    subprocess.run(command, env=with_caches(cache), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return [(name, arguments) for name, arguments in json.loads(answer.read_text("utf-8"))]


def _listen(answer: Path, arguments: list[str]) -> None:
    """Run tiltflow with some arguments, and write down what numba compiles because it is called."""
    from numba.core import event

    calls: list[Call] = []

    class Listener(event.Listener):
        depth = 0

        def on_start(self, begun: event.Event) -> None:
            if not self.depth:
                loop = begun.data["dispatcher"].py_func
                calls.append((f"{loop.__module__.rpartition('.')[2]}.{loop.__name__}", list(map(str, begun.data["args"]))))
            self.depth += 1

        def on_end(self, _event: event.Event) -> None:
            self.depth -= 1

    event.register("numba:compile", Listener())
    from tiltflow.cli.application import app

    sys.argv = ["tiltflow", *arguments]
    try:
        app()
    finally:
        answer.write_text(json.dumps(calls), encoding="utf-8")


if __name__ == "__main__":
    main()
