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
from tiltflow.owner import kernel, new_token
from tiltflow.pipeline import check_results, lock, process, require_free
from tiltflow.pipeline.lock import LOCK_NAME, folder_lock, holder_of, sole_lock
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import read_record
from tiltflow.work import Site


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


def test_a_run_whose_place_another_took_is_heard_of_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT_S", 0.01)
    path = tmp_path / "B" / LOCK_NAME
    with folder_lock(tmp_path / "B", nobody):
        ours = path.read_text()
        os.utime(path, (100, 100))
        while path.stat().st_mtime == 100:
            time.sleep(0.01)
        path.write_text(ours.replace(ours.split("\n")[1], new_token()))
        time.sleep(0.1)  # a beat that has begun before
        os.utime(path, (100, 100))
        time.sleep(0.2)
        assert path.stat().st_mtime == 100
    assert path.is_file()


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


HERE = socket.gethostname()


def note(folder: Path, token: str, host: str, start: str, silent_s: float = 0.0) -> None:
    """Put the lock of another machine, or of an earlier start of this one, into a folder."""
    folder.mkdir()
    path = folder / LOCK_NAME
    path.write_text(f"process 7 on {host}\n{token}\n{host}\n{start}\n")
    os.utime(path, (time.time() - silent_s,) * 2)


def token(*, place: str | None = None, gone: bool = False) -> str:
    own = new_token()
    own = f"{own[:9]}{0x3FFFFF:x}{own[own.index('-', 9) :]}" if gone else own
    return f"{place}{own[8:]}" if place else own


@pytest.fixture(params=["the system's locks", "a system without locks"])
def locks(request, monkeypatch):
    """Whether the file system knows locks."""
    if request.param != "the system's locks":

        def none(_descriptor, _how):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(lock.fcntl, "flock", none)
    return request.param


OTHERS = {
    "another machine, just heard of": (token(place="0badf00d"), "elsewhere", "k", 0.0, True),
    "another machine, silent for minutes": (token(place="0badf00d"), "elsewhere", "k", lock.DEAD_S - 30, True),
    "another machine, silent for too long": (token(place="0badf00d"), "elsewhere", "k", lock.DEAD_S + 1, False),
    "another container of this machine": (token(place="0badf00d"), HERE, kernel(), 0.0, True),
    "this machine before it was started again": (token(place="0badf00d"), HERE, "before", 0.0, False),
    "a process of this machine that is gone": (token(gone=True), HERE, kernel(), 0.0, False),
    "what an older version wrote": ("", "", "", lock.DEAD_S + 1, False),
}


@pytest.mark.parametrize("case", OTHERS)
def test_whose_lock_holds(tmp_path, locks, case):
    *said, holds = OTHERS[case]
    note(tmp_path / "B", *said)

    def give_up(word):
        assert "process 7" in word
        raise InterruptedError

    assert (holder_of(tmp_path / "B") is not None) is holds
    if holds:
        with pytest.raises(InterruptedError), folder_lock(tmp_path / "B", give_up):
            pass
        return
    with folder_lock(tmp_path / "B", give_up):
        assert f"process {os.getpid()} on {HERE}" in (holder_of(tmp_path / "B") or "")
    assert list((tmp_path / "B").iterdir()) == []


def test_without_locks_of_the_system_there_are_never_two_at_once(tmp_path, monkeypatch):
    def none(_descriptor, _how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", none)
    monkeypatch.setattr(lock, "_LOOK_AGAIN_S", 0.002)
    test_many_runs_are_never_two_at_once(tmp_path)
    assert list((tmp_path / "B").iterdir()) == []


def test_the_holder_is_heard_of_as_long_as_it_works(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT_S", 0.01)
    with folder_lock(tmp_path / "B", nobody):
        path = tmp_path / "B" / LOCK_NAME
        os.utime(path, (0, 0))
        end = time.monotonic() + 30
        while path.stat().st_mtime == 0:
            assert time.monotonic() < end
            time.sleep(0.01)


@pytest.mark.usefixtures("fake_imod")
def test_who_does_not_want_to_wait_is_told_for_whom(small_series, tmp_path, caplog):
    output, site = tmp_path / "out", Site(scratch=tmp_path / "scratch")
    recipe = make_recipe(BrtParameters(thickness=50), engine="imod")
    require_free([small_series], output)
    with folder_lock(output / "B", nobody):
        with pytest.raises(LocationError, match=rf"Another run works on B.st \(process {os.getpid()} on {HERE}\)"):
            require_free([small_series], output)
        result = process(small_series, recipe, site, output=output / "B", wait_for_others=False)
    assert not result.ok
    assert result.message == f"B.st: another run works on it (process {os.getpid()} on {HERE}); run it again when that has ended"
    assert "waiting" not in caplog.text
    assert process(small_series, recipe, site, output=output / "B", wait_for_others=False).ok


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
