"""Messages as they go to the portal: with names of files and stages, and without the paths of the server.

A path says to everybody who sees the page how the server's disks are laid out, and to the scientist nothing.  What lies in the share
keeps its path below it, as the portal knows it; of every other path the name is left.  Record and log keep the whole.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from tiltflow.delivery.layout import Layout

_BEFORE = r"(?<![\w./:~-])"
"""What a path does not begin behind: the middle of a word, a path or an address."""
_QUOTED = re.compile(r"(?P<quote>['\"`])(?P<path>/[^'\"`\n]*)(?P=quote)")
_PLAIN = re.compile(_BEFORE + r"/[^\s'\"`(),;:<>|]+")


def without_server_paths(text: str, layout: Layout) -> str:
    """Return a message without the absolute paths in it.

    >>> from pathlib import Path
    >>> share = Path("/mnt/em")
    >>> layout = Layout(share / "Projects", share / "Assets", share / "Projects" / "Lab", share)
    >>> without_server_paths("/mnt/em/Projects/Lab/B.mrc: no room in /lscratch/B-1 and/or '/tmp/a b'", layout)
    "Projects/Lab/B.mrc: no room in B-1 and/or 'a b'"
    """
    roots = {layout.inputs, layout.assets} if layout.share is None else {layout.share}
    places = {str(place) for root in roots for place in (root, root.absolute(), root.resolve())}
    for place in sorted(places, key=len, reverse=True):
        text = re.sub(f"{_BEFORE}{re.escape(place)}/+", "", text)
    text = _QUOTED.sub(lambda found: found["quote"] + _name(found["path"]) + found["quote"], text)
    return _PLAIN.sub(lambda found: _name(found[0]), text)


def without_server_paths_in(value: Any, layout: Layout) -> Any:
    """Return a value of JSON whose texts hold no absolute paths."""
    if isinstance(value, str):
        return without_server_paths(value, layout)
    if isinstance(value, dict):
        return {name: without_server_paths_in(each, layout) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_server_paths_in(each, layout) for each in value]
    return value


def _name(path: str) -> str:
    return PurePosixPath(path).name or path
