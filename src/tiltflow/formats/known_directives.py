"""The catalogue of the directives that IMOD and tiltflow know, kept in `known_directives.csv`.

Each entry states what the native engine does with the directive:

* `used`: it sets parameters of the stages, those in the column `sets`;
* `ignored`: it makes no difference here, and why;
* `refused`: it asks for something that the native engine does not do and that would change the result, and what to do instead.
  The values in the column `accepted` change nothing, and are not refused.

IMOD's batchruntomo uses all of them but tiltflow's own (`runtime.Tiltflow`), which it must not see, and `setupset.copyarg.dual`: it looks
for two stacks, while the work here is on one series at a time.
`python -m tiltflow.formats.known_directives` prints the catalogue as the page `docs/directives.md`.
"""

from __future__ import annotations

import csv
import difflib
import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal, cast

from tiltflow.formats.directives import split_axis

Native = Literal["used", "ignored", "refused"]
_OWN_STEPS = "native"
"""The column of tiltflow's own steps; the columns `sets` and `note` belong to it."""
_ABOUT = frozenset({"name", "section", "type", "default", "accepted", "sets", "note", "meaning"})
"""Columns that describe a directive; each of the others is an engine's and holds its verdicts."""
Value = bool | int | float | str | tuple[int, ...] | tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """A directive of the catalogue.

    Attributes
    ----------
    name
        Its key, for any axis.
    section
        Processing step that it belongs to.
    type
        `bool`, `int`, `float`, `ints`, `floats`, `2 ints`, `2 floats`, `list`, `file` or `str`.
    choices
        The values that an `int` may have; empty for any.
    default
        What IMOD does without it.
    native
        What the native engine does with it.
    verdicts
        What each engine with a column of its own does with it.
    accepted
        Values of a refused directive that change nothing.
    sets
        The parameters of the stages that a used directive sets, as `stage.parameter`, the main one first.
    note
        The reason, or what to do instead; for a used directive, what it does besides setting parameters.
    meaning
        One line for a scientist.
    """

    name: str
    section: str
    type: str
    choices: tuple[int, ...]
    default: str
    native: Native
    verdicts: Mapping[str, Native]
    accepted: tuple[str, ...]
    sets: tuple[str, ...]
    note: str
    meaning: str

    def verdict(self, engine: str) -> tuple[Native, str]:
        """Return what an engine does with it, and why; for an engine without a column, what tiltflow's own steps do with it.

        >>> find_known("runtime.Tiltflow.any.halfVolumes").verdict("native")
        ('used', 'halves')
        """
        if engine == _OWN_STEPS or engine not in self.verdicts:
            return self.native, self.effect
        verdict = self.verdicts[engine]
        if verdict == "ignored":
            return verdict, f"the engine {engine} does without it"
        return verdict, self.note if verdict == self.native == "refused" else ""

    @property
    def effect(self) -> str:
        """What the native engine does with it, in words: the parameters that it sets, the reason, or what to do instead."""
        return self.note or ", ".join(self.sets)

    def parse(self, text: str) -> Value:
        """Return the value that a text stands for.

        Raises
        ------
        ValueError
            If it is not of the directive's type; the message says what was expected.
        """
        value = _PARSERS[self.type](text)
        if self.choices and value not in self.choices:
            raise ValueError(f"one of {', '.join(map(str, self.choices))} was expected")
        return value


@cache
def known_directives() -> Mapping[str, Known]:
    """Return the catalogue by name, in the order of processing."""
    text = resources.files("tiltflow.formats").joinpath("known_directives.csv").read_text(encoding="utf-8")
    return {row["name"]: _known(row) for row in csv.DictReader(text.splitlines())}


def catalogue_name(name: str) -> tuple[str, str]:
    """Return the name under which the catalogue lists a directive, and the axis it was given for: `any`, `a` or `b`.

    >>> catalogue_name("comparam.tiltb.tilt.THICKNESS")
    ('comparam.tilt.tilt.THICKNESS', 'b')
    """
    listed, axis = split_axis(name)
    parts = listed.split(".")
    if parts[0] == "comparam":
        files, file, letter = _command_files(), parts[1][:-1], parts[1][-1]
        if letter in ("a", "b") and parts[1] not in files and file in files:
            return ".".join([parts[0], file, *parts[2:]]), letter
    return listed, axis


