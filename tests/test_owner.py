"""Hidden files of processes that died are told from those of processes that work, also where numbers are equal."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tiltflow import owner
from tiltflow.atomic_write import atomic_write, remove_left_behind
from tiltflow.delivery.cleanup import make_scratch


def a_file_of_a_process_that_died(folder: Path) -> Path:
    code = "import sys; from pathlib import Path; from tiltflow.owner import new_token; print('.tiltflow-' + new_token() + '.json')"
    name = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    path = folder / name
    path.touch()
    return path


def mine(folder: Path) -> Path:
    path = folder / f".tiltflow-{owner.new_token()}.json"
    path.touch()
    return path


def with_part(path: Path, part: int, text: str) -> Path:
    """Another path, whose token has one part changed: 0 is the place, 1 the number of the process, 2 its start."""
    parts = re.search(r"([0-9a-f]{8})-([0-9a-f]+)-([0-9a-f]+)-([0-9a-f]{16})", path.name).groups()
    changed = [*parts[:part], text, *parts[part + 1 :]]
    return path.rename(path.with_name(f".tiltflow-{'-'.join(changed)}.json"))


def test_what_a_dead_process_left_goes_and_what_lives_stays(tmp_path):
    dead, living, other = a_file_of_a_process_that_died(tmp_path), mine(tmp_path), tmp_path / ".tiltflow-lock"
    other.touch()
    remove_left_behind(tmp_path)
    assert not dead.exists()
    assert {path.name for path in tmp_path.iterdir()} == {living.name, other.name}


def test_a_number_that_is_used_again_is_another_process(tmp_path):
    assert owner.is_left_behind(with_part(mine(tmp_path), 2, "1"))


def test_a_process_that_ended_and_was_not_waited_for_is_gone():
    process = subprocess.Popen(["true"])
    end = time.monotonic() + 10
    while owner._start(process.pid) is not None and time.monotonic() < end:
        time.sleep(0.01)
    assert owner._start(process.pid) is None
    process.wait()


@pytest.mark.parametrize("hidden", [FileNotFoundError, PermissionError])
def test_a_process_of_which_the_kernel_tells_nothing_lives_as_long_as_it_has_its_number(tmp_path, monkeypatch, hidden):
    """As those of other users where /proc is mounted with hidepid."""
    dead, living = a_file_of_a_process_that_died(tmp_path), mine(tmp_path)
    impossible = with_part(mine(tmp_path), 1, "f" * 16)
    read_text = Path.read_text

    def refuse(path, **how):
        if path.name == "stat":
            raise hidden
        return read_text(path, **how)

    monkeypatch.setattr(Path, "read_text", refuse)
    assert [owner.is_left_behind(path) for path in (dead, living, impossible)] == [True, False, True]
    assert not owner.is_left_behind(mine(tmp_path))


def test_an_equal_number_in_another_container_or_on_another_machine_is_not_judged_by_ours(tmp_path):
    foreign = with_part(a_file_of_a_process_that_died(tmp_path), 0, "00000000")
    assert not owner.is_left_behind(foreign)
    long_ago = time.time() - owner.FOREIGN_S - 60
    os.utime(foreign, (long_ago, long_ago))
    assert owner.is_left_behind(foreign)


def test_a_foreign_folder_that_is_written_to_lives(tmp_path):
    folder = tmp_path / f"B-00000000-1-1-{'0' * 16}"
    folder.mkdir()
    (folder / "B_rec.mrc").touch()
    os.utime(folder, (1, 1))
    assert not owner.is_left_behind(folder)
    os.utime(folder / "B_rec.mrc", (1, 1))
    assert owner.is_left_behind(folder)


@pytest.mark.parametrize(
    "name", ["B", ".tiltflow-staging-unfinished", ".tiltflow-lock", ".tiltflow-earlier", "B-1-2-3", "run.json"]
)
def test_a_name_without_a_token_is_nobody_s(tmp_path, name):
    assert not owner.is_left_behind(tmp_path / name)


def test_scratch_of_a_killed_run_goes_at_the_next_start_and_kept_or_living_scratch_stays(tmp_path):
    code = (
        "from pathlib import Path; from tiltflow.delivery.cleanup import make_scratch; import os, sys\n"
        f"for keep in (False, True): make_scratch(Path('B.st'), Path({str(tmp_path)!r}), keep=keep)\nos.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert len(list(tmp_path.iterdir())) == 2
    living = make_scratch(Path("B.st"), tmp_path)
    newest = make_scratch(Path("B.st"), tmp_path)
    left = {path.name for path in tmp_path.iterdir()} - {living.name, newest.name}
    assert len(left) == 1, "the one that was to be kept"
    assert living.is_dir()


def test_a_partial_file_bears_its_owner_s_token(tmp_path):
    with atomic_write(tmp_path / "B.json") as partial:
        assert f"-{os.getpid():x}-" in partial.name
        assert partial.suffix == ".json"
        partial.touch()
        remove_left_behind(tmp_path)
        assert partial.exists()
