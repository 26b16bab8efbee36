"""Several runs at once: one works on a series, and a record describes its own products."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tiltflow import stopping
from tiltflow.errors import LocationError
from tiltflow.pipeline import check_results, lock
from tiltflow.pipeline.lock import LOCK_NAME, folder_lock, sole_lock
from tiltflow.record import read_record


def nobody(_word: str) -> None:
    pass


def test_a_second_run_waits_for_the_first_and_is_told_of_it(tmp_path):
    words, order = [], []

    def second():
        with folder_lock(tmp_path / "B", words.append):
            order.append("second")

    with folder_lock(tmp_path / "B", nobody):
        thread = threading.Thread(target=second)
        thread.start()
        while not words:
            time.sleep(0.01)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert f"process {os.getpid()} on " in words[0]
    assert list((tmp_path / "B").iterdir()) == []


def test_many_runs_are_never_two_at_once(tmp_path):
    inside, most = [], []

    def one():
        for _ in range(5):
            with folder_lock(tmp_path / "B", lambda _word: time.sleep(0)):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 20
    assert max(most) == 1


def test_who_waits_can_give_up(tmp_path):
    def give_up(_word):
        raise KeyboardInterrupt

    with folder_lock(tmp_path / "B", nobody), pytest.raises(KeyboardInterrupt), folder_lock(tmp_path / "B", give_up):
        raise AssertionError("two at once")


def test_a_run_that_was_killed_leaves_no_lock(tmp_path):
    code = "import sys,time; from pathlib import Path; from tiltflow.pipeline.lock import folder_lock\n"
    code += f"with folder_lock(Path({str(tmp_path / 'B')!r}), print): print('in', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    process.kill()
    process.wait()
    process.stdout.close()
    words = []
    assert (tmp_path / "B" / LOCK_NAME).is_file()
    with folder_lock(tmp_path / "B", words.append):
        assert words == []


def test_a_link_in_its_place_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("raw images")
    (tmp_path / "B").mkdir()
    (tmp_path / "B" / LOCK_NAME).symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"), folder_lock(tmp_path / "B", nobody):
        raise AssertionError("it was followed")
    assert victim.read_text() == "raw images"


@pytest.mark.usefixtures("fake_imod")
def test_records_of_runs_at_once_describe_their_own_products(small_series, tmp_path):
    output = tmp_path / "out"
    command = [sys.executable, "-m", "tiltflow", "run", str(small_series.parent), "-o", str(output), "--engine", "imod"]
    runs = [subprocess.Popen([*command, "--thickness", str(thickness)]) for thickness in (50, 52, 54, 50)]
    assert [run.wait() for run in runs] == [0] * 4
    (checked,) = check_results(output)
    assert checked.differences == ()
    record = read_record(output / "B" / "run.json")
    assert record.status == "success"
    assert not [entry.name for entry in (output / "B").iterdir() if entry.name.startswith(".tiltflow")]
    assert not list((output / "B").glob("*staging*"))
    thickness = {row.value for row in record.recipe.directives if row.name.endswith("THICKNESS")}
    assert thickness <= {"50", "52", "54"}


def test_the_folder_is_where_the_lock_is(tmp_path):
    place = Path(tmp_path / "deep" / "B")
    with folder_lock(place, nobody):
        assert (place / LOCK_NAME).is_file()


def test_a_file_that_was_removed_between_opening_and_locking_holds_nothing(tmp_path, monkeypatch):
    folder, locked = tmp_path / "B", lock.fcntl.flock
    folder.mkdir()
    removed = []

    def late(descriptor, how):
        if not removed:  # the run before ends now
            removed.append(True)
            (folder / LOCK_NAME).unlink()
        locked(descriptor, how)

    monkeypatch.setattr(lock.fcntl, "flock", late)
    with folder_lock(folder, nobody):
        assert (folder / LOCK_NAME).is_file()


def test_the_end_of_a_run_whose_folder_was_removed_takes_no_other_s_lock(tmp_path):
    folder = tmp_path / "B"
    with folder_lock(folder, nobody):
        shutil.rmtree(folder)
        second = folder_lock(folder, nobody)
        second.__enter__()
    assert (folder / LOCK_NAME).is_file()
    second.__exit__(None, None, None)


def test_a_full_disk_takes_no_lock_away(tmp_path, monkeypatch):
    def full(_descriptor, _text):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lock.os, "write", full)
    with folder_lock(tmp_path / "B", nobody):
        assert (tmp_path / "B" / LOCK_NAME).is_file()


def test_who_waits_for_another_run_ends_at_a_signal(tmp_path):
    def ask_to_end(_word: str) -> None:
        signal.raise_signal(signal.SIGTERM)

    with (
        folder_lock(tmp_path / "B", nobody),
        stopping.stoppable(),
        pytest.raises(stopping.Interrupted),
        folder_lock(tmp_path / "B", ask_to_end),
    ):
        pass


def test_that_another_run_is_waited_for_is_logged_once_with_its_process_and_machine(tmp_path, caplog):
    looks = []

    def second():
        with folder_lock(tmp_path / "B", looks.append):
            pass

    with folder_lock(tmp_path / "B", nobody):
        thread = threading.Thread(target=second)
        thread.start()
        while len(looks) < 3:
            time.sleep(0.01)
    thread.join()
    said = f"B: another run works on it (process {os.getpid()} on {socket.gethostname()}); waiting for its end"
    assert [(record.levelname, record.message) for record in caplog.records] == [("WARNING", said)]


def test_who_must_be_alone_is_refused_at_once_with_the_other_one_named(tmp_path, caplog):
    path = tmp_path / "out" / "lock"
    with sole_lock(path, "in use by {holder}"):
        with pytest.raises(LocationError, match=rf"^in use by process {os.getpid()} on "), sole_lock(path, "in use by {holder}"):
            raise AssertionError("two at once")
        assert path.is_file()
    assert not path.exists()
    assert caplog.records == []
    with sole_lock(path, "in use by {holder}"):
        pass
