"""Files that directives name besides the alignment: a defocus, exposures, the MTF of a camera.  What they hold decides the result."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tiltflow import describe
from tiltflow.errors import TiltflowError
from tiltflow.formats.find_defocus import defocus_files
from tiltflow.recipe import Recipe
from tiltflow.record import FileEntry, SeriesRecord


def given_files(recipe: Recipe, name: str) -> tuple[Path, ...]:
    """Return the files that the work on a series by this recipe reads, those that they name in turn included.

    Raises
    ------
    LocationError, FormatError, MissingValueError
        If a file of defocus cannot be read.
    """
    found: list[Path] = []
    if recipe.ctf.correct != "no" and recipe.ctf.file:
        found += defocus_files(Path(recipe.ctf.file), name)
    if recipe.exposure.weight != "no" and recipe.exposure.file:
        found.append(Path(recipe.exposure.file))
    if recipe.filter is not None and recipe.filter.mtf_file:
        found.append(Path(recipe.filter.mtf_file))
    return tuple(found)


def entries_of_given_files(recipe: Recipe, name: str) -> list[FileEntry]:
    """Return the files with what they hold; none where one cannot be read, which the work on it will say with its stage."""
    try:
        return [describe.file_entry(path) for path in given_files(recipe, name)]
    except (TiltflowError, OSError):
        return []


def changed_files(record: SeriesRecord, recipe: Recipe) -> Iterator[str]:
    """Yield what is different about the files that directives name; that they name them is part of the recipe."""
    try:
        now = [describe.file_entry(path) for path in given_files(recipe, record.name)]
    except TiltflowError as error:
        yield f"a file that a directive names cannot be read: {error}"
        return
    except OSError as error:
        yield f"a file that a directive names cannot be read: {error.filename}: {error.strerror}"
        return
    before = [file.sha256 for file in record.given_files]
    if len(before) == len(now):
        changed = [Path(file.path).name for file, checksum in zip(now, before, strict=True) if file.sha256 != checksum]
    else:
        changed = [Path(file.path).name for file in now]
    if changed:
        yield f"{', '.join(changed)} {'has' if len(changed) == 1 else 'have'} changed since"
