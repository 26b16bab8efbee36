"""Work beside a `with` block: what it gives, what it costs when something goes wrong, and that nothing is left of it."""

import io
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tiltflow import beside as module
from tiltflow import stopping
from tiltflow.beside import beside, shared_array
from tiltflow.errors import StageError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems' libraries do not allow copies of a process")


def nobody(_fraction):
    """Hear of the progress, and do nothing."""


@pytest.fixture
def ours(monkeypatch):
    monkeypatch.setattr(module, "_ours", True)


@pytest.mark.usefixtures("ours")
def test_work_goes_on_in_a_copy_of_this_process_that_has_all_it_has():
    array = np.arange(12.0).reshape(3, 4)
    with beside(lambda _: (os.getpid(), array * 2), threads=2) as result:
        array[:] = 0  # the copy has its own
        process, doubled = result(nobody)
    assert process != os.getpid()
    np.testing.assert_array_equal(doubled, np.arange(12.0).reshape(3, 4) * 2)
    assert not _lives(process)


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize("shape", [(3, 4), (7,), (0, 5), ()])
def test_what_either_writes_into_a_shared_array_the_other_reads(shape):
    array = shared_array(shape, np.float32)
    assert array.shape == shape
    assert array.dtype == np.float32
    assert not array.any()
    array[...] = 2.0

    def work(_):
        array[...] *= 3.0

    with beside(work, threads=2) as result:
        result(nobody)
    np.testing.assert_array_equal(array, np.full(shape, 6.0, np.float32))


@pytest.mark.parametrize(("threads", "is_ours"), [(1, True), (2, False), (8, False)])
def test_one_thread_or_a_process_of_others_does_the_work_in_turn(monkeypatch, threads, is_ours):
    monkeypatch.setattr(module, "_ours", is_ours)
    done = []
    with beside(lambda _: done.append(os.getpid()), threads=threads) as result:
        assert not done
        assert not result.is_done()
        result(nobody)
    assert done == [os.getpid()]


@pytest.mark.usefixtures("ours")
def test_progress_is_heard_when_the_result_is_waited_for(tmp_path):
    told, done = [], tmp_path / "done"

    def work(progress):
        for n in range(10_001):
            progress(n / 10_000)
        done.write_text("done")
        return "done"

    with beside(work, threads=2) as result:
        _wait_for(done)  # the copy does not wait for a listener
        assert not told
        assert result(told.append) == "done"
    assert told[-1] > 0.98
    assert told == sorted(told)
    assert len(told) <= 101


@pytest.mark.usefixtures("ours")
def test_a_thread_beside_which_others_may_work_does_the_work_in_turn():
    def work():
        with beside(lambda _: os.getpid(), threads=2) as result:
            return result(nobody)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result(nobody) == os.getpid()


@pytest.mark.usefixtures("ours")
def test_what_the_copy_logs_is_logged_here_whatever_another_thread_holds(caplog):
    """The lock of a handler that another thread holds while the copy is made is held in it for ever."""
    handler = logging.StreamHandler(io.StringIO())
    held, over = threading.Event(), threading.Event()

    def hold():
        with handler.lock:
            held.set()
            over.wait(10)

    def work(_):
        log.warning("from the copy, %d", 7, exc_info=ValueError("its reason"))
        warnings.warn("a warning of Python's", stacklevel=1)
        return "done"

    log, thread = logging.getLogger("tiltflow.test"), threading.Thread(target=hold)
    log.addHandler(handler)
    thread.start()
    held.wait(10)
    try:
        with beside(work, threads=2) as result:
            over.set()
            thread.join()
            assert result(nobody) == "done"
    finally:
        log.removeHandler(handler)
    assert [(line.name, line.getMessage()) for line in caplog.records] == [
        ("tiltflow.test", "from the copy, 7\nValueError: its reason")
    ]
    assert handler.stream.getvalue() == "from the copy, 7\nValueError: its reason\n"


@pytest.mark.usefixtures("ours")
def test_a_line_that_cannot_be_logged_costs_no_work(capsys):
    def work(_):
        logging.getLogger("tiltflow.test").warning("%d", "no number")
        return "done"

    with beside(work, threads=2) as result:
        assert result(nobody) == "done"


