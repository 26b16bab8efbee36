"""The ledger: what it keeps, and what it refuses in words."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from tiltflow import disk
from tiltflow.errors import FormatError, LocationError
from tiltflow.watch.book import Book
from tiltflow.watch.ledger import FORMAT, Entry, Ledger, State
from tiltflow.watch.sight import FileState, Sight


def entry(name: str = "B.st", **changes: object) -> Entry:
    made = Entry(
        path=Path("/in") / name,
        results=Path(name).stem,
        size=1 << 40,
        mtime_ns=1_796_000_000_123_456_789,
        beside='{"B.mdoc": [1, 2]}',
        state=State.FAILED,
        changed=5.25,
        since=6.5,
        why="no angles",
        tries=2,
        verdict="FAILED at read: no angles",
        recipe="abc",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out" / "ledger.sqlite"


def opened(path):
    return Ledger(path, path.parent)


def test_a_row_comes_back_as_it_was_written(path):
    rows = [entry(), entry("ö -rf $(x).mrc", state=State.GROWING)]
    with opened(path) as ledger:
        ledger.save(rows, [(Path("/in"), 7.5)])
    with opened(path) as ledger:
        assert list(ledger.entries().values()) == rows
        assert ledger.last_look(Path("/in")) == 7.5
        assert ledger.last_look(Path("/other")) == float("-inf")
        ledger.save([entry(state=State.DONE)])
        assert ledger.entries()[Path("/in/B.st")].state is State.DONE
        ledger.remove(Path("/in/B.st"))
        assert [each.path.name for each in ledger.entries().values()] == ["ö -rf $(x).mrc"]


def test_others_can_read_it_meanwhile_in_words(path):
    with opened(path) as ledger:
        ledger.save([entry()])
        reader = sqlite3.connect(path)
        ((name, state, since, why, tries, verdict),) = reader.execute("SELECT * FROM overview").fetchall()
        assert (name, state, why, tries, verdict) == ("/in/B.st", "failed", "no angles", 2, "FAILED at read: no angles")
        assert since.startswith("19")
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        reader.close()


def test_where_machines_share_the_file_system_there_is_no_write_ahead_log(path, monkeypatch, tmp_path):
    lines = f"36 25 0:31 / {tmp_path} rw shared:1 - nfs4 server:/share rw\n25 1 8:1 / / rw - ext4 /dev/sda rw\n"
    read = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda self, **how: lines if self.name == "mountinfo" else read(self, **how))
    assert disk.is_on_network(path)
    assert not disk.is_on_network(Path("/usr"))
    with opened(path) as ledger:
        ledger.save([entry()])
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    connection.close()
    with opened(path) as ledger:
        assert len(ledger.entries()) == 1


def test_a_ledger_of_a_newer_version_is_refused_and_left_as_it_is(path):
    with opened(path) as ledger:
        ledger.save([entry()])
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(FormatError, match=rf"was written by a newer tiltflow \(format {FORMAT + 1} .*knows {FORMAT}\).*--ledger"):
        opened(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "word"), [(b"raw images" * 500, "is damaged, or no ledger"), (b"SQLite format 3\0" + b"x" * 5000, "damaged, or no")]
)
def test_a_file_of_another_kind_is_refused_and_left_as_it_is(path, content, word):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(FormatError, match=word):
        opened(path)
    assert path.read_bytes() == content


def test_the_database_of_another_program_is_refused(path):
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()
    with pytest.raises(FormatError, match="no ledger of tiltflow watch"):
        opened(path)


def test_an_unknown_state_is_damage(path):
    with opened(path) as ledger:
        ledger.save([entry()])
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE series SET state = 'sleeping'")
    connection.close()
    with opened(path) as ledger, pytest.raises(FormatError, match="'sleeping' is not a valid State"):
        ledger.entries()


def test_a_link_in_its_place_is_not_followed(path, tmp_path):
    path.parent.mkdir()
    path.symlink_to(tmp_path / "victim")
    with pytest.raises(LocationError, match="symbolic link"):
        opened(path)
    assert not (tmp_path / "victim").exists()


def test_a_ledger_elsewhere_belongs_to_its_results_and_one_among_them_moves_with_them(tmp_path):
    for path in (tmp_path / "state" / "ledger", tmp_path / "out" / "ledger"):
        Ledger(path, tmp_path / "out").__exit__()
    with pytest.raises(LocationError, match=r"is the ledger of the results in .*/out, not of .*/other"):
        Ledger(tmp_path / "state" / "ledger", tmp_path / "other")
    (tmp_path / "out").rename(tmp_path / "moved")
    Ledger(tmp_path / "moved" / "ledger", tmp_path / "moved").__exit__()


def test_a_place_where_nothing_can_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LocationError, match="the folder of the ledger cannot be made"):
        Ledger(tmp_path / "file" / "ledger", tmp_path)
    with pytest.raises(LocationError, match="cannot be opened or written"):
        Ledger(tmp_path, tmp_path)


@pytest.fixture
def book(path):
    with opened(path) as ledger:
        yield Book(ledger)


def test_a_ledger_that_cannot_be_written_is_written_later(book, path):
    book.put(entry())
    other = sqlite3.connect(path, isolation_level=None)
    book._ledger._connection.execute("PRAGMA busy_timeout = 0")
    other.execute("BEGIN IMMEDIATE")
    assert "database is locked" in book.write()
    other.execute("ROLLBACK")
    other.close()
    assert book.write() == ""
    assert len(book._ledger.entries()) == 1


def sight_of(path: Path, of: Entry) -> Sight:
    return Sight(path, FileState(of.size, of.mtime_ns), {"B.mdoc": FileState(1, 2)})


@pytest.mark.parametrize(
    ("state", "holder_there", "folder_there", "same", "refused", "taken_over"),
    [
        (State.DONE, True, True, True, True, False),
        (State.DONE, True, True, False, True, False),
        (State.GROWING, True, True, False, True, False),
        (State.SKIPPED, True, True, False, False, False),  # what is left out holds nothing
        (State.DONE, False, True, False, False, False),  # it was replaced by another
        (State.DONE, False, True, True, False, True),  # it was renamed
        (State.DONE, False, False, True, False, True),  # its folder was moved, or is mounted elsewhere
        (State.DONE, False, False, False, True, False),  # its share may be away for now
    ],
)
def test_whose_results_lie_in_a_folder(book, tmp_path, state, holder_there, folder_there, same, refused, taken_over):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, *([there] if folder_there else [])):
        folder.mkdir()
    holder = entry(path=there / "B.st", state=state)
    if holder_there:
        holder.path.touch()
    book.put(holder)
    seen = sight_of(here / "B.mrc", holder if same else replace(holder, size=7))
    words = book.refusal(seen, "B", tmp_path / "out" / "B")
    assert bool(words) == refused
    assert (str(holder.path) in words) == refused
    assert ((found := book.of(seen.path)) is not None and found.state is state) == taken_over
