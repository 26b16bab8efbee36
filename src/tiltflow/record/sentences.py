"""Sentences of a methods section and the papers that they cite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tiltflow.record.schema import SeriesRecord


@dataclass(frozen=True, slots=True)
class Citation:
    """A paper: how the text refers to it, the reference, and its DOI."""

    short: str
    text: str
    doi: str


Sentence = tuple[str, tuple[Citation, ...]]
"""A sentence and the papers that it cites."""


@dataclass(frozen=True, slots=True)
class EngineMethods:
    """Sentences of an engine for the methods section of a series.

    Attributes
    ----------
    done
        How the sentence "A tilt series of 61 views ..." goes on; `{recipe}` stands for the template and the recipe.
    before, alignment, volume
        Sentences on what was done to the views first, on the alignment and on the reconstruction.
    """

    done: Sentence
    before: tuple[Sentence, ...] = ()
    alignment: tuple[Sentence, ...] = ()
    volume: tuple[Sentence, ...] = ()


def stage_params(record: SeriesRecord, name: str) -> Any:
    """Return the parameters of a step of the recipe; None where the record has none."""
    return record.recipe.stages.get(name) if record.recipe is not None else None


def stage_number(record: SeriesRecord, stage: str, name: str) -> float | None:
    """Return a number that a stage recorded; None where it did not."""
    for entry in record.stages:
        number = entry.numbers.get(name)
        if entry.name == stage and number is not None and isinstance(number.value, (int, float)):
            return float(number.value)
    return None
