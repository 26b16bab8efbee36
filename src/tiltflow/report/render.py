"""Templates and what they share: escaping of everything, the style sheet, and the way numbers are written."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tiltflow.atomic_write import write_text
from tiltflow.report.compiled_templates import CompiledTemplates
from tiltflow.work import Quantity, Trust

MARKS = {Trust.GOOD: "✓", Trust.DOUBTFUL: "?", Trust.POOR: "✗", Trust.FAILED: "✗", Trust.UNFINISHED: "…"}
SENTENCES = {
    Trust.GOOD: "Good: all figures are within their limits.",
    Trust.DOUBTFUL: "Doubtful: check the reasons given here before you use this tomogram.",
    Trust.POOR: "Poor: do not trust this tomogram.",
    Trust.FAILED: "Failed: there is no tomogram.",
    Trust.UNFINISHED: "Unfinished: the series is still being processed, or the run was stopped.",
}

_KIB = 1024.0
_LONGEST_REASON = 160
_UNITS = {"deg": "°", "angstrom": " Å", "e/angstrom^2": " e/Å²"}


def render(template: str, path: Path, **context: Any) -> Path:
    """Write a page from a template, beside its place and then renamed; return its path."""
    text = _environment().get_template(template).render(**context)
    write_text(path, text, errors="replace")
    return path


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("tiltflow.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        bytecode_cache=CompiledTemplates(Path(__file__).with_name("templates")),
    )
    made.globals.update(marks=MARKS, sentences=SENTENCES, style=_asset("style.css"), **_script())
    made.filters.update(bytes=size_text, seconds=time_text, plain=plain, code=_code, figure=figure, shorten=_shorten)
    return made


def _script() -> dict[str, str]:
    """Return the script that sorts tables, and its hash: the page's policy lets no other run."""
    text = _asset("sort.js")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return {"script": text, "script_hash": f"sha256-{digest}"}


def _asset(name: str) -> str:
    return files("tiltflow.report").joinpath("templates", name).read_text(encoding="utf-8")


def size_text(size: float) -> str:
    """Return a number of bytes for people.

    >>> size_text(3_400_000)
    '3.2 MiB'
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < _KIB or unit == "GiB":
            break
        size /= _KIB
    return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"


def time_text(seconds: float) -> str:
    """Return a duration for people.

    >>> time_text(75), time_text(4.21), time_text(3723)
    ('1 min 15 s', '4.2 s', '1 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def plain(value: Any, unit: str = "") -> str:
    """Return any value of the record in a few words; of a list its range.

    >>> plain([-60.0, 0.0, 60.0], "deg"), plain(10.0, "px"), plain(None)
    ('-60° to 60°, 3 values', '10 px', '')
    """
    if value is None:
        return ""
    after = _UNITS.get(unit, f" {unit}" if unit else "")
    if isinstance(value, list):
        if value and all(isinstance(item, (int, float)) for item in value):
            return f"{min(value):g}{after} to {max(value):g}{after}, {len(value)} values"
        return f"{len(value)} values"
    return (f"{value:.6g}" if isinstance(value, float) else str(value)) + after


def figure(number: Quantity) -> str:
    """Return a number of a verdict with its unit.

    >>> figure(Quantity(0.3571, "px")), figure(Quantity(25))
    ('0.36 px', '25')
    """
    value = f"{number.value:.2f}" if isinstance(number.value, float) else str(number.value)
    return value + _UNITS.get(number.unit, f" {number.unit}" if number.unit else "")


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON].rsplit(" ", 1)[0] + " …"


def _code(text: str) -> Markup:
    """Return text in which what stands between backquotes is set as code; all of it is escaped."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts))
