"""Markerless alignment: every view is matched with the projection that all other views predict of it."""

from tiltflow.align.projection.refinement import RefineParams, RefineResult, refine_by_projection
from tiltflow.align.projection.uncertainty import trust_warnings

__all__ = ["RefineParams", "RefineResult", "refine_by_projection", "trust_warnings"]