class TwoWordsError(Exception):
    """Python pickles it by one word, and cannot make it of that again."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} {other}")


@pytest.mark.usefixtures("ours")
def test_an_answer_that_cannot_be_understood_is_found_here():
    def work(_):
        raise TwoWordsError("no", "gold")

    with beside(work, threads=2) as result:
        end = time.monotonic() + 10
        while not result.is_done() and time.monotonic() < end:
            time.sleep(0.01)
        assert result.is_done()
        with pytest.raises(TwoWordsError, match="no gold"):
            result(nobody)


@pytest.mark.usefixtures("ours")
def test_whether_the_work_is_done_can_be_asked_without_waiting(tmp_path):
    told, go_on = [], tmp_path / "go_on"

    def work(progress):
        progress(0.5)
        _wait_for(go_on)
        return "done"

    with beside(work, threads=2) as result:
        assert not result.is_done()
        go_on.write_text("now")
        end = time.monotonic() + 10
        while not result.is_done() and time.monotonic() < end:
            time.sleep(0.01)
        assert result.is_done()
        assert result(told.append) == "done"
    assert told == [0.5]


@pytest.mark.usefixtures("ours")
def test_work_whose_copy_is_lost_is_done_as_far_as_it_can_be():
    """Nobody waits for the copy; what is left is to do the work here."""
    here = os.getpid()
    with beside(lambda _: "done here" if os.getpid() == here else os._exit(3), threads=2) as result:
        end = time.monotonic() + 10
        while not result.is_done() and time.monotonic() < end:
            time.sleep(0.01)
        assert result.is_done()
        assert result(nobody) == "done here"


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize("error", [StageError("no gold was found"), ValueError("7"), np.linalg.LinAlgError("singular")])
def test_what_the_work_raises_is_raised_where_its_result_is_asked_for(error):
    def work(_):
        raise error

    with beside(work, threads=2) as result, pytest.raises(type(error), match=str(error)):
        result(nobody)


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize("lost", [lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: os._exit(3), threading.Lock])
def test_where_the_copy_or_its_answer_is_lost_the_work_is_done_here(lost):
    here = os.getpid()

    def work(_):
        return lost() if os.getpid() != here else "done here"

    with beside(work, threads=2) as result:
        assert result(nobody) == "done here"


class Endless:
    """Work that never ends, and the process that does it."""

    def __init__(self, folder: Path) -> None:
        self._begun = folder / "begun"

    def work(self, _progress):
        self._begun.write_text(str(os.getpid()))
        time.sleep(600)

    @property
    def process(self) -> int:
        """The number of the process, once it has begun."""
        _wait_for(self._begun)
        return int(self._begun.read_text())


@pytest.fixture
def endless(tmp_path):
    return Endless(tmp_path)


@pytest.mark.usefixtures("ours")
def test_a_result_that_nobody_asks_for_is_dropped_with_the_copy(endless):
    def fail():
        with beside(endless.work, threads=2):
            assert _lives(endless.process)
            raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        fail()
    assert not _lives(endless.process)


@pytest.mark.usefixtures("ours")
def test_work_that_is_asked_to_end_does_not_wait_for_the_copy(endless):
    def be_stopped():
        with stopping.stoppable(), beside(endless.work, threads=2) as result:
            assert _lives(endless.process)
            stopping.request("SIGTERM")
            result(nobody)

    with pytest.raises(stopping.Interrupted, match="SIGTERM"):
        be_stopped()
    assert not _lives(endless.process)


_PARENT = """
import os, sys, time
from tiltflow.beside import beside, this_process_is_ours
this_process_is_ours()
def work(_):
    print(os.getpid(), flush=True)
    time.sleep(600)
with beside(work, threads=2) as result:
    result(print)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_copy_ends_with_the_process_however_that_ends(number):
    parent = subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True)
    with parent:
        copy = int(parent.stdout.readline())
        parent.send_signal(number)
        parent.wait(10)
        end = time.monotonic() + 10
        while _lives(copy) and time.monotonic() < end:
            time.sleep(0.02)
    assert not _lives(copy)


@pytest.mark.usefixtures("ours")
def test_signals_of_a_terminal_reach_this_process_only(tmp_path):
    begun = tmp_path / "begun"

    def work(_):
        begun.write_text(str(os.getpid()))
        time.sleep(0.3)
        return "done"

    with beside(work, threads=2) as result:
        _wait_for(begun)
        for each in stopping.SIGNALS:
            os.kill(int(begun.read_text()), each)
        assert result(nobody) == "done"


def _wait_for(path: Path) -> None:
    end = time.monotonic() + 10
    while not (path.exists() and path.read_text()) and time.monotonic() < end:
        time.sleep(0.01)


def _lives(process: int) -> bool:
    """Return whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
