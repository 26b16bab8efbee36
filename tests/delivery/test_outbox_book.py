"""The book of the outbox: what is written down stays, is one process's at a time, and nobody else's to read."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr
from tests.delivery.outbox_parts import URL, WHOLE, Clock, Portal, begin, fill

from tiltflow.delivery.outbox import Outbox, open_outbox
from tiltflow.delivery.outbox.book import BOOK_NAME
from tiltflow.errors import DeliveryError


def test_a_run_that_is_taken_up_again_goes_on_and_one_that_had_ended_begins_anew(outbox: Outbox) -> None:
    begin(outbox)
    outbox.put("r1", "running", "r1", '{"status":"running"}')
    portal = Portal(200)
    portal.deliver(outbox)
    begin(outbox)
    assert [entry.run for entry in outbox.unfinished()] == ["r1"]
    fill(outbox)
    portal.deliver(outbox)
    assert portal.heard == WHOLE
    assert outbox.unfinished() == []
    begin(outbox)
    assert [entry.run for entry in outbox.unfinished()] == ["r1"]
    fill(outbox)
    portal.deliver(outbox)
    assert portal.heard == WHOLE * 2
    keys = [request.headers["Idempotency-Key"] for request in portal.requests]
    assert len({*keys}) == 6, "a portal must not take the second telling for the first"


def test_a_run_that_is_taken_up_again_keeps_its_plan_until_it_has_another(outbox: Outbox) -> None:
    begin(outbox, plan={"output": "a"})
    begin(outbox, plan={})
    assert outbox.unfinished()[0].plan == {"output": "a"}
    begin(outbox, plan={"output": "b"})
    assert outbox.unfinished()[0].plan == {"output": "b"}
    outbox.end("r1")
    begin(outbox, plan={})
    assert outbox.unfinished()[0].plan == {}


def test_a_run_is_claimed_by_one_process_and_not_after_its_end(tmp_path: Path, outbox: Outbox, clock: Clock) -> None:
    begin(outbox, owner="of-the-dead")
    (entry,) = outbox.unfinished()
    others = [Outbox(tmp_path / "state", clock=clock) for _ in range(2)]
    assert [other.claim(entry) for other in others] == [True, False]
    outbox.supersede(entry)
    assert [each.run for each in outbox.unfinished()] == ["r1"], "it is another's now"
    (entry,) = outbox.unfinished()
    outbox.end("r1")
    assert not others[1].claim(entry)


def test_a_run_of_before_this_machine_was_started_again_is_dead(outbox: Outbox) -> None:
    begin(outbox)
    (entry,) = outbox.unfinished()
    assert entry.is_dead is False
    token = f"0badf00d{entry.owner[8:]}"
    assert replace(entry, owner=token).is_dead is None, "in another container, for all that is known"
    assert replace(entry, owner=token, kernel="before").is_dead is True
    assert replace(entry, owner=token, kernel="k", host="elsewhere").is_dead is None


def test_a_signal_that_raises_while_the_book_is_written_leaves_it_usable(tmp_path: Path, outbox: Outbox, clock: Clock) -> None:
    """As Prefect's handler of SIGTERM does, at the worst moment: while another process writes, and this one waits."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    begin(outbox)
    other = sqlite3.connect(tmp_path / "state" / BOOK_NAME, isolation_level=None, check_same_thread=False)
    try:
        other.execute("BEGIN IMMEDIATE")
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        threading.Timer(0.4, other.execute, ["COMMIT"]).start()
        with pytest.raises(KeyboardInterrupt):
            outbox.put("r1", "running", "r1", '{"status":"running"}')
    finally:
        signal.signal(signal.SIGALRM, before)
        time.sleep(0.4)
        other.close()
    fill(outbox)
    fill(Outbox(tmp_path / "state", clock=clock))
    portal = Portal(200)
    portal.deliver(outbox)
    assert portal.heard == WHOLE


