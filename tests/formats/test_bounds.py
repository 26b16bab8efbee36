"""Reading is bounded in time and memory, whatever a file holds."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tiltflow.errors import DirectiveError, FormatError, InputError
from tiltflow.formats.directives import read_directive_text
from tiltflow.formats.extended import axis_angle_in_labels
from tiltflow.formats.mdoc import parse_mdoc
from tiltflow.formats.side_axis import read_side_axis
from tiltflow.formats.text_files import LARGEST_BYTES, bytes_of
from tiltflow.formats.tilts import read_tilts
from tiltflow.formats.transforms import read_transforms

BLANKS = 200_000
CALL = """
import resource, sys
from pathlib import Path
import {module}
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
from tiltflow.errors import TiltflowError
try:
    {module}.{call}
except TiltflowError as error:
    print(type(error).__name__)
"""


def run_limited(module: str, call: str) -> subprocess.CompletedProcess[str]:
    """Run a call in a process of its own, which is killed after 20 s of CPU time, or above 2 GB."""
    code = CALL.format(module=module, call=call)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "text",
    [
        f"[a ={' ' * BLANKS}x",
        f"[T ={' ' * BLANKS}]x",
        f"{'[' * BLANKS}",
        f"[{' ' * BLANKS}",
        f"[T = tilt axis{' ' * BLANKS}x]",
        f"[T = tilt axis rotation{' ' * BLANKS}angle{' ' * BLANKS}x]",
        f"a{' ' * BLANKS}= {' ' * BLANKS}1",
        "[ZValue = 0]\n" * (BLANKS // 10),
        f"[ZValue = {'9' * BLANKS}]",
        f"[ZValue = 0]\nTiltAngle = {'1' * BLANKS}",
        f"[ZValue = 0]\nTiltAngle = {'1,' * BLANKS}",
    ],
    ids=lambda text: f"{text[:24]!r}...",
)
def test_a_text_for_an_mdoc_takes_a_time_in_proportion_to_its_length(tmp_path: Path, text: str) -> None:
    path = tmp_path / "B.mrc.mdoc"
    path.write_text(text)
    ended = run_limited("tiltflow.formats.mdoc", f"read_mdoc({str(path)!r})")
    assert ended.returncode == 0, ended.stderr[-500:]


@pytest.mark.parametrize(
    "text",
    ["\n" * 1_000_000, "tilt axis" + "_" * 1_000_000, "tilt axis" + " \t" * 500_000, ("tilt axis" + "_" * 100 + "\n") * 9000],
)
def test_a_text_beside_a_stack_takes_a_time_in_proportion_to_its_length(tmp_path: Path, text: str) -> None:
    path = tmp_path / "B.txt"
    path.write_text(text)
    ended = run_limited("tiltflow.formats.side_axis", f"read_side_axis(Path({str(path)!r}))")
    assert ended.returncode == 0, ended.stderr[-500:]


def sparse(path: Path, size: int, head: bytes = b"") -> Path:
    """Write a file whose end is a hole, so that it takes no room on the disk."""
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)
    return path


READERS: list[tuple[str, Callable[[Path], object], type[InputError | DirectiveError]]] = [
    ("B.rawtlt", read_tilts, FormatError),
    ("B.xf", read_transforms, FormatError),
    ("B.adoc", read_directive_text, DirectiveError),
    ("B.mdoc", bytes_of, FormatError),
]


@pytest.mark.parametrize(("name", "read", "error"), READERS, ids=[name for name, _, _ in READERS])
def test_a_file_of_gigabytes_is_no_text_beside_a_stack(
    tmp_path: Path, name: str, read: Callable[[Path], object], error: type[Exception]
) -> None:
    path = sparse(tmp_path / name, 3 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(error, match=r"has 3\.22e\+03 MB, too much for a text of this kind"):
        read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10 * LARGEST_BYTES / 1024


def test_an_extended_header_of_gigabytes_is_read_to_its_first_part(tmp_path: Path) -> None:
    from tests.conftest import write_small_series

    raw = bytearray(write_small_series(tmp_path / "A.st").read_bytes()[:1024])
    raw[92:96] = ((2 << 30) - 1).to_bytes(4, "little")
    path = sparse(tmp_path / "B.st", 3 << 30, bytes(raw))
    ended = run_limited("tiltflow.formats.mrcheader", f"read_header(Path({str(path)!r}))")
    assert ended.returncode == 0, ended.stderr[-500:]


@pytest.mark.parametrize("angle", ["inf", "-inf", "nan", "1e999"])
def test_an_axis_angle_that_is_no_number_is_none(tmp_path: Path, angle: str) -> None:
    assert axis_angle_in_labels([f"Tilt axis angle = {angle}"]) is None
    assert parse_mdoc(f"[T = Tilt axis angle = {angle}, binning = 1]\n[ZValue = 0]\nTiltAngle = 1\n").axis_angle_deg is None
    (tmp_path / "B.txt").write_text(f"Tilt axis angle: {angle}\n")
    assert read_side_axis(tmp_path / "B.txt").angle_deg is None
    views = "".join(f"[ZValue = {z}]\nTiltAngle = {z}\nRotationAngle = {angle}\n" for z in range(3))
    found = parse_mdoc(f"[T = Tomography: KRIOS]\n[T = TiltAxisAngle = {angle}]\n{views}")
    assert found.axis_angle_deg is None
