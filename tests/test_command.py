"""Running programs: output streamed, failures quoted, interrupts passed on."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tiltflow import stopping
from tiltflow.command import TOO_LONG, find_program, run
from tiltflow.errors import CommandError


def test_lines_arrive_as_they_are_printed_and_the_result_keeps_the_last(tmp_path):
    seen = []
    result = run(sys.executable, ["-c", "print('one'); print('two')"], cwd=tmp_path, on_line=seen.append)
    assert seen == ["one", "two"]
    assert result.last_lines == ("one", "two")


def test_standard_error_is_part_of_the_output(tmp_path):
    result = run(sys.executable, ["-c", "import sys; print('wrong', file=sys.stderr)"], cwd=tmp_path)
    assert result.last_lines == ("wrong",)


def test_a_failure_carries_the_status_and_quotes_the_last_lines(tmp_path):
    with pytest.raises(CommandError, match=r"ended with status 3(.|\n)*disk on fire") as caught:
        run(sys.executable, ["-c", "print('disk on fire'); raise SystemExit(3)"], cwd=tmp_path)
    assert caught.value.status == 3
    assert caught.value.last_lines == ("disk on fire",)


def test_a_program_killed_by_a_signal_is_named_as_such(tmp_path):
    with pytest.raises(CommandError, match="killed by signal 9"):
        run(sys.executable, ["-c", "import os; os.kill(os.getpid(), 9)"], cwd=tmp_path)


def test_a_program_that_ends_with_the_signal_that_ends_this_process_too_is_an_interrupt(tmp_path):
    """Slurm signals every process of a job, and the program may hear of it before this process does."""
    with stopping.stoppable():
        threading.Timer(0.8, os.kill, (os.getpid(), signal.SIGTERM)).start()
        with pytest.raises(stopping.Interrupted, match="SIGTERM"):
            run(sys.executable, ["-c", "import os, time; time.sleep(0.7); os.kill(os.getpid(), 15)"], cwd=tmp_path)


def test_a_missing_program_says_so(tmp_path):
    with pytest.raises(CommandError, match="no-such-program is not on the PATH"):
        run("no-such-program", [], cwd=tmp_path)
    assert find_program("no-such-program") is None


@pytest.mark.parametrize("child", ["sleep 60", "(trap '' TERM; exec sleep 60)"], ids=["obedient", "deaf to SIGTERM"])
def test_an_interrupt_stops_the_whole_process_group(tmp_path, child):
    marker = tmp_path / "child"
    script = f"{child} & echo $! > {marker}; wait"
    timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # libraries of other tests leave their own behind
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run("sh", ["-c", script], cwd=tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    child = int(marker.read_text())
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and _alive(child):
        time.sleep(0.05)
    assert not _alive(child)


def test_who_is_asked_to_end_stops_a_program_that_prints_nothing(tmp_path):
    with stopping.stoppable():
        threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
        begin = time.monotonic()
        with pytest.raises(stopping.Interrupted):
            run("sleep", ["60"], cwd=tmp_path)
    assert time.monotonic() - begin < 2


def test_a_program_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path):
    marker = tmp_path / "child"
    with pytest.raises(CommandError, match=r"took longer than 0\.5 s") as caught:
        run("sh", ["-c", f"echo begun; sleep 60 & echo $! > {marker}; wait"], cwd=tmp_path, limit_s=0.5)
    assert (caught.value.status, caught.value.last_lines) == (TOO_LONG, ("begun",))
    assert _ends(int(marker.read_text()))


@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["alone", "and its group"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_program_and_what_it_started_die_with_the_process_that_ran_it(tmp_path, how, send):
    marker = tmp_path / "child"
    code = (
        f"from tiltflow.command import run; from pathlib import Path; run('sh', ['-c', {_SLEEPER!r}], cwd=Path({str(tmp_path)!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    while not marker.exists() or not marker.read_text().endswith("\n"):
        time.sleep(0.01)
    time.sleep(0.2)  # the program starts a moment before it is watched
    send(process.pid, how)
    process.wait()
    assert all(_ends(int(pid)) for pid in marker.read_text().split())


_SLEEPER = "trap '' TERM HUP; sleep 60 & echo $$ $! > child.part; mv child.part child; wait"


def test_a_program_that_ends_well_is_not_killed_late(tmp_path):
    """What it left in its group, as a viewer that it opened, goes on."""
    marker = tmp_path / "child"
    run("sh", ["-c", f"sleep 2 >/dev/null 2>&1 & echo $! > {marker}"], cwd=tmp_path)
    time.sleep(0.2)
    assert _alive(int(marker.read_text()))


def _ends(pid, within_s=5.0):
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and _alive(pid):
        time.sleep(0.05)
    return not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_no_program_sees_the_token(tmp_path, monkeypatch):
    monkeypatch.setenv("TILTFLOW_TOKEN", "s3cret")
    result = run(sys.executable, ["-c", "import os; print('s3cret' in os.environ.values(), 'PATH' in os.environ)"], cwd=tmp_path)
    assert result.last_lines == ("False True",)
