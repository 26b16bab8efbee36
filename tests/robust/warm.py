"""A process in which the program is loaded and has worked once, and which then runs it again and again in forked copies of itself.

A copy costs the work only, not the second of imports; the shim is armed in the copy, after the fork.  The caller writes a list of
requests on a line, all of them are run at once, and their ends are written as a line back.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

CLONE_NEWPID = 0x20000000


def warm_up(source: Path, parent: Path) -> None:
    """Load all that a run needs, and run once."""
    from tiltflow.cli import run_command, telling, verify_command  # noqa: F401
    from tiltflow.pipeline import run
    from tiltflow.recipe import BrtParameters, make_recipe
    from tiltflow.work import Site

    recipe = make_recipe(BrtParameters(thickness=32), overrides=["runtime.AlignedStack.any.binByFactor=1"], engine="native")
    result = run([source], recipe, Site(scratch=parent / "scratch", threads=1), parent / "out")
    if not result.results[0].ok:
        raise SystemExit(result.results[0].message)


def main() -> None:
    """Serve requests until the caller closes our input."""
    source, parent = map(Path, sys.argv[1:3])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warm_up(source, parent)
    gc.collect()
    gc.freeze()
    print("warm", file=answers, flush=True)
    for line in sys.stdin:
        requests = json.loads(line)
        begin = time.monotonic()
        children = {_start(request): index for index, request in enumerate(requests)}
        print(json.dumps(list(children)), file=answers, flush=True)
        ends: list[dict[str, Any]] = [{} for _ in requests]
        while children:
            pid, status, used = os.wait4(-1, 0)
            ends[children.pop(pid)] = {
                "status": os.waitstatus_to_exitcode(status),
                "seconds": time.monotonic() - begin,
                "peak_kb": used.ru_maxrss,
            }
        print(json.dumps(ends), file=answers, flush=True)


def _start(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        status = _work(request)
    finally:
        os._exit(status)


def _work(request: dict[str, Any]) -> int:
    os.setsid()
    said = os.open(request["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for copy, of in ((0, nothing), (1, said), (2, said)):
        os.dup2(of, copy)
    os.environ.update(request["environment"])
    if request["own_pids"]:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWPID) != 0:
            return 71
        inner = os.fork()
        if inner:
            return os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1])
    return _call(request)


def _call(request: dict[str, Any]) -> int:
    from tiltflow.cli import main as tiltflow

    sys.argv = ["tiltflow", *request["arguments"]]
    status = 0
    if request["arming"] is not None:
        from tests.robust.shim import Arming, arm

        arm(Arming(**request["arming"]))
    try:
        tiltflow()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # noqa: BLE001  whatever escapes is shown to the caller
        import traceback

        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status


if __name__ == "__main__":
    main()
