"""Coarse alignment: shifts of all views, and the angle of the tilt axis, from the images alone.  Answers to IMOD's tiltxcorr."""

from tiltflow.align.coarse.placement import CoarseParams, CoarseResult, align_coarse

__all__ = ["CoarseParams", "CoarseResult", "align_coarse"]
