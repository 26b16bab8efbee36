"""Where compiled kernels are kept, and that no place to keep them costs no work: each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import errno, logging, os, sys, tempfile
import numba.core.caching as caching
logging.basicConfig(format="%(message)s")
case, folder = sys.argv[1:]
if case != "full disk":  # as where the program was installed by another user
    caching.InTreeCacheLocator.from_function = classmethod(lambda *_: None)
tempfile.tempdir = "/dev/null/x" if case == "nowhere" else folder
if case == "somebody else's":
    os.mkdir(f"{folder}/tiltflow-compiled-{os.getuid()}")
    os.chmod(f"{folder}/tiltflow-compiled-{os.getuid()}", 0o777)
if case == "full disk":
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    caching.IndexDataCacheFile.save = full
    caching.IndexDataCacheFile.load = lambda *_: None
from tiltflow.kernels import kernel
import tiltflow.kernels.grey
@kernel()
def one(x):
    return x / 2
@kernel()
def two(x):
    return x / 4
print(one(1.0), two(1.0))
"""


@pytest.mark.parametrize(
    ("case", "remarks", "kept"),
    [("no home", 0, True), ("nowhere", 1, False), ("somebody else's", 1, False), ("full disk", 1, False)],
)
def test_a_service_without_a_home_works(tmp_path, case, remarks, kept):
    script = tmp_path / "script.py"
    script.write_text(CODE)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    nowhere = {"HOME": "/dev/null/x", "XDG_CACHE_HOME": "/dev/null/x"}
    environment = os.environ | nowhere | ({"NUMBA_CACHE_DIR": "/dev/null/x"} if case != "full disk" else {})
    done = subprocess.run(
        [sys.executable, str(script), case, str(temporary)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "0.5 0.25\n", done.stderr
    assert done.stderr.count("compiled kernels are not kept") == remarks, done.stderr
    folder: Path = temporary / f"tiltflow-compiled-{os.getuid()}"
    assert any(path.suffix == ".nbi" for path in folder.rglob("*")) == kept
    if kept:
        assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("broken", [b"broken", b"", b"\x80\xff"], ids=["garbage", "empty", "of no protocol"])
def test_what_was_kept_and_cannot_be_read_is_compiled_anew_and_kept(tmp_path, broken):
    script, kept = tmp_path / "script.py", tmp_path / "kept"
    script.write_text(
        "import logging; logging.basicConfig(format='%(message)s')\nfrom tiltflow.kernels import kernel\n"
        "@kernel()\ndef one(x):\n    return x / 2\nprint(one(1.0))\n"
    )
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, str(script)],
            env=os.environ | {"NUMBA_CACHE_DIR": str(kept)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.stdout, done.stderr) == ("0.5\n", "")
        files = list(kept.rglob("*.nb?"))
        assert files
        assert broken not in [path.read_bytes() for path in files]
        for path in files:
            path.write_bytes(broken)


def test_what_was_compiled_before_is_called_without_the_compiler(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "import numpy as np\n"
        "from tiltflow.kernels.grey import statistics\n"
        "low, high, total = np.zeros((3, 2), np.float32)\n"
        "statistics(np.array([[1, -2], [3, -4]], np.float32), low, high, total)\n"
        "print(*low, *high, *total, 'numba.np.arraymath' in sys.modules)\n"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "kept")}
    said = [
        subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert said == ["0.0 -4.0 3.0 0.0 4.0 -6.0 True\n", "0.0 -4.0 3.0 0.0 4.0 -6.0 False\n"]
