"""What the site needs beyond the configuration of mkdocs: pages found by a pattern, and texts put into pages."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiltflow

DOCS = Path(__file__).parent
FRONT_DOOR = "<!-- front door -->"
_FROM_NETWORK = re.compile(r"<script\b[^>]*>(?:(?!</script>).)*cdnjs\.(?:(?!</script>).)*</script>", re.DOTALL)
_INCLUDE = re.compile(r"<!-- include: (\S+)(?: (\w+))? -->")


def on_config(config: Any) -> Any:
    """Replace patterns in the navigation, as `howto/*.md`, by the pages that match and are not named themselves."""
    config["nav"] = _found(config["nav"], frozenset(_named(config["nav"])))
    return config


def on_page_markdown(markdown: str, **_context: Any) -> str:
    """Put in what the marks of a page ask for: the reference of every function that `tiltflow` exports, or a text of the repository."""
    if FRONT_DOOR in markdown:
        exported = [getattr(tiltflow, name) for name in tiltflow.__all__]
        functions = sorted((one for one in exported if inspect.isfunction(one)), key=_place)
        markdown = markdown.replace(FRONT_DOOR, "\n\n".join(f"::: {one.__module__}.{one.__qualname__}" for one in functions))
    return _INCLUDE.sub(lambda found: _included(found[1], found[2]), markdown)


def on_post_page(output: str, **_context: Any) -> str:
    """Take out the script from the network that nbconvert puts into every page of a notebook, for diagrams that none of them has."""
    return _FROM_NETWORK.sub("", output)


def _included(name: str, part: str | None) -> str:
    """Return a file beside this folder, or the part of it between two marks, with links that lead from here."""
    text = (DOCS.parent / name).read_text(encoding="utf-8")
    if part is not None:
        text = text.partition(f"<!-- begin {part} -->\n")[2].partition(f"<!-- end {part} -->")[0]
    if not text:
        raise ValueError(f"{name} has no part {part!r} between marks")
    text = text.replace("](docs/", "](")
    for moved in ("CHANGELOG.md", "CONTRIBUTING.md"):
        text = text.replace(f"]({moved}", f"]({moved.lower()}")
    return text


def _place(function: Callable[..., Any]) -> int:
    """Return the line in which a function begins: they are shown in the order of the module."""
    return inspect.getsourcelines(inspect.unwrap(function))[1]


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
