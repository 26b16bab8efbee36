"""What the site needs beyond the configuration of mkdocs: pages found by a pattern, and the functions of the front door."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import tiltflow

DOCS = Path(__file__).parent
FRONT_DOOR = "<!-- front door -->"


def on_config(config: Any) -> Any:
    """Replace patterns in the navigation, as `howto/*.md`, by the pages that match and are not named themselves."""
    config["nav"] = _found(config["nav"], frozenset(_named(config["nav"])))
    return config


def on_page_markdown(markdown: str, **_context: Any) -> str:
    """Put the reference of every function that `tiltflow` exports where the page has the mark."""
    if FRONT_DOOR not in markdown:
        return markdown
    exported = [getattr(tiltflow, name) for name in getattr(tiltflow, "__all__", ())]
    functions = [one for one in exported if inspect.isfunction(one)]
    return markdown.replace(FRONT_DOOR, "\n\n".join(f"::: {one.__module__}.{one.__qualname__}" for one in functions))


def _named(entries: Any) -> list[str]:
    if isinstance(entries, str):
        return [entries]
    inside = entries.values() if isinstance(entries, dict) else entries
    return [name for entry in inside for name in _named(entry)]


def _found(entries: list[Any], named: frozenset[str]) -> list[Any]:
    """Return the entries of a navigation without its patterns, and without sections in which nothing is left."""
    out: list[Any] = []
    for entry in entries:
        if isinstance(entry, str) and "*" in entry:
            pages = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.glob(entry))
            out += [page for page in pages if page not in named]
        elif isinstance(entry, dict) and isinstance(inside := next(iter(entry.values())), list):
            left = _found(inside, named)
            out += [{next(iter(entry)): left}] if left else []
        else:
            out.append(entry)
    return out
