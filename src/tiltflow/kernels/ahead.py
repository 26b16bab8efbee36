"""Kernels compiled ahead of their first call, where none is kept yet: by processes beside the one that will call them.

numba compiles on one core, with the interpreter locked, and takes twice as long as the whole work on a small series.  What is called is
known (`signatures.json`), so that another process can begin with what takes longest, and keep it; the first process loads what is kept
by the time it gets there, and waits for what is being compiled.  A kernel that is not listed is compiled when it is called.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import CodeType
from typing import Any

from tiltflow.kernels import numba_function

Call = tuple[str, list[str]]
"""The name of a kernel, `module.name`, and the types of its arguments in numba's notation."""
LIST = Path(__file__).with_name("signatures.json")
"""The calls of runs by each method of alignment, in the order of the first of each; written by `benchmarks/signatures.py`."""

HELPER_BYTES = 300 << 20
"""Memory of a helper, most of it numba's."""
_MOST_HELPERS = 3
"""More would wait for the kernel that takes longest."""
_ARRAY = re.compile(r"(readonly )?array\((\w+), (\d)d, ([ACF])\)")
_TUPLE = re.compile(r"UniTuple\((\w+) x (\d+)\)")
_begun: set[str] = set()
"""Methods that this process has begun to compile ahead for."""
_BEGIN = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from tiltflow.kernels.ahead import help_to_compile
help_to_compile(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
"""


def compile_ahead(method: str, helpers: int) -> None:
    """Begin to compile what an alignment by a method, and what follows it, will call; return at once.

    Nothing is done where the last of these kernels is kept already or none can be kept, by a second call, or while another process
    does it.  The helpers end with this process, however that ends.

    Parameters
    ----------
    method
        Of the alignment; of one that is not listed nothing is known.
    helpers
        Processes, each of which takes a core and `HELPER_BYTES` of memory; three at most.
    """
    calls = listed(method)
    if helpers < 1 or not calls or method in _begun:
        return
    _begun.add(method)
    helpers = min(helpers, _MOST_HELPERS)
    from tiltflow.kernels.compiling import folder_of, is_kept

    last = function(calls[-1][0])
    folder = folder_of(last)
    if folder is None or is_kept(last) or (held := _held(folder)) is None:
        return
    started = []
    for number in range(helpers):
        command = [sys.executable, "-c", _BEGIN, json.dumps(sys.path), method, str(number), str(helpers)]
        with contextlib.suppress(OSError):  # where no process can be started each kernel is compiled when it is called
            started.append(
                subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
                )
            )

    def wait() -> None:
        for helper in started:
            helper.wait()
            if helper.stdin is not None:
                helper.stdin.close()
        os.close(held)

    threading.Thread(target=wait, name="kernels are compiled", daemon=True).start()


def _held(folder: Path) -> int | None:
    """Return a descriptor of the folder, held as long as it is open; None while another process has its helpers at work there."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:  # a file system that knows no locks: helpers of several processes do the same work at worst
        pass
    return descriptor


def help_to_compile(method: str, number: int, helpers: int) -> None:
    """Compile what a method calls, the longest first, as one of several helpers; end when the standard input does."""
    threading.Thread(target=_end_with_input, name="end with input", daemon=True).start()
    gc.disable()  # nothing that a compiler makes is garbage for long enough to be worth a tenth of the time
    for name, arguments in longest_first(listed(method))[number::helpers]:
        function(name).compile(tuple(map(type_of, arguments)))


def longest_first(calls: list[Call]) -> list[Call]:
    """Return the calls in the order in which they are best begun by one of several: those with most to compile first."""
    return sorted(calls, key=lambda call: -sum(len(each.co_code) for each in _parts(function(call[0]).py_func)))


def _parts(loop: Any) -> set[CodeType]:
    """Return the code of a kernel and of those that it calls."""
    called = (loop.__globals__.get(name) for name in loop.__code__.co_names)
    return {loop.__code__}.union(*(_parts(each.py_func) for each in called if hasattr(each, "py_func")))


def _end_with_input() -> None:
    while os.read(0, 1):
        pass
    os._exit(0)


def listed(method: str) -> list[Call]:
    """Return what a run calls that aligns by a method; nothing for one that is not known."""
    return [(name, arguments) for name, arguments in json.loads(LIST.read_text("utf-8")).get(method, [])]


def function(name: str) -> Any:
    """Return numba's function of the kernel `module.name`."""
    module, _, kernel = name.partition(".")
    return numba_function(getattr(importlib.import_module(f"tiltflow.kernels.{module}"), kernel))


def type_of(text: str) -> Any:
    """Return numba's type that is written so.

    Raises
    ------
    ValueError
        If none is.
    """
    from numba import types

    if found := _ARRAY.fullmatch(text):
        layout: Any = found[4]
        return types.Array(type_of(found[2]), int(found[3]), layout, readonly=bool(found[1]))
    if found := _TUPLE.fullmatch(text):
        return types.UniTuple(type_of(found[1]), int(found[2]))
    if isinstance(kind := getattr(types, {"bool": "boolean"}.get(text, text), None), types.Type):
        return kind
    raise ValueError(f"{text} is no type that kernels take")
