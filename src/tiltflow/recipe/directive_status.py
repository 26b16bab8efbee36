"""The status of one directive: used, ignored, removed, refused or wrong, and why."""

from __future__ import annotations

from collections.abc import Mapping

from tiltflow.formats.directives import Directive
from tiltflow.formats.known_directives import (
    Known,
    catalogue_name,
    find_known,
    names_known_program,
    nearest_known,
    right_spelling,
)
from tiltflow.recipe.engine_rules import DirectiveRules, all_engines
from tiltflow.recipe.lookup import Lookup
from tiltflow.recipe.report import DirectiveRow, Status

_UNNEEDED: Mapping[str, tuple[frozenset[str], str]] = {
    "patches": (frozenset({"gold_nm", "beads"}), "patches are tracked, not beads"),
    "projection": (
        frozenset({"gold_nm", "beads", "patches", "solve"}),
        "nothing is tracked: runtime.Fiducials.any.fiducialless is 1",
    ),
}
"""Stages that a method of alignment does not need, and the reason."""

_ERASE = "runtime.AlignedStack.any.eraseGold"
"""Needs the size of the beads whatever aligns the views."""

_BLANK: Mapping[str, str] = {
    "comparam.tilt.tilt.LOG": "no logarithm is taken: the data are linear already",
    "comparam.newst.newstack.TaperAtFill": "no taper at the edges of a view",
}
"""What a blank value means where it is more than the default."""


def status_of(directive: Directive, lookup: Lookup, method: str, engine: str, rules: DirectiveRules) -> DirectiveRow:
    """Return the status of a directive, after the stages have looked up theirs."""
    status, reason = _status(directive, lookup, method, engine, rules)
    return DirectiveRow(directive.name, directive.value, status, reason, directive.origin, _sets(directive, status, rules))


def _sets(directive: Directive, status: Status, rules: DirectiveRules) -> tuple[str, ...]:
    """Return the parameters that a directive sets; a blank one sets some where it means more than the default."""
    known = find_known(directive.name)
    if known is None or rules.hands_on_to:
        return ()
    return known.sets if status == "used" or (status == "removed" and known.name in _BLANK) else ()


def _status(directive: Directive, lookup: Lookup, method: str, engine: str, rules: DirectiveRules) -> tuple[Status, str]:
    known = find_known(directive.name)
    if known is None:
        return _unknown(directive.name, rules)
    if _is_of_axis_b(directive) or lookup.in_force(directive) is not directive:
        return _elsewhere(directive, lookup, rules)
    if known.name in lookup.invalid:
        return "invalid", lookup.invalid[known.name]
    if directive.removes:
        without = f"the default applies: {known.default}" if known.default else "as if it were not given"
        return "removed", _BLANK.get(known.name, without)
    status, reason = known.verdict(engine)
    if status == "refused":
        if _changes_nothing(directive, known):
            return "ignored", "with this value it changes nothing"
        return "refused", reason or rules.own_refused
    if rules.hands_on_to:
        return status, reason or f"by {rules.hands_on_to}"
    return _status_in_steps(known, lookup, method, status, reason)


def _status_in_steps(known: Known, lookup: Lookup, method: str, status: Status, reason: str) -> tuple[Status, str]:
    """Return the status of a directive that tiltflow's own steps follow."""
    if known.name in lookup.refused:
        return "refused", lookup.refused[known.name]
    unneeded, why = _UNNEEDED.get(method, (frozenset(), ""))
    if lookup.whole(_ERASE, 0):
        unneeded -= {"gold_nm"}
    if known.sets and unneeded.issuperset(name.partition(".")[0] for name in known.sets):
        return "ignored", why
    return status, reason


def _changes_nothing(directive: Directive, known: Known) -> bool:
    return any(known.parse(value) == known.parse(directive.value) for value in known.accepted)


def _unknown(name: str, rules: DirectiveRules) -> tuple[Status, str]:
    if (spelt := right_spelling(name)) is not None:
        return "misspelt", f"the right spelling is {spelt}"
    option_of_known_program = names_known_program(name)
    if rules.hands_on_to and option_of_known_program:
        return "used", "not in tiltflow's catalogue; passed to the command file as it is"
    nearest = nearest_known(name)
    advice = f"the nearest known name is {nearest}" if nearest else "no known name is similar"
    if option_of_known_program:
        advice += "".join(
            f"; if {other.title} knows it, --engine {other.name} passes it on" for other in all_engines() if other.rules.hands_on_to
        )
    return "unknown", advice


def _elsewhere(directive: Directive, lookup: Lookup, rules: DirectiveRules) -> tuple[Status, str]:
    """Return the status of a directive for the other axis, or for any axis where there is one for this."""
    if not _is_of_axis_b(directive):
        return "ignored", f"{lookup.in_force(directive).name} overrides it"
    program = rules.hands_on_to
    return ("used", f"by {program}") if program else ("ignored", "a single series is axis a")


def _is_of_axis_b(directive: Directive) -> bool:
    return catalogue_name(directive.name)[1] == "b"
