"""Gold beads: detected, separated from other dark spots by their common rigid motion, and centred to a few hundredths of a pixel.

IMOD's counterparts are autofidseed, imodfindbeads and beadtrack.

Halved or doubled, most constants of this package change the error on simulated series by less than 3 %
(benchmarks/sensitivity.py).  By 5 to 15 % matter the extent of the profile (`REACH` and `_BASE` of the bead model) and of the filter
(`_REACH`), the margin at the edge of a view, what counts as overlap, the share of views a track needs when it is linked, and fewer
working pixels across a bead.  No gold is left when tracks must be in twice as many views, or when the diameters tried or the
frequencies of filter and noise are shifted by a factor of two.
"""

from __future__ import annotations

from tiltflow.align.beads.bead_tracking import FoundBeads, find_beads, track_beads
from tiltflow.align.beads.params import BeadParams, BeadResult
from tiltflow.align.beads.rejection import trust_warnings

__all__ = ["BeadParams", "BeadResult", "FoundBeads", "find_beads", "track_beads", "trust_warnings"]
