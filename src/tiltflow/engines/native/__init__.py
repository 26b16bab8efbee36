"""tiltflow's own engine: everything from raw views to the volume, with nothing installed beyond Python packages.

This module is light; what does the work is imported when there is work.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from tiltflow.engines.native.step_numbers import STEP_NUMBERS
from tiltflow.recipe.engine_rules import DirectiveRules, EngineOption, EngineOptions
from tiltflow.version import __version__

if TYPE_CHECKING:
    from tiltflow.engines.base import EngineJob
    from tiltflow.engines.plan import Plan
    from tiltflow.model import Alignment, Reconstruction, TiltSeries
    from tiltflow.recipe import Recipe
    from tiltflow.record import SeriesRecord
    from tiltflow.record.sentences import EngineMethods


class NativeEngine:
    """Aligns and reconstructs on this computer's processors."""

    name = "native"
    title = "tiltflow's own engine"
    rules = DirectiveRules(takes_alignment=True)
    options: tuple[EngineOption, ...] = ()
    preference = 0
    step_numbers = STEP_NUMBERS

    @property
    def version(self) -> str:
        """Tiltflow's version and the Python it runs on."""
        return f"tiltflow {__version__} (Python {platform.python_version()})"

    def available(self) -> str:
        """Return that it can be used anywhere."""
        return "tiltflow's own engine needs nothing else"

    def unavailable(self) -> str:
        """Return an empty text, as it can be used anywhere."""
        return ""

    def check(self, job: EngineJob) -> None:
        """Refuse files and numbers of directives that cannot be right for a series; what is beyond this engine, its recipe refuses.

        Raises
        ------
        LocationError, FormatError, MissingValueError, ParameterError
            If a file that a directive names, or a number, does not fit the series.
        """
        from tiltflow.engines.native.given_values import check_given_values

        check_given_values(job)

    def plan(self, series: TiltSeries, recipe: Recipe, threads: int, *, keep_volumes: bool = True) -> Plan:
        """Return the memory, disk space and time that the work on a series needs."""
        from tiltflow.engines.requirements import plan_series

        return plan_series(series, recipe, threads, keep_volumes=keep_volumes)

    def files_to_keep(self, options: EngineOptions, *, failed: bool) -> tuple[str, ...]:  # noqa: ARG002  the protocol's
        """Return nothing more than what is kept of every engine."""
        return ()

    def methods(self, record: SeriesRecord) -> EngineMethods:
        """Return the sentences on its work for the methods section of a paper."""
        from tiltflow.engines.native.methods import describe

        return describe(record)

    def align(self, job: EngineJob) -> Alignment:
        """Align the series without reconstructing it.

        Raises
        ------
        StageError
            If these data cannot be aligned, with the reason.
        """
        from tiltflow.engines.native.engine import align_series

        return align_series(job)

    def reconstruct(self, job: EngineJob) -> Reconstruction:
        """Align the series and reconstruct its volume.

        Raises
        ------
        StageError
            If a stage finds that these data cannot give a result, with the reason.
        """
        from tiltflow.engines.native.engine import reconstruct_series

        return reconstruct_series(job)


ENGINE = NativeEngine()
