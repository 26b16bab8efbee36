"""Directive files (`.adoc`), the language that controls IMOD's `batchruntomo`.

A file holds one directive a line, `key = value`, the key of two to four components joined by dots::

    # a comment has a line of its own
    setupset.copyarg.gold = 10
    comparam.tilt.tilt.THICKNESS = 300
    runtime.AlignedStack.any.binByFactor = 4
    comparam.tilt.tilt.LOG =

A blank value removes the option.  Files come in layers, scope below system below user below batch; the later layer wins.
Where the third component of a `runtime` key is an axis, `a` or `b`, it overrides `any` for that axis.  The same holds for an
axis letter behind the name of a command file (`comparam.tilta.tilt.THICKNESS`).

Nothing here knows what a directive means; :mod:`tiltflow.formats.known_directives` does.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from tiltflow.errors import DirectiveError, FormatError, LocationError
from tiltflow.formats.text_files import bytes_of
from tiltflow.model import Problem

if TYPE_CHECKING:
    from jinja2 import Environment, TemplateSyntaxError

_KEY = re.compile(r"[\w-]+(\.[\w-]+){1,3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive, and where it was written.

    A name that is not a key, or a value that could end its line early, is refused with a :class:`DirectiveError`.

    Attributes
    ----------
    name
        The key: `comparam.tilt.tilt.THICKNESS`.
    value
        The text behind the equals sign, without blanks around it; empty removes the option.
    where
        The file, the template, or the option of the command line.
    line
        Counted from 1; None where there are no lines.
    """

    name: str
    value: str
    where: str = ""
    line: int | None = None

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.name):
            raise DirectiveError(
                f"{self.origin}: {self.name!r} is not a directive's name: two to four words joined by dots, "
                f"such as comparam.tilt.tilt.THICKNESS"
            )
        refuse_control_characters(self.value, f"{self.origin}: the value of {self.name}")
        if self.value != self.value.strip(" "):
            raise DirectiveError(f"{self.origin}: the value of {self.name}, {self.value!r}, begins or ends with a blank; remove it")

    @property
    def origin(self) -> str:
        """Where it was written: `file:line`."""
        place = self.where or "directive"
        return place if self.line is None else f"{place}:{self.line}"

    @property
    def removes(self) -> bool:
        """Whether the blank value takes the option away."""
        return not self.value


@dataclass(frozen=True, slots=True)
class LayeredDirectives:
    """The directives in force: one for each name, removals included, and the problems found."""

    directives: tuple[Directive, ...]
    problems: tuple[Problem, ...] = ()


def parse_directives(text: str, where: str) -> list[Directive]:
    r"""Return every directive of a file in its order, repeated ones included.

    >>> [(d.name, d.value, d.origin) for d in parse_directives("# mine\ncomparam.tilt.tilt.RADIAL = 0.35, 0.035\n", "my.adoc")]
    [('comparam.tilt.tilt.RADIAL', '0.35, 0.035', 'my.adoc:2')]

    Raises
    ------
    DirectiveError
        If a line is neither blank, a comment, nor `key = value`; the message names file and line.  It does not quote a file that has no
        directive at all: somebody has named a file of another kind, whose contents are not for those who read messages.
    """
    # str.splitlines would also break at form feeds and at U+2028, which IMOD reads as part of the value.
    stripped = (raw.removesuffix("\r").replace("\t", " ").strip(" ") for raw in text.removeprefix("\ufeff").split("\n"))
    lines = [(number, line) for number, line in enumerate(stripped, start=1) if line and not line.startswith("#")]
    parts = [(number, line, *line.partition("=")) for number, line in lines]
    if parts and not any(equals and _KEY.fullmatch(name.strip(" ")) for _, _, name, equals, _ in parts):
        raise DirectiveError(
            f"{where}:{parts[0][0]}: this line is not a directive, nor is any other of the file; write key = value, or # before a comment"
        )
    directives = []
    for number, line, name, equals, value in parts:
        if not equals:
            raise DirectiveError(f"{where}:{number}: {line!r} is not a directive; write key = value, or # before a comment")
        directives.append(Directive(name.strip(" "), value.strip(" "), where, number))
    return directives


def read_directives(path: Path) -> list[Directive]:
    """Return every directive of a file; see :func:`parse_directives`.

    Raises
    ------
    LocationError
        If there is no such file.
    DirectiveError
        If it is not text, or a line is neither blank, a comment, nor `key = value`.
    """
    return parse_directives(read_directive_text(path), str(path))


def read_directive_text(path: Path) -> str:
    """Return the text of a directive file or template.

    Raises
    ------
    LocationError
        If there is no such file.
    DirectiveError
        If it is not text, or too large.
    """
    try:
        return bytes_of(path).decode("utf-8")
    except FormatError as error:
        raise DirectiveError(str(error)) from error
    except UnicodeDecodeError as error:
        raise DirectiveError(f"{path}: byte {error.start} is not UTF-8 text; save the file as UTF-8") from error
    except OSError as error:
        raise LocationError(f"cannot read the directive file {path}: {error.strerror or error}") from error


