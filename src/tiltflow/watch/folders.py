"""The folders of a session: their priorities, where the results of each go, and the recipes of their series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tiltflow.delivery.names import why_unusable
from tiltflow.errors import LocationError, ParameterError, TiltflowError
from tiltflow.formats.find_alignment import check_alignment_path
from tiltflow.pipeline.one_series import RUN_FILES
from tiltflow.pipeline.request import recipes_of_series
from tiltflow.recipe import Recipe, SeriesRecipes
from tiltflow.recipe.per_series import find_table, read_table
from tiltflow.watch.ledger import Entry


@dataclass(frozen=True, slots=True)
class Watched:
    """A folder that is watched.

    Attributes
    ----------
    folder
        The folder, absolute.
    results
        The folder that receives one folder a series.
    priority
        The series of a higher one have their turn first.
    within
        A folder that the series, links followed, must lie in; None for anywhere.
    """

    folder: Path
    results: Path
    priority: int = 0
    within: Path | None = None


def assign(folders: Sequence[Path], output: Path, priorities: Iterable[str] = ()) -> tuple[Watched, ...]:
    """Return the folders of a session with where their results go: into `output` for one folder, into `output/NAME` for several.

    Parameters
    ----------
    folders
        The folders, which exist.
    output
        The folder of all results.
    priorities
        `FOLDER=NUMBER` each, the folder as it was given or by its name; 0 for those that are not named.

    Raises
    ------
    LocationError
        If two of them would have their results in one folder, or the name of one cannot name a folder of results.
    ParameterError
        If a folder is given twice, or a priority is not understood.
    """
    absolute = [folder.resolve() for folder in folders]
    by_name: dict[str, Path] = {}
    for folder in absolute:
        other = by_name.setdefault(folder.name.casefold(), folder)
        if absolute.count(folder) > 1:
            raise ParameterError(f"{folder} is given more than once; give each folder once")
        if other != folder:
            raise LocationError(
                f"{other} and {folder} share the name {folder.name!r}, which names the folder of their results in {output}: rename one "
                "of them, or watch it by a command of its own with another --output"
            )
        if len(absolute) > 1 and (folder.name == "" or why_unusable(Path(f"{folder.name}.mrc"), RUN_FILES)):
            raise LocationError(f"{folder}: its name cannot name a folder of results beside those of others; watch it alone")
    numbers = _priorities(priorities, folders, absolute)
    several = len(absolute) > 1
    return tuple(Watched(folder, output / folder.name if several else output, numbers.get(folder, 0)) for folder in absolute)


def _priorities(given: Iterable[str], folders: Sequence[Path], absolute: Sequence[Path]) -> Mapping[Path, int]:
    numbers: dict[Path, int] = {}
    for text in given:
        name, separator, number = text.rpartition("=")
        meant = [folder for as_given, folder in zip(folders, absolute, strict=True) if _is_meant(name, as_given, folder)]
        if not separator or not meant:
            raise ParameterError(f"priority {text!r}: give FOLDER=NUMBER with one of the folders, {', '.join(map(str, folders))}")
        try:
            numbers[meant[0]] = int(number)
        except ValueError:
            raise ParameterError(f"priority {text!r}: {number!r} is no whole number") from None
    return numbers


def _is_meant(name: str, as_given: Path, folder: Path) -> bool:
    return name == folder.name or Path(name) == as_given or Path(name).resolve() == folder


def refuse_other_places(watched: Iterable[Watched], entries: Iterable[Entry], output: Path) -> None:
    """Raise if earlier results of a folder lie elsewhere than they would now, so that all of them would be made anew.

    Raises
    ------
    LocationError
        With both places.
    """
    now = {each.folder: each.results for each in watched}
    for entry in entries:
        before = (output / entry.results).parent
        if (results := now.get(entry.path.parent)) is not None and results != before:
            raise LocationError(
                f"The results of {entry.path.parent} are in {before} since an earlier session, and would now go to {results}, as one "
                "folder has its results in --output itself and several have theirs in folders of their names: give the same folders as "
                "then, or another --output"
            )


class FolderRecipes:
    """The recipe of each series of a folder; its table of settings is read again when it has changed.

    Parameters
    ----------
    folder
        Where the series are.
    asked
        The recipe for all, or that of every series, for which no table is read.
    table
        The table; None for the one in the folder, if there is one.
    within
        As for :func:`tiltflow.recipe.per_series.recipes_for`.
    here
        Whether the engines of this machine must be able to follow the recipes.

    Attributes
    ----------
    all
        The recipes.
    settled
        Whether the table is as it was at the last look; while somebody saves it, it may be gone, or end after any row.
    """

    def __init__(
        self,
        folder: Path,
        asked: Recipe | SeriesRecipes,
        table: Path | None,
        *,
        within: Path | None = None,
        here: bool = True,
    ) -> None:
        self.all = SeriesRecipes.of_all(asked)
        self.settled = True
        self._folder = folder
        self._asked = asked
        self._table = table
        self._within = within
        self._here = here
        self._seen: object = None
        self._read: object = None
        self._digests: dict[str, str] = {}

    def refresh(self) -> str:
        """Read the table again if it has changed, once it is settled; return in words what is wrong with it.

        What is wrong leaves the recipes as they were.
        """
        try:
            table, state = self._look()
            self.settled = state in (self._read, self._seen)
            self._seen = state
            if self.settled and state != self._read:
                self._take(table, state)
        except (TiltflowError, OSError) as error:
            return str(error)
        return ""

    def require(self) -> None:
        """Read the table, and raise what is wrong, also with the row of a series that is still to come.

        Raises
        ------
        TiltflowError, OSError
            If the table cannot be read or is wrong, or no engine can follow a recipe.
        """
        self._take(*self._look())

    def _look(self) -> tuple[Path | None, object]:
        """Return the table, and what tells whether it has changed."""
        table = None if isinstance(self._asked, SeriesRecipes) else self._table or find_table(self._folder)
        status = table.stat() if table is not None else None
        return table, (table, status and (status.st_size, status.st_mtime_ns))

    def _take(self, table: Path | None, state: object) -> None:
        names = [row.name for row in read_table(table)] if table is not None else []
        made = recipes_of_series(self._asked, table, names, within=self._within, here=self._here)
        if made.common.alignment is not None:
            check_alignment_path(made.common.alignment, names)
        self.all, self._read, self._digests = made, state, {}

    def digest(self, source: Path) -> str:
        """Return the digest of the recipe of a series."""
        name = source.stem if source.stem in self.all.own else ""
        if name not in self._digests:
            self._digests[name] = self.all.of(source).digest
        return self._digests[name]
