"""What one process compiles, others wait for."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tiltflow.kernels import claims

KEEPS = """
import sys
from pathlib import Path
from tiltflow.kernels.claims import claimed
with claimed(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.readline()
"""


def holder(folder: Path, name: str) -> subprocess.Popen[str]:
    """Start a process that has a claim, and keeps it until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", KEEPS, str(folder), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def waited(folder: Path, name: str) -> float:
    """Return for how long a claim was waited for, seconds."""
    begin = time.monotonic()
    with claims.claimed(folder, name):
        return time.monotonic() - begin


def test_a_claim_of_another_process_is_waited_for_until_it_ends_however_it_does(tmp_path: Path) -> None:
    with holder(tmp_path, "one") as process:
        assert waited(tmp_path, "two") < 1
        assert waited(tmp_path / "elsewhere", "one") < 1
        began = subprocess.Popen([sys.executable, "-c", f"import os, time; time.sleep(1.5); os.kill({process.pid}, 9)"])
        assert waited(tmp_path, "one") > 1
        began.wait()


def test_nobody_is_waited_for_longer_than_it_would_take_to_compile(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(claims, "_LONGEST_S", 0.3)
    with holder(tmp_path, "one") as process:
        assert 0.2 < waited(tmp_path, "one") < 5
        assert process.stdin is not None
        process.stdin.close()


def test_a_claim_within_a_claim_is_held_and_ends_before_it(tmp_path: Path) -> None:
    with claims.claimed(tmp_path, "whole"):
        with claims.claimed(tmp_path, "part"):
            pass
        code = (
            f"from tests.kernels.test_claims import *\nclaims._LONGEST_S, folder = 0.3, Path({str(tmp_path)!r})\n"
            "print(waited(folder, 'part') < 0.2, waited(folder, 'whole') > 0.2)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "True True\n"


def test_where_nothing_can_be_locked_the_work_is_done(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert waited(tmp_path / "file", "one") < 1
    assert waited(Path("/dev/null/x"), "one") < 1


COMPILE = """
import sys
from tiltflow.kernels.ahead import function, listed, type_of
arguments = dict(listed("gold"))["xrays.examine"]
function("xrays.examine").compile(tuple(map(type_of, arguments)))
print(sum(function("xrays.examine").stats.cache_misses.values()))
"""


def test_two_processes_that_need_the_same_compile_it_once(tmp_path: Path) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    both = [subprocess.Popen([sys.executable, "-c", COMPILE], env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sum(int(process.communicate(timeout=120)[0]) for process in both) == 1
