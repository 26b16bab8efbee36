"""IMOD's batchruntomo as an engine.

This module is light; what does the work is imported when there is work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiltflow.engines.imod.program import OPTIONS, PROGRAM, find_imod, imod_version
from tiltflow.errors import UnsupportedError
from tiltflow.recipe.engine_rules import DirectiveRules

if TYPE_CHECKING:
    from tiltflow.engines.base import EngineJob
    from tiltflow.engines.plan import Plan
    from tiltflow.model import Reconstruction, TiltSeries
    from tiltflow.recipe import Recipe
    from tiltflow.record import SeriesRecord
    from tiltflow.record.sentences import EngineMethods


class ImodEngine:
    """Has IMOD align and reconstruct."""

    name = "imod"
    title = "IMOD"
    rules = DirectiveRules(
        hands_on_to=PROGRAM, own_refused="IMOD has nothing of the kind: remove it, or run with another engine (--engine)"
    )
    options = OPTIONS
    preference = 10

    @property
    def version(self) -> str:
        """IMOD's version as installed, or what is known instead."""
        return imod_version()

    def available(self) -> str:
        """Return where batchruntomo is; empty if it is not on the PATH."""
        found = find_imod()
        return "" if found is None else f"{PROGRAM} is on the PATH ({found})"

    def unavailable(self) -> str:
        """Say that batchruntomo is not on the PATH, if it is not."""
        return f"{PROGRAM} is not on the PATH" if find_imod() is None else ""

    def check(self, job: EngineJob) -> None:
        """Refuse the work when IMOD is absent.

        Raises
        ------
        UnsupportedError
            If `batchruntomo` is not on the PATH.
        """
        if find_imod() is None:
            raise UnsupportedError(
                f"The engine {self.name} was asked for {job.series.path.name}, but {PROGRAM} is not on the PATH: load IMOD "
                "(source IMOD-linux.sh), or use another engine (--engine)"
            )

    def plan(self, series: TiltSeries, recipe: Recipe, threads: int, *, keep_volumes: bool = True) -> Plan:
        """Return what the work on a series takes: as the native engine's, and the copies that IMOD makes."""
        from tiltflow.engines.imod.requirements import plan_series

        return plan_series(series, recipe, threads, keep_volumes=keep_volumes)

    def methods(self, record: SeriesRecord) -> EngineMethods:
        """Return what a paper says of its work."""
        from tiltflow.engines.imod.methods import describe

        return describe(record)

    def reconstruct(self, job: EngineJob) -> Reconstruction:
        """Run batchruntomo on a copy of the series and return its outputs.

        Raises
        ------
        EngineError
            If batchruntomo failed; the message quotes its own error lines and names the step.
        """
        from tiltflow.engines.imod.engine import reconstruct_series

        return reconstruct_series(job)


ENGINE = ImodEngine()
