"""Memory, disk and time that the work on a series needs with IMOD."""

from __future__ import annotations

from dataclasses import replace

from tiltflow.engines import requirements
from tiltflow.engines.plan import Plan
from tiltflow.model import TiltSeries
from tiltflow.recipe import Recipe

_COPIES = 3
"""Of the raw stack: the one that is worked on, one without x-rays, and the prealigned one."""


def plan_series(series: TiltSeries, recipe: Recipe, threads: int, *, keep_volumes: bool = True) -> Plan:
    """Return what the work needs: that of any engine, the copies of the raw stack, and the volume before it is trimmed."""
    plan = requirements.plan_series(series, recipe, threads, keep_volumes=keep_volumes)
    more = _COPIES * requirements.raw_copy_bytes(series) + requirements.untrimmed_volume_bytes(series, recipe)
    return replace(plan, scratch=plan.scratch + more, fallback_seconds=0.0)
