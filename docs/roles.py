"""Roles of docstrings, as `:func:`, shown as plain code: mkdocstrings reads Markdown and knows none."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":[a-z]+:`~?([^`]+)`")


class PlainRoles(griffe.Extension):
    """Rewrites every docstring before it is parsed."""

    def on_instance(self, *, obj: griffe.Object, **_context: Any) -> None:
        """Leave the name that a role marks, and drop the role."""
        if obj.docstring is not None:
            obj.docstring.value = _ROLE.sub(r"`\1`", obj.docstring.value)
