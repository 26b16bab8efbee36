"""batchruntomo's command line, read by the rules that all of IMOD's programs share.

Options are found by name (:mod:`tiltflow.batchruntomo.options`).  A value is the next word, whatever it begins with.  Words that belong
to no option are directive files.  `-ParameterFile F` and `-StandardInput` take further options from a file or from the standard input,
one a line, name before value.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tiltflow.batchruntomo.options import OPTIONS, PARAMETER_FILE, STANDARD_INPUT, Option, find_option
from tiltflow.errors import LocationError, ParameterError
from tiltflow.parallel import usable_cores

LAST_STEP = 22.0
"""The last step of IMOD 5, cleaning up."""
AFTER_ALIGNMENT = 7.0
"""The first step that goes on from an alignment instead of making it."""
_TRACKING_STEP = 5.0
_MOST_CPUS = 128
_FOR_SECOND_AXIS_ON = 100.0
"""Added to a starting step to begin with the second axis of a set of two."""

_HELP = frozenset({"help", "usage", "h"})


@dataclass(frozen=True, slots=True)
class HelpRequest:
    """The help is asked for."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set as the command line gives it; what is None the directive file gives."""

    directive_file: Path
    name: str | None = None
    folder: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the command line asks for.

    Attributes
    ----------
    data_sets
        In their order.
    first_step, last_step
        Steps of IMOD 5, as its manual page numbers them.
    first_set_only
        Whether the starting step holds for the first data set only.
    threads
        Threads to use; None if the command line does not say.
    validation
        0 to check directives before the work, 1 or 2 only to check them, -1 not to check their names.
    exit_on_error
        Whether the first failure ends the run.
    remarks
        Options without effect here, in sentences.
    """

    data_sets: tuple[DataSet, ...]
    first_step: float = 0.0
    last_step: float = LAST_STEP
    first_set_only: bool = False
    threads: int | None = None
    validation: int = 0
    exit_on_error: bool = False
    remarks: tuple[str, ...] = ()


@dataclass(slots=True)
class _Given:
    """Values by the long name of their option, and words that belong to none."""

    values: dict[str, list[str]] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        return self.values.get(name, [])

    def last(self, name: str, default: str = "") -> str:
        return self.values[name][-1] if name in self.values else default


def parse_arguments(words: Sequence[str], read_input: Callable[[], str] = sys.stdin.read) -> Request | HelpRequest:
    """Return what a command line asks for.

    Parameters
    ----------
    words
        Without the program's name.
    read_input
        Returns the standard input, for `-StandardInput`.

    Raises
    ------
    ParameterError
        If an option is unknown or ambiguous, its value is missing or wrong, or the options contradict each other.
    LocationError
        If a parameter file cannot be read.
    """
    if not words or any(word.lstrip("-").lower() in _HELP for word in words if word.startswith("-")):
        return HelpRequest()
    return _request(_collect(words, read_input))


def _collect(words: Sequence[str], read_input: Callable[[], str]) -> _Given:
    given, rest = _Given(), iter(words)
    for word in rest:
        if not word.startswith("-") or word == "-":
            given.words.append(word)
            continue
        option = find_option(word.removeprefix("-").removeprefix("-"))
        if option is STANDARD_INPUT:
            _take_lines(read_input().split("\n"), given)
        elif option is PARAMETER_FILE:
            _take_lines(_lines_of(Path(_value_of(option, rest))), given)
        else:
            given.values.setdefault(option.name, []).append("1" if option.kind == "switch" else _value_of(option, rest))
    return given


def _value_of(option: Option, rest: Iterator[str]) -> str:
    value = next(rest, None)
    if value is None:
        raise ParameterError(f"A value was expected after -{option.name}, the last word of the command")
    return value


def _lines_of(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise LocationError(f"the parameter file {path} cannot be read: {error}") from error


def _take_lines(lines: Iterable[str], given: _Given) -> None:
    for line in lines:
        name, _, value = line.strip().replace("\t", " ").partition(" ")
        if not name or name.startswith("#"):
            continue
        option = find_option(name.removeprefix("-"))
        if option in (STANDARD_INPUT, PARAMETER_FILE):
            raise ParameterError(f"-{option.name} must stand on the command line")
        value = value.strip()
        if not value and option.kind != "switch":
            raise ParameterError(f"A value was expected after {name}")
        if option.kind == "switch" and value == "0":
            given.values.pop(option.name, None)
            continue
        given.values.setdefault(option.name, []).append(value or "1")


def _request(given: _Given) -> Request:
    if given.all("DeliverToDirectory"):
        raise ParameterError(
            "-DeliverToDirectory is not supported: move each data set to its folder, and name that by -CurrentLocation"
        )
    first_step, last_step = _number(given, "StartingStep", 0.0), _number(given, "EndingStep", LAST_STEP)
    if first_step >= _FOR_SECOND_AXIS_ON:
        raise ParameterError(f"-StartingStep {first_step:g} is a step of a second axis; every data set has a single one here")
    if given.all("UseExistingAlignment"):
        if first_step <= _TRACKING_STEP:
            raise ParameterError(f"-UseExistingAlignment needs a -StartingStep after the tracking, above 5; it is {first_step:g}")
        first_step = max(first_step, AFTER_ALIGNMENT)
    threads, remarks = _threads(given)
    return Request(
        data_sets=_data_sets(given),
        first_step=first_step,
        last_step=last_step,
        first_set_only=bool(given.all("StartForFirstSetOnly")),
        threads=threads,
        validation=_whole(given, "ValidationType", 0),
        exit_on_error=bool(given.all("ExitOnError")),
        remarks=(
            *remarks,
            *(f"-{each.name} has no effect: {each.unheeded}" for each in OPTIONS if each.unheeded and given.all(each.name)),
        ),
    )


def _data_sets(given: _Given) -> tuple[DataSet, ...]:
    """Return a data set for each directive file; where there are several root names, one file may stand for all of them."""
    files = [Path(word) for word in (*given.all("DirectiveFile"), *given.words)]
    roots, folders = given.all("RootName"), given.all("CurrentLocation")
    if not files:
        raise ParameterError("You must enter at least one directive file")
    for file in files:
        if not file.is_file():
            raise ParameterError(f"Directive file {file} does not exist")
    if roots and len(files) not in (1, len(roots)):
        raise ParameterError(
            f"{len(files)} directive files and {len(roots)} root names: enter either one directive file or one per root name"
        )
    count = len(roots) or len(files)
    if folders and len(folders) != count:
        raise ParameterError(f"-CurrentLocation is entered {len(folders)} times for {count} data sets: enter it for each of them")
    return tuple(
        DataSet(
            files[min(number, len(files) - 1)],
            roots[number] if roots else None,
            Path(folders[number]) if folders else None,
        )
        for number in range(count)
    )


def _threads(given: _Given) -> tuple[int | None, tuple[str, ...]]:
    """Return the threads that `-cpus` and `-limit` allow, and what is to be said about them."""
    most = min(usable_cores(), max(1, _whole(given, "LimitLocalThreads", usable_cores())))
    text = given.last("CPUMachineList")
    if not text:
        return most if given.all("LimitLocalThreads") else None, ()
    if text.isdigit():
        asked = int(text)
        remarks: tuple[str, ...] = ()
        if not 1 <= asked <= _MOST_CPUS:
            raise ParameterError(f"A number of cores entered with -cpus must be between 1 and {_MOST_CPUS}; it is {text}")
    else:
        asked, remarks = _cores_here(text)
    threads = min(asked, most)
    if threads < asked:
        remarks = (*remarks, f"-CPUMachineList asks for {asked} cores; {threads} can be used here")
    return threads, remarks


def _cores_here(machines: str) -> tuple[int, tuple[str, ...]]:
    """Return the cores that a list such as `druid:4,tubule:8` gives to this machine, else to the first in it."""
    cores: dict[str, int] = {}
    for machine in machines.split(","):
        name, _, number = machine.strip().replace("#", ":").partition(":")
        if not name or (number and not number.isdigit()):
            raise ParameterError(f"-cpus: {machine!r} is not a machine's name, or one with a number of cores such as localhost:4")
        cores[name] = cores.get(name, 0) + int(number or 1)
    here = {"localhost", "127.0.0.1", socket.gethostname(), socket.gethostname().partition(".")[0]}
    chosen = next((name for name in cores if name in here), next(iter(cores)))
    others = [name for name in cores if name not in here]
    said = (f"-CPUMachineList names {', '.join(others)}; all work is done on this machine, with {cores[chosen]} cores",)
    return cores[chosen], said if others else ()


def _number(given: _Given, name: str, default: float) -> float:
    text = given.last(name)
    try:
        return float(text) if text else default
    except ValueError:
        raise ParameterError(f"-{name} takes a number, not {text!r}") from None


def _whole(given: _Given, name: str, default: int) -> int:
    text = given.last(name)
    try:
        return int(text) if text else default
    except ValueError:
        raise ParameterError(f"-{name} takes a whole number, not {text!r}") from None
