"""An observer that writes down what it hears."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any


class Listener:
    """An observer that writes down what it hears."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.warnings: list[str] = []
        self.notes: list[str] = []
        self.numbers: dict[str, Any] = {}
        self.fraction = 0.0

    def stage(self, name: str):
        self.stages.append(name)
        return nullcontext(self)

    def number(self, name, value, unit=""):
        self.numbers[name] = (value, unit)

    def note(self, text):
        self.notes.append(text)

    def warn(self, text):
        self.warnings.append(text)

    def progress(self, fraction):
        self.fraction = fraction