def parse_override(text: str, where: str = "--set") -> Directive:
    """Return the directive in `name=value`, as given on the command line.

    Raises
    ------
    DirectiveError
        If there is no equals sign, or the text would become more than one directive.
    """
    refuse_control_characters(text, f"{where}: {text!r}")
    name, equals, value = text.partition("=")
    if not equals:
        raise DirectiveError(f"{where}: {text!r} has no equals sign; write {where} directive=value (a blank value removes it)")
    return Directive(name.strip(" "), value.strip(" "), where)


def layer_directives(*layers: Iterable[Directive]) -> LayeredDirectives:
    """Return the directives in force when each layer overrides those before it.

    A name given twice in one layer is reported; the last counts.  Removals stay in the list: they also remove what a command
    file holds by default.
    """
    effective: dict[str, Directive] = {}
    problems = []
    for layer in layers:
        seen: dict[str, Directive] = {}
        for directive in layer:
            if (first := seen.get(directive.name)) is not None:
                problems.append(
                    Problem(f"{directive.name} is given twice: {directive.value!r} replaces {first.value!r}", directive.origin)
                )
            seen[directive.name] = directive
        effective |= seen
    return LayeredDirectives(tuple(effective.values()), tuple(problems))


def split_axis(name: str) -> tuple[str, str]:
    """Return the name for any axis, and the axis it was given for: `any`, `a` or `b`.

    >>> split_axis("runtime.AlignedStack.a.binByFactor")
    ('runtime.AlignedStack.any.binByFactor', 'a')
    >>> split_axis("comparam.tilt.tilt.THICKNESS")
    ('comparam.tilt.tilt.THICKNESS', 'any')
    """
    parts = name.split(".")
    if parts[0] == "runtime" and len(parts) == 4 and parts[2] in ("a", "b"):
        return ".".join((parts[0], parts[1], "any", parts[3])), parts[2]
    return name, "any"


def render_directives(directives: Iterable[Directive], heading: str = "") -> str:
    """Return the text of a directive file, one directive a line, below comment lines made of `heading`.

    Raises
    ------
    DirectiveError
        If the heading holds a control character.
    """
    headings = heading.split("\n") if heading else []
    for line in headings:
        refuse_control_characters(line, f"the heading {line!r}")
    lines = [f"# {line}".rstrip(" ") for line in headings]
    lines += [f"{directive.name} = {directive.value}".rstrip(" ") for directive in directives]
    return "\n".join(lines) + "\n"


def refuse_control_characters(text: str, what: str) -> None:
    r"""Raise if a text could end its line early and so become another directive.

    Raises
    ------
    DirectiveError
        If there is a control character, or one of Unicode's line separators.
    """
    for place, character in enumerate(text):
        if unicodedata.category(character) in ("Cc", "Zl", "Zp", "Cs"):
            raise DirectiveError(
                f"{what} holds the character {character!r} at place {place + 1}; line ends and control characters are not "
                f"allowed, as what follows would be read as another directive"
            )


def render_template(text: str, variables: Mapping[str, str | int | float | None], where: str = "template") -> str:
    """Return the directives of a jinja template with its variables filled in.

    The template runs in a sandbox: it can compute and decide, but has no access to files or programs.

    Parameters
    ----------
    text
        The template.
    variables
        By name; None counts as false and prints nothing.
    where
        The name of the template, for messages.

    Raises
    ------
    DirectiveError
        If the template is malformed or refers to an unknown variable, or if a value holds a control character.
    """
    for name, value in variables.items():
        if isinstance(value, str):
            refuse_control_characters(value, f"{where}: the variable {name} = {value!r}")
            if value != value.strip():
                raise DirectiveError(
                    f"{where}: the variable {name} = {value!r} begins or ends with a blank; rename the file or folder"
                )
    import jinja2

    try:
        return _template_environment().from_string(text).render(variables)
    except jinja2.TemplateSyntaxError as error:
        raise _malformed(error, where) from error
    except jinja2.UndefinedError as error:
        raise DirectiveError(f"{where}: {error.message}; a template may use {', '.join(variables)}") from error
    except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise DirectiveError(f"{where}: the template cannot be filled in: {error}") from error


@lru_cache(maxsize=32)
def variables_of_template(text: str, where: str = "template") -> frozenset[str]:
    """Return the names of the variables that a template refers to.

    Raises
    ------
    DirectiveError
        If the template is malformed.
    """
    import jinja2
    import jinja2.meta

    try:
        return frozenset(jinja2.meta.find_undeclared_variables(_template_environment().parse(text)))
    except jinja2.TemplateSyntaxError as error:
        raise _malformed(error, where) from error


def _template_environment() -> Environment:
    # jinja2 is loaded where a template is rendered: `tiltflow --help` need not wait for it.
    import jinja2
    from jinja2.sandbox import SandboxedEnvironment

    return SandboxedEnvironment(
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        finalize=lambda value: "" if value is None else value,
    )


def _malformed(error: TemplateSyntaxError, where: str) -> DirectiveError:
    return DirectiveError(f"{where}:{error.lineno}: the template is malformed: {error.message}")
