"""What a session is asked to do, and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tiltflow.pipeline.job import OnProgress
from tiltflow.recipe import Recipe, SeriesRecipes
from tiltflow.watch.folders import Watched
from tiltflow.watch.ledger import LEDGER_NAME
from tiltflow.watch.policy import Rules
from tiltflow.work import SeriesResult, Site


class Work(Protocol):
    """Processes one series, as :func:`tiltflow.pipeline.process` does."""

    def __call__(self, source: Path, recipe: Recipe, site: Site, *, output: Path, on_progress: OnProgress) -> SeriesResult:
        """Return the result of a series, whose folder is `output`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a session is to do.

    Attributes
    ----------
    folders
        The folders to watch, by :func:`tiltflow.watch.assign`.
    output
        The folder of all results.
    recipes
        The recipe for all series, to which a table adds settings of single ones; or that of every series.
    site
        How the work is done here.
    table
        The table of settings; None for the one in each folder, if there is one.
    jobs
        Series at once.
    rules
        When a series is whole, and when it is given up.
    every_s
        Time between two looks, s.
    newest_first
        Whether the series that changed last has its turn first among those of one priority; else that which changed first.
    once
        Whether the session ends after one look, when what is whole is done.
    until_idle_s
        After how long without anything new the session ends, s; None for never.
    ledger
        The file of the ledger; None for the one among the results.
    here
        Whether the work is done on this machine, so that its engines must be able to follow the recipes.
    """

    folders: tuple[Watched, ...]
    output: Path
    recipes: Recipe | SeriesRecipes
    site: Site
    table: Path | None = None
    jobs: int = 1
    rules: Rules = field(default_factory=Rules)
    every_s: float = 15.0
    newest_first: bool = False
    once: bool = False
    until_idle_s: float | None = None
    ledger: Path | None = None
    here: bool = True

    @property
    def ledger_path(self) -> Path:
        """The file of the ledger."""
        return self.ledger or self.output / LEDGER_NAME


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a session came to: how many series it did, how many failed or were given up, and the page of each folder."""

    done: int
    failed: int
    pages: tuple[Path, ...]
