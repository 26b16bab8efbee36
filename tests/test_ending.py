"""A process that ends without being taken apart: its status, what it has printed, and what is registered for its end."""

import subprocess
import sys

import pytest

PROGRAM = """
import atexit, logging, sys, threading, time
from tiltflow.cli.ending import without_taking_apart
class Late:
    def __del__(self): print("taken apart", flush=True)
late = Late()
with without_taking_apart():
    atexit.register(lambda: sys.stdout.write("registered\\n"))
    threading.Thread(target=lambda: (time.sleep(0.3), sys.stdout.write("thread\\n"))).start()
    sys.stdout.write("said\\n")
    {end}
"""


def ended(end):
    return subprocess.run([sys.executable, "-c", PROGRAM.format(end=end)], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(("code", "status"), [("", 0), ("0", 0), ("None", 0), ("3", 3), ("130", 130)])
def test_all_is_done_but_objects_are_not_taken_apart(code, status):
    done = ended(f"sys.exit({code})")
    assert (done.returncode, done.stdout) == (status, "said\nthread\nregistered\n")


def test_a_message_instead_of_a_status_is_printed_as_ever():
    done = ended("sys.exit('no such folder')")
    assert (done.returncode, done.stderr) == (1, "no such folder\n")
    assert done.stdout == "said\nthread\nregistered\ntaken apart\n"


def test_an_error_that_nobody_catches_is_shown_as_ever():
    done = ended("raise ValueError('odd')")
    assert done.returncode == 1
    assert done.stderr.endswith("ValueError: odd\n")


def test_the_command_gives_its_status_to_the_shell():
    done = subprocess.run(
        [sys.executable, "-m", "tiltflow", "run", "--no-such-option"], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 2


def test_what_a_series_leaves_behind_is_looked_for_once_there_is_much():
    program = """
import gc
from tiltflow import cli

cli.main = lambda: [[] for _ in range(450_000)]
cli.process()
print(gc.get_threshold()[0], gc.get_freeze_count() > 10_000, cli._leave_out_what_stays in gc.callbacks)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["50000", "True", "False"]
