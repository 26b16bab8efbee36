"""The status of every directive: nothing is dropped in silence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from tiltflow.errors import DirectiveError, ParameterError, UnsupportedError
from tiltflow.model import Problem

Status = Literal["used", "ignored", "removed", "refused", "invalid", "misspelt", "unknown"]
WRONG: frozenset[Status] = frozenset({"refused", "invalid", "misspelt", "unknown"})
"""Statuses that stop a run before any work."""


@dataclass(frozen=True, slots=True)
class DirectiveRow:
    """A directive and its status.

    Attributes
    ----------
    name, value
        As written.
    status
        `used`; `ignored`, because it makes no difference; `removed` by a blank value; `refused`, as this engine cannot do it;
        `invalid`, for its value; `misspelt` in upper and lower case; or `unknown`.
    reason
        Which parameter it sets, why it makes no difference, or what to do.
    origin
        The template or file and its line, or the option of the command line.
    sets
        The parameters of the native engine's stages that it sets, as `stage.parameter`.
    """

    name: str
    value: str
    status: Status
    reason: str
    origin: str
    sets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DirectiveReport:
    """The status of every directive in force, and faults and problems of the directives as a whole.

    Attributes
    ----------
    rows
        In the order of the files.
    faults
        What is wrong with the directives as a whole: contradictions, and what is missing.
    problems
        Oddities that do not stop a run: a name given twice in one file, a parameter that the template does not use.
    """

    rows: tuple[DirectiveRow, ...]
    faults: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def wrong(self) -> tuple[DirectiveRow, ...]:
        """The rows that stop a run."""
        return tuple(row for row in self.rows if row.status in WRONG)

    @property
    def followed(self) -> bool:
        """Whether the engine can follow all of them."""
        return not self.wrong and not self.faults

    def check(self) -> None:
        """Raise for everything that cannot be used, all of it at once.

        Raises
        ------
        DirectiveError
            If a name or a value is wrong.
        ParameterError
            If the directives contradict each other, or one is missing.
        UnsupportedError
            If a request is valid, but beyond the engine.
        """
        if rows := self._with("misspelt"):
            raise DirectiveError(f"Incorrect directive(s), incorrect case: {_listed(rows)}")
        if rows := self._with("unknown"):
            raise DirectiveError(f"unknown directive: {_listed(rows)}")
        if rows := self._with("invalid"):
            raise DirectiveError(f"directive with a wrong value: {_listed(rows)}")
        if self.faults:
            raise ParameterError("; ".join(self.faults))
        if rows := self._with("refused"):
            raise UnsupportedError(f"the engine cannot carry out: {_listed(rows)}")

    def _with(self, status: Status) -> tuple[DirectiveRow, ...]:
        return tuple(row for row in self.rows if row.status == status)


def _listed(rows: Iterable[DirectiveRow]) -> str:
    return "; ".join(f"{row.name} = {row.value} ({row.origin}): {row.reason}" for row in rows)
