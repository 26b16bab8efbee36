"""Which engines there are, and how each treats directives.

An engine is a package of :mod:`tiltflow.engines`, or of another distribution that names it as an entry point of the group
`tiltflow.engines`.  Its attribute `ENGINE` (for an entry point: the object it names) declares its name and how it treats directives;
the packages themselves are imported when an engine is looked up by its name.  Nothing else in tiltflow knows an engine's name.
"""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

from tiltflow.errors import ParameterError

if TYPE_CHECKING:
    from tiltflow.record import SeriesRecord
    from tiltflow.record.sentences import EngineMethods

AUTO = "auto"
"""The preferred engine of those that can be used here."""
BEST = "best"
"""All engines that can be used here; the better of their alignments is used."""
OFF = "off"
"""Instead of the name of a fallback engine: none."""
GROUP = "tiltflow.engines"
"""The package that holds engines, and the group of entry points that name further ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectiveRules:
    """How an engine treats directives, besides its column of the catalogue (:mod:`tiltflow.formats.known_directives`).

    Attributes
    ----------
    hands_on_to
        The program that every directive is passed to as it is; empty for an engine with the parameters of tiltflow's own steps.
    own_refused
        Why tiltflow's own directives are refused, if the catalogue's column refuses them.
    takes_alignment
        Whether it can use an alignment that is given (`--alignment`) in place of its own.
    """

    hands_on_to: str = ""
    own_refused: str = ""
    takes_alignment: bool = False


EngineOptions: TypeAlias = Mapping[str, str | bool | None]
"""Options of the engines by name, as the site sets them."""


@dataclass(frozen=True, slots=True)
class EngineOption:
    """A setting of the site that an engine reads: `TILTFLOW_` and its name in capitals.

    Attributes
    ----------
    default
        A text, None for none, or a truth value, which makes the setting one.
    on_command_line
        Whether `tiltflow run` has an option of that name; for truth values only.
    decides
        Whether it can change the result, so that a result made with another value is made again.
    """

    name: str
    default: str | bool | None
    description: str
    on_command_line: bool = False
    decides: bool = False

    @property
    def option(self) -> str:
        """The option of the command line: `--keep-all`."""
        return "--" + self.name.replace("_", "-")


class EngineInfo(Protocol):
    """What an engine declares, without doing any work.

    Attributes
    ----------
    name
        Its name in options, settings and records.
    title
        Its name in messages and pages.
    rules
        How it treats directives.
    options
        Settings of the site that it reads.
    preference
        `auto` takes the engine with the highest preference of those that can be used.
    step_numbers
        The steps that it keeps by itself, with their numbers; among them are `aligned stack` and `reconstruction`.  Empty for an
        engine whose work is one step.
    """

    name: str
    title: str
    rules: DirectiveRules
    options: tuple[EngineOption, ...]
    preference: int
    step_numbers: Mapping[str, int]

    def available(self) -> str:
        """Return why it can be used here, in words; empty if it cannot."""

    def unavailable(self) -> str:
        """Return why it cannot be used here, in words; empty if it can."""

    def files_to_keep(self, options: EngineOptions, *, failed: bool) -> tuple[str, ...]:
        """Return which of its files in the work folder are published, besides those of every engine.

        Parameters
        ----------
        options
            The options of the site.
        failed
            Whether the series failed, so that a person will want to look into it.

        Returns
        -------
        tuple of str
            Patterns of names, as `{name}.com` or `*.com`; `{name}` stands for the base name of the series.
        """

    def methods(self, record: SeriesRecord) -> EngineMethods:
        """Return the sentences on its work for the methods section of a paper."""


def engine_names() -> tuple[str, ...]:
    """Return the names of all engines, without importing any."""
    return tuple(sorted({*_packages(), *(point.name for point in _entry_points())}))


def engine_choices() -> tuple[str, ...]:
    """Return what may be given as the engine: the names, and `auto` and `best`."""
    return (AUTO, BEST, *engine_names())


def engine_info(name: str) -> EngineInfo:
    """Return the engine of that name.

    Raises
    ------
    ParameterError
        If there is none.
    """
    if name in _packages():
        return cast("EngineInfo", import_module(f"{GROUP}.{name}").ENGINE)
    for point in _entry_points():
        if point.name == name:
            return cast("EngineInfo", point.load())
    raise ParameterError(f"There is no engine {name!r}: choose {', '.join(engine_choices())}")


def all_engines() -> tuple[EngineInfo, ...]:
    """Return all engines, the preferred one first."""
    return tuple(sorted(map(engine_info, engine_names()), key=lambda engine: -engine.preference))


def engine_of_last_resort() -> str:
    """Return the name of the engine that `auto` would take last: it works where no other does."""
    return all_engines()[-1].name


def rules_of(engine: str) -> DirectiveRules:
    """Return how an engine treats directives; for `auto` and `best`, as an engine that follows tiltflow's own steps.

    Raises
    ------
    ParameterError
        If there is no such engine.
    """
    return DirectiveRules() if engine in (AUTO, BEST) else engine_info(engine).rules


@cache
def _packages() -> frozenset[str]:
    found = find_spec(GROUP)
    folders = found.submodule_search_locations if found is not None else None
    return frozenset(module.name for module in pkgutil.iter_modules(folders or ()) if module.ispkg)


def _entry_points() -> tuple[EntryPoint, ...]:
    return _entry_points_on(tuple(sys.path))


@cache
def _entry_points_on(_path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Return the entry points of the distributions on a path; reading the metadata of them all takes ten milliseconds."""
    return tuple(entry_points(group=GROUP))