def test_a_book_that_others_could_read_is_closed_to_them_and_one_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / BOOK_NAME
    Outbox(tmp_path).close()
    path.chmod(0o666)
    Outbox(tmp_path).close()
    assert path.stat().st_mode & 0o777 == 0o600
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
        with pytest.raises(DeliveryError, match="belongs to another user"):
            Outbox(tmp_path)


def test_a_token_is_forgotten_when_its_messages_are_dropped_and_what_was_sent_is_not_sent_without_it(outbox: Outbox) -> None:
    begin(outbox, token=SecretStr("a-secret"))
    fill(outbox)
    first, *others = [message.number for message in outbox.messages()]
    portal = Portal(200, 503)
    portal.deliver(outbox)
    assert outbox.retry([first]) == []
    outbox.drop(others)
    found = outbox.find("r1")
    assert found is not None
    assert found.token is None


def test_a_message_is_taken_once_also_by_two_threads_of_a_process(outbox: Outbox) -> None:
    begin(outbox)
    fill(outbox)
    (head,) = outbox.heads()
    assert [outbox.take(head, 100.0), outbox.take(head, 100.0)] == [True, False]


def test_a_token_is_in_nobody_s_reach_and_gone_when_all_is_told(outbox: Outbox) -> None:
    begin(outbox, token=SecretStr("a-secret-of-the-caller"))
    fill(outbox)
    assert outbox.path is not None
    folder = outbox.path.parent
    assert outbox.path.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())
    assert "a-secret" not in repr(outbox.messages())
    assert "a-secret" not in repr(outbox.unfinished())
    Portal(200).deliver(outbox)
    outbox.close()
    assert not [path for path in folder.iterdir() if b"a-secret-of-the-caller" in path.read_bytes()]


def test_a_process_that_is_killed_after_writing_leaves_the_message(tmp_path: Path) -> None:
    code = f"""
        import os, signal
        from pathlib import Path
        from tiltflow.delivery.outbox import Outbox, RunEntry
        outbox = Outbox(Path({str(tmp_path)!r}))
        outbox.begin(RunEntry(run="r1", about="a folder", url={URL!r}))
        outbox.put("r1", "result", "a folder", "{{}}")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False).returncode == -9
    assert [message.body for message in Outbox(tmp_path).messages("waiting")] == ["{}"]


def test_what_was_told_is_forgotten_after_a_month_and_what_waits_is_not(outbox: Outbox, clock: Clock) -> None:
    begin(outbox)
    fill(outbox)
    Portal(200).deliver(outbox)
    begin(outbox, "r2")
    fill(outbox, "r2")
    clock.now += 29 * 86400
    begin(outbox, "r3")
    assert len(outbox.messages()) == 6
    clock.now += 2 * 86400
    begin(outbox, "r4")
    assert {message.run for message in outbox.messages()} == {"r2"}


@pytest.mark.parametrize("spoilt", ["newer", "no book", "folder", "link"])
def test_a_book_that_cannot_be_used_is_told_in_words(tmp_path: Path, spoilt: str) -> None:
    path = tmp_path / BOOK_NAME
    if spoilt == "newer":
        Outbox(tmp_path).close()
        base = sqlite3.connect(path)
        base.execute("PRAGMA user_version = 99")
        base.close()
    elif spoilt == "no book":
        path.write_bytes(b"no book at all" * 1000)
    elif spoilt == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DeliveryError, match=rf"The outbox {path} cannot be opened \(.*TILTFLOW_STATE"):
        Outbox(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_the_first_folder_that_can_hold_it_holds_the_outbox(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "file"
    file.touch()
    assert open_outbox([file / "state", tmp_path / "scratch"]).path == tmp_path / "scratch" / BOOK_NAME
    assert not caplog.records
    with pytest.raises(DeliveryError, match="cannot be opened"):
        open_outbox([file / "state"])
    in_memory = open_outbox([file / "state", file / "scratch"])
    assert not in_memory.is_durable
    assert open_outbox([file / "state", file / "scratch"]) is in_memory, "one for a process"
    assert "is lost" in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DeliveryError, match="cannot be opened"):
        Outbox(tmp_path)
