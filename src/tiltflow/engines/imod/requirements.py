"""Memory, disk and time that the work on a series needs with IMOD."""

from __future__ import annotations

from dataclasses import replace

from tiltflow.engines import requirements
from tiltflow.engines.plan import Plan
from tiltflow.model import TiltSeries
from tiltflow.recipe import Recipe

_COPIES = 2
"""Of the raw stack: the one that is worked on, and one without x-rays."""


def plan_series(series: TiltSeries, recipe: Recipe, threads: int, *, keep_volumes: bool = True) -> Plan:
    """Return what the work needs: that of any engine, the copies of the raw stack, and the volume before it is trimmed."""
    plan = requirements.plan_series(series, recipe, threads, keep_volumes=keep_volumes)
    stacks = 1 if series.montage is None else 2  # the prealigned views; of a montage, the stitched ones as well
    more = _COPIES * requirements.raw_copy_bytes(series) + stacks * requirements.view_copy_bytes(series)
    more += requirements.untrimmed_volume_bytes(series, recipe)
    return replace(plan, scratch=plan.scratch + more, fallback_seconds=0.0)
