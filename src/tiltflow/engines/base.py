"""The interface of an engine, which makes `B_ali.mrc`, `B_rec.mrc`, `B.xf` and `B.tlt`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tiltflow import describe
from tiltflow.engines.plan import Plan
from tiltflow.model import Alignment, Reconstruction, TiltSeries
from tiltflow.recipe import Recipe
from tiltflow.recipe.engine_rules import EngineInfo
from tiltflow.record import AlignmentEntry, Recorder, Steps
from tiltflow.work import Site


@dataclass(frozen=True, slots=True, eq=False)
class EngineJob:
    """One series to align and reconstruct in `workdir`.

    Attributes
    ----------
    steps
        The steps that are taken over or kept; None where nothing is.
    source_key
        Key of the input: of all files that its reading used.
    frames_key
        Key of the stacks of even and odd frames beside it; empty where there are none, or they do not count.
    """

    series: TiltSeries
    recipe: Recipe
    site: Site
    workdir: Path
    recorder: Recorder
    steps: Steps | None = None
    source_key: str = ""
    frames_key: str = ""

    @property
    def book(self) -> Steps:
        """The steps of this work; without any that are kept, each is made."""
        return self.steps if self.steps is not None else Steps(self.recorder)

    def path(self, suffix: str) -> Path:
        """Return a file of the work folder, named after the series: `path("_ali.mrc")`."""
        return self.workdir / f"{self.series.name}{suffix}"

    def note_alignment(self, alignment: Alignment) -> None:
        """Put an alignment into the record as soon as it is known, so that it is kept if the work fails later."""
        self.recorder.record.alignment = AlignmentEntry.model_validate(describe.alignment(alignment, self.series))
        self.recorder.save()


class Engine(EngineInfo, Protocol):
    """Aligns and reconstructs; all engines write files with IMOD's names, which 3dmod can open."""

    @property
    def version(self) -> str:
        """The version for the record."""

    def plan(self, series: TiltSeries, recipe: Recipe, threads: int, *, keep_volumes: bool = True) -> Plan:
        """Return the memory, disk space and time that the work on a series needs.

        Parameters
        ----------
        recipe
            As made for this engine and this series.
        threads
            Threads that it may use.
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
        InputError, ParameterError
            If a file that a directive names, or a number, does not fit the series.
        """

    def align(self, job: EngineJob) -> Alignment:
        """Align the series without reconstructing it.

        Raises
        ------
        UnsupportedError
            If the engine can only do both at once.
        TiltflowError
            With the stage and the reason, if there is no usable alignment.
        """

    def reconstruct(self, job: EngineJob) -> Reconstruction:
        """Make the aligned stack and the volume.

        Raises
        ------
        TiltflowError
            With the stage and the reason, if there is no usable result.
        """
