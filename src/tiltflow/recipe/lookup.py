"""Look-up of the directives in force by name; what is refused or wrong is collected."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from tiltflow.formats.directives import Directive
from tiltflow.formats.known_directives import Value, catalogue_name, find_known

_AXIS = "a"
"""A single series is axis a."""


class Lookup:
    """Looks up the values of directives.

    A directive whose value is wrong or out of range counts as absent, so that one mistake does not hide the next.  Only those that the
    catalogue lists as used can be looked up, so that the catalogue agrees with what the stages do.

    Parameters
    ----------
    directives
        Those in force, one for each name.

    Attributes
    ----------
    invalid, refused
        Name to the reason.
    faults
        What is wrong with several directives together.

    Raises
    ------
    LookupError
        By its methods, if a stage looks up a directive that the catalogue does not list as used.
    """

    def __init__(self, directives: Iterable[Directive]) -> None:
        self.invalid: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.faults: list[str] = []
        self._in_force: dict[str, Directive] = {}
        self._values: dict[str, Value] = {}
        for directive in directives:
            listed, axis = catalogue_name(directive.name)
            if axis == _AXIS or (axis == "any" and listed not in self._in_force):
                self._in_force[listed] = directive
        for listed, directive in self._in_force.items():
            self._parse(listed, directive)

    def in_force(self, directive: Directive) -> Directive:
        """Return the directive that holds in place of this one: itself, or the one for axis a."""
        return self._in_force.get(catalogue_name(directive.name)[0], directive)

    def has(self, name: str) -> bool:
        """Return whether a directive gives a value."""
        _check_used(name)
        return name in self._values

    def removed(self, name: str) -> bool:
        """Return whether a blank value takes the option away."""
        _check_used(name)
        return name in self._in_force and self._in_force[name].removes

    def flag(self, name: str, default: bool) -> bool:
        """Return the value of a `bool`."""
        return cast("bool", self._get(name, default))

    def whole(self, name: str, default: int, *, least: int | None = None) -> int:
        """Return the value of an `int`."""
        value = cast("int", self._get(name, default))
        return default if self._too_small(name, value, least) else value

    def number(self, name: str, default: float, *, least: float | None = None) -> float:
        """Return the value of a `float`."""
        value = cast("float", self._get(name, default))
        return default if self._too_small(name, value, least) else value

    def wholes(self, name: str, default: tuple[int, ...], *, least: int | None = None) -> tuple[int, ...]:
        """Return the values of `ints` or of a `list`."""
        values = cast("tuple[int, ...]", self._get(name, default))
        return default if values and self._too_small(name, min(values), least) else values

    def numbers(self, name: str, default: tuple[float, ...], *, least: float | None = None) -> tuple[float, ...]:
        """Return the values of `floats`."""
        values = cast("tuple[float, ...]", self._get(name, default))
        return default if values and self._too_small(name, min(values), least) else values

    def text(self, name: str) -> str:
        """Return the value of a `str` or `file`; empty if there is none."""
        return cast("str", self._get(name, ""))

    def reject(self, name: str, reason: str) -> None:
        """Record that the value of a directive is wrong."""
        self.invalid[name] = reason

    def refuse(self, name: str, reason: str) -> None:
        """Record that a directive asks for something that the native engine does not do."""
        self.refused[name] = reason

    def _get(self, name: str, default: Value) -> Value:
        _check_used(name)
        return self._values.get(name, default)

    def _too_small(self, name: str, value: float, least: float | None) -> bool:
        if least is None or value >= least or name not in self._values:
            return False
        self.reject(name, f"{least:g} or more was expected")
        return True

    def _parse(self, listed: str, directive: Directive) -> None:
        known = find_known(listed)
        if known is None or directive.removes:
            return
        # The value of an ignored directive need not be a number; that a bool is 0 or 1 is a rule of the language.
        if known.native == "ignored" and known.type != "bool":
            return
        try:
            self._values[listed] = known.parse(directive.value)
        except ValueError as error:
            hint = "; a comment needs a line of its own" if "#" in directive.value else ""
            self.invalid[listed] = f"{error}{hint}"


def _check_used(name: str) -> None:
    known = find_known(name)
    if known is None or known.native != "used":
        raise LookupError(f"a stage looks up {name}, which the catalogue does not list as used")