def find_known(name: str) -> Known | None:
    """Return what the catalogue says of a directive, whatever axis it was given for."""
    return known_directives().get(catalogue_name(name)[0])


def right_spelling(name: str) -> str | None:
    """Return the known name that differs from `name` in upper and lower case only, or None."""
    spelt = _by_lower_case().get(name.lower())
    if spelt is None:
        listed, axis = catalogue_name(name.lower())
        spelt = _by_lower_case().get(listed)
        if spelt is not None and axis != "any":
            spelt = _with_axis(spelt, axis)
    return spelt if spelt != name else None


_LIKE_LAST, _LIKE_NAMESAKE, _LIKE_ANY = 0.6, 0.5, 0.85
"""Similarity (`difflib`, 0 to 1) from which a name is proposed: of last words beside each other, of names with the same last word,
and of any other two, which always share many letters."""


def nearest_known(name: str) -> str | None:
    """Return the known name that looks most like `name`, or None if nothing does.

    >>> nearest_known("comparam.tilt.tilt.THICKNES")
    'comparam.tilt.tilt.THICKNESS'
    """
    names = _by_lower_case()
    wanted = name.lower()
    parent, _, last = wanted.rpartition(".")
    siblings = {each.rpartition(".")[2]: each for each in names if each.rpartition(".")[0] == parent}
    if matches := difflib.get_close_matches(last, siblings, n=1, cutoff=_LIKE_LAST):
        return names[siblings[matches[0]]]
    # A right last word in a wrong place is a likelier mistake than a name that happens to share more letters.
    elsewhere = [each for each in names if each.rpartition(".")[0] != parent]
    namesakes = [each for each in elsewhere if each.rpartition(".")[2] == last]
    matches = difflib.get_close_matches(wanted, namesakes, n=1, cutoff=_LIKE_NAMESAKE)
    matches = matches or difflib.get_close_matches(wanted, elsewhere, n=1, cutoff=_LIKE_ANY)
    return names[matches[0]] if matches else None


def is_own(name: str) -> bool:
    """Return whether a directive is tiltflow's own, which IMOD does not know."""
    return catalogue_name(name)[0].startswith("runtime.Tiltflow.")


def names_known_program(name: str) -> bool:
    """Return whether `name` is an option of a command file and program that the catalogue knows."""
    parts = catalogue_name(name)[0].split(".")
    return len(parts) == 4 and parts[0] == "comparam" and (parts[1], parts[2]) in _programs()


def render_catalogue() -> str:
    """Return the catalogue as a page of documentation, in Markdown."""
    lines = [_PREFACE]
    section = ""
    for known in known_directives().values():
        if known.section != section:
            section = known.section
            lines += [
                f"\n## {section}\n",
                "| directive | type | IMOD's default | meaning | native engine |",
                "|---|---|---|---|---|",
            ]
        cells = (f"`{known.name}`", _type_text(known), known.default or "-", known.meaning, _native_text(known))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def parse_list(text: str) -> tuple[int, ...]:
    """Return the numbers of a list such as `1-3,7`, in ascending order.

    >>> parse_list("7, 1-3")
    (1, 2, 3, 7)

    Raises
    ------
    ValueError
        If it is not a list of numbers and ranges, or a number is larger than any series has views.
    """
    numbers: set[int] = set()
    for part in re.split(r"[,\s]+", text.strip()):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if match is None or (match[2] is not None and int(match[2]) < int(match[1])):
            raise ValueError("a list of numbers and ranges such as 1-3,7 was expected")
        first, last = int(match[1]), int(match[2] or match[1])
        if last > _LARGEST_LISTED:
            raise ValueError(f"{last} is more than any series has views")
        numbers.update(range(first, last + 1))
    return tuple(sorted(numbers))


_LARGEST_LISTED = 100_000
"""Largest number in a list of views or sections: a range such as 1-999999999 from outside must not fill the memory."""


