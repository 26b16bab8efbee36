"""What an engine is: something that leaves `B_ali.mrc`, `B_rec.mrc`, `B.xf` and `B.tlt` behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tiltflow import describe
from tiltflow.engines.plan import Plan
from tiltflow.model import Alignment, Reconstruction, Site, TiltSeries
from tiltflow.recipe import Recipe
from tiltflow.recipe.engine_rules import EngineInfo
from tiltflow.record import AlignmentEntry, Recorder


@dataclass(frozen=True, slots=True, eq=False)
class EngineJob:
    """One series to align and reconstruct in `workdir`."""

    series: TiltSeries
    recipe: Recipe
    site: Site
    workdir: Path
    recorder: Recorder

    def path(self, suffix: str) -> Path:
        """Return a file of the work folder, named after the series: `path("_ali.mrc")`."""
        return self.workdir / f"{self.series.name}{suffix}"

    def note_alignment(self, alignment: Alignment) -> None:
        """Put an alignment into the record as soon as it is known, so that work which ends early leaves it."""
        self.recorder.record.alignment = AlignmentEntry.model_validate(describe.alignment(alignment, self.series))
        self.recorder.save()


class Engine(EngineInfo, Protocol):
    """Aligns and reconstructs; engines meet at files with IMOD's names, so that any's can be opened in 3dmod."""

    @property
    def version(self) -> str:
        """What to write into the record."""

    def plan(self, series: TiltSeries, recipe: Recipe, threads: int, *, keep_volumes: bool = True) -> Plan:
        """Return the memory, disk and time that the work on a series takes.

        Parameters
        ----------
        recipe
            As this engine and this series have it.
        threads
            That it may use.
        keep_volumes
            Whether aligned stack and volume are among the results.
        """

    def check(self, job: EngineJob) -> None:
        """Refuse, before any work, what this engine cannot do.

        Raises
        ------
        UnsupportedError
            If a request is valid but beyond this engine.
        ResourceError
            If the work does not fit this machine.
        """

    def reconstruct(self, job: EngineJob) -> Reconstruction:
        """Make the aligned stack and the volume.

        Raises
        ------
        TiltflowError
            With the stage and the reason, if no trustworthy result came of it.
        """
