"""Coarse alignment: shifts of all views and the tilt axis angle, from the images alone.  IMOD's counterpart is tiltxcorr."""

from tiltflow.align.coarse.params import CoarseParams
from tiltflow.align.coarse.placement import CoarseResult, align_coarse

__all__ = ["CoarseParams", "CoarseResult", "align_coarse"]