def _bool(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("0 or 1 was expected")
    return text == "1"


def _int(text: str) -> int:
    if not re.fullmatch(r"[+-]?\d+", text, re.ASCII):
        raise ValueError("a whole number was expected")
    return int(text)


def _float(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError("a number was expected")
    return value


def _ints(count: int | None = None) -> Callable[[str], tuple[int, ...]]:
    def parse(text: str) -> tuple[int, ...]:
        return tuple(map(_int, _split(text, count)))

    return parse


def _floats(count: int | None = None) -> Callable[[str], tuple[float, ...]]:
    def parse(text: str) -> tuple[float, ...]:
        return tuple(map(_float, _split(text, count)))

    return parse


def _split(text: str, count: int | None) -> list[str]:
    parts = re.split(r"\s*,\s*|\s+", text.strip())
    if count is not None and len(parts) != count:
        raise ValueError(f"{count} numbers were expected")
    return parts


_PARSERS: Mapping[str, Callable[[str], Value]] = {
    "bool": _bool,
    "int": _int,
    "float": _float,
    "ints": _ints(),
    "floats": _floats(),
    "2 ints": _ints(2),
    "2 floats": _floats(2),
    "list": parse_list,
    "file": str,
    "str": str,
}


def _known(row: Mapping[str, str]) -> Known:
    kind, _, choices = row["type"].partition(":")
    return Known(
        name=row["name"],
        section=row["section"],
        type=kind,
        choices=tuple(int(choice) for choice in choices.split()),
        default=row["default"],
        native=cast("Native", row[_OWN_STEPS]),
        verdicts={engine: cast("Native", row[engine]) for engine in row if engine not in _ABOUT},
        accepted=tuple(filter(None, row["accepted"].split("|"))),
        sets=tuple(row["sets"].split()),
        note=row["note"],
        meaning=row["meaning"],
    )


@cache
def _by_lower_case() -> Mapping[str, str]:
    return {name.lower(): name for name in known_directives()}


@cache
def _programs() -> frozenset[tuple[str, str]]:
    """Command files and the programs in them."""
    return frozenset((parts[1], parts[2]) for parts in (name.split(".") for name in known_directives()) if parts[0] == "comparam")


@cache
def _command_files() -> frozenset[str]:
    return frozenset(file for file, _ in _programs())


def _with_axis(name: str, axis: str) -> str:
    parts = name.split(".")
    return ".".join([parts[0], parts[1], axis, parts[3]] if parts[0] == "runtime" else [parts[0], parts[1] + axis, *parts[2:]])


_PREFACE = """# Directives

Made by `make pages` from `src/tiltflow/formats/known_directives.csv`; a test keeps the two equal.

A directive is a line `key = value` of a template or a directive file, or `--set key=value` on the command line. A blank
value removes the option. `.a` or `.b` in place of `.any` holds for one axis; a single series is axis a. Numbers are separated
by commas or blanks; true and false are 1 and 0; upper and lower case matter.

With IMOD's engine every directive goes to batchruntomo, except tiltflow's own at the end of this page, which IMOD does not
know, and `setupset.copyarg.dual`, as the work is on one series at a time: that engine refuses them. For the native engine
each directive has one of three statuses, which
`tiltflow directives FILE` and `run.json` list:

* **used**: it sets the parameters of the stages that are named;
* **ignored**: it concerns a step that is done in another way, or not needed; the reason is given;
* **refused**: it asks for something that the native engine does not do and that would change what the specimen looks like.
  The run stops before any work, and the message says what to do. The values in brackets change nothing and are accepted.

A name that is not listed here is refused, with the nearest name that is listed. An option of a command file that IMOD may know,
but this page does not, goes to IMOD's engine with a note."""


def _type_text(known: Known) -> str:
    return f"{known.type}: {' '.join(map(str, known.choices))}" if known.choices else known.type


def _native_text(known: Known) -> str:
    if known.native == "used":
        return f"**used**: {known.note or ', '.join(f'`{name}`' for name in known.sets)}"
    accepted = f" ({known.accepted[0]})" if known.accepted else ""
    return f"**{known.native}**{accepted}: {known.note}"


if __name__ == "__main__":
    sys.stdout.write(render_catalogue())
