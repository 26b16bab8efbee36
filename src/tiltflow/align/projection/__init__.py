"""Markerless alignment: each view is matched with its projection as predicted from all other views."""

from tiltflow.align.projection.refinement import RefineParams, RefineResult, refine_by_projection
from tiltflow.align.projection.uncertainty import trust_warnings

__all__ = ["RefineParams", "RefineResult", "refine_by_projection", "trust_warnings"]
