"""A signal ends the work where it can end, is never swallowed, and leaves a closed record and no scratch."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tiltflow import stopping
from tiltflow.observer import tell
from tiltflow.parallel import map_threads
from tiltflow.record import read_record

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_throws_nothing_and_is_found_by_the_next_question(number):
    with stopping.stoppable():
        stopping.ask()
        reached = False
        with contextlib.suppress(BaseException):  # as a library that calls back does
            signal.raise_signal(number)
            reached = True
        assert reached
        for _ in range(2):  # also where the first answer is swallowed
            with pytest.raises(stopping.Interrupted, match=number.name):
                stopping.ask()
    stopping.ask()


def test_a_request_in_words_asks_as_a_signal_does_until_it_is_withdrawn():
    stopping.request("its run ended")
    try:
        for _ in range(2):
            with pytest.raises(stopping.Interrupted, match="its run ended"):
                stopping.ask()
        with stopping.closing():
            stopping.ask()
    finally:
        stopping.withdraw()
    stopping.ask()


def test_handlers_are_put_back_and_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    handlers = [signal.getsignal(number) for number in SIGNALS]
    try:
        with stopping.stoppable():
            signal.raise_signal(signal.SIGHUP)
            stopping.ask()
            assert signal.getsignal(signal.SIGTERM) not in handlers
        assert [signal.getsignal(number) for number in SIGNALS] == handlers
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_ends_the_process_at_once(number):
    code = (
        "import signal, time\nfrom tiltflow import stopping\n"
        f"with stopping.stoppable():\n    signal.raise_signal({int(number)})\n    print('once', flush=True)\n"
        f"    signal.raise_signal({int(number)})\n    time.sleep(60)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)
    assert (ended.stdout, ended.returncode) == ("once\n", -number)
    assert ended.stderr.splitlines() == [
        "stopping in order; once more to stop at once",
        "stopped at once; the next run cleans up what this one leaves",
    ]


def test_a_framework_with_words_of_its_own_is_left_to_them(capfd):
    before = signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    try:
        with stopping.stoppable(passing_on=True):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
        with stopping.stoppable():
            pass
    assert capfd.readouterr().err == ""


def test_a_signal_is_answered_also_in_the_middle_of_a_write_and_without_a_reader():
    code = (
        "import os, signal, sys\nfrom tiltflow import stopping\n"
        "class Raw:\n    def write(self, text):\n        signal.raise_signal(signal.SIGINT)\n        return len(text)\n"
        "sys.stderr = Raw()\n{close}\n"
        "with stopping.stoppable():\n    sys.stderr.write('x')\n    print(stopping.asked(), flush=True)"
    )
    for close, answer in (
        ("", "stopping in order; once more to stop at once\n"),
        ("os.close(2)", ""),
        ("sys.__stderr__ = None", ""),
    ):
        command = [sys.executable, "-c", code.format(close=close)]
        told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert (told.stdout, told.stderr) == ("True\n", answer)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_loop_over_threads_ends_at_its_next_item(threads):
    done = []

    def item(index):
        done.append(index)
        if index == 2:
            signal.raise_signal(signal.SIGTERM) if threads == 1 else os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)

    with stopping.stoppable(), pytest.raises(stopping.Interrupted):
        for _ in map_threads(item, range(1000), threads):
            pass
    assert len(done) < 20


def test_a_report_of_progress_is_a_question():
    with stopping.stoppable():
        signal.raise_signal(signal.SIGTERM)
        for progress in (None, lambda _fraction: None):
            with pytest.raises(stopping.Interrupted):
                tell(progress, 0.5)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_loop_whose_last_items_are_all_begun_ends_too(threads):
    with stopping.stoppable():
        results = map_threads(abs, [1, 2, 3], threads)
        next(results)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(stopping.Interrupted):
            next(results)


def test_what_closes_the_work_is_not_asked_to_end():
    with stopping.stoppable():
        signal.raise_signal(signal.SIGTERM)
        with stopping.closing():
            with stopping.closing():
                stopping.ask()
            assert list(map_threads(abs, [-1, -2], 2)) == [1, 2]
            stopping.pause(0.0)
        with pytest.raises(stopping.Interrupted):
            stopping.ask()


def test_who_waits_is_woken():
    with stopping.stoppable():
        threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGHUP)).start()
        begin = time.monotonic()
        with pytest.raises(stopping.Interrupted):
            stopping.pause(30.0)
        assert time.monotonic() - begin < 5


def test_a_framework_s_own_handler_is_called_and_its_threads_still_see_the_end():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: heard.append(number))
    try:
        with stopping.stoppable(passing_on=True):
            signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM]
        with pytest.raises(stopping.Interrupted):
            stopping.ask()
    finally:
        signal.signal(signal.SIGTERM, before)
        with stopping.stoppable():
            stopping.ask()


@pytest.mark.parametrize(("number", "moment"), list(zip(SIGNALS * 2, (0.0, 0.1, 0.3, 0.6, 0.9, 1.3), strict=True)))
def test_a_run_that_is_signalled_closes_its_record_and_leaves_no_scratch(small_series, tmp_path, number, moment):
    scratch, output = tmp_path / "scratch", tmp_path / "out"
    asked = ["run", str(small_series.parent), "-o", str(output), "--engine", "native", "--workdir", str(scratch)]
    process = subprocess.Popen([sys.executable, "-m", "tiltflow", *asked, "--thickness", "32"], stderr=subprocess.PIPE, text=True)
    record = output / "B" / "run.json"
    while not record.exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(moment)
    process.send_signal(number)
    begin = time.monotonic()
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - begin < 20, "the record, the pages and the imports that these need"
    found = read_record(record)
    if found.status == "success":  # it was done already
        return
    assert process.returncode == 130, said
    assert "interrupted: run the same command again" in said
    assert found.status == "error"
    assert found.failure is not None
    assert (found.failure.kind, f"interrupted ({number.name})" in found.failure.reason) == ("interrupted", True)
    assert list(scratch.iterdir()) == []
