"""Directives translated, and what became of one."""

from __future__ import annotations

from tiltflow.formats.directives import parse_directives
from tiltflow.recipe import StageParams, from_directives

BASE = "comparam.tilt.tilt.THICKNESS = 100\nsetupset.copyarg.gold = 10\n"


def translate(text: str, engine="native") -> StageParams:
    params, report = from_directives(parse_directives(text, "test.adoc"), engine)
    report.check()
    return params


def understood(text: str) -> StageParams:
    """What the directives mean, whether or not the native engine does it yet."""
    return from_directives(parse_directives(text, "test.adoc"))[0]


def status_of(text: str, name: str, engine="native"):
    _, report = from_directives(parse_directives(BASE + text, "test.adoc"), engine)
    (row,) = [row for row in report.rows if row.name == name]
    return row
