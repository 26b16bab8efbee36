"""Markerless alignment: each view is matched with its projection as predicted from all other views.

Halved or doubled, most constants of this package change the error on a simulated series of low dose by less than 10 %
(benchmarks/sensitivity.py).  The frame and its tapered border matter (a frame of half the size gives up to six times the error), the
resolution and frequencies that are compared (up to 60 %), and where the error is evaluated.
"""

from tiltflow.align.projection.refinement import RefineParams, RefineResult, refine_by_projection
from tiltflow.align.projection.uncertainty import trust_warnings

__all__ = ["RefineParams", "RefineResult", "refine_by_projection", "trust_warnings"]
