"""The pieces of a montaged tilt series become views: where they lie, how bright they are, and how they are blended.

:func:`measure_offsets` finds out, :class:`StitchedViews` shows the result as any other stack, and :func:`blend_view` makes one view,
straight into the aligned frame if asked.
"""

from tiltflow.preprocess.montage.aligned_views import align_pieces
from tiltflow.preprocess.montage.blend import BlendedView, StitchedViews, blend_view
from tiltflow.preprocess.montage.gray_levels import GrayLevels
from tiltflow.preprocess.montage.offsets import EdgeEvidence, PieceOffsets, measure_offsets
from tiltflow.preprocess.montage.params import MontageParams
from tiltflow.preprocess.montage.seam import Seam, worst_seam

__all__ = [
    "BlendedView",
    "EdgeEvidence",
    "GrayLevels",
    "MontageParams",
    "PieceOffsets",
    "Seam",
    "StitchedViews",
    "align_pieces",
    "blend_view",
    "measure_offsets",
    "worst_seam",
]
