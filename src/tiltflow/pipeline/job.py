"""Input and output of the pipeline: jobs, results and progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tiltflow.recipe import Recipe
from tiltflow.work import Asset, SeriesResult, Site

RECORD_NAME = "run.json"
"""The record: of a series in its folder, of a run in the folder above."""


Part = Literal["alignment", "reconstruction", "products"]
ALL_PARTS: tuple[Part, ...] = ("alignment", "reconstruction", "products")
"""The parts of the work; the alignment is always there, made or given."""


@dataclass(frozen=True, slots=True)
class Job:
    """One series to process.

    Attributes
    ----------
    source
        The stack of images.
    output
        The folder of the series: its products, files and record.
    workdir
        A scratch folder of its own.
    keep_volumes
        Whether the aligned stack and the volume are kept with the products.
    redo
        Whether every step is made anew, also those that an earlier run has finished.
    parts
        Which parts of the work are done.
    given_name
        The base name, where it is not that of the source.
    why_again
        In words why a series that has a result is done again; empty where it has none, or that was asked for.
    answered
        Whether that result was made by this recipe from this input.
    """

    source: Path
    recipe: Recipe
    site: Site
    output: Path
    workdir: Path
    keep_volumes: bool = True
    redo: bool = False
    parts: tuple[Part, ...] = ALL_PARTS
    given_name: str = ""
    why_again: str = ""
    answered: bool = True

    @property
    def name(self) -> str:
        """The base name."""
        return self.given_name or self.source.stem

    @property
    def record_path(self) -> Path:
        """Where the record of the series is kept."""
        return self.output / RECORD_NAME


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """The products of one step, small enough to be sent between processes."""

    assets: tuple[Asset, ...]


@dataclass(frozen=True, slots=True)
class RunResult:
    """The results of all series of a run, in the order given, and the page of all of them; None where it could not be written."""

    results: tuple[SeriesResult, ...] = ()
    page: Path | None = None

    @property
    def failed(self) -> tuple[SeriesResult, ...]:
        """The series without products."""
        return tuple(result for result in self.results if not result.ok)


@dataclass(frozen=True, slots=True)
class SeriesProgress:
    """The progress of one series: its running stage and the fraction of it that is done; `result` at its end.

    `note` is a remark on the series as a whole.
    """

    name: str
    stage: str
    fraction: float
    result: SeriesResult | None = None
    note: str = ""


OnProgress = Callable[[SeriesProgress], None]


def nobody(_progress: SeriesProgress) -> None:
    """Receive progress, and do nothing."""
