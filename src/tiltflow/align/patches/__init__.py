"""Patch tracking: areas of texture followed through the tilt series, for specimens without gold.

IMOD's tiltxcorr follows a patch from each view to its neighbour, so that errors add up along the series.  Here every view of a patch
is compared with all others at once, each weighted by its coherence at every frequency (:mod:`coherence`, :mod:`likelihood`); one
rigid specimen is fitted to all patches (:mod:`tiltflow.align.bundle`), and the patches are cut out again at their new positions.

Halved or doubled, most constants of this package change the error on a simulated series of low dose by less than 5 %
(benchmarks/sensitivity.py).  The layout matters (overlap, number and extent of the patches: 11 % to 140 %), the taper and the ranges of
y frequencies (up to 40 %); the estimate of the error depends on the range of frequencies and the bounds of coherence and quality too.
"""

from tiltflow.align.patches.params import PatchParams, PatchResult
from tiltflow.align.patches.patch_tracking import track_patches

__all__ = ["PatchParams", "PatchResult", "track_patches"]
