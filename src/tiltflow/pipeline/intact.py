"""Whether what a record lists is on disk as it was written: each file by its size and, when that is asked for, by its contents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tiltflow.checksum import sha256_of
from tiltflow.disk import size_bytes
from tiltflow.errors import FormatError
from tiltflow.record import FileEntry, ProductEntry, SeriesRecord, read_record
from tiltflow.report import record_paths


@dataclass(frozen=True, slots=True)
class Checked:
    """A series whose results were read and compared with its record; `differences` says what is wrong with each file."""

    name: str
    summary: str
    differences: tuple[str, ...] = ()


def check_results(folder: Path) -> Iterator[Checked]:
    """Yield how the results of each series compare with its record: those of a run's folder, or of one series'.

    Raises
    ------
    LocationError
        If there is no record in the folder nor in the folders in it.
    """
    for path in record_paths(folder):
        try:
            record = read_record(path)
        except FormatError as error:
            yield Checked(path.parent.name, "its record cannot be read", (str(error),))
            continue
        if record.status != "success":
            yield Checked(record.name, f"no results: its record says {record.status}")
            continue
        entries = list(_entries(record))
        found = tuple(differences_on_disk(record, path.parent, contents=True))
        count, size = len(entries), sum(entry.bytes for entry in entries)
        good = f"{count} files and folders are as they were written ({size / 1e6:.3g} MB)"
        yield Checked(record.name, f"{len(found)} of {count} files and folders are not as written" if found else good, found)


def differences_on_disk(record: SeriesRecord, output: Path, *, contents: bool = False) -> Iterator[str]:
    """Yield what is wrong with each product, volume and other file of a record: missing, another size, other contents.

    Parameters
    ----------
    output
        The folder of the series.
    contents
        Whether the files are read and their checksums compared.
    """
    for entry in _entries(record):
        if difference := _difference(entry, output, contents=contents):
            yield f"{entry.path} {difference}"


def damaged(record: SeriesRecord, output: Path, *, contents: bool = True) -> tuple[str, ...]:
    """Return the paths of what does not hold what it held when it was written; without `contents` sizes are compared only."""
    return tuple(entry.path for entry in _entries(record) if _difference(entry, output, contents=contents))


def _entries(record: SeriesRecord) -> Iterator[ProductEntry | FileEntry]:
    yield from record.products
    yield from record.files


def _difference(entry: ProductEntry | FileEntry, output: Path, *, contents: bool) -> str:
    path = output / entry.path
    try:
        size = size_bytes(path)
        if size != entry.bytes:
            return f"has {size} bytes instead of {entry.bytes}"
        if contents and entry.sha256 is not None and sha256_of(path) != entry.sha256:
            return "does not hold what was written: its checksum differs"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return ""
