"""Exports of a series: for each program a folder `export/NAME` in the folder of its results, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tiltflow.atomic_write import atomic_write
from tiltflow.errors import LocationError, ResourceError
from tiltflow.interchange.series_geometry import RECORD_NAME, SeriesGeometry, read_geometry
from tiltflow.interchange.targets import Target, find_target
from tiltflow.record import SCHEMA, SeriesRecord

EXPORT_FOLDER = "export"
README_NAME = "README.txt"


@dataclass(frozen=True, slots=True)
class Export:
    """What was written for a program: its folder, the files in it, and remarks for who uses them."""

    target: str
    folder: Path
    paths: tuple[Path, ...]
    remarks: tuple[str, ...] = ()


def export_series(folder: Path, names: Iterable[str], record: SeriesRecord | None = None) -> Iterator[Export]:
    """Write a series for programs, by name, and yield each when it is done; an earlier export is replaced.

    Parameters
    ----------
    folder
        The folder of the series' results.
    record
        Its record; None to read it from the folder.

    Raises
    ------
    ParameterError
        If there is no such program.
    LocationError, FormatError, StageError
        If the folder has no result that can be exported.
    UnsupportedError
        If the program cannot take this geometry.
    ResourceError
        If the files cannot be written.
    """
    targets = [find_target(name) for name in names]
    geometry = read_geometry(folder, record)
    for target in targets:
        yield _export(geometry, target, folder / EXPORT_FOLDER / target.name)


def collect_exports(run_folder: Path, names: Iterable[str], series: Iterable[Path]) -> Iterator[Export]:
    """Bring the exports of a run's series together in `export/NAME` of its folder, for programs that take them so; yield each.

    Parameters
    ----------
    series
        The folders of the series that were exported.

    Raises
    ------
    ResourceError
        If the files cannot be written.
    """
    folders = list(series)
    for target in filter(lambda target: target.collects, map(find_target, names)):
        place = run_folder / EXPORT_FOLDER / target.name
        exports = [(read_geometry(folder), folder / EXPORT_FOLDER / target.name) for folder in folders]
        with _whole(place) as partial:
            made = target.collect(exports, partial)
        yield Export(target.name, place, tuple(place / path.relative_to(partial) for path in made))


def series_folders(folder: Path) -> list[Path]:
    """Return the folders of the series in the results of a run; of a folder of one series, that folder.

    Raises
    ------
    LocationError
        If there is no record in the folder nor in the folders in it.
    """
    own = folder / RECORD_NAME
    if own.is_file() and f'"{SCHEMA}"' in own.read_text(encoding="utf-8", errors="replace"):
        return [folder]
    found = [path.parent for path in sorted(folder.glob(f"*/{RECORD_NAME}"))]
    if not found:
        raise LocationError(
            f"{folder} holds no {RECORD_NAME}, nor does a folder in it: give the folder that a run was told to write, or that of one "
            "series"
        )
    return found


def _export(geometry: SeriesGeometry, target: Target, place: Path) -> Export:
    remarks = [*target.remarks(geometry), *geometry.remarks]
    with _whole(place) as partial:
        made = target.write(geometry, partial)
        readme = partial / README_NAME
        readme.write_text(_readme(geometry.name, target, remarks), encoding="utf-8")
    return Export(target.name, place, tuple(place / path.relative_to(partial) for path in (*made, readme)), tuple(remarks))


@contextmanager
def _whole(place: Path) -> Iterator[Path]:
    """Give a folder to write to, which replaces `place` when it is complete."""
    try:
        with atomic_write(place) as partial:
            partial.mkdir()
            yield partial
    except OSError as error:
        raise ResourceError(f"{place}: cannot be written: {error.filename or ''} {error.strerror or error}") from error


def _readme(name: str, target: Target, remarks: Iterable[str]) -> str:
    head = (
        f"{name}, exported by tiltflow for {target.program}.\nAxes, signs and centres: docs/reference/interchange.md of tiltflow.\n"
    )
    return "\n".join([head, *(f"* {remark}" for remark in remarks), ""])
