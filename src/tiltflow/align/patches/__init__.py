"""Patch tracking: areas of texture followed through the tilt series, for specimens without gold.

IMOD's tiltxcorr follows a patch from each view to its neighbour, so that errors add up along the series.  Here every view of a patch
is compared with all others at once, each weighted by its coherence at every frequency (:mod:`coherence`, :mod:`likelihood`); one
rigid specimen is fitted to all patches (:mod:`tiltflow.align.bundle`), and the patches are cut out again at their new positions.
"""

from tiltflow.align.patches.params import PatchParams, PatchResult
from tiltflow.align.patches.patch_tracking import track_patches

__all__ = ["PatchParams", "PatchResult", "track_patches"]
