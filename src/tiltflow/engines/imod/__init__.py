"""IMOD's batchruntomo as an engine.

This module imports little; the modules that do the work are imported when they are needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tiltflow.engines.imod.program import OPTIONS, PROGRAM, files_to_keep, find_imod, imod_version, required_imod, time_limit_s
from tiltflow.errors import UnsupportedError
from tiltflow.recipe.engine_rules import DirectiveRules, EngineOptions

if TYPE_CHECKING:
    from tiltflow.engines.base import EngineJob
    from tiltflow.engines.plan import Plan
    from tiltflow.model import Alignment, Reconstruction, TiltSeries
    from tiltflow.recipe import Recipe
    from tiltflow.record import SeriesRecord
    from tiltflow.record.sentences import EngineMethods


class ImodEngine:
    """Aligns and reconstructs by IMOD's batchruntomo."""

    name = "imod"
    title = "IMOD"
    rules = DirectiveRules(
        hands_on_to=PROGRAM, own_refused="IMOD has no such option: remove it, or run with another engine (--engine)"
    )
    options = OPTIONS
    preference = 10
    step_numbers: Mapping[str, int] = {}

    @property
    def version(self) -> str:
        """Version of the installed IMOD, or why it is not known."""
        return imod_version()

    def available(self) -> str:
        """Return where batchruntomo is; empty if it is not on the PATH."""
        found = find_imod()
        return "" if found is None else f"{PROGRAM} is on the PATH ({found})"

    def unavailable(self) -> str:
        """Return that batchruntomo is not on the PATH; empty if it is."""
        return f"{PROGRAM} is not on the PATH" if find_imod() is None else ""

    def check(self, job: EngineJob) -> None:
        """Refuse the work when IMOD is absent.

        Raises
        ------
        UnsupportedError
            If `batchruntomo` is not on the PATH.
        SettingsError
            If the site's time limit for it is no time.
        """
        required_imod(job.series.path.name)
        time_limit_s(job.site.engine_options, 0.0)

    def plan(self, series: TiltSeries, recipe: Recipe, threads: int, *, keep_volumes: bool = True) -> Plan:
        """Return what the work on a series needs: that of the native engine, and the copies that IMOD makes."""
        from tiltflow.engines.imod.requirements import plan_series

        return plan_series(series, recipe, threads, keep_volumes=keep_volumes)

    def files_to_keep(self, options: EngineOptions, *, failed: bool) -> tuple[str, ...]:
        """Return the directive file and, after a failure or on request (`keep_imod`), what eTomo needs to go on."""
        return files_to_keep(options, failed=failed)

    def methods(self, record: SeriesRecord) -> EngineMethods:
        """Return the sentences on its work for the methods section of a paper."""
        from tiltflow.engines.imod.methods import describe

        return describe(record)

    def align(self, job: EngineJob) -> Alignment:
        """Refuse: batchruntomo is run as a whole.

        Raises
        ------
        UnsupportedError
            Always.
        """
        raise UnsupportedError(
            f"{job.series.path.name}: the work of {PROGRAM} is one step; align with another engine (--engine), or run it as a whole"
        )

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
